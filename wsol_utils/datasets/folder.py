"""The reader's own photographs: one sub-folder a class, optionally with VOC annotations beside the files."""

import os
import warnings
from collections import defaultdict
from functools import partial
from pathlib import Path, PurePosixPath

from .annotations import read_objects
from .archives import Tree, below, fingerprint, open_tree, read_files
from .records import Record, read_split, take_turns
from .splits import DataSet, Split

DEFAULT_SIZE = 128
MIN_IMAGES = 10
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}


def load(root: str | os.PathLike | None = None) -> DataSet:
    """Open a folder (or zip) of photographs with one sub-folder a class, at least ten images each.

    A class is named after its sub-folder. Splits, in each class by file name: the last two tenths are `test`, the tenth
    before `val`, the tenth before that `train_with_boxes` (at least one image each), the rest `train`. Boxes come from
    VOC annotations (same name, ending .xml): the objects named like the class, or all if none is; they are known where
    each image of `train_with_boxes`, `val` and `test` has some. A file that cannot be read is named in a warning and
    skipped. Raises OSError if the folder is missing or a class too small, ValueError without `root`.
    """
    if root is None:
        raise ValueError("Data set folder needs root (--root on the command line): a folder with a sub-folder a class.")
    path = Path(root).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"There is no folder {path}: give a folder that holds one sub-folder a class.")
    tree, classes = _find_classes(open_tree(path))
    if len(classes) < 2:
        raise OSError(f"{path} has {len(classes)} sub-folders with images, not two or more: make one for each class.")
    splits = {"train": [], "train_with_boxes": [], "val": [], "test": []}
    for label, (name, files) in enumerate(classes.items()):
        if len(files) < MIN_IMAGES:
            raise OSError(f"Class {name} in {path} has only {len(files)} images: add some, {MIN_IMAGES} are needed.")
        records = [_record(tree, file, name, label) for file in files]
        tenth = max(1, len(records) // 10)
        splits["train"].append(records[: -4 * tenth])
        splits["train_with_boxes"].append(records[-4 * tenth : -3 * tenth])
        splits["val"].append(records[-3 * tenth : -2 * tenth])
        splits["test"].append(records[-2 * tenth :])
    splits = {name: take_turns(groups) for name, groups in splits.items()}
    return DataSet(
        name="folder",
        class_names=tuple(classes),
        default_size=DEFAULT_SIZE,
        has_boxes=_has_boxes(splits),
        has_masks=False,
        multi_label=False,
        fingerprint=fingerprint(tree, (r.file for rs in splits.values() for r in rs), splits),
        read=partial(_read, tree, splits, len(classes)),
    )


def _read(tree: Tree, splits: dict, n_classes: int, split: str, n_images: int | None, size: int, epoch: int) -> Split:
    return read_split(tree, splits[split], split, n_images, size, n_classes, skip_damaged=True)


def _find_classes(tree: Tree) -> tuple[Tree, dict[str, list[str]]]:
    """Find the sub-folders with images, below a lone outer folder if there is one (archives often have it)."""
    classes = defaultdict(list)
    for file in sorted(tree.sizes):
        parts = PurePosixPath(file).parts
        visible = not any(part.startswith((".", "__MACOSX")) for part in parts)
        if visible and len(parts) > 1 and PurePosixPath(file).suffix.lower() in SUFFIXES:
            classes[parts[0]].append(file)
    if len(classes) == 1:
        (name, files), *_ = classes.items()
        if all(file.count("/") > 1 for file in files):
            return _find_classes(below(tree, f"{name}/"))
    return tree, dict(classes)


def _record(tree: Tree, file: str, class_name: str, label: int) -> Record:
    annotation = str(PurePosixPath(file).with_suffix(".xml"))
    boxes = None
    if annotation in tree.sizes:
        objects = read_objects(next(read_files(tree, [annotation])), tree.where(annotation))
        named = [one for one in objects if one.name == class_name] or objects
        boxes = tuple((label, one.box) for one in named) or None
    return Record(name=file, file=file, label=label, objects=boxes)


def _has_boxes(splits: dict[str, list[Record]]) -> bool:
    needed = [record for name in ("train_with_boxes", "val", "test") for record in splits[name]]
    without = [record.name for record in needed if record.objects is None]
    if without and len(without) < len(needed):
        warnings.warn(
            f"Boxes are left out: {len(without)} of {len(needed)} images of the splits for tuning and testing have no "
            f"annotation, the first is {without[0]}.",
            stacklevel=4,
        )
    return not without
