"""pyproject.toml, requirements.lock and environment.yml must agree."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if re.match(r"[\w-]", line)]
LOCK = [Requirement(line) for line in LINES]
GROUPS = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
ASKED = [Requirement(line) for group in GROUPS for line in group]


@pytest.mark.parametrize("requirement", ASKED, ids=str)
def test_every_dependency_is_locked_to_a_version_in_its_range(requirement):
    locked = [entry for entry in LOCK if entry.name.lower() == requirement.name.lower()]
    assert locked, f"{requirement.name} is not in requirements.lock: run make lock"
    for entry in locked:
        (version,) = [specifier.version for specifier in entry.specifier]
        assert requirement.specifier.contains(version), f"{entry} is outside {requirement}: run make lock"


def test_one_opencv_per_system():
    for system in ("linux", "darwin", "win32"):
        here = [e.name for e in LOCK if e.name.startswith("opencv") and e.marker.evaluate({"sys_platform": system})]
        assert len(here) == 1, f"{here} would overwrite each other on {system}"


def test_torch_and_torchvision_match():
    torch, vision = (next(e for e in LOCK if e.name == name) for name in ("torch", "torchvision"))
    torch, vision = (Version(str(entry.specifier).strip("=")) for entry in (torch, vision))
    assert (torch.major, vision.major) == (2, 0)
    assert vision.minor == torch.minor + 15, "torch 2.n goes with torchvision 0.(n + 15)"


def test_the_lock_names_no_address():
    assert "://" not in (ROOT / "requirements.lock").read_text()


def test_conda_asks_for_the_same_python():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert f"python{PROJECT['requires-python']}" in conda


def test_this_environment_is_the_locked_one():
    for entry in LOCK:
        if entry.name in {"torch", "torchvision", "numpy", "scikit-learn", "opencv-python-headless"} and (
            entry.marker is None or entry.marker.evaluate()
        ):
            installed = metadata.version(entry.name).split("+")[0]
            assert entry.specifier.contains(installed), f"{entry.name} {installed} is installed, the lock has {entry}"
