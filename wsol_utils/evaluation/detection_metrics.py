"""Metrics of detection: average precision of boxes, recall of proposals, and the kinds of errors.

Detections of an image are (boxes (m, 4), labels (m,), scores (m,)), its truth is boxes (k, 4) and labels (k,).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsol_utils.evaluation.boxes import checked_boxes, iou
from wsol_utils.evaluation.precision import average_precision_of_hits
from wsol_utils.evaluation.statistics import Interval

Detected = tuple[ArrayLike, ArrayLike, ArrayLike]
N_RESAMPLES = 1000  # each pools the detections of all images anew
ERROR_KINDS = ("correct", "localisation", "similar", "other", "background")
LEAST_IOU = 0.1  # with any object, below which a detection shows background (Hoiem et al. 2012)


def match_detections(
    detections: Sequence[Detected],
    boxes: Sequence[ArrayLike],
    labels: Sequence[ArrayLike],
    label: int,
    iou_threshold: float = 0.5,
) -> tuple[NDArray[np.float64], NDArray[np.bool_], int]:
    """Return the scores and hits (M,) of all detections of one class, best first, and its number of objects.

    Everingham et al. 2010, section 4.2: a detection goes to the object of its class and image that it overlaps most. It
    hits if their IoU is at least the threshold and no better detection has hit that object before; so the second
    detection of an object is wrong. Raises ValueError if detections and truth differ in number of images.

    >>> match_detections([([[0, 0, 2, 2], [0, 0, 2, 2]], [7, 7], [0.5, 0.9])], [[[0, 0, 2, 2]]], [[7]], 7)
    (array([0.9, 0.5]), array([ True, False]), 1)
    """
    scores, hits, _, n_objects = _matches(detections, boxes, labels, label, iou_threshold)
    return scores, hits, int(n_objects.sum())


def detection_average_precision(
    detections: Sequence[Detected],
    boxes: Sequence[ArrayLike],
    labels: Sequence[ArrayLike],
    n_classes: int,
    iou_threshold: float = 0.5,
    convention: str = "area",
) -> NDArray[np.float64]:
    """Return the average precision (C,), 0 to 1, of the detections of each class; NaN for a class without an object.

    `convention="area"` (VOC 2010 on) is the area under the envelope of precision, `"11-point"` (VOC 2007) its mean at
    recalls 0, 0.1 ... 1. Raises ValueError as `match_detections`.

    >>> detections = [([[0, 0, 2, 2], [5, 5, 6, 6]], [0, 0], [0.9, 0.8])]
    >>> detection_average_precision(detections, [[[0, 0, 2, 2], [5, 5, 6, 7]]], [[0, 0]], 2).tolist()
    [1.0, nan]
    """
    values = np.full(n_classes, np.nan)
    for label in range(n_classes):
        scores, hits, n_objects = match_detections(detections, boxes, labels, label, iou_threshold)
        if n_objects:
            values[label] = average_precision_of_hits(scores, hits, n_objects, convention)
    return values


def detection_map(
    detections: Sequence[Detected],
    boxes: Sequence[ArrayLike],
    labels: Sequence[ArrayLike],
    n_classes: int,
    iou_threshold: float = 0.5,
    convention: str = "area",
) -> float:
    """Return mAP, the mean over classes of `detection_average_precision`, in per cent.

    Classes without an object are left out. Raises ValueError where no class has one.

    >>> detection_map([([[0, 0, 2, 2]], [0], [0.9])], [[[0, 0, 2, 2]]], [[0]], n_classes=3)
    100.0
    """
    values = detection_average_precision(detections, boxes, labels, n_classes, iou_threshold, convention)
    if np.isnan(values).all():
        raise ValueError("No class has an object, so there is no mAP; give images with boxes.")
    return float(100 * np.nanmean(values))


def map_interval(
    runs: Sequence[Sequence[Detected]],
    boxes: Sequence[ArrayLike],
    labels: Sequence[ArrayLike],
    n_classes: int,
    seed: int = 0,
) -> Interval:
    """Return mAP at IoU 0.5 in per cent with its 95 % bootstrap interval: images resampled and pooled anew.

    `runs` holds the detections of the same images by several trainings, which are averaged. Raises ValueError as
    `detection_map`.

    >>> detections = [([[0, 0, 2, 2]], [0], [0.9])] * 3
    >>> map_interval([detections], [[[0, 0, 2, 2]]] * 3, [[0]] * 3, 1)
    Interval(mean=100.0, low=100.0, high=100.0)
    """
    return _map_interval(runs, [], boxes, labels, n_classes, seed)


def map_difference(
    runs: Sequence[Sequence[Detected]],
    others: Sequence[Sequence[Detected]],
    boxes: Sequence[ArrayLike],
    labels: Sequence[ArrayLike],
    n_classes: int,
    seed: int = 0,
) -> Interval:
    """Return the mAP of runs minus that of others, in points, with its paired bootstrap interval (see `map_interval`).

    >>> truth = [[[0, 0, 2, 2]]] * 3, [[0]] * 3
    >>> found, nothing = [([[0, 0, 2, 2]], [0], [0.9])] * 3, [([], [], [])] * 3
    >>> map_difference([found], [nothing], *truth, 1)
    Interval(mean=100.0, low=100.0, high=100.0)
    """
    return _map_interval(runs, others, boxes, labels, n_classes, seed)


def error_shares(
    detections: Sequence[Detected],
    boxes: Sequence[ArrayLike],
    labels: Sequence[ArrayLike],
    n_classes: int,
    kinds: ArrayLike | None = None,
) -> dict[str, float]:
    """Return what the best detections are, in per cent: `ERROR_KINDS` with their shares.

    Hoiem et al. 2012, as YOLO's section 4.2 takes it: of each class the best n detections count, n its number of
    objects. correct: right class, IoU at least 0.5 (a second detection of an object too); localisation: right class,
    IoU at least 0.1; similar: an object of another class of the same kind, IoU at least 0.1; other: of any other
    class; background: IoU below 0.1 with every object. `kinds` (C,) gives each class's kind, else none are similar.
    Raises ValueError where there is no detection to count.

    >>> detections = [([[0, 0, 4, 4], [9, 9, 10, 10]], [0, 0], [0.9, 0.8])]
    >>> error_shares(detections, [[[0, 0, 4, 4], [2, 2, 3, 3]]], [[0, 0]], 1)
    {'correct': 50.0, 'localisation': 0.0, 'similar': 0.0, 'other': 0.0, 'background': 50.0}
    """
    _check(detections, boxes, labels)
    kinds = np.arange(n_classes) if kinds is None else np.asarray(kinds)
    named: list[list[tuple[float, str]]] = [[] for _ in range(n_classes)]
    n_objects = np.zeros(n_classes, dtype=np.int64)
    for (found, found_labels, scores), true_boxes, true_labels in zip(detections, boxes, labels, strict=True):
        truth = np.asarray(true_labels, dtype=np.int64).reshape(-1)
        np.add.at(n_objects, truth, 1)
        for overlap, label, score in zip(iou(found, true_boxes), found_labels, scores, strict=True):
            best = [
                overlap[chosen].max(initial=0) for chosen in (truth == label, kinds[truth] == kinds[label], truth >= 0)
            ]
            tests = (best[0] >= 0.5, *(value >= LEAST_IOU for value in best), True)
            named[int(label)].append((float(score), ERROR_KINDS[tests.index(True)]))
    ranked = [sorted(own, key=lambda one: -one[0]) for own in named]
    counted = [kind for own, n in zip(ranked, n_objects, strict=True) for _, kind in own[:n]]
    if not counted:
        raise ValueError("There is no detection of a class that has objects; lower the detector's score threshold.")
    return {kind: 100 * counted.count(kind) / len(counted) for kind in ERROR_KINDS}


def background_shares(detections: Sequence[Detected], boxes: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Return for each image the share of its best detections that show background, in per cent (N,).

    As many detections count as the image has objects; background has an IoU below 0.1 with each. An image without a
    detection has a share of 0. Raises ValueError if detections and truth differ in number of images.

    >>> background_shares([([[0, 0, 4, 4], [9, 9, 10, 10]], [0, 0], [0.8, 0.9])], [[[0, 0, 4, 4]]]).tolist()
    [100.0]
    """
    if len(detections) != len(boxes):
        raise ValueError(f"There are detections for {len(detections)} images and boxes for {len(boxes)}.")
    shares = []
    for (found, _, scores), truth in zip(detections, boxes, strict=True):
        truth = checked_boxes(truth)
        best = checked_boxes(found)[np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")[: len(truth)]]
        shares.append(100 * np.mean(iou(best, truth).max(axis=1) < LEAST_IOU) if len(best) else 0.0)
    return np.array(shares)


def first_hits(
    proposals: Sequence[ArrayLike], boxes: Sequence[ArrayLike], iou_threshold: float = 0.5
) -> NDArray[np.float64]:
    """Return for every true box, over all images, the number of proposals it takes to find it; infinity for never.

    A box is found by the first proposal of its image whose IoU with it is at least the threshold. Raises ValueError if
    proposals and truth differ in number of images, and without any true box.

    >>> first_hits([[[5, 5, 6, 6], [0, 0, 2, 2]]], [[[0, 0, 2, 2], [8, 8, 9, 9]]]).tolist()
    [2.0, inf]
    """
    if len(proposals) != len(boxes):
        raise ValueError(
            f"There are proposals for {len(proposals)} images and boxes for {len(boxes)}; give both alike."
        )
    ranks = []
    for own, truth in zip(proposals, boxes, strict=True):
        found = np.vstack([iou(own, truth) >= iou_threshold, np.ones((1, len(checked_boxes(truth))), bool)])
        rank = found.argmax(axis=0) + 1.0
        ranks.append(np.where(rank == len(found), np.inf, rank))
    if not any(map(len, ranks)):
        raise ValueError("No true box was given, so proposals have no recall; give images with boxes.")
    return np.concatenate(ranks)


def recall_at(ranks: NDArray[np.float64], budgets: ArrayLike) -> NDArray[np.float64]:
    """Return the recall in per cent (n,) at each budget of proposals per image, from `first_hits`.

    >>> recall_at(np.array([2.0, np.inf]), [1, 2, 100]).tolist()
    [0.0, 50.0, 50.0]
    """
    return 100 * (ranks <= np.asarray(budgets)[:, None]).mean(axis=1)


def _matches(
    detections: Sequence[Detected],
    boxes: Sequence[ArrayLike],
    labels: Sequence[ArrayLike],
    label: int,
    iou_threshold: float = 0.5,
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Scores, hits and images (M,) of the detections of a class, best first, and its objects in each image (N,)."""
    _check(detections, boxes, labels)
    candidates, best_iou, n_objects = [], [], np.zeros(len(boxes), np.int64)
    for i, (found, true_boxes, true_labels) in enumerate(zip(detections, boxes, labels, strict=True)):
        own = np.asarray(found[1]).reshape(-1) == label
        truth = checked_boxes(true_boxes)[np.asarray(true_labels).reshape(-1) == label]
        overlap = np.hstack([iou(checked_boxes(found[0])[own], truth), np.zeros((own.sum(), 1))])  # a column for none
        objects = overlap.argmax(axis=1)
        scores = np.asarray(found[2], dtype=np.float64).reshape(-1)[own]
        candidates += zip(scores, [i] * len(scores), objects, strict=True)
        best_iou += overlap.max(axis=1).tolist()
        n_objects[i] = len(truth)
    order = np.argsort([-score for score, *_ in candidates], kind="stable")
    hits, taken = np.zeros(len(order), bool), set()
    for rank, j in enumerate(order):
        place = candidates[j][1:]
        if best_iou[j] >= iou_threshold and place not in taken:
            taken.add(place)
            hits[rank] = True
    images = np.array([candidates[j][1] for j in order], dtype=np.int64)
    return np.array([candidates[j][0] for j in order], dtype=np.float64), hits, images, n_objects


def _map_interval(runs, others, boxes, labels, n_classes: int, seed: int) -> Interval:
    """The mean mAP of runs minus that of others; a resample counts each image as often as it is drawn."""
    if not any(map(np.size, labels)):
        raise ValueError("No class has an object, so there is no mAP; give images with boxes.")
    n_images = len(boxes)
    arms = [
        [[_matches(run, boxes, labels, label) for label in range(n_classes)] for run in arm] for arm in (runs, others)
    ]

    def mean_map(arm: list, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        of_runs = []
        for of_classes in arm:
            values, present = np.zeros((2, len(weights)))
            for _, hits, images, n_objects in of_classes:
                drawn = weights[:, images]
                n_hits, n_all, n_true = np.cumsum(drawn * hits, 1), np.cumsum(drawn, 1), weights @ n_objects
                envelope = np.maximum.accumulate((n_hits / np.maximum(n_all, 1))[:, ::-1], axis=1)[:, ::-1]
                values += (np.diff(n_hits, axis=1, prepend=0) * envelope).sum(1) / np.maximum(n_true, 1)
                present += n_true > 0
            of_runs.append(100 * values / np.maximum(present, 1))
        return np.mean(of_runs, axis=0) if arm else np.zeros(len(weights))

    generator, differences = np.random.default_rng(seed), []
    for some in np.array_split(np.arange(N_RESAMPLES), 10):
        draws = generator.integers(n_images, size=(len(some), n_images))
        weights = np.stack([np.bincount(draw, minlength=n_images) for draw in draws]).astype(np.float64)
        differences.append(mean_map(arms[0], weights) - mean_map(arms[1], weights))
    whole = np.ones((1, n_images))
    low, high = np.percentile(np.concatenate(differences), [2.5, 97.5])
    return Interval(float((mean_map(arms[0], whole) - mean_map(arms[1], whole))[0]), float(low), float(high))


def _check(detections: Sequence, boxes: Sequence, labels: Sequence) -> None:
    if not len(detections) == len(boxes) == len(labels):
        raise ValueError(
            f"There are detections for {len(detections)} images, boxes for {len(boxes)} and labels for {len(labels)}; "
            "give each image one entry in each."
        )
    for i, (found, truth, own) in enumerate(zip(detections, boxes, labels, strict=True)):
        if len({np.size(found[0]) // 4, np.size(found[1]), np.size(found[2])}) > 1 or np.size(truth) // 4 != np.size(
            own
        ):
            raise ValueError(
                f"Image {i} has boxes without a label or score, or the reverse; give one of each for a box."
            )
