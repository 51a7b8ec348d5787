"""The clean box metrics against plain loops, the fast roads against the slow, the published rule spelt out."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wsol_utils.evaluation import regions, wsolevaluation
from wsol_utils.evaluation.box_metrics import MaxBoxAcc, MaxBoxAccV2, relative_boxes
from wsol_utils.evaluation.boxes import box_from_map, box_of_mask, iou, largest_component
from wsol_utils.evaluation.metrics import BoxAccuracy

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)
MASKS = hnp.arrays(bool, SHAPES).filter(np.any)
MAPS = hnp.arrays(np.float64, SHAPES, elements=st.integers(0, 20).map(lambda k: k / 20))


def smooth_maps(n, side=40, seed=0):
    generator = np.random.default_rng(seed)
    return [cv2.GaussianBlur(generator.random((side, side)), (0, 0), 3) for _ in range(n)]


def random_boxes(n, side=40, seed=1):
    corners = np.sort(np.random.default_rng(seed).integers(0, side + 1, (n, 2, 2)), axis=1)
    return np.concatenate([corners[:, 0], corners[:, 1] + (corners[:, 0] == corners[:, 1])], axis=1)


@given(MASKS)
def test_counting_pixels_along_contours_is_counting_pixels(mask):
    (rectangle,), _ = regions.largest_component_box(mask.astype(np.uint8))
    x, y, w, h = rectangle
    np.testing.assert_array_equal([x, y, x + w, y + h], box_of_mask(largest_component(mask)))


@given(MASKS, st.sampled_from([regions.component_boxes, regions.contour_boxes, regions.largest_component_box]))
def test_both_roads_find_the_same_boxes(mask, rule):
    mask = mask.astype(np.uint8) * 255
    found = [sorted(map(tuple, np.reshape(rule(mask, crowded)[0], (-1, 4)).tolist())) for crowded in (False, True)]
    assert found[0] == found[1]


@given(MASKS)
def test_outer_contours_decide_the_largest_of_all(mask):
    mask = mask.astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    assert regions.largest_contour_box(mask)[0] == [cv2.boundingRect(max(contours, key=cv2.contourArea))]


@given(MAPS)
def test_clean_boxes_are_those_of_box_from_map(score_map):
    thresholds = np.arange(255) / 255
    boxes, starts, which = relative_boxes(score_map, thresholds)
    for threshold, box in zip(thresholds[::17], boxes[starts[which]][::17], strict=True):
        np.testing.assert_array_equal(box, box_from_map(score_map, threshold))


def test_thresholds_hold_the_rule_of_cam():
    assert 0.2 in MaxBoxAcc().thresholds


@settings(max_examples=40)
@given(MAPS, st.booleans())
def test_published_rule_spelt_out(score_map, several):
    height, width = score_map.shape
    levels = (score_map * 255).astype(np.uint8)
    thresholds = wsolevaluation.threshold_list(60)
    boxes, starts, which = wsolevaluation.predicted_boxes(score_map, thresholds, several)
    per_mask = np.split(boxes, starts[1:])
    for threshold, found in zip(thresholds, [per_mask[w] for w in which], strict=True):
        _, mask = cv2.threshold(levels, int(threshold * levels.max()), 255, cv2.THRESH_BINARY)
        contours, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        if contours and not several:
            contours = [max(contours, key=cv2.contourArea)]
        rectangles = [cv2.boundingRect(c) for c in contours] or [(0, 0, 0, 0)]
        expected = [(x, y, min(x + w, width - 1), min(y + h, height - 1)) for x, y, w, h in rectangles]
        assert sorted(map(tuple, found.tolist())) == sorted(expected)


@pytest.mark.parametrize("metric_class", [MaxBoxAcc, MaxBoxAccV2])
def test_streaming_equals_a_plain_loop(metric_class):
    maps, truth = smooth_maps(12), random_boxes(12)
    metric = metric_class(n_thresholds=40)
    for score_map, box in zip(maps, truth, strict=True):
        metric.update(score_map, box)
    result = metric.compute()
    overlaps = np.zeros((12, 40))
    for i, (score_map, box) in enumerate(zip(maps, truth, strict=True)):
        for k in range(40):
            mask = score_map > k / 40 * score_map.max()
            if metric_class is MaxBoxAcc:
                candidates = [box_of_mask(largest_component(mask))]
            else:
                n_labels, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
                candidates = [box_of_mask(labels == j) for j in range(1, n_labels)]
            overlaps[i, k] = iou(candidates, box).max()
    for row, threshold in enumerate(result.iou_thresholds):
        np.testing.assert_array_equal(result.counts[row], (overlaps >= threshold).sum(axis=0))
        best = round(result.best_thresholds[row] * 40)
        np.testing.assert_array_equal(result.hits[row], overlaps[:, best] >= threshold)
    assert result.value == pytest.approx(result.curve.max(axis=1).mean())
    assert result.value == pytest.approx(result.per_image.mean())


def test_thresholds_chosen_elsewhere_are_judged_as_boxes_cut_there():
    generator = np.random.default_rng(5)
    maps = generator.random((30, 12, 12)) ** 3
    corners = generator.integers(0, 6, (30, 1, 2))
    truth = np.concatenate([corners, corners + generator.integers(3, 7, (30, 1, 2))], axis=2)
    metric = MaxBoxAcc(n_thresholds=20, iou_thresholds=(0.1, 0.3))
    for score_map, boxes in zip(maps, truth, strict=True):
        metric.update(score_map, boxes)
    chosen = 0.15, 0.45
    found = metric.compute(at=chosen)
    for threshold, least, hits in zip(chosen, (0.1, 0.3), found.hits, strict=True):
        expected = [iou(box_from_map(m, threshold), true).max() >= least for m, true in zip(maps, truth, strict=True)]
        assert hits.tolist() == expected
    assert found.value == pytest.approx(found.per_image.mean())
    assert found.value < metric.compute().value


def test_crowded_maps_agree_with_the_plain_road(monkeypatch):
    noise = np.random.default_rng(0).random((48, 48))
    results = []
    for crowded in (64, 10**9):
        monkeypatch.setattr(regions, "CROWDED", crowded)
        for metric in (MaxBoxAcc(), MaxBoxAccV2(), MaxBoxAccV2("wsolevaluation", 100)):
            metric.update(noise, [[5, 5, 9, 9], [20, 20, 44, 40]])
            results.append(metric.compute().counts)
    for fast, slow in zip(results[:3], results[3:], strict=True):
        np.testing.assert_array_equal(fast, slow)


def test_scale_and_type_of_the_map_do_not_matter():
    score_map = np.round(smooth_maps(1)[0] * 100)
    counts = []
    for scaled in (score_map, score_map.astype(np.float32) * 4, score_map.astype(np.uint8), score_map / 64):
        metric = MaxBoxAcc()
        metric.update(scaled, random_boxes(1))
        counts.append(metric.compute().counts)
    assert all((c == counts[0]).all() for c in counts)


def test_perfect_plate_is_right_in_the_clean_mode_and_one_pixel_off_in_the_other():
    score_map = np.zeros((20, 20))
    score_map[5:7, 5:7] = 1
    clean, published = MaxBoxAcc(iou_thresholds=[1.0]), MaxBoxAcc("wsolevaluation", iou_thresholds=[0.45])
    clean.update(score_map, [5, 5, 7, 7])
    published.update(score_map, [5, 5, 6, 6])
    assert clean.compute().value == 100
    assert published.compute().value == 0


def test_hole_is_a_box_in_the_published_mode_only():
    score_map = np.ones((30, 30))
    score_map[10:20, 10:20] = 0
    clean, published = MaxBoxAccV2(), MaxBoxAccV2("wsolevaluation")
    clean.update(score_map, [10, 10, 20, 20])
    published.update(score_map, [9, 9, 21, 21])
    assert clean.compute().value == 0
    assert published.compute().value == 100


@pytest.mark.parametrize("tiny", [5e-324, 1e-310])
def test_smallest_numbers_have_boxes(tiny):
    metric = MaxBoxAcc()
    metric.update(np.array([[0, tiny, 0]]), [1, 0, 2, 1])
    assert metric.compute().counts.min() == 1


def test_flat_map_is_the_whole_image():
    metric = MaxBoxAccV2()
    metric.update(np.full((4, 6), -2.0), [0, 0, 6, 4])
    assert metric.compute().value == 100


def test_result_is_frozen_and_stays_when_more_images_come():
    metric = MaxBoxAcc()
    metric.update(np.ones((4, 4)), [0, 0, 4, 4])
    first = metric.compute()
    metric.update(np.ones((4, 4)), [0, 0, 1, 1])
    assert isinstance(first, BoxAccuracy)
    assert first.counts.max() == 1
    assert metric.compute().value == 50
    with pytest.raises(AttributeError):
        first.value = 3


@pytest.mark.parametrize(
    ("error", "call", "sentence"),
    [
        (ValueError, lambda: MaxBoxAcc("fast"), "'clean' or 'wsolevaluation'"),
        (ValueError, lambda: MaxBoxAcc(n_thresholds=256), "1 to 255"),
        (ValueError, lambda: MaxBoxAcc("wsolevaluation", 0), "At least one threshold"),
        (ValueError, lambda: MaxBoxAcc().update(np.ones((2, 2)), np.zeros((0, 4))), "without a true box"),
        (ValueError, lambda: MaxBoxAcc().update(np.full((2, 2), np.nan), [0, 0, 1, 1]), "NaN"),
        (ValueError, lambda: MaxBoxAcc("wsolevaluation").update(np.full((2, 2), 1.1), [0, 0, 1, 1]), r"\[0, 1\]"),
        (RuntimeError, lambda: MaxBoxAccV2().compute(), "No image has been added"),
        (ValueError, lambda: wsolevaluation.scale_boxes([[5, 5, 4, 9]], 10, 10), "in order"),
        (ValueError, lambda: wsolevaluation.scale_boxes([[-1, 5, 4, 9]], 10, 10), "at least 0"),
        (ValueError, lambda: wsolevaluation.scale_boxes([1, 2, 3], 10, 10), r"\(n, 4\)"),
        (ValueError, lambda: wsolevaluation.resize_and_normalise(np.ones(3), 2, 2), "shape"),
        (ValueError, lambda: wsolevaluation.object_and_ignored([]), "without an instance"),
    ],
)
def test_errors_name_the_thing(error, call, sentence):
    with pytest.raises(error, match=sentence):
        call()
