"""Boxes of the regions of one score map at many thresholds, worked once per distinct mask.

The map comes as whole levels 0 to 255; the mask at threshold k holds the pixels above k. Contours are the fast road on
smooth maps; a level with many regions takes the road over component labels instead, which finds the same boxes.
A rule takes a mask (uint8, 0 or 255) and whether it is crowded, and returns boxes x, y, width, height and the number
of contours met.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from wsol_utils.evaluation.boxes import box_of_mask, largest_component

CROWDED = 64  # contours above which labelling all components is faster than tracing them

Rule = Callable[[NDArray[np.uint8], bool], tuple[list | NDArray, int]]


def boxes_at_levels(
    levels: NDArray[np.uint8], thresholds: NDArray[np.int64], rule: Rule
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the boxes (n, 4) of all distinct masks, where each mask's boxes start, and the mask of each threshold.

    `levels` is (H, W), boxes are x0, y0, x1, y1; every threshold is at least 0 and below the largest level.

    >>> boxes, starts, which = boxes_at_levels(np.array([[0, 9, 0, 5]], np.uint8), np.array([0, 4, 5]), component_boxes)
    >>> boxes.tolist(), starts.tolist(), which.tolist()
    ([[3, 0, 4, 1], [1, 0, 2, 1], [1, 0, 2, 1]], [0, 2], [0, 0, 1])
    """
    present = np.flatnonzero(np.bincount(levels.ravel()))
    following = present[np.searchsorted(present, thresholds, side="right")]
    distinct, which = np.unique(following, return_inverse=True)
    x_starts, x_ends = _extents(levels.max(axis=0), distinct)
    y_starts, y_ends = _extents(levels.max(axis=1), distinct)
    found, counts, n_contours = [], [], 0
    for level, x0, x1, y0, y1 in zip(
        *(a.tolist() for a in (distinct, x_starts, x_ends, y_starts, y_ends)), strict=True
    ):
        _, mask = cv2.threshold(levels[y0:y1, x0:x1], level - 1, 255, cv2.THRESH_BINARY)
        rectangles, n_contours = rule(mask, n_contours > CROWDED)
        found.append(rectangles)
        counts.append(len(rectangles))
    boxes = np.concatenate(found).astype(np.int64)
    boxes[:, :2] += np.repeat(np.stack([x_starts, y_starts], axis=1), counts, axis=0)
    boxes[:, 2:] += boxes[:, :2]
    return boxes, np.cumsum([0, *counts[:-1]]), which


def _extents(largest: NDArray[np.uint8], levels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and one past the last row (or column) whose largest level reaches each of the given levels."""
    reached = largest[:, None] >= levels[None, :]
    return reached.argmax(axis=0), len(largest) - reached[::-1].argmax(axis=0)


def component_boxes(mask: NDArray[np.uint8], crowded: bool = False) -> tuple[list | NDArray, int]:
    """Rule: the box of every 8-connected component; holes have none."""
    if crowded:
        statistics = cv2.connectedComponentsWithStats(mask, connectivity=8)[2][1:, :4]
        return statistics, len(statistics)
    contours, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    outer = hierarchy[0, :, 3] < 0
    return [cv2.boundingRect(c) for c, is_outer in zip(contours, outer, strict=True) if is_outer], len(contours)


def largest_component_box(mask: NDArray[np.uint8], crowded: bool = False) -> tuple[list | NDArray, int]:
    """Rule: the box of the component with most pixels, the first in raster order among equals.

    Pixels are counted by Pick's theorem: a contour through pixel centres with area A and n steps holds A + n/2 + 1
    pixels, of which A - n/2 + 1 lie inside it.
    """
    if crowded:
        x0, y0, x1, y1 = box_of_mask(largest_component(mask))
        return [(x0, y0, x1 - x0, y1 - y0)], CROWDED + 1
    contours, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    parents = hierarchy[0, :, 3].tolist()
    outer = [i for i, parent in enumerate(parents) if parent < 0]
    if len(outer) == 1:
        return [cv2.boundingRect(contours[outer[0]])], len(contours)
    n_pixels = [0.0] * len(contours)
    for i, (contour, parent) in enumerate(zip(contours, parents, strict=True)):
        area, half_steps = cv2.contourArea(contour), len(contour) / 2 if len(contour) > 1 else 0
        if parent < 0:
            n_pixels[i] += area + half_steps + 1
        else:
            n_pixels[parent] -= area - half_steps + 1
    # An outer contour starts at its first pixel in raster order.
    winner = max(outer, key=lambda i: (n_pixels[i], -contours[i][0, 0, 1], -contours[i][0, 0, 0]))
    return [cv2.boundingRect(contours[winner])], len(contours)


def contour_boxes(mask: NDArray[np.uint8], crowded: bool = False) -> tuple[list | NDArray, int]:
    """Rule of wsolevaluation, several boxes: the box of every contour, those around holes included.

    The contour around a hole runs through the pixels next to it, so its box is the hole's, one pixel larger each way.
    """
    if not crowded:
        contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
        return [cv2.boundingRect(c) for c in contours], len(contours)
    components = cv2.connectedComponentsWithStats(mask, connectivity=8)[2][1:, :4]
    background = cv2.connectedComponentsWithStats(cv2.bitwise_not(mask), connectivity=4)[2][1:, :4]
    height, width = mask.shape
    ends = background[:, :2] + background[:, 2:]
    is_hole = (background[:, :2] > 0).all(axis=1) & (ends < [width, height]).all(axis=1)
    holes = background[is_hole] + [-1, -1, 2, 2]
    return np.concatenate([components, holes]), len(components) + len(holes)


def largest_contour_box(mask: NDArray[np.uint8], crowded: bool = False) -> tuple[list | NDArray, int]:
    """Rule of wsolevaluation, one box: the contour enclosing the largest area through pixel centres.

    The first contour in OpenCV's list wins a tie. Inner contours never enclose more than the outermost around them.
    """
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [cv2.boundingRect(max(contours, key=cv2.contourArea))], len(contours)
