"""Detection metrics against brute force and cases by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsol_utils.evaluation.boxes import iou
from wsol_utils.evaluation.detection_metrics import (
    background_shares,
    detection_average_precision,
    detection_map,
    error_shares,
    first_hits,
    map_difference,
    map_interval,
    match_detections,
    recall_at,
)

RELAXED = settings(deadline=None, max_examples=50)  # the first call of an operation may take long
CORNER, SIDE = st.integers(0, 6), st.integers(2, 6)
BOX = st.tuples(CORNER, CORNER, SIDE, SIDE).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
FOUND = st.lists(st.tuples(BOX, st.integers(0, 1)), max_size=6)
IMAGE = st.tuples(FOUND, st.lists(st.tuples(BOX, st.integers(0, 1)), max_size=3))


def truth_of(images):
    """Detections with distinct scores, true boxes and true labels of drawn images."""
    n, detections, boxes, labels = 0, [], [], []
    for found, truth in images:
        scores = [((n + i) * 7919 % 1009) / 1009 for i in range(len(found))]
        n += len(found)
        detections.append(([box for box, _ in found], [label for _, label in found], scores))
        boxes.append([box for box, _ in truth])
        labels.append([label for _, label in truth])
    return detections, boxes, labels


def brute_force(detections, boxes, labels, label, convention):
    """Precision at every recall, written as the definition reads, without sorting into arrays."""
    ranked = sorted(
        (-score, i, tuple(box))
        for i, found in enumerate(detections)
        for box, own, score in zip(*found, strict=True)
        if own == label
    )
    truth = [(i, k) for i, own in enumerate(labels) for k, one in enumerate(own) if one == label]
    free, curve, hits = set(truth), [], 0
    for rank, (_, i, box) in enumerate(ranked, start=1):
        overlaps = [(float(iou(box, boxes[i][k])[0, 0]), -k) for j, k in truth if j == i]
        overlap, k = max(overlaps, default=(0, 0))
        if overlap >= 0.5 and (i, -k) in free:
            free.remove((i, -k))
            hits += 1
        curve.append((hits / len(truth), hits / rank))
    if convention == "11-point":
        levels = np.arange(0, 1.1, 0.1)
        return sum(max((p for r, p in curve if r >= level), default=0) for level in levels) / 11
    steps = sorted({r for r, _ in curve if r > 0})
    return sum((r - q) * max(p for s, p in curve if s >= r) for q, r in zip([0, *steps], steps, strict=False))


@RELAXED
@given(st.lists(IMAGE, min_size=1, max_size=4), st.sampled_from(["area", "11-point"]))
def test_average_precision_equals_brute_force(images, convention):
    detections, boxes, labels = truth_of(images)
    found = detection_average_precision(detections, boxes, labels, 2, convention=convention)
    for label in range(2):
        if any(label in own for own in labels):
            assert found[label] == pytest.approx(brute_force(detections, boxes, labels, label, convention), abs=1e-12)
        else:
            assert np.isnan(found[label])


def test_a_case_by_hand():
    boxes, labels = [[[0, 0, 10, 10], [20, 20, 30, 30]], [[0, 0, 10, 10]]], [[0, 0], [0]]
    detections = [
        ([[0, 0, 10, 9], [1, 0, 11, 10], [20, 20, 30, 28]], [0, 0, 0], [0.9, 0.8, 0.6]),  # hit, second of one, hit
        ([[5, 5, 20, 20]], [0], [0.7]),  # misses
    ]
    scores, hits, n_objects = match_detections(detections, boxes, labels, 0)
    assert scores.tolist() == [0.9, 0.8, 0.7, 0.6]
    assert hits.tolist() == [True, False, False, True]
    assert n_objects == 3
    assert detection_map(detections, boxes, labels, 1) == pytest.approx(100 * (1 / 3 + 1 / 3 * 0.5))
    eleven = 100 * (4 * 1 + 3 * 0.5) / 11  # recalls 0 to 0.3, then 0.4 to 0.6
    assert detection_map(detections, boxes, labels, 1, convention="11-point") == pytest.approx(eleven)


@RELAXED
@given(st.lists(IMAGE, min_size=1, max_size=3))
def test_only_the_order_of_scores_counts(images):
    detections, boxes, labels = truth_of(images)
    squeezed = [(b, y, [np.exp(5 * s) - 3 for s in scores]) for b, y, scores in detections]
    expected = detection_average_precision(detections, boxes, labels, 2)
    np.testing.assert_array_equal(detection_average_precision(squeezed, boxes, labels, 2), expected)


def test_a_perfect_detector_and_an_idle_one():
    boxes, labels = [[[0, 0, 5, 5]], [[1, 1, 4, 8], [6, 6, 9, 9]]], [[0], [1, 0]]
    perfect = [(b, y, np.ones(len(y))) for b, y in zip(boxes, labels, strict=True)]
    idle = [(np.zeros((0, 4)), [], [])] * 2
    for convention in ("area", "11-point"):
        assert detection_map(perfect, boxes, labels, 2, convention=convention) == 100
        assert detection_map(idle, boxes, labels, 2, convention=convention) == 0


def test_kinds_of_errors_by_hand():
    boxes = [[[0, 0, 10, 10], [40, 40, 50, 50], [80, 80, 90, 90]]]
    labels = [[0, 1, 2]]
    found = [[0, 0, 10, 10], [40, 40, 50, 50], [80, 80, 90, 90]]
    detections = [(found, [0, 0, 0], [0.9, 0.8, 0.7])]
    assert error_shares(detections, boxes, labels, 3)["correct"] == 100  # one object of class 0: one detection counts
    for box, label, kind in (
        ([4, 0, 14, 10], 0, "localisation"),
        ([41, 40, 51, 50], 0, "similar"),
        ([81, 80, 91, 90], 0, "other"),
        ([20, 20, 30, 30], 0, "background"),
    ):
        shares = error_shares([([box], [label], [0.5])], boxes, labels, 3, kinds=[0, 0, 1])
        assert shares[kind] == 100
        assert sum(shares.values()) == 100


@RELAXED
@given(st.lists(st.tuples(st.lists(BOX, max_size=6), st.lists(BOX, max_size=3)), min_size=1, max_size=4))
def test_first_hits_equal_a_search(images):
    proposals, boxes = zip(*images, strict=True)
    if not any(boxes):
        return
    ranks = []
    for own, truth in images:
        for box in truth:
            good = [i for i, proposal in enumerate(own, 1) if iou(proposal, box)[0, 0] >= 0.5]
            ranks.append(min(good, default=np.inf))
    found = first_hits(proposals, boxes)
    assert found.tolist() == ranks
    recalls = recall_at(found, [1, 3, 6])
    assert (np.diff(recalls) >= 0).all()
    assert recalls[1] == pytest.approx(100 * np.mean([rank <= 3 for rank in ranks]))


def test_errors_name_the_thing_and_the_cure():
    detection, box = ([[0, 0, 1, 1]], [0], [0.5]), [[0, 0, 1, 1]]
    with pytest.raises(ValueError, match="detections for 1 images, boxes for 2 and labels for 1"):
        detection_map([detection], [box, box], [[0]], 1)
    with pytest.raises(ValueError, match="Image 0 has boxes without a label or score"):
        detection_map([([[0, 0, 1, 1]], [0], [])], [box], [[0]], 1)
    with pytest.raises(ValueError, match="No class has an object"):
        detection_map([detection], [[]], [[]], 1)
    with pytest.raises(ValueError, match="no detection of a class that has objects; lower the detector's score"):
        error_shares([([], [], [])], [box], [[0]], 1)
    with pytest.raises(ValueError, match="proposals for 1 images and boxes for 2"):
        first_hits([box], [box, box])
    with pytest.raises(ValueError, match="No true box was given"):
        first_hits([box], [[]])
    with pytest.raises(ValueError, match="convention is 'area' or '11-point'"):
        detection_map([detection], [box], [[0]], 1, convention="101-point")


@RELAXED
@given(st.lists(IMAGE, min_size=2, max_size=4))
def test_a_resample_counts_images_as_often_as_they_are_drawn(images):
    """The mean of the interval is mAP, and the difference of runs is that of their means."""
    detections, boxes, labels = truth_of(images)
    if not any(labels):
        return
    nothing = [([], [], [])] * len(boxes)
    interval = map_interval([detections, nothing], boxes, labels, 2)
    assert interval.mean == pytest.approx(detection_map(detections, boxes, labels, 2) / 2, abs=1e-9)
    assert interval.low <= interval.high
    difference = map_difference([detections], [nothing], boxes, labels, 2)
    assert difference.mean == pytest.approx(2 * interval.mean, abs=1e-9)
    assert map_difference([detections], [detections], boxes, labels, 2).high == 0
    with pytest.raises(ValueError, match="No class has an object, so there is no mAP"):
        map_interval([nothing], boxes, [[]] * len(boxes), 2)


def test_background_is_counted_among_the_best_of_each_image():
    boxes = [[[0, 0, 10, 10], [20, 20, 30, 30]], [[0, 0, 10, 10]], [[0, 0, 10, 10]]]
    detections = [
        ([[50, 50, 60, 60], [0, 0, 10, 10], [80, 80, 90, 90]], [0, 0, 0], [0.7, 0.9, 0.1]),  # one of two
        ([[5, 5, 15, 15], [50, 50, 60, 60]], [3, 0], [0.9, 0.8]),  # overlaps an object, of whatever class
        ([], [], []),
    ]
    assert background_shares(detections, boxes).tolist() == [50.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="detections for 3 images and boxes for 2"):
        background_shares(detections, boxes[:2])
