"""Does the map's maximum hit the object, and does a guess of class and box count as right."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from wsol_utils.evaluation.boxes import checked_boxes, checked_map, checked_mask, iou


def point_of_maximum(score_map: ArrayLike) -> tuple[int, int]:
    """Return column and row of a map's maximum, the first in raster order among equals.

    >>> point_of_maximum([[0, 1, 5], [5, 0, 0]])
    (2, 0)
    """
    values = checked_map(score_map)
    row, column = np.unravel_index(values.argmax(), values.shape)
    return int(column), int(row)


def point_in_boxes(score_map: ArrayLike, boxes: ArrayLike, tolerance: float = 0) -> bool:
    """Return whether the map's maximum lies in one of the boxes (k, 4), each enlarged by a tolerance in pixels.

    The localisation metric of Oquab et al. (2015), with 18 pixels, half a step of their maps (number unconfirmed).
    Without a box nothing is hit.
    Raises ValueError for a negative tolerance.

    >>> point_in_boxes([[0, 0, 0, 9]], [[0, 0, 2, 1]]), point_in_boxes([[0, 0, 0, 9]], [[0, 0, 2, 1]], tolerance=2)
    (False, True)
    """
    column, row = point_of_maximum(score_map)
    boxes = checked_boxes(boxes) + _checked_tolerance(tolerance) * np.array([-1, -1, 1, 1])
    inside_x = (boxes[:, 0] <= column) & (column < boxes[:, 2])
    inside_y = (boxes[:, 1] <= row) & (row < boxes[:, 3])
    return bool((inside_x & inside_y).any())


def point_on_mask(score_map: ArrayLike, mask: ArrayLike, tolerance: float = 0) -> bool:
    """Return whether the map's maximum lies nearer to a pixel of the mask than the tolerance (pointing game).

    Map and mask are (H, W). The published pointing game allows 15 pixels; without tolerance the point has to lie on
    the mask. Raises ValueError for shapes that differ and for a negative tolerance.

    >>> point_on_mask([[0, 0, 9]], [[1, 0, 0]], tolerance=2), point_on_mask([[0, 0, 9]], [[1, 0, 0]], tolerance=2.1)
    (False, True)
    """
    column, row = point_of_maximum(score_map)
    mask = checked_mask(mask)
    if mask.shape != np.shape(score_map):
        raise ValueError(f"Map {np.shape(score_map)} and mask {mask.shape} differ in shape.")
    if _checked_tolerance(tolerance) == 0 or not mask.any():
        return bool(mask[row, column])
    return bool(ndimage.distance_transform_edt(~mask)[row, column] < tolerance)


def _checked_tolerance(tolerance: float) -> float:
    if not 0 <= tolerance < np.inf:
        raise ValueError(f"A tolerance is zero or more pixels, not {tolerance}.")
    return tolerance


def localisation_hits(
    predicted: ArrayLike,
    boxes: Sequence[ArrayLike],
    labels_right: ArrayLike | None = None,
    iou_threshold: float = 0.5,
) -> NDArray[np.bool_]:
    """Return for each image whether its predicted box reaches the IoU with any true box (N,).

    `predicted` is (N, 4), `boxes` the true boxes (k, 4) of each image, of its class. This is GT-known localisation;
    with `labels_right` (N,) the predicted class has to be right too, which is top-1 localisation.
    Raises ValueError when lengths differ or an image has no true box.

    >>> localisation_hits([[0, 0, 4, 4]], [[[0, 0, 4, 3]]]).tolist()
    [True]
    """
    predicted = checked_boxes(predicted)
    if len(predicted) != len(boxes) or (labels_right is not None and np.shape(labels_right) != (len(boxes),)):
        raise ValueError("Predicted boxes, true boxes and labels have one entry for each image; their lengths differ.")
    if any(np.size(truth) == 0 for truth in boxes):
        raise ValueError("An image without a true box cannot be scored; leave it out.")
    hits = [iou(box, truth).max() >= iou_threshold for box, truth in zip(predicted, boxes, strict=True)]
    right = np.ones(len(hits), dtype=bool) if labels_right is None else np.asarray(labels_right, dtype=bool)
    return np.array(hits, dtype=bool) & right


def any_guess_hits(
    guessed_labels: ArrayLike,
    guessed_boxes: ArrayLike,
    boxes: ArrayLike,
    box_labels: ArrayLike,
    iou_threshold: float = 0.5,
) -> bool:
    """Return whether one guess (class and box) has the right class and the IoU with a true box of that class.

    Five guesses give ILSVRC's top-5 localisation, whose error is the share of images without a hit. Guesses are (g,)
    and (g, 4), true boxes (k, 4) and (k,). Raises ValueError when labels and boxes differ in number.

    >>> any_guess_hits([7, 3], [[0, 0, 4, 4], [0, 0, 4, 4]], [[0, 0, 4, 3]], [3])
    True
    """
    overlap = iou(guessed_boxes, boxes)
    guessed_labels, box_labels = np.atleast_1d(guessed_labels), np.atleast_1d(box_labels)
    if overlap.shape != (len(guessed_labels), len(box_labels)):
        raise ValueError("Every guessed and every true box has one label; their numbers differ.")
    return bool(((overlap >= iou_threshold) & (guessed_labels[:, None] == box_labels[None, :])).any())
