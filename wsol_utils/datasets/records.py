"""From files on disk to a `Split`: images decoded and squashed, boxes and masks scaled with them."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from .archives import Tree, progress, read_files
from .images import decode_image, decode_indices, resize_image, resize_mask
from .splits import Split


@dataclass(frozen=True)
class Record:
    """One image before it is read.

    name: short name; file: its place in the tree; label: the class.
    objects: (class, box) pairs, box (x0, y0, x1, y1) with exclusive ends in pixels of the file, or None where unknown.
    mask: place of the palette picture of classes, or None.
    """

    name: str
    file: str
    label: int
    objects: tuple[tuple[int, tuple[float, float, float, float]], ...] | None = None
    mask: str | None = None


def take_turns(groups: Sequence[Sequence[Record]]) -> list[Record]:
    """Put the records of classes in turns, so that the first n of them are balanced over the classes."""
    return [record for turn in zip_longest(*groups) for record in turn if record is not None]


def read_split(
    tree: Tree,
    records: Sequence[Record],
    split: str,
    n_images: int | None,
    size: int,
    n_classes: int,
    mask_values: dict[int, int] | None = None,
    skip_damaged: bool = False,
) -> Split:
    """Read the first `n_images` of the records (all, if there are fewer or it is None) as a `Split`.

    Images become `size` x `size`, aspect ratio lost. `mask_values` gives the palette value of each class. Boxes or
    masks are None unless every image read has them. Raises OSError for a damaged image, or names it in a warning and
    goes on to the next one (`skip_damaged`).
    """
    n_images = len(records) if n_images is None else min(n_images, len(records))
    images = np.empty((n_images, size, size, 3), np.uint8)
    taken, boxes = [], []
    contents = read_files(tree, (record.file for record in records))
    for record, content in progress(zip(records, contents, strict=True), f"reading {split}", n_images):
        where = tree.where(record.file)
        try:
            image = decode_image(content, where)
        except OSError as error:
            if not skip_damaged:
                raise
            warnings.warn(f"Image skipped: {error}", stacklevel=5)
            continue
        images[len(taken)] = resize_image(image, size)
        boxes.append(_scale_boxes(record, image.shape, size, where))
        taken.append(record)
        if len(taken) == n_images:
            break
    if not taken:
        raise OSError(f"No image of split {split} in {tree.path} can be read: fetch or copy the data set again.")
    has_boxes = all(record.objects is not None for record in taken)
    return Split(
        name=split,
        images=images[: len(taken)],
        labels=np.array([record.label for record in taken], np.int64),
        label_sets=_label_sets(taken, n_classes),
        names=[record.name for record in taken],
        boxes=boxes if has_boxes else None,
        box_labels=[np.array([c for c, _ in record.objects], np.int64) for record in taken] if has_boxes else None,
        masks=_read_masks(tree, taken, size, mask_values),
    )


def _label_sets(records: Sequence[Record], n_classes: int) -> np.ndarray:
    label_sets = np.zeros((len(records), n_classes), bool)
    for row, record in zip(label_sets, records, strict=True):
        row[[record.label, *(label for label, _ in record.objects or ())]] = True
    return label_sets


def _scale_boxes(record: Record, shape: tuple[int, ...], size: int, where: str) -> np.ndarray:
    height, width = shape[:2]
    boxes = np.array([box for _, box in record.objects or ()], np.float64).reshape(-1, 4)
    boxes = np.clip(boxes / [width, height, width, height], 0, 1) * size
    if (boxes[:, 2:] <= boxes[:, :2]).any():
        raise OSError(f"A box of {where} is empty or outside the image: correct its annotation or fetch it again.")
    return boxes.astype(np.float32)


def _read_masks(
    tree: Tree, records: Sequence[Record], size: int, mask_values: dict[int, int] | None
) -> np.ndarray | None:
    files = [record.mask for record in records]
    if mask_values is None or None in files:
        return None
    masks = np.empty((len(records), size, size), bool)
    for mask, record, content in zip(masks, records, read_files(tree, files), strict=True):
        indices = decode_indices(content, tree.where(record.mask))
        mask[:] = resize_mask(indices == mask_values[record.label], size)
    return masks
