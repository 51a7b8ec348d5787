import numpy as np
import pytest
import torch
from captum.attr import Saliency
from torch import nn
from torchvision.models import squeezenet1_0

from wsol_utils.methods.convnet import ConvNet
from wsol_utils.methods.networks import normalise, predict
from wsol_utils.methods.saliency import saliency_map, ten_crop_logits, ten_crop_saliency, ten_crops

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), np.uint8)
PIXELS = normalise(IMAGES)


def test_a_linear_network_gives_the_absolute_weights():
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 48 * 48, 4)).double()
    weights = linear[1].weight.detach().reshape(4, 3, 48, 48).abs().amax(1).numpy()
    np.testing.assert_allclose(saliency_map(linear, PIXELS.double(), [2, 0, 3]), weights[[2, 0, 3]], atol=1e-12)


@pytest.mark.parametrize("make", [lambda: ConvNet(5, 48, 0.1), lambda: ConvNet(5, 48, 0.1, "max"), squeezenet1_0])
def test_equals_captum(make):
    torch.manual_seed(0)
    network = make()
    ours = saliency_map(network, PIXELS, [0, 4, 2])
    theirs = Saliency(network.eval()).attribute(PIXELS.clone().requires_grad_(), target=[0, 4, 2])
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs.detach().amax(1).numpy(), atol=1e-6)


def test_equals_finite_differences():
    network = ConvNet(3, 20, 0.05).double().eval()
    pixels = torch.rand((1, 3, 20, 20), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    saliency = saliency_map(network, pixels, 1)
    for row, column in ((3, 4), (10, 10), (17, 2)):
        slopes = []
        for colour in range(3):
            step = torch.zeros_like(pixels)
            step[0, colour, row, column] = 1e-6
            with torch.no_grad():
                slopes.append((network(pixels + step) - network(pixels - step))[0, 1].item() / 2e-6)
        assert saliency[0, row, column] == pytest.approx(max(map(abs, slopes)), rel=1e-4)


def test_images_of_a_batch_do_not_mix():
    network = ConvNet(5, 48, 0.1).train()
    alone = np.concatenate([saliency_map(network, PIXELS[i : i + 1], i) for i in range(3)])
    np.testing.assert_allclose(saliency_map(network, PIXELS, [0, 1, 2]), alone, atol=1e-6)


def test_many_images_are_worked_on_in_parts():
    network = ConvNet(5, 48, 0.1)
    whole, parts = (saliency_map(network, PIXELS, [0, 4, 2], size) for size in (3, 2))
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    np.testing.assert_allclose(saliency_map(network, PIXELS, 4, 2)[1], whole[1], atol=1e-6)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_nothing_is_left_behind(mode):
    network = ConvNet(5, 48, 0.1).train()
    network.features[0].weight.requires_grad_(False)
    before = [value.clone() for value in network.state_dict().values()]
    with mode():
        pixels = PIXELS.clone()
        saliency_map(network, pixels, 1)
    assert not pixels.requires_grad
    assert pixels.grad is None
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks or module._backward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert [parameter.requires_grad for parameter in network.parameters()][:2] == [False, True]
    assert all(torch.equal(a, b) for a, b in zip(before, network.state_dict().values(), strict=True))


def test_class_out_of_range():
    with pytest.raises(ValueError, match="classes 0 to 4"):
        saliency_map(ConvNet(5, 48, 0.1), PIXELS, 5)


def test_ten_crop_saliency_equals_the_sum_by_hand():
    network = ConvNet(5, 42, 0.1)
    expected, n_crops = np.zeros((3, 48, 48)), np.zeros((48, 48))
    for top, left in ((0, 0), (0, 6), (6, 0), (6, 6), (3, 3)):
        crop = IMAGES[:, top : top + 42, left : left + 42]
        mirrored = np.flip(saliency_map(network, normalise(crop[:, :, ::-1].copy()), [0, 3, 1]), 2)
        expected[:, top : top + 42, left : left + 42] += saliency_map(network, normalise(crop), [0, 3, 1]) + mirrored
        n_crops[top : top + 42, left : left + 42] += 2
    ours = ten_crop_saliency(network, IMAGES, [0, 3, 1])
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected / n_crops, atol=1e-6)


def test_ten_crop_saliency_of_a_symmetric_image_is_symmetric():
    images = np.concatenate([IMAGES, IMAGES[:, :, ::-1]], axis=2)[:, :, 24:72]
    saliency = ten_crop_saliency(ConvNet(5, 42, 0.1), images)
    np.testing.assert_allclose(saliency, saliency[:, :, ::-1], atol=1e-6)


def test_ten_crops_predict_the_class():
    network = ConvNet(5, 42, 0.1)
    crops = [IMAGES[:, top : top + 42, left : left + 42] for top, left, _ in ten_crops(IMAGES)[:5]]
    logits = np.mean([predict(network, np.ascontiguousarray(c)) for crop in crops for c in (crop, crop[:, :, ::-1])], 0)
    np.testing.assert_allclose(ten_crop_logits(network, IMAGES), logits, atol=1e-6)
    chosen = ten_crop_saliency(network, IMAGES, logits.argmax(1))
    np.testing.assert_array_equal(ten_crop_saliency(network, IMAGES), chosen)


@pytest.mark.parametrize("size", [49, 23])
def test_crops_must_cover_the_image(size):
    with pytest.raises(ValueError, match="crop_size must be from 24 to 48"):
        ten_crops(IMAGES, size)
