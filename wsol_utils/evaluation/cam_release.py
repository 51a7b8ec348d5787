"""The box generator released with CAM (Zhou et al. 2016), which differs from the rule in the paper (section 3.2).

The paper keeps the largest component above a share of the maximum: `boxes.box_from_map`. The program takes an 8-bit
map and three levels, thins every mask, boxes all contours (holes too) and drops some of the boxes that overlap.
"""

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

BUILT_IN_LEVELS = (30, 90, 150)


def cam_release_boxes(grey_map: ArrayLike, levels: tuple[int, int, int] = (20, 100, 110)) -> NDArray[np.int64]:
    """Return boxes x, y, width, height (n, 4) of an 8-bit map (H, W), in the order of the released program.

    Levels count from 0 to 255 and default to the published setting; unless 0 < t0 < t1 < t2 < 255, the program's own
    30, 90, 150 hold. Regions in the last five rows or columns can have a negative width or height, as in the program;
    see `ordered_corners`. An all-zero map has no box. Raises ValueError for a map that is not uint8.

    >>> plate = np.zeros((60, 60), np.uint8)
    >>> plate[10:40, 20:50] = 255
    >>> cam_release_boxes(plate).tolist()
    [[20, 10, 30, 30], [20, 10, 30, 30]]
    """
    grey = np.asarray(grey_map)
    if grey.ndim != 2 or grey.size == 0 or grey.dtype != np.uint8:
        raise ValueError(f"The released box rule takes an 8-bit map (height, width), not {grey.dtype} {grey.shape}.")
    height, width = grey.shape
    if not 0 < levels[0] < levels[1] < levels[2] < 255:
        levels = BUILT_IN_LEVELS
    found = []
    for level in levels:
        contours, _ = cv2.findContours(_thinned(grey > level), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        for x, y, w, h in map(cv2.boundingRect, contours):
            # x and y are never negative; w and h are cut against the x and y from before the cut.
            found.append((min(x, width - 5), min(y, height - 5), min(w, width - x - 5), min(h, height - y - 5)))
    return np.array(_merged(_introsort(found)), dtype=np.int64).reshape(-1, 4)


def ordered_corners(boxes: ArrayLike) -> NDArray[np.int64]:
    """Return x0, y0, x1, y1 (n, 4), ends exclusive, of boxes x, y, width, height whose sizes may be negative.

    This is how CAM's evaluation script reads the boxes.

    >>> ordered_corners([[10, 4, -3, 2]]).tolist()
    [[7, 4, 10, 6]]
    """
    boxes = np.asarray(boxes, dtype=np.int64).reshape(-1, 4)
    first, second = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=1)


def _thinned(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Keep pixels farther from the background than about a twenty-fifth of the largest distance."""
    if mask.all() or not mask.any():
        return mask.astype(np.uint8)
    distance = ndimage.distance_transform_edt(mask)
    return (np.floor(distance * 255 / distance.max() + 0.5) > 10).astype(np.uint8)


def _merged(boxes: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Drop boxes that overlap an earlier one by more than half of the larger; the one after a drop is not looked at."""
    i = 0
    while i < len(boxes):
        x, y, w, h = boxes[i]
        j = i + 1
        while j < len(boxes):
            other_x, other_y, other_w, other_h = boxes[j]
            shared_w = min(x + w, other_x + other_w) - max(x, other_x)
            shared_h = min(y + h, other_y + other_h) - max(y, other_y)
            if max(shared_w, 0) * max(shared_h, 0) > int(0.5 * max(w * h, other_w * other_h)):
                del boxes[j]
            j += 1
        i += 1
    return boxes


def _introsort(boxes: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Sort by falling area in the order in which the C++ library of GCC leaves boxes of equal area.

    That sort is not stable and the merging depends on the order, so its steps are repeated here: median-of-three
    partitions down to 16 boxes, then insertion. Its fall-back for bad partitions is left out.
    """
    order = [(w * h, (x, y, w, h)) for x, y, w, h in boxes]

    def partition(first: int, last: int) -> int:
        a, b, c = order[first + 1][0], order[(first + last) // 2][0], order[last - 1][0]
        if a > b:
            median = (first + last) // 2 if b > c else last - 1 if a > c else first + 1
        else:
            median = first + 1 if a > c else last - 1 if b > c else (first + last) // 2
        order[first], order[median] = order[median], order[first]
        pivot, left, right = order[first][0], first + 1, last
        while True:
            while order[left][0] > pivot:
                left += 1
            right -= 1
            while pivot > order[right][0]:
                right -= 1
            if left >= right:
                return left
            order[left], order[right] = order[right], order[left]
            left += 1

    pending = [(0, len(order))]
    while pending:
        first, last = pending.pop()
        if last - first > 16:
            cut = partition(first, last)
            pending += [(first, cut), (cut, last)]
    order.sort(key=lambda entry: -entry[0])  # stable, as the insertion sort that ends it
    return [box for _, box in order]
