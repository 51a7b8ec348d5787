"""Average precision of PASCAL VOC, for image labels and for predicted points."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

TIES = ("file_order", "positives_first", "positives_last")


def average_precision(
    scores: ArrayLike, labels: ArrayLike, convention: str = "area", ties: str = "file_order"
) -> float:
    """Return the average precision (0 to 1) of one class as the VOC development kit computes it.

    `scores` and `labels` are (N,); labels are 1, -1, or 0 for difficult images, which count as neither.
    `convention="area"` (VOC 2010 on) takes the area under the envelope of precision, `"11-point"` (VOC 2007) the mean
    envelope at recalls 0, 0.1 ... 1. Equal scores keep the order of the file, as in the kit; `ties` also gives the
    best and the worst order. Without a positive the area is NaN and the 11-point mean 0, as in the kit.
    Raises ValueError for other labels, NaN scores, shapes that differ and unknown names.

    >>> average_precision([0.9, 0.8, 0.7, 0.6], [1, -1, 0, 1])
    0.8333333333333333
    """
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise ValueError(f"Scores and labels are two lists of one length, not {scores.shape} and {labels.shape}.")
    if not np.isin(labels, (-1, 0, 1)).all():
        raise ValueError("Labels are 1 (positive), -1 (negative) or 0 (difficult); convert others first.")
    counted = labels != 0
    hits = labels[counted] == 1
    return average_precision_of_hits(scores[counted], hits, int(hits.sum()), convention, ties)


def mean_average_precision(scores: ArrayLike, labels: ArrayLike, convention: str = "area") -> float:
    """Return the mean over classes of `average_precision`, for scores and labels (N, C).

    Classes without a positive are left out. Raises ValueError when none has one.

    >>> mean_average_precision([[0.9, 0.1], [0.2, 0.8]], [[1, -1], [-1, 1]])
    1.0
    """
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if scores.ndim != 2 or scores.shape != labels.shape:
        raise ValueError(
            f"Scores and labels both have the shape (images, classes), not {scores.shape}, {labels.shape}."
        )
    with_positives = np.flatnonzero((labels == 1).any(axis=0))
    if len(with_positives) == 0:
        raise ValueError("No class has a positive image, so there is no mean average precision.")
    return float(np.mean([average_precision(scores[:, c], labels[:, c], convention) for c in with_positives]))


def point_average_precision(
    scores: ArrayLike, labels: ArrayLike, hits: ArrayLike, convention: str = "area", ties: str = "file_order"
) -> float:
    """Return the average precision (0 to 1) of predicted points of one class (Oquab et al. 2015).

    Every image gives one point with the image's score. It is right when the class is present (label 1) and the point
    hits an object (`hits` (N,), see `points.point_in_boxes`); a point that misses counts as a false positive, and every
    image with the class counts for recall. Difficult images (label 0) count as neither.
    Raises ValueError as `average_precision`.

    >>> point_average_precision([0.9, 0.8], [1, 1], [True, False])
    0.5
    """
    scores, labels, hits = np.asarray(scores, dtype=np.float64), np.asarray(labels), np.asarray(hits, dtype=bool)
    if scores.ndim != 1 or not scores.shape == labels.shape == hits.shape:
        raise ValueError(f"Scores, labels and hits have one length, not {scores.shape}, {labels.shape}, {hits.shape}.")
    if not np.isin(labels, (-1, 0, 1)).all():
        raise ValueError("Labels are 1 (positive), -1 (negative) or 0 (difficult); convert others first.")
    counted = labels != 0
    right = (hits & (labels == 1))[counted]
    return average_precision_of_hits(scores[counted], right, int((labels == 1).sum()), convention, ties)


def average_precision_of_hits(
    scores: NDArray[np.float64],
    hits: NDArray[np.bool_],
    n_positives: int,
    convention: str = "area",
    ties: str = "file_order",
) -> float:
    """Return the average precision (0 to 1) of guesses (N,) of which `hits` are right, out of all `n_positives`.

    Positives that no guess hits count as missed. Conventions, ties and errors as in `average_precision`.

    >>> average_precision_of_hits(np.array([0.9]), np.array([True]), 2)
    0.5
    """
    if convention not in ("area", "11-point"):
        raise ValueError(f"The convention is 'area' or '11-point', not {convention!r}.")
    if ties not in TIES:
        raise ValueError(f"Ties are broken by one of {', '.join(TIES)}, not {ties!r}.")
    if np.isnan(scores).any():
        raise ValueError("Scores hold NaN; give an image without a score minus infinity, so that it comes last.")
    if n_positives == 0:
        return float("nan") if convention == "area" else 0.0
    second = {"file_order": np.zeros(len(hits)), "positives_first": ~hits, "positives_last": hits}[ties]
    hits = hits[np.lexsort((second, -scores))]  # lexsort is stable
    n_hits = np.cumsum(hits)
    recall, precision = n_hits / n_positives, n_hits / np.arange(1, len(hits) + 1)
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    if convention == "area":
        return float(np.sum(np.diff(recall, prepend=0.0) * envelope[:-1]))
    levels = np.arange(
        0, 1.1, 0.1
    )  # as doubles: 3/10, 6/10 and 7/10 fall just below their level, as in the public codes
    return float(np.mean(envelope[np.searchsorted(recall, levels, side="left")]))
