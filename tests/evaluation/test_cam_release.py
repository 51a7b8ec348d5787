"""CAM's released box program: every stored output, ties of area included."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsol_utils.evaluation.cam_release import _introsort, cam_release_boxes, ordered_corners


def test_stored_outputs(cam_cases):
    offsets, box_offsets = cam_cases["maps_off"], cam_cases["boxes_off"]
    for k, (height, width) in enumerate(cam_cases["hw"].tolist()):
        grey = cam_cases["maps_u8"][offsets[k] : offsets[k + 1]].reshape(height, width)
        for s, levels in enumerate(cam_cases["threshold_sets"].tolist()):
            expected = cam_cases["boxes_xywh"][box_offsets[3 * k + s] : box_offsets[3 * k + s + 1]]
            np.testing.assert_array_equal(cam_release_boxes(grey, tuple(levels)), expected, cam_cases["names"][k])


@given(st.lists(st.tuples(*[st.integers(-3, 12)] * 4), max_size=80))
def test_sorting_keeps_every_box_and_orders_by_area(boxes):
    found = _introsort(boxes)
    assert sorted(found) == sorted(boxes)
    areas = [w * h for _, _, w, h in found]
    assert areas == sorted(areas, reverse=True)


def test_flat_maps():
    assert cam_release_boxes(np.zeros((30, 30), np.uint8)).shape == (0, 4)
    assert cam_release_boxes(np.full((30, 40), 255, np.uint8)).tolist() == [[0, 0, 35, 25]] * 2


def test_levels_out_of_order_fall_back_to_the_built_in_ones():
    ramp = np.tile(np.arange(0, 250, 5, dtype=np.uint8), (40, 1))
    np.testing.assert_array_equal(cam_release_boxes(ramp, (5, 5, 6)), cam_release_boxes(ramp, (30, 90, 150)))


def test_corners_are_put_in_order():
    assert ordered_corners([[10, 4, -3, -2], [1, 2, 3, 4]]).tolist() == [[7, 2, 10, 4], [1, 2, 4, 6]]


def test_other_types_are_refused():
    with pytest.raises(ValueError, match="8-bit"):
        cam_release_boxes(np.zeros((4, 4)))
