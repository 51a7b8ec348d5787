"""PASCAL VOC 2007 and 2012 (Everingham et al., 2010): photographs of several objects, with boxes and class masks."""

import os
from functools import partial
from pathlib import PurePosixPath

from .annotations import Annotated, read_objects
from .archives import Tree, data_root, find_tree, fingerprint, progress, read_files, read_texts
from .downloads import not_found
from .records import Record, read_split
from .splits import DataSet, Split

DEFAULT_SIZE = 128
PALETTE = ["aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable"]
PALETTE += ["dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"]


def load_2007(root: str | os.PathLike | None = None) -> DataSet:
    """Open VOC 2007 (trainval) in the VOCdevkit layout; as `load_2012`."""
    return _load("2007", root)


def load_2012(root: str | os.PathLike | None = None) -> DataSet:
    """Open VOC 2012 (trainval) in the VOCdevkit layout, as a folder, a zip or a tar, whatever its classes.

    Objects marked difficult are left out, and images without any other object. An image's label is the class of its
    largest object. Splits: `test` is ImageSets/Main/val.txt; of ImageSets/Main/train.txt every tenth image (the 10th,
    20th, ...) is `val`, the one before it (the 9th, 19th, ...) `train_with_boxes`, the rest `train`. A mask covers the
    pixels of the label's class, difficult objects included and the unlabelled border not; masks are given where each
    image of a split has one. Raises OSError if the data are missing or damaged.
    """
    return _load("2012", root)


def _load(year: str, root: str | os.PathLike | None) -> DataSet:
    root = data_root(root)
    tree = find_tree(root, f"VOC{year}", "ImageSets/Main/train.txt")
    if tree is None:
        raise not_found(f"voc{year}", root)
    lists = read_texts(tree, "ImageSets/Main/train.txt", "ImageSets/Main/val.txt")
    train, test = (list(dict.fromkeys(line.split()[0] for line in text.splitlines() if line.strip())) for text in lists)
    objects = _read_annotations(tree, train + test)
    class_names = sorted({one.name for ones in objects.values() for one in ones})
    records = _records(tree, train, objects, class_names)
    splits = {
        "train": [record for i, record in enumerate(records) if i % 10 < 8],
        "train_with_boxes": records[8::10],
        "val": records[9::10],
        "test": _records(tree, test, objects, class_names),
    }
    for name, chosen in splits.items():
        if not chosen:
            raise OSError(f"Split {name} of {tree.path} has no images: the data set is not whole, fetch it again.")
    palette = PALETTE if set(class_names) <= set(PALETTE) else class_names
    mask_values = {label: palette.index(name) + 1 for label, name in enumerate(class_names)}
    every = [record for chosen in splits.values() for record in chosen]
    return DataSet(
        name=f"voc{year}",
        class_names=tuple(class_names),
        default_size=DEFAULT_SIZE,
        has_boxes=True,
        has_masks=all(record.mask for record in every),
        multi_label=True,
        fingerprint=fingerprint(tree, [r.file for r in every] + [r.mask for r in every if r.mask], class_names, every),
        read=partial(_read, tree, splits, len(class_names), mask_values),
    )


def _read(
    tree: Tree, splits: dict, n_classes: int, mask_values: dict, split: str, n_images: int | None, size: int, epoch: int
) -> Split:
    return read_split(tree, splits[split], split, n_images, size, n_classes, mask_values)


def _read_annotations(tree: Tree, names: list[str]) -> dict[str, list[Annotated]]:
    files = [f"Annotations/{name}.xml" for name in names]
    contents = progress(read_files(tree, files), "reading annotations", len(files))
    return {
        name: [one for one in read_objects(content, tree.where(file)) if not one.difficult]
        for name, file, content in zip(names, files, contents, strict=True)
    }


def _records(tree: Tree, names: list[str], objects: dict[str, list[Annotated]], class_names: list[str]) -> list[Record]:
    images = {PurePosixPath(file).stem: file for file in tree.sizes if file.startswith("JPEGImages/")}
    labels = {name: label for label, name in enumerate(class_names)}
    records = []
    for name in names:
        if objects[name]:
            mask = f"SegmentationClass/{name}.png"
            records.append(
                Record(
                    name=name,
                    file=images.get(name, f"JPEGImages/{name}.jpg"),
                    label=labels[max(objects[name], key=_area).name],
                    objects=tuple((labels[one.name], one.box) for one in objects[name]),
                    mask=mask if mask in tree.sizes else None,
                )
            )
    return records


def _area(one: Annotated) -> float:
    x0, y0, x1, y1 = one.box
    return (x1 - x0) * (y1 - y0)
