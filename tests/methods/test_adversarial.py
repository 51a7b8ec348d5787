import warnings

import numpy as np
import pytest
import torch
from captum.robust import FGSM, PGD
from torch import nn
from torchvision.models import resnet18, squeezenet1_0

from wsol_utils.methods.adversarial import (
    adversarial_loss,
    deepfool,
    fgsm,
    loss_gradient,
    perturbation,
    pgd,
    sign_noise,
    smallest_epsilon,
)
from wsol_utils.methods.convnet import ConvNet
from wsol_utils.methods.networks import DEVIATION, MEAN, normalise, pixel_range, predict

IMAGES = np.random.default_rng(0).integers(100, 156, (5, 20, 20, 3), np.uint8)
PIXELS = normalise(IMAGES)
LABELS = torch.tensor([0, 3, 1, 2, 2])
SCALE = torch.tensor(DEVIATION)[:, None, None]


def network():
    return ConvNet(4, 20, 0.1, "gap")


def linear(n_classes=4, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 20 * 20, n_classes))


def test_the_gradient_of_the_loss_equals_autograd_and_finite_differences():
    trained, pixels = network().double().eval(), PIXELS.double()
    gradient = loss_gradient(trained, pixels, LABELS, batch_size=2)
    for image in (0, 4):
        step = torch.zeros_like(pixels)
        step[image, 1, 7, 9] = 1e-5
        high, low = (
            nn.functional.cross_entropy(trained(pixels + sign * step), LABELS, reduction="sum").item()
            for sign in (1, -1)
        )
        assert gradient[image, 1, 7, 9].item() == pytest.approx((high - low) / 2e-5, rel=1e-3, abs=1e-8)


@pytest.mark.parametrize("targeted", [False, True])
def test_fgsm_and_pgd_equal_captum(targeted):
    trained = network().double().eval()
    mean = torch.tensor(MEAN, dtype=torch.float64)[:, None, None]

    def pixels_of(images):
        return (images - mean) / torch.tensor(DEVIATION, dtype=torch.float64)[:, None, None]

    def on_images(images):
        return trained(pixels_of(images))

    images = torch.from_numpy(IMAGES).permute(0, 3, 1, 2).double() / 255
    loss = nn.CrossEntropyLoss(reduction="none")
    pixels = pixels_of(images)
    one_step, many_steps = FGSM(on_images, loss, 0, 1), PGD(on_images, loss, 0, 1)
    one_step.zero_thresh = many_steps.fgsm.zero_thresh = 0  # captum takes gradients below 1e-6 for zero
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        single = one_step.perturb(images, 0.03, LABELS, targeted=targeted)
        several = many_steps.perturb(images, 0.03, 0.01, 4, LABELS, targeted=targeted)
    torch.testing.assert_close(fgsm(trained, pixels, LABELS, 0.03, targeted), pixels_of(single))
    ours = pgd(trained, pixels, LABELS, 0.03, 4, 0.01, targeted=targeted)
    torch.testing.assert_close(ours, pixels_of(several))


def test_of_a_linear_network_fgsm_lowers_the_margin_by_epsilon_times_the_sum_of_weights():
    """Goodfellow et al. 2015, section 5: for two classes the margin changes by epsilon |w|_1."""
    two = linear(2)
    weights = (two[1].weight[0] - two[1].weight[1]).detach().reshape(3, 20, 20) / SCALE
    before, after = (two(pixels).detach() for pixels in (PIXELS, fgsm(two, PIXELS, 0, 0.02)))
    change = (after[:, 0] - after[:, 1]) - (before[:, 0] - before[:, 1])
    torch.testing.assert_close(change, -0.02 * weights.abs().sum().expand(5), atol=1e-4, rtol=1e-4)


def test_changes_stay_within_epsilon_and_between_black_and_white():
    extreme = normalise(np.random.default_rng(1).choice([0, 255, 128], (3, 20, 20, 3)).astype(np.uint8))
    black, white = pixel_range(extreme)
    for changed in (
        fgsm(network(), extreme, 1, 0.1),
        pgd(network(), extreme, 1, 0.1, 5, random_start=True, seed=2),
        sign_noise(extreme, 0.1),
    ):
        assert perturbation(changed, extreme).abs().max() <= 0.1 + 1e-6
        assert ((changed >= black - 1e-6) & (changed <= white + 1e-6)).all()
    noise = perturbation(sign_noise(PIXELS, 0.1, seed=1), PIXELS)
    torch.testing.assert_close(noise.abs(), torch.full_like(noise, 0.1))
    assert abs(noise.mean()) < 0.01


def test_more_steps_raise_the_loss_more_and_noise_hardly():
    trained = network()
    losses = [
        nn.functional.cross_entropy(torch.from_numpy(logits), LABELS).item()
        for logits in (
            trained.eval()(pixels).detach().numpy()
            for pixels in (
                sign_noise(PIXELS, 0.05),
                fgsm(trained, PIXELS, LABELS, 0.05),
                pgd(trained, PIXELS, LABELS, 0.05, 20),
            )
        )
    ]
    assert losses[0] < losses[1] < losses[2]


def test_the_seed_draws_the_random_start_and_the_noise():
    for draw in (
        lambda seed: pgd(network(), PIXELS, 1, 0.1, 1, random_start=True, seed=seed),
        lambda seed: sign_noise(PIXELS, 0.1, seed),
    ):
        assert torch.equal(draw(3), draw(3))
        assert not torch.allclose(draw(3), draw(4))


def test_the_smallest_epsilon_of_a_linear_network_has_a_closed_form():
    two = linear(2)
    weights = (two[1].weight[0] - two[1].weight[1]).detach().reshape(3, 20, 20) / SCALE
    logits = two(PIXELS).detach()
    own = logits.argmax(1)
    expected = (logits[:, 0] - logits[:, 1]).abs() / weights.abs().sum()
    ours = smallest_epsilon(two, PIXELS, own, largest=0.1, n_halvings=16)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-3)
    assert (smallest_epsilon(two, PIXELS, 1 - own) == 0).all()
    assert smallest_epsilon(two, PIXELS, own, largest=expected.min().item() / 2).isinf().all()


def test_the_smallest_epsilon_fools_and_a_little_less_does_not():
    trained = network()
    own = torch.from_numpy(predict(trained, IMAGES).argmax(1))
    smallest = smallest_epsilon(trained, PIXELS, own, n_halvings=14)
    for image in np.flatnonzero(smallest.isfinite()):
        at, below = (
            trained.eval()(fgsm(trained, PIXELS[[image]], own[[image]], epsilon))[0].argmax()
            for epsilon in (smallest[image].item() + 1e-6, smallest[image].item() - 1e-4)
        )
        assert at != own[image]
        assert below == own[image]


def test_deepfool_finds_the_nearest_border_of_a_linear_network():
    four = linear()
    weights = four[1].weight.detach().reshape(4, 3, 20, 20) / SCALE
    logits = four(PIXELS).detach()
    own = logits.argmax(1)
    expected = []
    for image, class_ in enumerate(own):
        others = [other for other in range(4) if other != class_]
        distances = [
            (logits[image, class_] - logits[image, other]) / (weights[class_] - weights[other]).norm()
            for other in others
        ]
        expected.append(min(distances).item())
    changed = deepfool(four, PIXELS, overshoot=0.02)
    lengths = perturbation(changed, PIXELS).flatten(1).norm(dim=1)
    np.testing.assert_allclose(lengths, 1.02 * np.array(expected), rtol=1e-2)
    assert (four(changed).argmax(1) != own).all()


def test_deepfool_fools_a_convnet_with_less_than_fgsm():
    torch.manual_seed(0)
    trained = nn.Sequential(nn.Conv2d(3, 8, 5, 2), nn.ReLU(), nn.Flatten(), nn.Linear(512, 4))
    own = torch.from_numpy(predict(trained, IMAGES).argmax(1))
    changed = deepfool(trained, PIXELS)
    assert (trained.eval()(changed).argmax(1) != own).all()
    smallest = smallest_epsilon(trained, PIXELS, own)
    lengths = perturbation(changed, PIXELS).flatten(1).norm(dim=1)
    assert (lengths <= smallest * (3 * 20 * 20) ** 0.5 + 1e-6).all()


def test_the_adversarial_loss_mixes_two_losses_and_reaches_the_parameters():
    four = linear()
    clean = nn.functional.cross_entropy(four(PIXELS), LABELS)
    attacked = nn.functional.cross_entropy(four(fgsm(four, PIXELS, LABELS, 0.1)), LABELS)
    loss = adversarial_loss(four, PIXELS, LABELS, 0.1, share=0.3)
    torch.testing.assert_close(loss, 0.3 * clean + 0.7 * attacked)
    loss.backward()
    assert four[1].weight.grad.abs().sum() > 0


def test_training_on_the_adversarial_loss_lowers_the_adversarial_loss():
    trained = {}
    for share in (1.0, 0.5):
        two = linear(2)
        optimiser = torch.optim.SGD(two.parameters(), 0.01)
        for _ in range(30):
            optimiser.zero_grad()
            adversarial_loss(two, PIXELS, LABELS % 2, 0.05, share).backward()
            optimiser.step()
        attacked = fgsm(two, PIXELS, LABELS % 2, 0.05)
        trained[share] = nn.functional.cross_entropy(two(attacked), LABELS % 2).item()
    assert trained[0.5] < trained[1.0]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_network_is_left_as_it_was(mode, unchanged):
    pixels = PIXELS.clone()
    with unchanged(resnet18(num_classes=4), mode) as watched:
        pgd(watched, pixels, LABELS, 0.1, 2)
        smallest_epsilon(watched, pixels, LABELS, n_halvings=1)
        deepfool(watched, pixels, n_steps=1)
    assert not pixels.requires_grad
    for attack in (lambda n: fgsm(n, pixels, 4, 0.1), lambda n: smallest_epsilon(n, pixels, 4)):
        with pytest.raises(ValueError, match="classes 0 to 3"), unchanged(network(), mode) as watched:
            attack(watched)
    with pytest.raises(ValueError, match="pixels must be a float tensor"), unchanged(network(), mode) as watched:
        deepfool(watched, pixels[0])


def test_errors_name_the_thing_and_the_cure():
    with pytest.raises(ValueError, match=r"epsilon is the size of a change, at least 0, not -0\.1"):
        fgsm(network(), PIXELS, 0, -0.1)
    with pytest.raises(ValueError, match="share is a part from 0 to 1, not 2"):
        adversarial_loss(network(), PIXELS, LABELS, 0.1, 2)
    with pytest.raises(ValueError, match="for each of the 5 images"):
        fgsm(network(), PIXELS, [0, 1], 0.1)
    with pytest.raises(ValueError, match="Images of 8x8 pixels are too small for this network"):
        fgsm(squeezenet1_0(num_classes=3), torch.zeros(1, 3, 8, 8), 0, 0.1)
