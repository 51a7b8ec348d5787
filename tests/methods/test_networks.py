import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models, transforms

from wsol_utils.methods import cam
from wsol_utils.methods.convnet import ConvNet
from wsol_utils.methods.networks import (
    GroupedClasses,
    class_indices,
    class_weights,
    denormalise,
    evaluating,
    feature_maps,
    normalise,
    pick_device,
    predict,
    unrectified,
    untrained,
)

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
POOLED = ["resnet18", "resnext50_32x4d", "googlenet", "densenet121", "mobilenet_v2", "efficientnet_b0"]


def torchvision_network(name):
    torch.manual_seed(0)
    options = {"init_weights": False, "aux_logits": True} if name == "googlenet" else {}
    return getattr(models, name)(weights=None, num_classes=7, **options)


def test_normalise_equals_torchvision_and_returns():
    second = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))(
        torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255
    )
    torch.testing.assert_close(normalise(IMAGES), second)
    assert (denormalise(normalise(IMAGES)) == IMAGES).all()


@pytest.mark.parametrize("bad", [IMAGES[0], IMAGES.astype(np.float32), IMAGES.transpose(0, 3, 1, 2)])
def test_normalise_refuses_other_arrays(bad):
    with pytest.raises(ValueError, match="images must be uint8 of shape"):
        normalise(bad)


@pytest.mark.parametrize("name", POOLED)
def test_pooled_features_and_class_weights_give_the_logits(name):
    network = torchvision_network(name)
    maps = feature_maps(network, normalise(IMAGES))
    weights, bias = class_weights(network)
    logits = maps.mean((2, 3)) @ weights.T + bias
    np.testing.assert_allclose(logits.numpy(), predict(network, IMAGES), atol=1e-5)
    assert network.training
    assert not any(module._forward_pre_hooks for module in network.modules())


@pytest.mark.parametrize(("head", "pool"), [("gap", torch.mean), ("gmp", torch.amax)])
def test_convnet_features_and_class_weights_give_the_logits(head, pool):
    network = ConvNet(4, image_size=64, width=0.1, head=head)
    weights, bias = class_weights(network)
    logits = pool(feature_maps(network, normalise(IMAGES)), (2, 3)) @ weights.T + bias
    np.testing.assert_allclose(logits.numpy(), predict(network, IMAGES), atol=1e-5)


def test_squeezenet_pools_rectified_class_maps():
    network = torchvision_network("squeezenet1_0")
    weights, bias = class_weights(network)
    maps = torch.einsum("ck,bkhw->bchw", weights, feature_maps(network, normalise(IMAGES))) + bias[:, None, None]
    np.testing.assert_allclose(maps.relu().mean((2, 3)).numpy(), predict(network, IMAGES), atol=1e-5)


def test_unrectified_scores_are_mean_class_maps_and_the_relu_comes_back():
    network = torchvision_network("squeezenet1_0")
    weights, bias = class_weights(network)
    before = predict(network, IMAGES)
    with unrectified(network):
        scores = predict(network, IMAGES)
    expected = feature_maps(network, normalise(IMAGES)).mean((2, 3)) @ weights.T + bias
    np.testing.assert_allclose(scores, expected.numpy(), atol=1e-5)
    assert scores.min() < 0 <= before.min()
    np.testing.assert_array_equal(predict(network, IMAGES), before)
    other = ConvNet(4, 64, 0.1)
    with unrectified(other):
        assert not any(isinstance(module, nn.Identity) for module in other.modules())


@pytest.mark.parametrize("network", [ConvNet(4, 64, 0.1), models.vgg11, models.alexnet, models.mobilenet_v3_small])
def test_networks_without_global_pooling_are_refused(network):
    if not isinstance(network, nn.Module):
        with torch.device("meta"):
            network = network(weights=None)
    with pytest.raises(ValueError, match=r"head gap, gmp or max"):
        class_weights(network)
    with pytest.raises(ValueError, match=r"head gap, gmp or max"):
        feature_maps(network, normalise(IMAGES))


def test_gradients_reach_the_pixels_only():
    network = ConvNet(4, 64, 0.1, "gap")
    pixels = normalise(IMAGES).requires_grad_()
    feature_maps(network, pixels).sum().backward()
    assert pixels.grad is not None
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("bad", [IMAGES, torch.zeros(3, 9, 9), torch.zeros(1, 9, 9, 3), torch.zeros(1, 3, 9, 9).int()])
def test_feature_maps_refuse_other_pixels(bad):
    with pytest.raises(ValueError, match="pixels must be a float tensor"):
        feature_maps(ConvNet(4, 64, 0.1, "gap"), bad)


def test_evaluating_restores_modes_and_flags_after_an_error():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2).eval(), nn.Dropout())
    network[0].bias.requires_grad_(False)

    def fail():
        with evaluating(network):
            assert not any(module.training for module in network.modules())
            assert not any(parameter.requires_grad for parameter in network.parameters())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [module.training for module in network] == [True, False, True]
    assert [parameter.requires_grad for parameter in network.parameters()] == [True, False, True, True]


def test_predict_does_not_depend_on_the_batch_size():
    network = ConvNet(4, 64, 0.1)
    np.testing.assert_allclose(predict(network, IMAGES, 2), predict(network, IMAGES), atol=1e-6)
    assert network.training


@pytest.mark.parametrize(
    ("classes", "message"),
    [(4, "classes 0 to 3"), ([0, -1], "classes 0 to 3"), ([0, 1, 2], "one for each of the 2"), (0.5, "whole numbers")],
)
def test_class_indices_name_the_range(classes, message):
    with pytest.raises(ValueError, match=message):
        class_indices(classes, 2, 4)


def test_pick_device():
    assert pick_device().type in ("cuda", "mps", "cpu")
    with pytest.raises(ValueError, match="Unknown device 'tpu'"):
        pick_device("tpu")
    missing = "cuda" if not torch.cuda.is_available() else "mps"
    with pytest.raises(RuntimeError, match=f"no {missing} device"):
        pick_device(missing)


def test_untrained_copies_are_repeatable_and_leave_network_and_generator_alone():
    network = ConvNet(5, 48, 0.1, head="gap")
    network.features[1].running_mean.fill_(3)
    before, state = [value.clone() for value in network.state_dict().values()], torch.get_rng_state()
    first, again, other = untrained(network, 0), untrained(network, 0), untrained(network, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(before, network.state_dict().values(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.features[0].weight, other.features[0].weight)
    assert not torch.equal(first.features[0].weight, network.features[0].weight)
    assert first.features[1].running_mean.abs().max() == 0


def test_grouped_classes_share_the_posterior_and_their_maps_are_grad_cams():
    torch.manual_seed(0)
    network = ConvNet(6, 32, 0.1, "gap", seed=1).eval()
    groups = [[0, 3, 4], [1]]
    grouped = GroupedClasses(network, groups)
    pixels = torch.randn(3, 3, 32, 32)
    posterior = network(pixels).softmax(1)
    ratio = torch.stack([posterior[:, group].sum(1) for group in groups], 1) / posterior.sum(1, keepdim=True)
    expected = ratio.log() + network(pixels).logsumexp(1, keepdim=True)
    torch.testing.assert_close(grouped(pixels), expected)
    maps = grouped.class_maps(pixels)
    features = network.feature_maps(pixels)
    for c in range(len(groups)):
        by_gradient = cam.grad_cam(grouped, network.head.relu, pixels, c)
        ours = cam.upsample(maps[:, c].relu() / features[0, 0].numel(), (32, 32))
        np.testing.assert_allclose(by_gradient, ours, atol=1e-5)
