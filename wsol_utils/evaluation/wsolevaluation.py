"""The conventions of the public code wsolevaluation (Choe et al. 2020), kept bit for bit so that numbers compare.

Boxes here are its own: corners as whole pixels, both inclusive. `MaxBoxAcc`, `MaxBoxAccV2` and `PxAP` use these
functions in `mode="wsolevaluation"`.
"""

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsol_utils.evaluation.boxes import checked_map
from wsol_utils.evaluation.regions import boxes_at_levels, contour_boxes, largest_contour_box


def threshold_list(n_thresholds: int) -> NDArray[np.float64]:
    """Return the thresholds i * step below 1 for the step 1 / n_thresholds; raises ValueError below one threshold.

    >>> threshold_list(1000)[[3, 999]].tolist()
    [0.003, 0.999]
    """
    if n_thresholds < 1:
        raise ValueError(f"At least one threshold is needed, not {n_thresholds}.")
    return np.arange(0, 1, 1 / n_thresholds)


def unit_map(score_map: ArrayLike) -> NDArray[np.float64]:
    """Return the map as float64 after checking that every value lies in [0, 1]; raises ValueError otherwise."""
    values = checked_map(score_map).astype(np.float64)
    if values.min() < 0 or values.max() > 1:
        raise ValueError("In the mode 'wsolevaluation' map values lie in [0, 1]; apply resize_and_normalise first.")
    return values


def resize_and_normalise(class_map: ArrayLike, height: int, width: int) -> NDArray[np.float64]:
    """Return the raw class map (h, w) as score map (height, width) in [0, 1]: bicubic resize, then min-max.

    A constant map and a map with a NaN become all zeros. Raises ValueError for another shape.

    >>> resize_and_normalise([[1, 3], [1, 3]], 1, 2).tolist()
    [[0.0, 1.0]]
    """
    values = np.asarray(class_map, dtype=np.float64)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"A class map has the shape (height, width), not {values.shape}.")
    resized = cv2.resize(values, (width, height), interpolation=cv2.INTER_CUBIC)
    if np.isnan(resized).any() or resized.min() == resized.max():
        return np.zeros((height, width))
    resized -= resized.min()
    return resized / resized.max()


def scale_boxes(boxes: ArrayLike, image_width: int, image_height: int, size: int = 224) -> NDArray[np.int64]:
    """Return true boxes (n, 4), corners inclusive, scaled from the image to size x size by truncation.

    Raises ValueError for corners that are negative or out of order.

    >>> scale_boxes([[0, 0, 499, 374], [10, 10, 10, 10]], 500, 375).tolist()
    [[0, 0, 223, 223], [4, 5, 4, 5]]
    """
    corners = np.atleast_2d(np.asarray(boxes))
    if corners.ndim != 2 or corners.shape[1] != 4:
        raise ValueError(f"Boxes have the shape (n, 4) with x0, y0, x1, y1 in a row, not {np.shape(boxes)}.")
    if (corners < 0).any() or (corners[:, 2:] < corners[:, :2]).any():
        raise ValueError("Box corners are at least 0 and in order: x0 <= x1 and y0 <= y1.")
    return np.trunc(corners * size / np.array([image_width, image_height] * 2)).astype(np.int64)


def predicted_boxes(
    score_map: ArrayLike, thresholds: ArrayLike, several: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return boxes (n, 4) of the distinct masks, where each mask's boxes start, and the mask of each threshold.

    The map in [0, 1] is cut to 8 bit, thresholds are shares of its largest level, and a mask's box is that of the
    contour enclosing most (`several=False`) or each contour's, holes included. Corners are those of the public code:
    one past the last pixel, but clipped to the last. An empty mask has the box (0, 0, 0, 0).

    >>> boxes, starts, which = predicted_boxes([[0, 1, 0.5, 0]], [0.0, 0.4, 0.9])
    >>> boxes[starts[which]].tolist()
    [[1, 0, 3, 0], [1, 0, 3, 0], [1, 0, 2, 0]]
    """
    levels = (unit_map(score_map) * 255).astype(np.uint8)
    thresholds = np.asarray(thresholds, dtype=np.float64)
    if levels.max() == 0:
        return np.zeros((1, 4), dtype=np.int64), np.zeros(1, dtype=np.int64), np.zeros(len(thresholds), dtype=np.int64)
    cuts = (thresholds * levels.max()).astype(np.int64)
    boxes, starts, which = boxes_at_levels(levels, cuts, contour_boxes if several else largest_contour_box)
    height, width = levels.shape
    return np.minimum(boxes, [width - 1, height - 1] * 2), starts, which


def object_and_ignored(
    instance_masks: list[ArrayLike], ignore_mask: ArrayLike | None = None, size: int = 224
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the object mask and the ignored pixels, both (size, size), from the stored masks of one image.

    Instances are united; stored masks (bool, or 0 to 1) are resized by nearest neighbour and cut above one half;
    pixels to ignore never lie on the object. Raises ValueError without an instance.

    >>> object_and_ignored([[[1, 0]], [[0, 0]]], [[1, 1]], size=2)[1].tolist()
    [[False, True], [False, True]]
    """
    if len(instance_masks) == 0:
        raise ValueError("An image without an instance mask cannot be scored; leave it out.")

    def resized(mask: ArrayLike) -> NDArray[np.bool_]:
        values = np.asarray(mask, dtype=np.float32)
        return cv2.resize(values, (size, size), interpolation=cv2.INTER_NEAREST) > 0.5

    foreground = np.logical_or.reduce([resized(mask) for mask in instance_masks])
    ignored = np.zeros_like(foreground) if ignore_mask is None else resized(ignore_mask) & ~foreground
    return foreground, ignored
