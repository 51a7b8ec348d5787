"""Points and guesses against brute force, and the sentence of every error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wsol_utils.evaluation.points import (
    any_guess_hits,
    localisation_hits,
    point_in_boxes,
    point_of_maximum,
    point_on_mask,
)


def one_hot(row, column, side=9):
    score_map = np.zeros((side, side))
    score_map[row, column] = 1
    return score_map


def test_first_maximum_in_raster_order_wins():
    assert point_of_maximum(np.full((3, 3), 2.0)) == (0, 0)
    assert point_of_maximum(one_hot(2, 5)) == (5, 2)


@given(st.integers(0, 8), st.integers(0, 8), hnp.arrays(bool, (9, 9)), st.floats(0, 12))
def test_point_on_mask_measures_the_nearest_pixel(row, column, mask, tolerance):
    distances = [np.hypot(r - row, c - column) for r, c in np.argwhere(mask)]
    expected = bool(mask[row, column]) if tolerance == 0 else min(distances, default=np.inf) < tolerance
    assert point_on_mask(one_hot(row, column), mask, tolerance) == expected


@given(st.integers(0, 8), st.integers(0, 8), st.integers(0, 3))
def test_point_in_boxes_enlarges_boxes(row, column, tolerance):
    enlarged = np.zeros((15, 15), bool)
    enlarged[3 + 3 - tolerance : 3 + 5 + tolerance, 3 + 2 - tolerance : 3 + 6 + tolerance] = True
    assert point_in_boxes(one_hot(row, column), [[2, 3, 6, 5]], tolerance) == enlarged[row + 3, column + 3]


def test_no_box_is_never_hit():
    assert not point_in_boxes(one_hot(0, 0), np.zeros((0, 4)), 100)
    assert not point_on_mask(one_hot(0, 0), np.zeros((9, 9)), 100)


def test_localisation_counts_half_overlap_and_labels():
    predicted = [[0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 4, 4]]
    truth = [[[0, 0, 4, 2]], [[9, 9, 12, 12], [0, 0, 4, 4]], [[2, 2, 9, 9]]]
    assert localisation_hits(predicted, truth).tolist() == [True, True, False]
    assert localisation_hits(predicted, truth, [False, True, True]).tolist() == [False, True, False]


def test_guess_needs_class_and_box_together():
    boxes, box_labels = [[0, 0, 4, 4], [10, 10, 14, 14]], [1, 2]
    assert any_guess_hits([2, 1], [[0, 0, 4, 4], [0, 0, 4, 4]], boxes, box_labels)
    assert not any_guess_hits([2, 1], [[0, 0, 4, 4], [10, 10, 14, 14]], boxes, box_labels)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: point_in_boxes(one_hot(0, 0), [0, 0, 1, 1], -1), "tolerance"),
        (lambda: point_on_mask(one_hot(0, 0), np.ones((9, 9)), np.inf), "tolerance"),
        (lambda: point_on_mask(one_hot(0, 0), np.ones((9, 8))), "differ in shape"),
        (lambda: localisation_hits([[0, 0, 1, 1]], []), "lengths differ"),
        (lambda: localisation_hits([[0, 0, 1, 1]], [[[0, 0, 1, 1]]], [True, True]), "lengths differ"),
        (lambda: localisation_hits([[0, 0, 1, 1]], [np.zeros((0, 4))]), "without a true box"),
        (lambda: any_guess_hits([1, 2], [[0, 0, 1, 1]], [[0, 0, 1, 1]], [1]), "numbers differ"),
    ],
)
def test_errors_name_the_thing(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
