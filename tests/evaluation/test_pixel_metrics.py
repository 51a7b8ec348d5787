"""PxAP against scikit-learn and brute force, its bootstrap, and the share of a map inside a mask."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score

from wsol_utils.evaluation.pixel_metrics import PxAP, pxap_difference, pxap_interval, share_inside

LEVELS = hnp.arrays(np.int64, (5, 7), elements=st.integers(0, 100))
MASKS = hnp.arrays(bool, (5, 7))


def filled(n_images, noise, seed=0):
    generator = np.random.default_rng(seed)
    metric = PxAP()
    for _ in range(n_images):
        mask = generator.random((12, 12)) < 0.3
        metric.update(mask + generator.random((12, 12)) * noise, mask)
    return metric.compute()


@given(LEVELS, MASKS.filter(np.any), MASKS)
def test_pooled_value_is_scikit_learns(levels, mask, ignore):
    metric = PxAP("wsolevaluation", 100)
    metric.update(levels / 100, mask, ignore)
    metric.update(levels[::-1] / 100, mask)
    counted = mask | ~ignore
    truth = np.concatenate([mask[counted], mask.ravel()])
    values = np.concatenate([levels[counted], levels[::-1].ravel()])
    expected = average_precision_score(truth, metric._bins(values / 100))
    assert metric.compute().value == pytest.approx(100 * expected)


@given(LEVELS, MASKS.filter(np.any))
def test_histograms_are_numpys(levels, mask):
    metric = PxAP("wsolevaluation", 1000)
    metric.update(levels / 100, mask)
    edges = np.concatenate([metric.thresholds, [1, 2, 3]])
    np.testing.assert_array_equal(metric.compute().positives[0], np.histogram((levels / 100)[mask], edges)[0])


def test_every_edge_and_its_neighbours_fall_into_numpys_bins():
    metric = PxAP("wsolevaluation", 1000)
    edges = np.concatenate([metric.thresholds, [1, 2, 3]])
    values = np.concatenate([edges[:1001], np.nextafter(edges[1:1001], 0), np.nextafter(edges[:1000], 1)])
    expected = np.searchsorted(edges, values, side="right") - 1
    np.testing.assert_array_equal(metric._bins(values), expected)


def test_constant_map_gives_the_share_of_positives():
    metric = PxAP()
    mask = np.zeros((10, 10), bool)
    mask[:3] = True
    metric.update(np.full((10, 10), 0.4), mask)
    assert metric.compute().value == pytest.approx(30)


def test_clean_mode_scales_by_the_maximum_and_drops_negative_values():
    mask = np.array([[True, False, False]])
    results = []
    for score_map in ([[8.0, 2.0, 0.0]], [[0.8, 0.2, -3.0]], [[4, 1, 0]]):
        metric = PxAP()
        metric.update(score_map, mask)
        results.append(metric.compute().negatives)
    assert (results[0] == results[1]).all()
    assert (results[0] == results[2]).all()


def test_best_threshold_separates():
    metric = PxAP()
    metric.update([[1.0, 0.61, 0.3, 0.1]], [[True, True, False, False]])
    result = metric.compute()
    assert 0.3 < result.best_threshold <= 0.61
    assert result.value == 100


def test_zero_map_has_no_value_above_zero():
    metric = PxAP()
    metric.update(np.zeros((2, 2)), [[1, 0], [0, 0]])
    assert metric.compute().value == 25


def test_interval_holds_the_value_and_narrows_with_images():
    few, many = filled(10, 2.0), filled(160, 2.0)
    wide, narrow = pxap_interval(few), pxap_interval(many)
    assert wide.mean == pytest.approx(few.value)
    assert wide.low < few.value < wide.high
    assert narrow.high - narrow.low < wide.high - wide.low
    assert pxap_interval([few, few]) == wide


def test_difference_is_paired_and_signed():
    sharp, blurred = filled(60, 1.2), filled(60, 2.5)
    difference = pxap_difference(sharp, blurred)
    assert difference.low > 0
    assert difference.mean == pytest.approx(sharp.value - blurred.value)
    assert pxap_difference(sharp, sharp).high == 0


@given(hnp.arrays(np.float64, (4, 4), elements=st.floats(-5, 5)), hnp.arrays(bool, (4, 4)))
def test_share_inside_is_additive(score_map, mask):
    total = share_inside(score_map, np.ones((4, 4)))
    assert total in (0, 1)
    assert share_inside(score_map, mask) + share_inside(score_map, ~mask) == pytest.approx(total)


def no_object():
    metric = PxAP()
    metric.update(np.ones((2, 2)), np.zeros((2, 2)))
    return metric.compute()


@pytest.mark.parametrize(
    ("error", "call", "sentence"),
    [
        (ValueError, lambda: PxAP("other"), "'clean' or 'wsolevaluation'"),
        (ValueError, lambda: PxAP().update(np.ones((2, 2)), np.ones((2, 3))), "differ in shape"),
        (ValueError, lambda: PxAP("wsolevaluation").update([[-0.1]], [[1]]), r"\[0, 1\]"),
        (ValueError, lambda: PxAP().update([[np.inf]], [[1]]), "infinite"),
        (ValueError, lambda: share_inside(np.ones((2, 2)), np.ones((2, 3))), "differ in shape"),
        (ValueError, lambda: pxap_interval(filled(1, 1)), "two or more images"),
        (ValueError, lambda: pxap_difference(filled(2, 1), filled(3, 1)), "same two or more images"),
        (RuntimeError, lambda: PxAP().compute(), "No image has been added"),
        (RuntimeError, no_object, "No image has a pixel"),
    ],
)
def test_errors_name_the_thing(error, call, sentence):
    with pytest.raises(error, match=sentence):
        call()
