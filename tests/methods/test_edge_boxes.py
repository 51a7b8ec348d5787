import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsol_utils.evaluation.detection_metrics import first_hits
from wsol_utils.methods.edge_boxes import EdgeGroups, edge_box_scores, edge_boxes, edge_groups, window_boxes
from wsol_utils.methods.proposals import checked_proposals, random_boxes

RELAXED = settings(deadline=None, max_examples=40)
RNG = np.random.default_rng(0)


def outline(box, size=64):
    """A drawn image with one filled rectangle."""
    image = np.full((size, size, 3), 60, np.uint8)
    x0, y0, x1, y1 = box
    image[y0:y1, x0:x1] = 200
    return image


@RELAXED
@given(
    st.integers(10, 26), st.integers(10, 26), st.integers(16, 28), st.integers(16, 28),
    st.integers(-9, 9), st.integers(-9, 9),
)  # fmt: skip
def test_a_box_around_a_contour_scores_above_shifted_ones(x, y, w, h, dx, dy):
    groups = edge_groups(outline((x, y, x + w, y + h)))
    tight = np.array([x - 2, y - 2, x + w + 2, y + h + 2])
    if max(abs(dx), abs(dy)) >= 5:
        scores = edge_box_scores(groups, np.stack([tight, tight + np.array([dx, dy, dx, dy])]))
        assert scores[0] > scores[1]
        assert scores[0] > 0
    larger = tight + np.array([-4, -4, 4, 4])
    smaller = tight + np.array([6, 6, -6, -6])
    scores = edge_box_scores(groups, np.stack([tight, larger, smaller]))
    assert scores.argmax() == 0


def test_edge_scores_equal_the_sum_over_groups():
    lengths = RNG.integers(1, 6, 12)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    x, y = RNG.integers(0, 30, (2, lengths.sum()))
    groups = EdgeGroups(x, y, RNG.random(lengths.sum()), starts)
    boxes = random_boxes(50, 30, 30, seed=1)
    expected = []
    for x0, y0, x1, y1 in boxes:
        total = 0.0
        for start, length in zip(starts, lengths, strict=True):
            own = slice(start, start + length)
            inside = [x0 <= a < x1 and y0 <= b < y1 for a, b in zip(x[own], y[own], strict=True)]
            total += groups.strength[own].sum() * (all(inside) - (any(inside) and not all(inside)))
        expected.append(total / (2 * (x1 - x0 + y1 - y0)) ** 1.5)
    np.testing.assert_allclose(edge_box_scores(groups, boxes), expected)


def test_edge_boxes_find_a_square_and_stay_apart():
    box = [20, 12, 52, 44]
    found = edge_boxes(outline(box), 20)
    assert first_hits([found], [[box]], 0.6)[0] <= 3
    checked_proposals([found], 1, (64, 64))
    windows = window_boxes(64, 64)
    checked_proposals([windows], 1, (64, 64))
    assert len(np.unique(windows, axis=0)) == len(windows)


def test_errors_name_the_thing_and_the_cure():
    image = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="8x10 pixels is too small for proposals; enlarge it to 16"):
        edge_boxes(np.zeros((10, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="too small"):
        edge_boxes(np.zeros((0, 0, 3), np.uint8))
    with pytest.raises(ValueError, match=r"An image is uint8 \(H, W, 3\), not float64"):
        edge_boxes(image / 255)
    with pytest.raises(ValueError, match="overlap is an IoU between 0 and 1"):
        window_boxes(30, 30, 1)
    with pytest.raises(ValueError, match="A box has no area, so no edge"):
        edge_box_scores(edge_groups(image), [[3, 3, 3, 8]])
