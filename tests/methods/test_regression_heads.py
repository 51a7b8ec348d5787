import numpy as np
import pytest
import torch
from torch import nn

from wsol_utils.methods.convnet import ConvNet
from wsol_utils.methods.networks import normalise
from wsol_utils.methods.regression_heads import (
    LAYERS,
    features_of_layers,
    frozen_features,
    head_with_parameters,
    regress,
    regression_head,
    train_head,
)

RNG = np.random.default_rng(0)


def squares(n, size=48):
    """Images of one bright square each and its box in parts of the side."""
    images = RNG.integers(0, 60, (n, size, size, 3), np.uint8)
    boxes = np.zeros((n, 4), np.float32)
    for image, box in zip(images, boxes, strict=True):
        side = RNG.integers(12, 28)
        x, y = RNG.integers(0, size - side, 2)
        image[y : y + side, x : x + side] = 220
        box[:] = np.array([x, y, x + side, y + side]) / size
    return images, torch.from_numpy(boxes)


@pytest.fixture(scope="module")
def learnt():
    network = ConvNet(4, 48, 0.1)
    images, boxes = squares(160)
    return network, images, boxes, frozen_features(network, images, "conv")


@pytest.mark.parametrize("layer", LAYERS)
def test_the_backbone_is_bit_identical_after_training_a_head(layer):
    network = ConvNet(4, 48, 0.1).train()
    network.features.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    flags = [(module.training, [p.requires_grad for p in module.parameters()]) for module in network.modules()]
    images, boxes = squares(12)
    features = frozen_features(network, images, layer)
    losses = train_head(regression_head(features.shape[1]), features, boxes, n_epochs=3)
    assert losses[-1] < losses[0]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert flags == [(module.training, [p.requires_grad for p in module.parameters()]) for module in network.modules()]
    assert all(p.grad is None for p in network.parameters())


def test_one_pass_gives_the_features_of_all_layers():
    network = ConvNet(4, 48, 0.1).train()
    images, _ = squares(5)
    together = features_of_layers(network, images, LAYERS, batch_size=2)
    assert list(together) == list(LAYERS)
    for layer, features in together.items():
        assert torch.allclose(features, frozen_features(network, images, layer), atol=1e-5)
    assert network.training
    assert not network.features._forward_hooks


def test_features_are_the_inputs_of_the_fully_connected_layers():
    network = ConvNet(4, 48, 0.1).eval()
    images, _ = squares(5)
    with torch.no_grad():
        maps = network.features(normalise(images))
        values, seen = network.head[:2](maps), {}
        seen["pool5"] = values
        for place, layer in enumerate(network.head[2:], start=2):
            if isinstance(layer, nn.Linear) and place > 2:
                seen[f"fc{5 + len(seen)}"] = values
            values = layer(values)
        seen["conv"] = nn.functional.adaptive_max_pool2d(maps, 6).flatten(1)
    assert set(seen) == set(LAYERS)
    for layer, expected in seen.items():
        torch.testing.assert_close(frozen_features(network, images, layer, batch_size=2), expected, atol=1e-5, rtol=0)


def test_a_head_learns_boxes_better_than_the_mean_box(learnt):
    _, _, boxes, features = learnt
    head = regression_head(features.shape[1])
    losses = train_head(head, features[:120], boxes[:120], n_epochs=25)
    error = (regress(head, features[120:]) - boxes[120:]).square().sum(1).mean()
    by_mean = (boxes[:120].mean(0) - boxes[120:]).square().sum(1).mean()
    assert losses[-1] < losses[0]
    assert error < 0.5 * by_mean


def test_a_head_for_each_class_learns_different_numbers_from_the_same_features():
    features = torch.ones(40, 3)
    classes = torch.arange(40) % 4
    targets = torch.tensor([[0.1, 0.2], [0.3, 0.9], [0.7, 0.5], [0.0, 1.0]])[classes]
    own, shared = regression_head(3, 2, n_classes=4), regression_head(3, 2)
    assert train_head(own, features, targets, classes, n_epochs=150)[-1] < 1e-3
    assert train_head(shared, features, targets, n_epochs=150)[-1] > 0.1
    torch.testing.assert_close(regress(own, features, classes), targets, atol=0.05, rtol=0)
    torch.testing.assert_close(regress(shared, features)[0], targets.mean(0), atol=0.05, rtol=0)


def test_several_boxes_or_key_points_come_in_a_fixed_order(learnt):
    _, _, boxes, features = learnt
    points = torch.cat([boxes, boxes[:, [0, 3]]], dim=1)  # corners of a square as three key points
    head = regression_head(features.shape[1], 6)
    train_head(head, features, points, n_epochs=15)
    found = regress(head, features).reshape(-1, 3, 2)
    assert (found[:, 2, 0] - found[:, 0, 0]).abs().mean() < (found[:, 2, 0] - found[:, 1, 0]).abs().mean()


def test_heads_of_equal_size():
    for n_classes in (1, 4, 10):
        head = head_with_parameters(20_000, 100, n_classes=n_classes)
        assert abs(sum(p.numel() for p in head.parameters()) - 20_000) < 150


def test_training_is_the_same_from_the_same_seed(learnt):
    _, _, boxes, features = learnt
    losses = [
        train_head(regression_head(features.shape[1], seed=2), features, boxes, n_epochs=2, seed=s) for s in (1, 1, 3)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_errors_name_the_thing_and_the_cure():
    images, features = np.zeros((2, 48, 48, 3), np.uint8), torch.zeros(2, 8)
    with pytest.raises(ValueError, match="Unknown layer 'fc8'; choose one of conv, pool5"):
        frozen_features(ConvNet(4, 48, 0.1), images, "fc8")
    with pytest.raises(ValueError, match="ConvNet has 1 fully connected layers, not three, so it has no fc7; take the"):
        frozen_features(ConvNet(4, 48, 0.1, "gap"), images, "fc7")
    with pytest.raises(ValueError, match="Flatten has no part `features`; take a ConvNet"):
        frozen_features(nn.Flatten(), images)
    with pytest.raises(ValueError, match=r"have shape \(2, 4\), not \(2, 3\)"):
        train_head(regression_head(8), features, torch.zeros(2, 3))
    with pytest.raises(ValueError, match="numbers for each of 3 classes; give the class of every image"):
        train_head(regression_head(8, n_classes=3), features, torch.zeros(2, 4))
    with pytest.raises(ValueError, match="Class 1 has no example, so its boxes cannot be learnt"):
        train_head(regression_head(8, n_classes=3), features, torch.zeros(2, 4), torch.tensor([0, 2]))
    with pytest.raises(ValueError, match="has classes 0 to 2; found 0 to 7"):
        regress(regression_head(8, n_classes=3), features, torch.tensor([0, 7]))
    with pytest.raises(ValueError, match="5 parameters are too few"):
        head_with_parameters(5, 8)
