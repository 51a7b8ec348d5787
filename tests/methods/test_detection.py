import numpy as np
import pytest
import torch
from torch import nn

from wsol_utils.methods.convnet import ConvNet
from wsol_utils.methods.detection import Trunk, checked_examples, suppress
from wsol_utils.methods.yolo import YOLO

IMAGES = np.zeros((2, 32, 40, 3), np.uint8)
BOXES, LABELS = [[[0, 0, 5, 5]], [[1, 1, 40, 32], [3, 3, 9, 9]]], [[0], [1, 0]]


def test_good_examples_pass_as_tensors():
    boxes, labels = checked_examples(IMAGES, BOXES, LABELS, 2)
    assert [own.tolist() for own in boxes] == BOXES
    assert [own.tolist() for own in labels] == LABELS
    assert boxes[0].dtype == torch.float32
    assert labels[0].dtype == torch.int64


@pytest.mark.parametrize(
    ("boxes", "labels", "message"),
    [
        (BOXES[:1], LABELS, "2 images need as many lists of boxes and labels, not 1, 2"),
        ([[[0, 0, 41, 5]], BOXES[1]], LABELS, "Image 0 has a box outside its 40x32 pixels; clip boxes"),
        ([[[-1, 0, 4, 5]], BOXES[1]], LABELS, "Image 0 has a box outside"),
        ([[[3, 3, 3, 5]], BOXES[1]], LABELS, "Image 0 has a box without area; leave it out"),
        (BOXES, [[0], [1]], "Image 1 has 2 boxes and 1 labels"),
        (BOXES, [[5], [1, 0]], "Image 0 has the label 5; this detector has classes 0 to 1"),
        (BOXES, [[0], [1, -1]], "Image 1 has the label -1; this detector has classes 0 to 1"),
        (BOXES, [[0], [0, 0]], "Class 1 has no box in the training images; add images"),
    ],
)
def test_bad_examples_are_named(boxes, labels, message):
    with pytest.raises(ValueError, match=message):
        checked_examples(IMAGES, boxes, labels, 2)


def test_suppression_keeps_classes_apart():
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 10, 10], [1, 0, 10, 10], [20, 0, 30, 10]])
    found = suppress(boxes, torch.tensor([0, 0, 1, 0]), torch.tensor([0.5, 0.6, 0.4, 0.1]))
    assert found.scores.tolist() == pytest.approx([0.6, 0.4, 0.1])
    assert found.labels.tolist() == [0, 1, 0]
    assert len(suppress(boxes[:0], torch.zeros(0), torch.zeros(0)).boxes) == 0


def test_the_trunk_learns_but_keeps_its_statistics():
    network = ConvNet(2, 32, 0.05)
    trunk = Trunk(network).train()
    before = {name: value.clone() for name, value in network.features.state_dict().items() if "running" in name}
    trunk(torch.rand(2, 3, 32, 32)).sum().backward()
    assert not any(module.training for module in trunk.modules())
    assert all(torch.equal(network.features.state_dict()[name], value) for name, value in before.items())
    assert network.features[0].weight.grad.abs().sum() > 0
    assert trunk.n_channels == network.features[-2].num_features
    with pytest.raises(ValueError, match="Flatten has no `features` with a `stride`"):
        Trunk(nn.Flatten())


def test_training_is_the_same_from_the_same_seed(squares):
    images, boxes, labels = squares
    state = torch.get_rng_state()

    def train(seed):
        detector = YOLO(ConvNet(2, 64, 0.05), 2, n_cells=4, n_units=8)
        return detector.fit(images, boxes, labels, n_epochs=2, batch_size=4, seed=seed)

    assert train(0) == train(0) != train(1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("bias", [0.0, torch.inf])
def test_training_leaves_modes_and_gradients_as_they_were(squares, mode, bias):
    images, boxes, labels = squares
    network = ConvNet(2, 64, 0.05).train(mode)
    network.features[2].train(not mode)
    detector = YOLO(network, 2, n_cells=4, n_units=8)
    detector.head.train(mode)
    nn.init.constant_(detector.head[-1].bias, bias)
    before = [module.training for module in (*detector.modules(), *network.modules())]
    try:
        detector.fit(images, boxes, labels, n_epochs=1)
    except RuntimeError:
        assert bias == torch.inf
    assert [module.training for module in (*detector.modules(), *network.modules())] == before
    assert all(p.grad is None for p in (*detector.parameters(), *network.parameters()))


def test_a_loss_that_is_not_finite_ends_training(squares):
    images, boxes, labels = squares
    detector = YOLO(ConvNet(2, 64, 0.05), 2, n_cells=4, n_units=8)
    nn.init.constant_(detector.head[-1].bias, torch.inf)
    with pytest.raises(RuntimeError, match="lower the learning rate"):
        detector.fit(images, boxes, labels, n_epochs=1)
