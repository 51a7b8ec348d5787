"""The photographs that come inside installed packages, and those of the reader."""

import os
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from .images import fit_image, read_image

MAX_SIDE = 1024
IN_PACKAGES = {
    "chelsea": ("skimage", "data/chelsea.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "astronaut": ("skimage", "data/astronaut.png"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "china": ("sklearn", "datasets/images/china.jpg"),
    "grace_hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
}


def load(folder: str | os.PathLike | None = None) -> dict[str, np.ndarray]:
    """Give the photographs of the installed packages, then those of the reader's folder, each under its name.

    Images are RGB uint8 (H, W, 3), at most `MAX_SIDE` pixels long; nothing is downloaded. A photograph of the folder is
    named after its file without the ending (with it, where that name is taken); a file that cannot be read is named in
    a warning and skipped, sub-folders and hidden files are passed over. Raises OSError if the folder is missing.

    >>> load()["chelsea"].shape
    (300, 451, 3)
    """
    photographs = {}
    for name, (package, place) in IN_PACKAGES.items():
        _add(photographs, name, Path(find_spec(package).submodule_search_locations[0], place))
    for path in _files(folder) if folder is not None else ():
        _add(photographs, path.name if path.stem in photographs else path.stem, path)
    return photographs


def _files(folder: str | os.PathLike) -> list[Path]:
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}: give a folder that holds photographs.")
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _add(photographs: dict[str, np.ndarray], name: str, path: Path) -> None:
    try:
        photographs[name] = fit_image(read_image(path), MAX_SIDE)
    except OSError as error:
        warnings.warn(f"Photograph skipped: {error}", stacklevel=3)
