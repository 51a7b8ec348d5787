"""Where files go and how large a run is: the only module that reads the environment and the profiles."""

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROFILES = tomllib.loads((Path(__file__).parent / "profiles.toml").read_text())


@dataclass(frozen=True)
class Profile:
    """Sizes of one profile; `profiles.toml` says what each number means."""

    name: str
    n_train: int
    n_val: int
    n_test: int
    n_photographs: int
    n_epochs: int
    n_epochs_full: int
    n_epoch_images: int
    n_class_models: int
    n_class_model_steps: int
    class_model_size: int
    n_gaussians: int
    n_words: int
    n_dimensions: int
    n_resamples: int


def load_profile(name: str) -> Profile:
    """The sizes of profile `name`: quick, laptop or paper.

    Raises:
        ValueError: no such profile.

    Example:
        >>> load_profile("laptop").class_model_size
        227
    """
    if name not in PROFILES:
        raise ValueError(f"There is no profile {name!r}: choose one of {', '.join(PROFILES)}.")
    return Profile(name, **PROFILES[name])


def _folder(variable: str, default: Path) -> Path:
    return Path(os.environ[variable]).expanduser() if os.environ.get(variable) else default


def notebooks_folder() -> Path:
    """The numbered notebooks of this checkout; `WSOL_NOTEBOOKS` names another folder (tests do)."""
    return _folder("WSOL_NOTEBOOKS", ROOT / "notebooks")


def output_folder() -> Path:
    """Executed notebooks, claims and pages; `WSOL_OUTPUT` moves it."""
    return _folder("WSOL_OUTPUT", ROOT / "build")


def run_folder(profile: str, dataset: str) -> Path:
    """Where a run's notebooks and claims go."""
    return output_folder() / (profile if dataset == "scenes" else f"{profile}-{dataset}")


def store_folder() -> Path:
    """Expensive results that are kept between runs; `WSOL_STORE` moves it."""
    return _folder("WSOL_STORE", ROOT / "data" / "cache" / "store")


def weights_folder() -> Path:
    """Weights that ship with the project."""
    return ROOT / "data" / "weights"


def photographs_folder() -> Path:
    """The reader's own photographs, if there are any."""
    return ROOT / "data" / "photographs"


def results_folder() -> Path:
    """Measurements that ship with the project."""
    return ROOT / "data" / "results"
