"""Boxes against brute force, and the sentence of every error."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from wsol_utils.evaluation import boxes

SMALL_MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))
SMALL_MAPS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.floats(0, 1, width=32)
)


def random_boxes(generator, n, size=12):
    corners = np.sort(generator.integers(0, size, (n, 2, 2)), axis=1)
    return np.concatenate([corners[:, 0], corners[:, 1] + 1], axis=1)


def filled(box, size=14):
    canvas = np.zeros((size, size), bool)
    canvas[box[1] : box[3], box[0] : box[2]] = True
    return canvas


def test_iou_counts_pixels():
    generator = np.random.default_rng(0)
    a, b = random_boxes(generator, 30), random_boxes(generator, 40)
    counted = [[(filled(p) & filled(q)).sum() / (filled(p) | filled(q)).sum() for q in b] for p in a]
    np.testing.assert_array_equal(boxes.iou(a, b), counted)


def test_iou_of_boxes_without_area_and_of_no_boxes():
    assert boxes.iou([3, 3, 3, 3], [3, 3, 3, 3]).item() == 0
    assert boxes.iou(np.zeros((0, 4)), [0, 0, 1, 1]).shape == (0, 1)


@given(SMALL_MASKS)
def test_largest_component_is_scipys(mask):
    labels, n_components = ndimage.label(mask, np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=n_components + 1)[1:]
    expected = labels == 1 + areas.argmax() if n_components else mask
    np.testing.assert_array_equal(boxes.largest_component(mask), expected)


@given(SMALL_MASKS.filter(np.any))
def test_box_of_mask_is_tight(mask):
    x0, y0, x1, y1 = boxes.box_of_mask(mask)
    assert mask[y0:y1, x0:x1].sum() == mask.sum()
    inner = mask[y0:y1, x0:x1]
    assert inner[0].any()
    assert inner[-1].any()
    assert inner[:, 0].any()
    assert inner[:, -1].any()


@given(SMALL_MAPS, st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=5))
def test_boxes_from_map_follow_the_rule(score_map, thresholds):
    found = boxes.boxes_from_map(score_map, thresholds)
    for threshold, box in zip(thresholds, found, strict=True):
        np.testing.assert_array_equal(boxes.box_from_map(score_map, threshold), box)
        mask = score_map.astype(float) > threshold * float(score_map.max())
        if mask.any():
            np.testing.assert_array_equal(boxes.box_of_mask(boxes.largest_component(mask)), box)


@pytest.mark.parametrize("score_map", [np.zeros((4, 6)), np.full((4, 6), -1.0), np.full((4, 6), 0.5)])
def test_flat_maps_give_the_whole_image(score_map):
    assert boxes.box_from_map(score_map).tolist() == [0, 0, 6, 4]


def test_threshold_beside_one_keeps_the_maximum():
    score_map = np.array([[0.1, 0.7, 0.7, 0.3]])
    assert boxes.box_from_map(score_map, np.nextafter(1, 0)).tolist() == [1, 0, 3, 1]


def test_best_constant_box_is_the_brute_force_optimum():
    size, generator = 7, np.random.default_rng(3)
    truth = random_boxes(generator, 25, size)
    x0, y0, x1, y1 = np.meshgrid(*[np.arange(size + 1)] * 4, indexing="ij")
    every = np.stack([x0, y0, x1, y1], axis=-1).reshape(-1, 4)
    every = every[(every[:, 0] < every[:, 2]) & (every[:, 1] < every[:, 3])]
    best_share = (boxes.iou(every, truth) >= 0.5).mean(axis=1).max()
    found = boxes.best_constant_box(list(truth), size)
    assert (boxes.iou(found, truth) >= 0.5).mean() == best_share


def test_best_constant_box_takes_the_best_of_several_and_skips_images_without_box():
    several = [np.array([[0, 0, 2, 2], [10, 10, 20, 20]]), np.array([[10, 10, 20, 20]]), np.zeros((0, 4))]
    assert boxes.best_constant_box(several, (24, 30)).tolist() == [10, 10, 20, 20]


@settings(max_examples=20)
@given(st.integers(1, 40), st.integers(1, 40))
def test_centre_gaussian_is_symmetric(height, width):
    score_map = boxes.centre_gaussian(height, width)
    assert score_map.shape == (height, width)
    assert score_map.dtype == np.float32
    assert score_map.max() == 1
    np.testing.assert_allclose(score_map, score_map[::-1, ::-1])


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: boxes.box_from_map(np.zeros((2, 2, 2))), "shape"),
        (lambda: boxes.box_from_map(np.zeros((0, 3))), "shape"),
        (lambda: boxes.box_from_map(np.array([[np.nan, 1]])), "NaN or infinite"),
        (lambda: boxes.box_from_map(np.array([["a", "b"]])), "real numbers"),
        (lambda: boxes.box_from_map(np.ones((2, 2)), 1.0), r"\[0, 1\)"),
        (lambda: boxes.box_from_map(np.ones((2, 2)), float("nan")), r"\[0, 1\)"),
        (lambda: boxes.box_of_mask(np.zeros((2, 2), bool)), "no pixel"),
        (lambda: boxes.largest_component(np.zeros(3, bool)), "mask"),
        (lambda: boxes.iou([0, 0, 1], [0, 0, 1, 1]), r"\(n, 4\)"),
        (lambda: boxes.iou([5, 0, 1, 1], [0, 0, 1, 1]), "ends before it begins"),
        (lambda: boxes.iou([np.nan, 0, 1, 1], [0, 0, 1, 1]), "NaN"),
        (lambda: boxes.best_constant_box([], 10), "No true box"),
        (lambda: boxes.centre_gaussian(0, 3), "at least one pixel"),
    ],
)
def test_errors_name_the_thing(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
