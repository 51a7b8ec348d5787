import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from torch import nn
from torchvision.models import resnet18, squeezenet1_0

from wsol_utils.methods.cam import class_activation_map, class_maps, grad_cam
from wsol_utils.methods.convnet import ConvNet
from wsol_utils.methods.networks import class_weights, feature_maps, normalise, predict

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
PIXELS = normalise(IMAGES)
CLASSES = [4, 0, 2]


def network_of(name):
    torch.manual_seed(0)
    makers = {"resnet18": resnet18, "squeezenet1_0": squeezenet1_0}
    return makers[name](num_classes=5) if name in makers else ConvNet(5, 64, 0.1, name)


@pytest.mark.parametrize("name", ["gap", "gmp", "max", "resnet18", "squeezenet1_0"])
def test_equals_a_loop_over_units_and_positions(name):
    network = network_of(name)
    features, weights = feature_maps(network, PIXELS).numpy(), class_weights(network)[0].numpy()
    maps = np.zeros((3, 5, *features.shape[2:]))
    for image, class_, unit in np.ndindex(3, 5, features.shape[1]):
        maps[image, class_] += weights[class_, unit] * features[image, unit]
    np.testing.assert_allclose(class_maps(network, PIXELS).numpy(), maps, atol=1e-5)
    chosen = torch.from_numpy(maps[range(3), CLASSES])[:, None]
    expected = nn.functional.interpolate(chosen, (64, 64), mode="bilinear")[:, 0]
    ours = class_activation_map(network, PIXELS, CLASSES)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "pool"),
    [
        ("gap", lambda maps, bias: maps.mean((2, 3)) + bias),
        ("resnet18", lambda maps, bias: maps.mean((2, 3)) + bias),
        ("squeezenet1_0", lambda maps, bias: (maps + bias[:, None, None]).relu().mean((2, 3))),
        ("max", lambda maps, bias: maps.amax((2, 3)) + bias),
    ],
)
def test_the_score_is_the_pooled_map(name, pool):
    network = network_of(name)
    scores = pool(class_maps(network, PIXELS), class_weights(network)[1])
    np.testing.assert_allclose(scores.numpy(), predict(network, IMAGES), atol=1e-5)


@pytest.mark.parametrize("name", ["gap", "resnet18"])
def test_grad_cam_is_rectified_cam_on_a_gap_network(name):
    network = network_of(name)
    layer = network.layer4 if name == "resnet18" else network.head.relu
    cam = class_maps(network, PIXELS)[range(3), CLASSES].relu() / np.prod(feature_maps(network, PIXELS).shape[2:])
    expected = nn.functional.interpolate(cam[:, None], (64, 64), mode="bilinear")[:, 0]
    np.testing.assert_allclose(grad_cam(network, layer, PIXELS, CLASSES), expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("name", ["fc", "squeezenet1_0"])
def test_grad_cam_equals_captum(name):
    network = network_of(name)
    layer = network.features[-1]
    with torch.no_grad():
        ours = grad_cam(network, layer, PIXELS, CLASSES)
    theirs = LayerGradCam(network.eval(), layer).attribute(PIXELS, CLASSES, relu_attributions=True).detach()
    expected = nn.functional.interpolate(theirs, (64, 64), mode="bilinear")[:, 0]
    np.testing.assert_allclose(ours, expected.numpy(), atol=1e-6)


def test_nothing_is_left_behind():
    network = network_of("gap")
    class_activation_map(network, PIXELS, 1)
    grad_cam(network, network.head.relu, PIXELS, 1)
    with pytest.raises(ValueError, match="classes 0 to 4"):
        grad_cam(network, network.head.relu, PIXELS, 7)
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


def test_errors_name_the_thing_and_the_cure():
    with pytest.raises(ValueError, match="classes 0 to 4"):
        class_activation_map(network_of("gap"), PIXELS, [0, 1, 5])
    with pytest.raises(ValueError, match="no class maps"):
        class_activation_map(network_of("fc"), PIXELS, 0)
