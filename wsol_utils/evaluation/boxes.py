"""Boxes from score maps, overlap of boxes, and the baselines that look at no image.

A box is (x0, y0, x1, y1) in pixels with x1 and y1 exclusive: its width is x1 - x0. Components are 8-connected,
as in OpenCV's contours. The box rule of CAM's released code is in `cam_release`.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray


def checked_map(score_map: ArrayLike) -> NDArray:
    """Return the score map as an array after checking that it is (H, W), real, finite and not empty.

    Raises ValueError otherwise.

    >>> checked_map([[0, 1], [2, 3]]).shape
    (2, 2)
    """
    array = np.asarray(score_map)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"A score map has the shape (height, width), not {array.shape}; give one map at a time.")
    if array.dtype.kind not in "buif":
        raise ValueError(f"A score map holds real numbers, not {array.dtype}; convert it to float32.")
    if not np.isfinite(array).all():
        raise ValueError("The score map holds NaN or infinite values; replace them before boxes are drawn or scored.")
    return array


def checked_boxes(boxes: ArrayLike) -> NDArray[np.float64]:
    """Return one box (4,) or boxes (n, 4) as float64 (n, 4) after checking that the corners are finite and in order.

    Raises ValueError otherwise.

    >>> checked_boxes([0, 0, 2, 2]).shape
    (1, 4)
    """
    array = np.asarray(boxes, dtype=np.float64)
    if array.size == 0 and array.ndim <= 2:
        return np.zeros((0, 4))
    array = np.atleast_2d(array)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"Boxes have the shape (n, 4) with x0, y0, x1, y1 in a row, not {np.shape(boxes)}.")
    if not np.isfinite(array).all():
        raise ValueError("A box holds NaN or infinite corners; leave that box out.")
    if (array[:, 2:] < array[:, :2]).any():
        raise ValueError(
            "A box ends before it begins; give x0, y0, x1, y1 (not width and height) with x0 <= x1, y0 <= y1."
        )
    return array


def checked_mask(mask: ArrayLike) -> NDArray[np.bool_]:
    """Return the mask as a bool array (H, W); raises ValueError for another shape or for an empty array."""
    array = np.asarray(mask)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"A mask has the shape (height, width), not {array.shape}.")
    return array.astype(bool)


def largest_component(mask: ArrayLike) -> NDArray[np.bool_]:
    """Keep the largest 8-connected component of a mask (H, W), by number of pixels; an empty mask stays empty.

    The component met first in raster order wins a tie.

    >>> largest_component([[1, 0, 1, 1]]).tolist()
    [[False, False, True, True]]
    """
    mask = checked_mask(mask)
    n_components, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    if n_components <= 2:
        return mask
    areas = statistics[1:, cv2.CC_STAT_AREA]
    tied = 1 + np.flatnonzero(areas == areas.max())
    if len(tied) == 1:
        return labels == tied[0]
    first = labels.ravel()[np.isin(labels, tied).argmax()]
    return labels == first


def box_of_mask(mask: ArrayLike) -> NDArray[np.int64]:
    """Return the tight box (4,) around all pixels of a mask (H, W); raises ValueError for an empty mask.

    >>> box_of_mask([[0, 0, 0], [0, 1, 1]]).tolist()
    [1, 1, 3, 2]
    """
    mask = checked_mask(mask)
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if len(columns) == 0:
        raise ValueError("The mask has no pixel set, so it has no box.")
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.int64)


def box_from_map(score_map: ArrayLike, relative_threshold: float = 0.2) -> NDArray[np.int64]:
    """Return the box (4,) of the largest component above a share of the map's maximum (CAM, section 3.2).

    The map (H, W) is not normalised first. A map without a positive value gives the whole image.
    Raises ValueError for a threshold outside [0, 1) and for a map that is not finite.

    >>> box_from_map([[0, 0, 0, 0], [0, 5, 9, 1]]).tolist()
    [1, 1, 3, 2]
    """
    return boxes_from_map(score_map, [relative_threshold])[0]


def boxes_from_map(score_map: ArrayLike, relative_thresholds: Sequence[float]) -> NDArray[np.int64]:
    """Return the boxes (T, 4) of `box_from_map` at T thresholds, working once for thresholds that cut alike.

    >>> boxes_from_map([[1, 0, 8, 9]], [0.0, 0.5, 0.9]).tolist()
    [[2, 0, 4, 1], [2, 0, 4, 1], [3, 0, 4, 1]]
    """
    score_map = checked_map(score_map).astype(np.float64)
    thresholds = np.asarray(relative_thresholds, dtype=np.float64)
    if not ((thresholds >= 0) & (thresholds < 1)).all():
        raise ValueError("A relative threshold lies in [0, 1): a share of the map's maximum such as 0.2.")
    height, width = score_map.shape
    maximum = score_map.max()
    if maximum <= 0:
        return np.tile(np.array([0, 0, width, height], dtype=np.int64), (len(thresholds), 1))
    boxes_by_size: dict[int, NDArray[np.int64]] = {}
    boxes = np.empty((len(thresholds), 4), dtype=np.int64)
    for row, threshold in enumerate(thresholds):
        mask = score_map > min(threshold * maximum, np.nextafter(maximum, 0))  # the maximum is above any share of it
        size = int(np.count_nonzero(mask))
        if size not in boxes_by_size:  # the masks are nested, so equal size means equal mask
            boxes_by_size[size] = box_of_mask(largest_component(mask))
        boxes[row] = boxes_by_size[size]
    return boxes


def iou(boxes_a: ArrayLike, boxes_b: ArrayLike) -> NDArray[np.float64]:
    """Return intersection over union (n, m) of every box of (n, 4) with every box of (m, 4), ends exclusive.

    A single box (4,) counts as one row. Two boxes without area have IoU 0. Raises ValueError for corners that are
    out of order or not finite.

    >>> iou([0, 0, 2, 2], [[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6]]).round(3).tolist()
    [[1.0, 0.333, 0.0]]
    """
    a, b = checked_boxes(boxes_a), checked_boxes(boxes_b)
    widths = np.minimum(a[:, None, 2], b[None, :, 2]) - np.maximum(a[:, None, 0], b[None, :, 0])
    heights = np.minimum(a[:, None, 3], b[None, :, 3]) - np.maximum(a[:, None, 1], b[None, :, 1])
    intersection = widths.clip(min=0) * heights.clip(min=0)
    union = areas(a)[:, None] + areas(b)[None, :] - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def areas(boxes: NDArray) -> NDArray:
    """Return the areas (n,) of boxes (n, 4) with exclusive ends.

    >>> areas(np.array([[0, 0, 2, 3]])).tolist()
    [6]
    """
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def best_constant_box(boxes: Sequence[ArrayLike], image_size: int | tuple[int, int]) -> NDArray[np.int64]:
    """Return the one box (4,) that, drawn on every image, reaches IoU 0.5 with a true box on most images.

    A baseline that looks at no image: any localiser has to beat it. `boxes` holds the true boxes of each image,
    (4,) or (k, 4), all in one frame of `image_size`, a side or (height, width). A grid search is refined by moving one
    or two corners at a time; equal shares are ordered by the mean IoU. Choose it on training boxes, score it on others.
    Raises ValueError without any box.

    >>> best_constant_box([[2, 2, 8, 8], [2, 2, 8, 8], [0, 0, 3, 3]], 10).tolist()
    [2, 2, 8, 8]
    """
    height, width = np.broadcast_to(image_size, 2)
    per_image = [checked_boxes(b) for b in boxes]
    counts = np.array([len(b) for b in per_image], dtype=np.int64)
    if counts.sum() == 0:
        raise ValueError("No true box was given, so no constant box can be chosen.")
    truth = np.concatenate(per_image)
    starts = np.cumsum(counts[counts > 0]) - counts[counts > 0]

    def best(candidates: NDArray[np.int64]) -> tuple[tuple[float, float], NDArray[np.int64]]:
        overlap = np.maximum.reduceat(iou(candidates, truth), starts, axis=1)
        shares, means = (overlap >= 0.5).mean(axis=1), overlap.mean(axis=1)
        winner = np.lexsort((means, shares))[-1]
        return (shares[winner], means[winner]), candidates[winner]

    columns, rows = (np.unique(np.linspace(0, side, 9).round().astype(np.int64)) for side in (width, height))
    grid = np.stack(np.meshgrid(columns, rows, columns, rows, indexing="ij"), axis=-1).reshape(-1, 4)
    grid = grid[(grid[:, 0] < grid[:, 2]) & (grid[:, 1] < grid[:, 3])]
    score, box = best(grid)
    moves = np.stack(np.meshgrid(*[[-1, 0, 1]] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    step = max(height, width) // 8
    while step >= 1:
        moved = box + step * moves
        inside = (moved >= 0).all(axis=1) & (moved <= [width, height, width, height]).all(axis=1)
        moved = moved[inside & (moved[:, 0] < moved[:, 2]) & (moved[:, 1] < moved[:, 3])]
        new_score, new_box = best(moved)
        if new_score > score:
            score, box = new_score, new_box
        else:
            step //= 2
    return box


def centre_gaussian(height: int, width: int) -> NDArray[np.float32]:
    """Return a score map (H, W) with a round Gaussian at the image's centre, maximum 1 (Choe et al. 2020, baseline).

    Its standard deviation is a quarter of the shorter side; boxes at the best threshold hardly depend on it.
    Raises ValueError for a size below one pixel.

    >>> centre_gaussian(5, 9).argmax().item(), centre_gaussian(5, 9).max().item()
    (22, 1.0)
    """
    if height < 1 or width < 1:
        raise ValueError(f"A map has at least one pixel each way, not {height} x {width}.")
    rows = np.arange(height)[:, None] - (height - 1) / 2
    columns = np.arange(width)[None, :] - (width - 1) / 2
    squared_distance = rows**2 + columns**2
    squared_distance -= squared_distance.min()
    return np.exp(-squared_distance / (2 * (min(height, width) / 4) ** 2)).astype(np.float32)
