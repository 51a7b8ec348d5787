import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.models import resnet18, squeezenet1_0

from wsol_utils.methods.convnet import ConvNet
from wsol_utils.methods.image_optimisation import (
    content_loss,
    deep_dream,
    dream_signal,
    evolved_images,
    fooling_images,
    gram_matrix,
    neural_style,
    style_loss,
)
from wsol_utils.methods.networks import normalise, pixel_range

IMAGES = np.random.default_rng(0).integers(60, 200, (2, 24, 24, 3), np.uint8)
PIXELS = normalise(IMAGES)
QUIET = {"progress": False}


def network():
    return ConvNet(4, 24, 0.1, "gap")


def test_the_signal_of_a_dream_at_its_layer_is_the_activation():
    """Claim C8.15: the gradient of |a|^2 / 2 at a is a, so sending back a equals differentiating the objective."""
    maps = torch.randn((2, 5, 6, 6), dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(maps.square().sum() / 2, maps)
    torch.testing.assert_close(gradient, maps.detach(), atol=1e-12, rtol=0)
    trained, pixels = network().double().eval(), PIXELS.double().requires_grad_()
    maps = trained.features[:5](pixels)
    (expected,) = torch.autograd.grad(maps.square().sum() / 2, pixels)
    signal, activation = dream_signal(trained, pixels, "features.4")
    torch.testing.assert_close(signal, expected, atol=1e-10, rtol=1e-8)
    torch.testing.assert_close(activation, maps.detach().square().mean((1, 2, 3)))


def test_a_dream_on_one_octave_equals_a_loop_by_hand():
    trained, image = network().eval(), PIXELS.clone()
    black, white = (each.flatten()[:, None, None] for each in pixel_range(PIXELS))
    for _ in range(4):
        image.requires_grad_()
        objective = trained.features[:8](image).square().sum() / 2
        (gradient,) = torch.autograd.grad(objective, image)
        gradient = gradient / gradient.abs().mean((1, 2, 3), keepdim=True)
        image = torch.clamp(image.detach() + 0.1 * gradient, black, white)
    dream = deep_dream(trained, PIXELS, "features.7", 4, 0.1, n_octaves=1, shift=0, **QUIET)
    torch.testing.assert_close(dream.pixels, image, atol=1e-4, rtol=1e-3)
    assert dream.activation.shape == (4, 2)


def test_what_the_layer_sees_grows_on_every_octave():
    dream = deep_dream(network(), PIXELS, "features.7", 8, n_octaves=2, octave_ratio=1.3, shift=2, **QUIET)
    for octave in dream.activation.split(8):
        assert (octave[-1] > 1.1 * octave[0]).all()
    _, after = dream_signal(network(), dream.pixels, "features.7")
    assert (after > dream_signal(network(), PIXELS, "features.7")[1]).all()


def test_without_steps_an_image_dreams_nothing():
    for n_octaves in (1, 3):
        dream = deep_dream(network(), PIXELS, "features.7", 0, n_octaves=n_octaves, octave_ratio=1.1, **QUIET)
        torch.testing.assert_close(dream.pixels, PIXELS)
        assert dream.activation.shape == (0, 2)


def test_the_seed_draws_the_shifts_and_images_do_not_mix():
    options = {"n_steps": 3, "n_octaves": 2, "octave_ratio": 1.2, "shift": 4} | QUIET
    first, again, other = (
        deep_dream(network(), PIXELS, "features.4", seed=seed, **options).pixels for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    alone = deep_dream(network(), PIXELS[1:], "features.4", **options).pixels
    torch.testing.assert_close(first[1:], alone, atol=1e-4, rtol=1e-3)


@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 5), st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_gram_matrices_ignore_where(n_units, height, width, seed):
    """Claim C8.15: no permutation of positions changes a Gram matrix; moreover it has no negative eigenvalue."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn((2, n_units, height, width), generator=generator, dtype=torch.float64)
    order = torch.randperm(height * width, generator=generator)
    moved = maps.flatten(2)[:, :, order].reshape(maps.shape)
    gram = gram_matrix(maps)
    torch.testing.assert_close(gram_matrix(moved), gram)
    assert style_loss(moved, maps).max().item() == pytest.approx(0, abs=1e-20)
    assert torch.linalg.eigvalsh(gram).min() > -1e-9
    by_hand = sum(maps[:, :, y, x, None] * maps[:, None, :, y, x] for y in range(height) for x in range(width))
    torch.testing.assert_close(gram, by_hand)


def test_losses_equal_the_formulas_of_gatys():
    maps, targets = torch.randn((2, 3, 4, 6, 5), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = (gram_matrix(maps) - gram_matrix(targets)).square().sum((1, 2)) / (4 * 4**2 * 30**2)
    torch.testing.assert_close(style_loss(maps, targets), expected)
    torch.testing.assert_close(content_loss(maps, targets), (maps - targets).pow(2).sum((1, 2, 3)) / 2)
    tiled = targets.repeat(1, 1, 2, 3)  # six times the positions, the same statistics
    torch.testing.assert_close(style_loss(maps, tiled), expected)


def test_the_gradient_of_the_style_loss_is_that_of_gatys():
    """Equation 6: dE/dF = (F^T (G - A))^T / (N^2 M^2)."""
    maps, targets = torch.randn((2, 1, 4, 3, 5), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    maps.requires_grad_()
    (gradient,) = torch.autograd.grad(style_loss(maps, targets).sum(), maps)
    difference = gram_matrix(maps.detach()) - gram_matrix(targets)
    expected = difference @ maps.detach().flatten(2) / (4**2 * 15**2)
    torch.testing.assert_close(gradient.flatten(2), expected)


def test_style_and_content_are_reached():
    content, style = PIXELS[:1], normalise(np.random.default_rng(1).integers(0, 256, (1, 32, 20, 3), np.uint8))
    layers = ["features.2", "features.6"]
    styled = neural_style(network(), content, style, [], layers, n_steps=40, **QUIET)
    assert styled.style_loss[-1] < 0.3 * styled.style_loss[0]
    assert (styled.content_loss == 0).all()
    black, white = pixel_range(content)
    assert ((styled.pixels >= black) & (styled.pixels <= white)).all()
    back = neural_style(network(), content, style, ["features.2"], [], n_steps=40, start=PIXELS[1:], **QUIET)
    assert back.content_loss[-1] < 0.3 * back.content_loss[0]
    assert (back.pixels - content).norm() < (PIXELS[1:] - content).norm()
    torch.testing.assert_close(
        neural_style(network(), content, style, ["features.2"], [], n_steps=3, **QUIET).pixels, content
    )


def test_the_weights_choose_between_content_and_style():
    losses = [
        neural_style(network(), PIXELS[:1], PIXELS[1:], ["features.6"], ["features.2"], 1.0, weight, 25, **QUIET)
        for weight in (1.0, 1e5)
    ]
    assert losses[0].content_loss[-1] < losses[1].content_loss[-1]
    assert losses[0].style_loss[-1] > losses[1].style_loss[-1]


def test_fooling_images_reach_the_confidence_and_stay_images():
    torch.manual_seed(0)
    trained = nn.Sequential(nn.Conv2d(3, 8, 5, 2), nn.ReLU(), nn.Flatten(), nn.Linear(800, 4))
    fooling = fooling_images(trained, PIXELS, [2, 0], 0.95, **QUIET)
    assert (fooling.confidence >= 0.95).all()
    posterior = trained.eval()(fooling.pixels).softmax(1)[[0, 1], [2, 0]].detach()
    torch.testing.assert_close(posterior, fooling.confidence, atol=1e-4, rtol=1e-3)
    black, white = pixel_range(PIXELS)
    assert ((fooling.pixels >= black) & (fooling.pixels <= white)).all()
    already = fooling_images(trained, fooling.pixels, [2, 0], 0.9, **QUIET)
    assert torch.equal(already.pixels, fooling.pixels)
    none = fooling_images(trained, PIXELS, [2, 0], 0.999999, n_steps=0, **QUIET)
    assert torch.equal(none.pixels, PIXELS)


def test_squeezenet_is_fooled_past_its_last_relu():
    torch.manual_seed(0)
    squeezenet = squeezenet1_0(num_classes=6)
    nn.init.constant_(squeezenet.classifier[1].bias, -1.0)
    nn.init.normal_(squeezenet.features[0].bias)
    pixels = torch.zeros(1, 3, 32, 32)
    assert (squeezenet.eval()(pixels) == 0).all()
    fooling = fooling_images(squeezenet, pixels, 5, 0.2, n_steps=15, step_size=0.3, **QUIET)
    assert fooling.confidence > 1 / 6
    assert isinstance(squeezenet.classifier[2], nn.ReLU)


def test_evolution_makes_a_network_surer_generation_by_generation():
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4))
    shorter, longer = (evolved_images(linear, [0, 3], n, image_size=16, **QUIET) for n in (5, 20))
    assert (longer.confidence > shorter.confidence).all()
    with torch.no_grad():
        beliefs = linear(longer.pixels).softmax(1)[range(2), [0, 3]]
    torch.testing.assert_close(longer.confidence, beliefs, atol=1e-5, rtol=1e-4)
    black, white = pixel_range(longer.pixels)
    assert ((black <= longer.pixels) & (longer.pixels <= white)).all()
    again = evolved_images(linear, [0, 3], 20, image_size=16, **QUIET)
    assert torch.equal(again.pixels, longer.pixels)
    assert not torch.equal(evolved_images(linear, [0, 3], 20, image_size=16, seed=1, **QUIET).pixels, longer.pixels)
    with pytest.raises(ValueError, match="classes 0 to 3"):
        evolved_images(linear, [4], 1, image_size=16, **QUIET)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_network_is_left_as_it_was(mode, unchanged):
    with unchanged(resnet18(num_classes=3), mode) as watched:
        deep_dream(watched, PIXELS, "layer1", 1, n_octaves=2, **QUIET)
        neural_style(watched, PIXELS, PIXELS, ["layer1"], ["relu"], n_steps=1, **QUIET)
        fooling_images(watched, PIXELS, 1, n_steps=1, **QUIET)
        evolved_images(watched, [1], 1, image_size=32, **QUIET)
    with unchanged(squeezenet1_0(num_classes=3), mode) as watched, pytest.raises(ValueError, match="classes 0 to 2"):
        fooling_images(watched, PIXELS, 3, **QUIET)
    with unchanged(resnet18(num_classes=3), mode) as watched:
        with pytest.raises(ValueError, match="no layer 'layer9'"):
            deep_dream(watched, PIXELS, "layer9", **QUIET)
        with pytest.raises(ValueError, match="no layer 'layer9'"):
            neural_style(watched, PIXELS, PIXELS, ["layer9"], [], **QUIET)


def test_errors_name_the_thing_and_the_cure():
    for options in ({"n_octaves": 0}, {"octave_ratio": 0.7}):
        with pytest.raises(ValueError, match="1 octave or more and a ratio of at least 1"):
            deep_dream(network(), PIXELS, "features.4", **options, **QUIET)
    with pytest.raises(ValueError, match="needs images of at least 17"):
        deep_dream(network(), PIXELS, "features.4", n_octaves=4, **QUIET)
    with pytest.raises(ValueError, match="Neural style needs a layer"):
        neural_style(network(), PIXELS, PIXELS, [], [])
    with pytest.raises(ValueError, match=r"Layer 'head\.classes' has no positions, so no style"):
        neural_style(network(), PIXELS, PIXELS, [], ["head.classes"])
    with pytest.raises(ValueError, match="confidence is a probability between 0 and 1, not 1"):
        fooling_images(network(), PIXELS, 0, 1)
    with pytest.raises(ValueError, match="pixels must be a float tensor"):
        dream_signal(network(), torch.from_numpy(IMAGES), "features.4")
    with pytest.raises(ValueError, match="Images of 8x8 pixels are too small for this network"):
        deep_dream(squeezenet1_0(), torch.zeros(1, 3, 16, 16), "features.12", n_octaves=2, octave_ratio=2, **QUIET)
    three = PIXELS[[0, 1, 0]]
    with pytest.raises(ValueError, match="Give one image of style, or 2, one for each content, not 3"):
        neural_style(network(), PIXELS, three, ["features.4"], ["features.4"], **QUIET)
    for start in (PIXELS[:, :, :20], PIXELS[:1]):
        with pytest.raises(ValueError, match=r"start must have the shape of the content, \(2, 3, 24, 24\)"):
            neural_style(network(), PIXELS, PIXELS, ["features.4"], ["features.4"], start=start, **QUIET)
