"""Tiny ImageNet (Le and Yang, 2015): 64x64 photographs, one class and one box each."""

import os
import re
from collections.abc import Collection, Sequence
from functools import partial

from .archives import Tree, data_root, find_tree, fingerprint, read_files, read_texts
from .downloads import not_found
from .records import Record, read_split, take_turns
from .splits import DataSet, Split

DEFAULT_SIZE = 64
MIN_IMAGES = 3
VAL_ANNOTATIONS = "val/val_annotations.txt"


def load(root: str | os.PathLike | None = None, n_classes: int | None = None, first: Collection[str] = ()) -> DataSet:
    """Open Tiny ImageNet in its standard layout, as a folder or a zip, with all its classes or fewer.

    `n_classes` takes so many classes in the order of wnids.txt (default: all), those named in `first` before the
    others. Splits: `test` is the data set's val;
    of each class of its train, ordered by number, the last tenth is `val`, the tenth before it `train_with_boxes`, the
    rest `train`. Images come in turns of the classes, so that the first n are balanced. The inclusive boxes of the
    files become exclusive. Raises OSError if the data are missing or damaged, ValueError for an `n_classes` that does
    not fit.
    """
    tree = _tree(root)
    wnids, words, val_annotations = read_texts(tree, "wnids.txt", "words.txt", VAL_ANNOTATIONS)
    wnids = wnids.split()
    if n_classes is not None and not 2 <= n_classes <= len(wnids):
        raise ValueError(f"n_classes is {n_classes}, but {tree.path} has {len(wnids)} classes: give 2 to {len(wnids)}.")
    later = {wnid: name not in first for wnid, name in zip(wnids, _class_names(words, wnids), strict=True)}
    wnids = sorted(wnids, key=later.get)[:n_classes]
    records = _read_records(tree, wnids, val_annotations)
    return DataSet(
        name="tiny-imagenet",
        class_names=_class_names(words, wnids),
        default_size=DEFAULT_SIZE,
        has_boxes=True,
        has_masks=False,
        multi_label=False,
        fingerprint=fingerprint(tree, (r.file for rs in records.values() for r in rs), wnids, records),
        read=partial(_read, tree, records, len(wnids)),
    )


def imagenet_indices(imagenet_names: Sequence[str], root: str | os.PathLike | None = None) -> dict[str, int]:
    """The index in ImageNet of each class, by name, given ImageNet's names in their order.

    ImageNet counts its classes in the order of their wnids. So of two classes of one name, such as the two cranes, the
    one is meant whose index comes after that of the wnid before it.

    Raises OSError if the data are missing, ValueError for a class that ImageNet does not have at its wnid's place.
    """
    tree = _tree(root)
    wnids, words = read_texts(tree, "wnids.txt", "words.txt")
    wnids = sorted(wnids.split())
    indices, last = {}, -1
    for wnid, name, synonym in zip(wnids, _class_names(words, wnids), _first_synonyms(words, wnids), strict=True):
        try:
            last = indices[name] = imagenet_names.index(synonym, last + 1)
        except ValueError:
            raise ValueError(f"ImageNet has no class {synonym!r} at the place of {wnid}: give its own names.") from None
    return indices


def _tree(root: str | os.PathLike | None) -> Tree:
    root = data_root(root)
    tree = find_tree(root, "tiny-imagenet-200", "wnids.txt")
    if tree is None:
        raise not_found("tiny-imagenet", root)
    return tree


def _read(tree: Tree, records: dict, n_classes: int, split: str, n_images: int | None, size: int, epoch: int) -> Split:
    return read_split(tree, records[split], split, n_images, size, n_classes)


def _read_records(tree: Tree, wnids: list[str], val_annotations: str) -> dict[str, list[Record]]:
    splits = {"train": [], "train_with_boxes": [], "val": [], "test": [[] for _ in wnids]}
    files = [f"train/{wnid}/{wnid}_boxes.txt" for wnid in wnids]
    for label, (wnid, file, content) in enumerate(zip(wnids, files, read_files(tree, files), strict=True)):
        rows = _read_rows(tree, file, content.decode("utf-8", errors="replace"), n_columns=5)
        records = [_record(f"train/{wnid}/images", image, label, box) for image, box in rows]
        records.sort(key=lambda record: (int(re.sub(r"\D", "", record.name.split("_")[-1]) or 0), record.name))
        if len(records) < MIN_IMAGES:
            raise OSError(f"Class {wnid} of {tree.path} has {len(records)} training images: fetch the data set again.")
        tenth = max(1, len(records) // 10)
        splits["train"].append(records[: -2 * tenth])
        splits["train_with_boxes"].append(records[-2 * tenth : -tenth])
        splits["val"].append(records[-tenth:])
    labels = {wnid: label for label, wnid in enumerate(wnids)}
    for image, wnid, box in _read_rows(tree, VAL_ANNOTATIONS, val_annotations, n_columns=6):
        if wnid in labels:
            splits["test"][labels[wnid]].append(_record("val/images", image, labels[wnid], box))
    if not all(splits["test"]):
        missing = wnids[splits["test"].index([])]
        raise OSError(f"Class {missing} of {tree.path} has no validation images: fetch the data set again.")
    return {name: take_turns(groups) for name, groups in splits.items()}


def _record(folder: str, image: str, label: int, box: tuple[float, ...]) -> Record:
    return Record(name=image.rsplit(".", 1)[0], file=f"{folder}/{image}", label=label, objects=((label, box),))


def _read_rows(tree: Tree, file: str, text: str, n_columns: int) -> list[tuple]:
    """Read rows of names and an inclusive box (x0, y0, x1, y1) as names and an exclusive one."""
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        columns = line.split()
        try:
            *names, x0, y0, x1, y1 = [*columns[: n_columns - 4], *map(int, columns[n_columns - 4 :])]
        except ValueError:
            names = ()
        if len(names) != n_columns - 4 or len(columns) != n_columns:
            raise OSError(f"Line {number} of {tree.where(file)} is damaged: fetch the data set again.")
        rows.append((*names, (x0, y0, x1 + 1, y1 + 1)))
    return rows


def _class_names(words: str, wnids: list[str]) -> tuple[str, ...]:
    """Give the first synonym of each class, with its wnid where another class has the same, or the wnid alone."""
    names = _first_synonyms(words, wnids)
    return tuple(f"{name} ({wnid})" if names.count(name) > 1 else name for name, wnid in zip(names, wnids, strict=True))


def _first_synonyms(words: str, wnids: list[str]) -> list[str]:
    synonyms = dict(line.split("\t", 1) for line in words.splitlines() if "\t" in line)
    return [synonyms.get(wnid, wnid).split(",")[0].strip() for wnid in wnids]
