import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d
from torch import nn
from torchvision.models import squeezenet1_0

from wsol_utils.methods.class_model import class_model
from wsol_utils.methods.convnet import ConvNet

QUIET = {"image_size": 24, "n_steps": 12, "weight_decay": 1e-3, "progress": False}


def network():
    """A random network with random biases: without any, the zero image has no gradient."""
    random = ConvNet(4, 24, 0.1, "gap")
    generator = torch.Generator().manual_seed(0)
    for module in random.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, std=0.2, generator=generator)
    nn.init.normal_(random.head.classes.weight, generator=generator)
    return random


def test_a_linear_score_has_a_closed_form():
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
    weights = linear[1].weight.detach().reshape(2, 3, 8, 8)
    model = class_model(linear, [1, 0], 8, 400, step_size=0.001, weight_decay=0.1, progress=False)
    torch.testing.assert_close(model.pixels, weights[[1, 0]] / 0.2, atol=0.02, rtol=0)


def test_steps_equal_a_loop_by_hand():
    trained = network().eval()
    expected = []
    for class_ in (2, 0):
        image, velocity = torch.zeros(1, 3, 24, 24), 0
        for _ in range(5):
            image.requires_grad_()
            objective = trained(image)[0, class_] - 0.01 * image.square().sum()
            gradient = torch.autograd.grad(objective, image)[0]
            velocity = 0.9 * velocity + 0.05 * gradient / gradient.square().mean().sqrt()
            image = image.detach() + velocity
        expected.append(image)
    model = class_model(trained, [2, 0], 24, 5, weight_decay=0.01, progress=False)
    torch.testing.assert_close(model.pixels, torch.cat(expected), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("objective", ["score", "log_posterior"])
def test_the_objective_rises_and_the_traces_hold_its_course(objective):
    trained = network()
    model = class_model(trained, [0, 1, 3], objective=objective, **QUIET)
    trace = getattr(model, objective)
    assert trace.shape == (13, 3)
    assert (trace[-1] > trace[0]).all()
    logits = trained.eval()(model.pixels).detach()
    torch.testing.assert_close(model.score[-1], logits[range(3), [0, 1, 3]], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        model.log_posterior[-1], logits.log_softmax(1)[range(3), [0, 1, 3]], atol=1e-4, rtol=1e-4
    )


def test_score_ascent_reaches_the_higher_score_and_weight_decay_the_smaller_norm():
    by_score = class_model(network(), [0, 1], **QUIET)
    by_posterior = class_model(network(), [0, 1], objective="log_posterior", **QUIET)
    assert (by_score.score[-1] > by_posterior.score[-1]).all()
    decayed = class_model(network(), [0, 1], **QUIET | {"weight_decay": 1})
    assert (decayed.pixels.flatten(1).norm(dim=1) < by_score.pixels.flatten(1).norm(dim=1)).all()


def test_classes_of_a_batch_do_not_mix():
    together = class_model(network(), [3, 1], **QUIET).pixels
    alone = torch.cat([class_model(network(), [class_], **QUIET).pixels for class_ in (3, 1)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-3)


def test_a_network_in_double_precision_draws_in_double_precision():
    drawn = class_model(network().double(), [0], **QUIET).pixels
    assert drawn.dtype == torch.float64


def test_the_seed_draws_the_shifts_and_nothing_else_does():
    first, again, other = (class_model(network(), [0], shift=4, seed=seed, **QUIET).pixels for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert torch.equal(*(class_model(network(), [0], seed=seed, **QUIET).pixels for seed in (0, 1)))


def test_shifts_of_a_score_that_ignores_them_change_nothing():
    sums = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    still, moved = (class_model(sums, [0, 2], 8, 5, shift=shift, progress=False).pixels for shift in (0, 3))
    torch.testing.assert_close(still, moved)


def test_blur_equals_a_gaussian_by_scipy():
    images = []
    plain = class_model(network(), [1], 24, 2, on_step=lambda step, pixels: images.append(pixels), progress=False)
    blurred = class_model(network(), [1], 24, 2, blur_sigma=0.8, blur_every=2, progress=False).pixels
    kernel = np.exp(-(np.arange(-2, 3) ** 2) / (2 * 0.8**2))
    expected = plain.pixels.numpy()
    for axis in (2, 3):
        expected = correlate1d(expected, kernel / kernel.sum(), axis, mode="mirror")
    np.testing.assert_allclose(blurred.numpy(), expected, atol=1e-5)
    assert [image.shape for image in images] == [(1, 3, 24, 24)] * 2


def test_clipping_sets_the_smallest_pixels_to_zero():
    model = class_model(network(), [0, 1], 24, 4, clip_share=0.3, progress=False)
    norms = model.pixels.norm(dim=1).flatten(1)
    assert (norms == 0).float().mean(1).tolist() == pytest.approx([0.3, 0.3], abs=0.01)


def test_clipping_by_contribution_equals_a_step_by_hand():
    """Yosinski et al. 2015: |sum over colours of x dS/dx|, with the gradient of the score alone."""
    trained = network().eval()
    drawn = []
    class_model(trained, [0], 24, 4, on_step=lambda step, pixels: drawn.append(pixels), progress=False)
    clipped = class_model(trained, [0], 24, 4, contribution_share=0.3, blur_every=4, progress=False).pixels
    before = drawn[2].clone().requires_grad_()
    (slope,) = torch.autograd.grad(trained(before)[0, 0], before)
    contributions = (drawn[3] * slope).sum(1)[0].abs()
    kept = contributions >= contributions.quantile(0.3)
    torch.testing.assert_close(clipped[0], drawn[3][0] * kept, atol=1e-5, rtol=1e-4)
    assert kept.float().mean().item() == pytest.approx(0.7, abs=0.01)


def test_squeezenet_starts_from_classes_that_zero_does_not_excite():
    torch.manual_seed(0)
    squeezenet = squeezenet1_0(num_classes=6)
    nn.init.constant_(squeezenet.classifier[1].bias, -1.0)
    nn.init.normal_(squeezenet.features[0].bias)
    assert (squeezenet.eval()(torch.zeros(1, 3, 32, 32)) == 0).all()
    model = class_model(squeezenet, [0, 5], 32, 10, progress=False)
    assert (model.score[-1] > model.score[0]).all()
    assert isinstance(squeezenet.classifier[2], nn.ReLU)


def test_the_network_is_left_as_it_was():
    trained = network().train()
    before = [value.clone() for value in trained.state_dict().values()]
    with torch.no_grad():
        class_model(trained, [0], **QUIET)
    assert all(torch.equal(a, b) for a, b in zip(before, trained.state_dict().values(), strict=True))
    assert all(module.training for module in trained.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in trained.parameters())


def test_errors_name_the_thing_and_the_cure():
    with pytest.raises(ValueError, match="Unknown objective 'posterior'; choose one of score, log_posterior"):
        class_model(network(), [0], objective="posterior", **QUIET)
    with pytest.raises(ValueError, match="classes 0 to 3"):
        class_model(network(), [4], **QUIET)
    with pytest.raises(RuntimeError, match=r"classes \[2\] no gradient; train the network first"):
        class_model(ConvNet(4, 24, 0.1), [2], **QUIET)
    with pytest.raises(ValueError, match="Images of 8x8 pixels are too small for this network"):
        class_model(squeezenet1_0(num_classes=3), [0], **QUIET | {"image_size": 8})
    with pytest.raises(ValueError, match="batch of pixels is empty"):
        class_model(network(), [], **QUIET)
