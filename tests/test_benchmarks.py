"""The benchmarks run and print what they are for; their numbers are judged by people, on an idle machine."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
QUICK = {  # arguments, and how many ratios are printed
    "training.py": (["--images", "64", "--width", "0.05", "--size", "32", "--rounds", "1"], 2),
    "fisher.py": (["--rounds", "1"], 8),
}


@pytest.mark.parametrize("name", QUICK)
def test_a_benchmark_runs(name):
    arguments, n_ratios = QUICK[name]
    run = subprocess.run([sys.executable, BENCHMARKS / name, *arguments], capture_output=True, text=True, check=True)
    assert run.stdout.count("ratio") == n_ratios
