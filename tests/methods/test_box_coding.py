import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder

from wsol_utils.methods.box_coding import (
    anchor_boxes,
    decode_boxes,
    decode_grid,
    encode_boxes,
    encode_grid,
    match_scores,
    merge_boxes,
)

RELAXED = settings(deadline=None, max_examples=50)  # the first call of an operation may take long
PLACE, SIDE = st.floats(-50, 150, width=32), st.floats(4, 100, width=32)
BOX = st.tuples(PLACE, PLACE, SIDE, SIDE).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))


def boxes_of(boxes):
    return torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)


@RELAXED
@given(st.lists(st.tuples(BOX, BOX), min_size=1, max_size=8))
def test_decoding_undoes_encoding(pairs):
    boxes, proposals = (boxes_of(own) for own in zip(*pairs, strict=True))
    offsets = encode_boxes(boxes, proposals)
    torch.testing.assert_close(decode_boxes(offsets, proposals), boxes, atol=1e-9, rtol=1e-9)
    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
    torch.testing.assert_close(offsets, coder.encode_single(boxes, proposals))
    torch.testing.assert_close(decode_boxes(3 * offsets, proposals), coder.decode_single(3 * offsets, proposals))


def test_targets_by_hand():
    offsets = encode_boxes(boxes_of([[10, 10, 30, 50]]), boxes_of([[0, 0, 10, 20]]))
    assert offsets[0].tolist() == pytest.approx([1.5, 1.0, math.log(2), math.log(2)])


def test_anchors_are_the_same_at_every_cell_and_shift_by_the_stride():
    anchors = anchor_boxes((4, 5), 8, (16, 32), (0.5, 1, 2)).reshape(4, 5, 6, 4)
    torch.testing.assert_close(anchors[1:], anchors[:-1] + torch.tensor([0, 8, 0, 8]))
    torch.testing.assert_close(anchors[:, 1:], anchors[:, :-1] + torch.tensor([8, 0, 8, 0]))
    widths, heights = (anchors[0, 0, :, 2:] - anchors[0, 0, :, :2]).T
    assert (heights / widths).tolist() == pytest.approx([0.5, 0.5, 1, 1, 2, 2], rel=0.1)
    assert (widths * heights).sqrt().tolist() == pytest.approx([16, 32] * 3, rel=0.05)
    assert anchors[0, 0].reshape(6, 2, 2).sum(1).abs().max() <= 1  # centred on (0, 0), in whole pixels


@RELAXED
@given(st.lists(st.tuples(BOX, st.integers(0, 3)), max_size=6))
def test_the_grid_gives_boxes_back_unless_two_share_a_cell(objects):
    boxes = boxes_of([box for box, _ in objects]).float()
    labels = torch.tensor([label for _, label in objects], dtype=torch.long)
    size, n_cells = (120, 160), 5
    inside = (boxes[:, :2] + boxes[:, 2:] >= 0).all(1) & (boxes[:, :2] + boxes[:, 2:] < torch.tensor([320, 240])).all(1)
    boxes, labels = boxes[inside], labels[inside]
    grid = encode_grid(boxes, labels, size, n_cells, 4)
    found, scores = decode_grid(grid, size)
    last = {}
    for box, label in zip(boxes, labels, strict=True):
        x, y = (box[:2] + box[2:]) / 2 / torch.tensor([160, 120]) * n_cells
        last[int(y) * n_cells + int(x)] = box, label
    assert (scores.sum(1) > 0).sum() == len(last)
    for cell, (box, label) in last.items():
        torch.testing.assert_close(found[cell], box, atol=1e-3, rtol=0)
        assert scores[cell].argmax() == label


def test_the_grid_of_several_boxes_a_cell():
    output = torch.zeros(2, 2, 5 * 2 + 3)
    output[1, 0, 5:10] = torch.tensor([0.5, 0.25, 0.5**0.5, 0.5, 0.8])
    output[1, 0, 10:] = torch.tensor([0.5, -0.2, 1.0])
    boxes, scores = decode_grid(output, (40, 80), 2)
    place = (1 * 2 + 0) * 2 + 1
    torch.testing.assert_close(boxes[place], torch.tensor([0.0, 20, 40, 30]))
    torch.testing.assert_close(scores[place], torch.tensor([0.4, 0, 0.8]))
    assert scores.sum() == scores[place].sum()


@RELAXED
@given(BOX, st.integers(1, 12))
def test_identical_boxes_merge_into_that_box(box, n):
    merged, scores = merge_boxes(boxes_of([box] * n), torch.full((n,), 0.5))
    torch.testing.assert_close(merged, boxes_of([box]))
    assert scores.tolist() == [n / 2]


@RELAXED
@given(st.lists(BOX, min_size=1, max_size=8), st.floats(0.05, 1.5))
def test_merging_adds_up_scores_and_ends_when_all_are_far_apart(boxes, largest):
    merged, scores = merge_boxes(boxes_of(boxes), torch.ones(len(boxes)), largest)
    assert scores.sum() == len(boxes)
    assert (scores.diff() <= 0).all()
    apart = match_scores(merged).fill_diagonal_(torch.inf)
    assert (apart > largest - 1e-6).all()


def test_match_scores_fall_with_distance_and_rise_with_intersection():
    boxes = boxes_of([[0, 0, 10, 10], [2, 0, 12, 10], [5, 0, 15, 10], [30, 0, 40, 10]])
    scores = match_scores(boxes)
    torch.testing.assert_close(scores, scores.T)
    assert scores.diagonal().abs().max() < 1e-12
    assert (scores[0].diff() > 0).all()
    assert scores[0, 1].item() == pytest.approx(2 / math.sqrt(200) + 1 - 80 / 120)


def test_two_objects_stay_two():
    offsets = torch.randn(20, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    boxes = torch.cat([boxes_of([[0, 0, 40, 40]]) + offsets[:10], boxes_of([[60, 10, 100, 50]]) + offsets[10:]])
    merged, scores = merge_boxes(boxes, torch.ones(20))
    assert scores.tolist() == [10, 10]
    found = merged[merged[:, 0].argsort()]
    torch.testing.assert_close(found, boxes_of([[0, 0, 40, 40], [60, 10, 100, 50]]), atol=2, rtol=0)


def test_errors_name_the_thing_and_the_cure():
    with pytest.raises(ValueError, match="has no area, so it has no offsets; leave it out"):
        encode_boxes(boxes_of([[0, 0, 1, 1]]), boxes_of([[0, 0, 0, 1]]))
    with pytest.raises(ValueError, match="centre outside the image of 10x20; clip boxes"):
        encode_grid(torch.tensor([[8.0, 0, 16, 4]]), torch.tensor([0]), (20, 10), 2, 1)
    for label in (2, -1):
        with pytest.raises(ValueError, match=f"A box has the label {label}; this grid has classes 0 to 1"):
            encode_grid(torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([label]), (20, 10), 2, 2)
    with pytest.raises(ValueError, match="2 boxes and 1 scores; give one score for each box"):
        merge_boxes(boxes_of([[0, 0, 1, 1]] * 2), torch.ones(1))
    with pytest.raises(ValueError, match="A box has no area, so it matches no other"):
        merge_boxes(boxes_of([[0, 0, 1, 0]]), torch.ones(1))
