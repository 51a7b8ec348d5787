import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsol_utils.methods.convnet import ConvNet
from wsol_utils.methods.fast_rcnn import FastRCNN, roi_pool
from wsol_utils.methods.proposals import grid_boxes

RELAXED = settings(deadline=None, max_examples=40)
EDGE = st.integers(0, 20)


def half_up(x):
    return math.floor(x + 0.5)


def brute_force(maps, box, n_cells, stride):
    """The maximum in every cell, by loops: cells of the map from x0 / stride to x1 / stride, at least one."""
    x0, y0 = (half_up(v / stride) for v in box[:2])
    x1, y1 = (max(half_up(v / stride), begin + 1) for v, begin in zip(box[2:], (x0, y0), strict=True))
    pooled, places = torch.zeros(len(maps), n_cells, n_cells), set()
    for k, row, column in np.ndindex(len(maps), n_cells, n_cells):
        rows = range(y0 + math.floor(row * (y1 - y0) / n_cells), y0 + math.ceil((row + 1) * (y1 - y0) / n_cells))
        columns = range(
            x0 + math.floor(column * (x1 - x0) / n_cells), x0 + math.ceil((column + 1) * (x1 - x0) / n_cells)
        )
        values = {
            (k, i, j): maps[k, i, j].item() for i in rows for j in columns if i < maps.shape[1] and j < maps.shape[2]
        }
        best = max(values, key=values.get)
        pooled[k, row, column] = values[best]
        places.add(best)
    return pooled, places


@RELAXED
@given(st.tuples(EDGE, EDGE, EDGE, EDGE), st.sampled_from([1, 2, 4]), st.integers(0, 9))
def test_roi_pooling_is_the_maximum_of_each_cell_and_sends_its_gradient_there(edges, n_cells, seed):
    x, y = sorted(edges[:2]), sorted(edges[2:])
    box = [2 * x[0], 2 * y[0], 2 * x[1] + 8, 2 * y[1] + 8]
    maps = torch.rand(1, 2, 6, 6, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    pooled = roi_pool(maps, [torch.tensor([box], dtype=torch.float32)], n_cells, 8)
    expected, places = brute_force(maps[0].detach(), box, n_cells, 8)
    torch.testing.assert_close(pooled[0].detach(), expected)
    pooled.sum().backward()
    assert {tuple(place) for place in maps.grad[0].nonzero().tolist()} == places
    assert maps.grad.sum().item() == pytest.approx(2 * n_cells**2)


def test_boxes_pool_from_their_own_image():
    maps = torch.stack([torch.full((1, 4, 4), float(i)) for i in range(3)])
    pooled = roi_pool(maps, [torch.tensor([[0.0, 0, 32, 32]]).expand(n, 4) for n in (1, 0, 2)], 2, 8)
    assert pooled.amax((1, 2, 3)).tolist() == [0, 2, 2]


def test_the_heads_have_scores_and_boxes_for_every_class_and_background():
    detector = FastRCNN(ConvNet(3, 64, 0.1), 7)
    predictor = detector.heads.box_predictor
    assert predictor.cls_score.out_features == 8
    assert predictor.bbox_pred.out_features == 32


def test_one_loss_reaches_the_convolutions(squares):
    images, boxes, labels = squares
    network = ConvNet(2, 64, 0.1)
    before = network.features[0].weight.clone()
    statistics = network.features[1].running_mean.clone()
    detector = FastRCNN(network, 2, lambda image: grid_boxes(40, 64, 64))
    history = detector.fit(images, boxes, labels, n_epochs=6, batch_size=4, learning_rate=3e-3)
    assert set(history[0]) == {"class", "box"}
    assert sum(history[-1].values()) < sum(history[0].values())
    assert not torch.equal(network.features[0].weight, before)
    assert torch.equal(network.features[1].running_mean, statistics)


def test_detections_are_in_the_image_and_the_batch_does_not_matter(squares):
    images, *_ = squares
    proposals = [grid_boxes(20 + i, 64, 64) for i in range(len(images))]
    detector = FastRCNN(ConvNet(2, 64, 0.1), 2, propose=None)
    together = detector.detect(images, proposals)
    for one, image, own in zip(together, images, proposals, strict=True):
        assert (one.boxes >= 0).all()
        assert (one.boxes <= 64).all()
        assert set(one.labels) <= {0, 1}
        assert (np.diff(one.scores) <= 0).all()
        (alone,) = detector.detect(image[None], [own])
        np.testing.assert_allclose(alone.scores, one.scores, atol=1e-5)


def test_errors_name_the_thing_and_the_cure(squares):
    images, boxes, labels = squares
    detector = FastRCNN(ConvNet(2, 64, 0.1), 2)
    with pytest.raises(ValueError, match="Image 1 has no proposal; give it at least one box"):
        detector.detect(images[:2], [[[0, 0, 9, 9]], []])
    with pytest.raises(ValueError, match="Image 0 has a proposal outside its 64x64 pixels"):
        detector.fit(images, boxes, labels, [[[0, 0, 65, 9]]] * len(images))
