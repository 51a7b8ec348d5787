"""What every data set hands out: a `DataSet` that cuts `Split`s of images, labels and, where known, boxes and masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from math import ceil

import numpy as np

SPLIT_NAMES = ("train", "train_with_boxes", "val", "test")
LISTS = ("boxes", "box_labels", "names")


@dataclass(frozen=True)
class Split:
    """Some images of a data set with all that is known about them.

    N images of S x S pixels, C classes. What the data set does not know is None.

    name: "train", "train_with_boxes", "val" or "test".
    images: uint8 (N, S, S, 3), RGB.
    labels: int64 (N,), the label of an image that has one, the first of several else.
    label_sets: bool (N, C), True where the class is in the image.
    names: N short names of the images, unlike one another.
    boxes: N arrays float32 (k, 4) of (x0, y0, x1, y1) with exclusive ends, in pixels of `images`.
    box_labels: N arrays int64 (k,), the class of each box.
    masks: bool (N, S, S), the pixels of objects of class `labels[i]`.
    instance_maps: uint8 (N, S, S), 0 background, j + 1 the object of box j.
    part_masks: bool (N, S, S), the pixels of the part that tells the class.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    label_sets: np.ndarray
    names: list[str]
    boxes: list[np.ndarray] | None = None
    box_labels: list[np.ndarray] | None = None
    masks: np.ndarray | None = None
    instance_maps: np.ndarray | None = None
    part_masks: np.ndarray | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "name" and value is not None and len(value) != len(self.images):
                found = f"{len(value)} entries for {len(self.images)} images"
                raise ValueError(f"Split field {field.name} has {found}; give one an image.")

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: Sequence[int] | np.ndarray) -> Split:
        """Return the images of the given indices (integers or a bool (N,) array), in that order.

        Raises ValueError for an index out of range.
        """
        chosen = np.asarray(indices)
        if chosen.dtype == bool:
            if chosen.shape != (len(self),):
                raise ValueError(f"A bool choice of images needs shape ({len(self)},), not {chosen.shape}.")
            chosen = np.flatnonzero(chosen)
        chosen = chosen.astype(np.int64)
        if len(chosen) and (chosen.min() < -len(self) or chosen.max() >= len(self)):
            raise ValueError(f"Split {self.name!r} has {len(self)} images; choose indices from 0 to {len(self) - 1}.")
        changed = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "name" and value is not None:
                changed[field.name] = [value[i] for i in chosen] if field.name in LISTS else value[chosen]
        return replace(self, **changed)

    def boxes_of_label(self, i: int) -> np.ndarray:
        """Return the boxes, float32 (k, 4), of the objects of image i whose class is `labels[i]`.

        Raises ValueError where the data set has no boxes or i is out of range.
        """
        if self.boxes is None or self.box_labels is None:
            raise ValueError(f"Split {self.name!r} has no boxes; take a data set whose has_boxes is True.")
        if not 0 <= i < len(self):
            raise ValueError(f"Split {self.name!r} has {len(self)} images; there is no image {i}.")
        return self.boxes[i][self.box_labels[i] == self.labels[i]]

    def object_masks(self) -> np.ndarray:
        """Return the pixels of objects of class `labels[i]`, bool (N, S, S): `masks`, or else all that the boxes touch.

        Raises ValueError where the data set has neither.
        """
        if self.masks is not None:
            return self.masks
        filled = np.zeros(self.images.shape[:3], bool)
        for i, mask in enumerate(filled):
            for x0, y0, x1, y1 in self.boxes_of_label(i):
                mask[int(y0) : ceil(y1), int(x0) : ceil(x1)] = True
        return filled


def joined(splits: Sequence[Split]) -> Split:
    """Return the images of several splits of one data set as one, in their order, under the name of the first.

    What one of them does not know is None.
    """
    changed = {}
    for field in fields(Split):
        values = [getattr(split, field.name) for split in splits]
        if field.name != "name" and all(value is not None for value in values):
            changed[field.name] = list(chain(*values)) if field.name in LISTS else np.concatenate(values)
        elif field.name != "name":
            changed[field.name] = None
    return replace(splits[0], **changed)


@dataclass(frozen=True)
class DataSet:
    """A named data set, read split by split.

    name: as given to `datasets.load`.
    class_names: one name a class; the index is the label.
    default_size: side S in pixels of the images unless another is asked for.
    has_boxes, has_masks: whether boxes and masks are known.
    multi_label: whether an image may carry several labels.
    fingerprint: changes when the images or labels do; the store uses it as a key.
    read: called by `split` with (split name, n_images or None, image size, epoch); returns a `Split`.
    """

    name: str
    class_names: tuple[str, ...]
    default_size: int
    has_boxes: bool
    has_masks: bool
    multi_label: bool
    fingerprint: str
    read: Callable[[str, int | None, int, int], Split]

    def split(self, name: str, n_images: int | None = None, image_size: int | None = None, epoch: int = 0) -> Split:
        """Return a split: "train", "train_with_boxes" (small, for tuning), "val" or "test".

        n_images: how many images (None: as many as the split has, or its usual number where it is endless).
        image_size: side of the images in pixels (None: `default_size`).
        epoch: matters for an endless "train" only, where each epoch draws fresh images.
        Raises ValueError for an unknown split or a number that makes no sense.
        """
        if name not in SPLIT_NAMES:
            raise ValueError(f"There is no split {name!r}; choose one of {', '.join(SPLIT_NAMES)}.")
        size = self.default_size if image_size is None else image_size
        for what, value, least in (("n_images", n_images, 1), ("image_size", size, 8), ("epoch", epoch, 0)):
            if value is not None and value < least:
                raise ValueError(f"{what} is {value}; give {least} or more.")
        return self.read(name, n_images, size, epoch)
