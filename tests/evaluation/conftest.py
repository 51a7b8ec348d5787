"""The case files of the metrics: WSOL_CASES names their folder, else ../shared/cases beside the checkout."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# The same examples on every run, and no time limit for one of them on a busy machine.
settings.register_profile("evaluation", derandomize=True, deadline=None)
settings.load_profile("evaluation")

REPOSITORY = Path(__file__).resolve().parents[2]


def case_file(name: str) -> Path:
    """Return the path of a case file, or skip the test when it is not there."""
    folder = Path(os.environ.get("WSOL_CASES", REPOSITORY / ".." / "shared" / "cases"))
    if not (folder / name).is_file():
        pytest.skip(f"{name} is not in the folder named by WSOL_CASES")
    return folder / name


def load_arrays(name: str) -> dict[str, np.ndarray]:
    """Return all arrays of a case file."""
    with np.load(case_file(name)) as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def wsol_cases():
    return load_arrays("wsol_metric_cases.npz")


@pytest.fixture(scope="session")
def cam_cases():
    return load_arrays("cam_boxgen_cases.npz")


@pytest.fixture(scope="session")
def ap_case_file():
    return case_file("voc_ap_cases.json")
