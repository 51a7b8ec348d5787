import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsol_utils.methods.proposals import checked_proposals, grid_boxes, random_boxes

RELAXED = settings(deadline=None, max_examples=40)


@RELAXED
@given(st.integers(1, 60), st.integers(16, 200), st.integers(16, 200), st.integers(0, 3))
def test_baselines_give_the_number_asked_for_inside_the_image(n_boxes, height, width, seed):
    for boxes in (random_boxes(n_boxes, height, width, seed=seed), grid_boxes(n_boxes, height, width)):
        assert boxes.shape == (n_boxes, 4)
        checked_proposals([boxes], 1, (height, width))
        assert (boxes[:, 2:] - boxes[:, :2]).min() >= 3
    assert np.array_equal(grid_boxes(n_boxes, height, width), grid_boxes(n_boxes, height, width))


def test_random_boxes_come_from_their_seed():
    assert np.array_equal(random_boxes(9, 50, 60, seed=3), random_boxes(9, 50, 60, seed=3))
    assert not np.array_equal(random_boxes(9, 50, 60, seed=3), random_boxes(9, 50, 60, seed=4))


def test_errors_name_the_thing_and_the_cure():
    with pytest.raises(ValueError, match="no room for boxes of 8 pixels"):
        random_boxes(3, 5, 30)
    with pytest.raises(ValueError, match="at least one box, not 0"):
        grid_boxes(0, 30, 30)
    for boxes, message in (
        ([], "Image 0 has no proposal; give it at least one"),
        ([[0, 0, 40, 9]], "Image 0 has a proposal outside its 32x32 pixels; clip"),
        ([[4, 4, 4, 9]], "proposal without area"),
    ):
        with pytest.raises(ValueError, match=message):
            checked_proposals([boxes], 1, (32, 32))
    with pytest.raises(ValueError, match="proposals for 1 images, not for 2"):
        checked_proposals([[[0, 0, 9, 9]]], 2, (32, 32))
