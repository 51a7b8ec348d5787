"""The benchmarks run and print what they are for; their numbers are judged by people, on an idle machine."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PHOTO = Path(find_spec("skimage").submodule_search_locations[0], "data", "chelsea.png")
QUICK = {  # arguments, a word that is printed, and how often
    "training.py": (["--images", "64", "--width", "0.05", "--size", "32", "--rounds", "1"], "ratio", 2),
    "fisher.py": (["--rounds", "1"], "ratio", 8),
    "localise.py": ([PHOTO, "--model", "tiny-imagenet-gap"], "\n", 8),
}


@pytest.mark.parametrize("name", QUICK)
def test_a_benchmark_runs(name):
    arguments, word, n_times = QUICK[name]
    run = subprocess.run([sys.executable, BENCHMARKS / name, *arguments], capture_output=True, text=True, check=True)
    assert run.stdout.count(word) == n_times
