import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio
from torch import nn
from torchvision.models import resnet18

from wsol_utils.methods.convnet import ConvNet
from wsol_utils.methods.inversion import code_error, inversion_ladder, invert, psnr, total_variation
from wsol_utils.methods.networks import normalise

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
PIXELS = normalise(IMAGES)
FREE = {"norm_weight": 0, "variation_weight": 0, "progress": False}


@pytest.mark.parametrize("beta", [1, 2, 3])
def test_total_variation_equals_the_sum_by_hand(beta):
    expected = np.zeros(2)
    for number, image in enumerate(PIXELS.double().numpy()):
        for colour in image:
            for i in range(16):
                for j in range(16):
                    right = colour[i, j + 1] - colour[i, j] if j < 15 else 0
                    down = colour[i + 1, j] - colour[i, j] if i < 15 else 0
                    expected[number] += (right**2 + down**2) ** (beta / 2)
    np.testing.assert_allclose(total_variation(PIXELS.double(), beta).numpy(), expected, rtol=1e-6)


@given(st.floats(-3, 3), st.floats(0.1, 3), st.floats(1, 4))
@settings(deadline=None)
def test_total_variation_ignores_brightness_and_grows_with_contrast(shift, scale, beta):
    variation = total_variation(PIXELS.double(), beta)
    moved = total_variation(PIXELS.double() * scale + shift, beta)
    np.testing.assert_allclose(moved.numpy(), scale**beta * variation.numpy(), rtol=1e-5)
    assert total_variation(torch.full((1, 3, 4, 4), shift), 2).item() == 0


def test_the_objective_equals_a_loop_by_hand():
    network = ConvNet(3, 24, 0.1).double().eval()
    pixels = torch.randn((2, 3, 24, 24), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    code = network.features[:4]
    with torch.no_grad():
        target = code(pixels)
    image = 0.1 * torch.randn(pixels.shape, generator=torch.Generator().manual_seed(3)).double()
    mean, square, errors = 0, 0, []
    for step in range(4):
        image = image.detach().requires_grad_()
        loss = 0
        for one, wanted in zip(image, target, strict=True):
            distance = (code(one[None])[0] - wanted).square().sum() / wanted.square().sum()
            variation = one.diff(dim=1).square().sum() + one.diff(dim=2).square().sum()
            loss = loss + distance + (0.3 * (one**6).sum() + 0.2 * variation) / (3 * 24 * 24)
            errors.append(distance.item() ** 0.5)
        (gradient,) = torch.autograd.grad(loss, image)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        unbiased = mean / (1 - 0.9 ** (step + 1)), square / (1 - 0.999 ** (step + 1))
        rate = 0.05 * (1 + np.cos(np.pi * step / 4)) / 2
        image = image - rate * unbiased[0] / (unbiased[1].sqrt() + 1e-8)
    inversion = invert(network, pixels, "features.3", 4, norm_weight=0.3, variation_weight=0.2, seed=3, progress=False)
    torch.testing.assert_close(inversion.pixels, image.detach(), atol=1e-6, rtol=1e-5)
    np.testing.assert_allclose(inversion.code_error[:4].flatten(), errors, rtol=1e-5)


def test_an_invertible_code_gives_the_image_back():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 3, 1))
    nn.init.orthogonal_(network[0].weight)
    inversion = invert(network, PIXELS, "0", 150, 0.1, **FREE)
    assert (inversion.code_error[-1] < 0.02).all()
    torch.testing.assert_close(inversion.pixels, PIXELS, atol=0.2, rtol=0)
    assert (psnr(inversion.pixels, PIXELS) > 30).all()


def test_a_code_that_forgets_cannot_give_the_image_back():
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(2))
    ladder = inversion_ladder(network, PIXELS, ["0", "1"], n_steps=100, step_size=0.1, **FREE)
    assert list(ladder) == ["0", "1"]
    assert (ladder["1"][0].code_error[-1] < 0.1).all()
    assert (ladder["1"][1] < ladder["0"][1] - 5).all()


def test_the_regularisers_do_what_they_are_for():
    network = nn.Sequential(nn.Conv2d(3, 8, 3))
    images = {
        name: invert(network, PIXELS, "0", 60, **FREE | weights).pixels
        for name, weights in {"none": {}, "smooth": {"variation_weight": 1}, "small": {"norm_weight": 1}}.items()
    }
    assert (total_variation(images["smooth"]) < total_variation(images["none"])).all()
    assert images["small"].abs().max() < images["none"].abs().max()


def test_code_error_and_psnr():
    codes = torch.randn((3, 4, 5, 5), generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(code_error(1.5 * codes, codes), 0.5, rtol=1e-6)
    noisy = np.clip(IMAGES.astype(int) + 3, 0, 255).astype(np.uint8)
    expected = [peak_signal_noise_ratio(*pair) for pair in zip(IMAGES, noisy, strict=True)]
    np.testing.assert_allclose(psnr(normalise(noisy), PIXELS), expected)
    assert np.isinf(psnr(PIXELS, PIXELS)).all()


def test_images_of_a_batch_do_not_mix_and_the_seed_decides():
    network = ConvNet(3, 24, 0.1)
    pixels = nn.functional.interpolate(PIXELS, 24)
    both = invert(network, pixels, "features.3", 5, progress=False)
    first = invert(network, pixels[:1], "features.3", 5, progress=False)
    torch.testing.assert_close(both.pixels[:1], first.pixels, atol=1e-4, rtol=1e-3)
    assert torch.equal(first.pixels, invert(network, pixels[:1], "features.3", 5, progress=False).pixels)
    other = invert(network, pixels[:1], "features.3", 5, seed=1, progress=False)
    assert not torch.allclose(first.pixels, other.pixels)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_network_is_left_as_it_was(mode, unchanged):
    with unchanged(resnet18(num_classes=3), mode) as watched:
        invert(watched, PIXELS, "layer1.0", 2, progress=False)
    with pytest.raises(ValueError, match="no layer 'layer9'"), unchanged(resnet18(num_classes=3), mode) as watched:
        invert(watched, PIXELS, "layer9", 2, progress=False)


def test_errors_name_the_thing_and_the_cure():
    with pytest.raises(RuntimeError, match="code of an image at layer '0' is zero: there is nothing to invert"):
        invert(nn.Sequential(nn.ReLU()), -torch.ones(1, 3, 4, 4), "0")
    with pytest.raises(ValueError, match="pixels must be a float tensor"):
        invert(ConvNet(3, 24, 0.1), IMAGES, "features.0")
    with pytest.raises(ValueError, match="batch of pixels is empty"):
        invert(ConvNet(3, 24, 0.1), PIXELS[:0], "features.0")
