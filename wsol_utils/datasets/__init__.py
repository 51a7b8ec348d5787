"""What is looked at: drawn scenes, photographs, and data sets with labels, boxes and masks."""

import inspect
import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .splits import DataSet

_LOADERS = {
    "scenes": "scenes.load",
    "tiny-imagenet": "tiny_imagenet.load",
    "voc2007": "voc.load_2007",
    "voc2012": "voc.load_2012",
    "folder": "folder.load",
}
NAMES = tuple(_LOADERS)


def load(name: str, root: str | os.PathLike | None = None, **options) -> "DataSet":
    """Open a data set by its name.

    `root` is where it lies: a folder that holds its archive or folder, or the archive itself (default: the environment
    variable WSOL_DATA_ROOT, else data/cache in the checkout); for "folder" the folder itself; "scenes" needs none.
    Options: `view` and those of the views for scenes, `n_classes` and `first` for tiny-imagenet. Raises ValueError for
    an unknown name or option, OSError if the data are missing or damaged.
    """
    if name not in _LOADERS:
        raise ValueError(f"There is no data set {name!r}: choose one of {', '.join(NAMES)}.")
    module, function = _LOADERS[name].split(".")
    loader = getattr(import_module(f".{module}", __name__), function)
    known = {option: kind for option, kind in inspect.signature(loader).parameters.items() if option != "root"}
    for option in options:
        if option not in known and not any(kind.kind is kind.VAR_KEYWORD for kind in known.values()):
            raise ValueError(f"Data set {name} has no option {option!r}: it takes {', '.join(known) or 'none'}.")
    return loader(**options) if name == "scenes" else loader(root, **options)
