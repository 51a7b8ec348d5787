"""The tools of notebook 09 on the families of the lecture, with random weights: VGG-16, GoogLeNet and ResNet-18."""

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import googlenet, resnet18, vgg16

from wsol_utils.methods.activations import activations
from wsol_utils.methods.adversarial import (
    deepfool,
    fgsm,
    loss_gradient,
    perturbation,
    pgd,
    sign_noise,
    smallest_epsilon,
)
from wsol_utils.methods.inversion import code_error, invert
from wsol_utils.methods.networks import evaluating, normalise
from wsol_utils.methods.occlusion import occluded_probabilities, occlusion_map

PIXELS = normalise(np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), np.uint8))


def thin(network):
    """VGG with one fully connected layer in place of three, whose 120 million weights would take the time."""
    network.classifier = nn.Linear(512 * 7 * 7, 5)
    return network


FAMILIES = {
    "vgg16": (lambda: thin(vgg16(num_classes=5)), "features.4"),
    "googlenet": (lambda: googlenet(num_classes=5, aux_logits=False, init_weights=False), "conv2"),
    "resnet18": (lambda: resnet18(num_classes=5), "layer1"),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    """A network with random weights and statistics of its own, in training mode, and the name of a low layer."""
    torch.manual_seed(3)
    make, layer = FAMILIES[request.param]
    network = make().train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network, layer


def probabilities(network, pixels):
    with torch.no_grad(), evaluating(network):
        return network(pixels).softmax(1)


def test_occlusion_equals_squares_filled_by_hand(family, unchanged):
    network, _ = family
    with unchanged(network):
        ours = occluded_probabilities(network, PIXELS, [1, 4], 24, 12, progress=False)
        drop = occlusion_map(network, PIXELS, [1, 4], 24, 24, progress=False)
    for number, class_ in enumerate([1, 4]):
        for row, column in ((0, 0), (1, 2)):
            hidden = PIXELS[[number]].clone()
            hidden[..., 12 * row : 12 * row + 24, 12 * column : 12 * column + 24] = 0
            assert ours[number, row, column] == pytest.approx(
                probabilities(network, hidden)[0, class_].item(), abs=1e-6
            )
        seen = probabilities(network, PIXELS)[number, class_].item()
        np.testing.assert_allclose(drop[number, ::24, ::24], seen - ours[number, ::2, ::2], atol=1e-6)


def test_inversion_comes_nearer_to_the_code_from_step_to_step(family, unchanged):
    network, layer = family
    with unchanged(network):
        found = invert(network, PIXELS, layer, n_steps=12, step_size=0.1, progress=False)
    with torch.no_grad():
        codes, targets = (activations(network, each, [layer])[0] for each in (found.pixels, PIXELS))
    torch.testing.assert_close(code_error(codes, targets), found.code_error[-1], atol=1e-4, rtol=1e-3)
    assert (found.code_error[-1] < 0.75 * found.code_error[0]).all()


def test_attacks_follow_the_gradient_and_stay_within_epsilon(family, unchanged):
    network, _ = family
    truth = probabilities(network, PIXELS).argmax(1)
    with unchanged(network):
        slope = loss_gradient(network, PIXELS, truth)
        attacks = {"fgsm": fgsm(network, PIXELS, truth, 4 / 255), "pgd": pgd(network, PIXELS, truth, 4 / 255, 5)}
        least = smallest_epsilon(network, PIXELS, truth, n_halvings=6)
        nearest = deepfool(network, PIXELS, 2)
    inputs = PIXELS.clone().requires_grad_()
    with evaluating(network):
        (wanted,) = torch.autograd.grad(nn.functional.cross_entropy(network(inputs), truth, reduction="sum"), inputs)
    torch.testing.assert_close(slope, wanted, atol=1e-6, rtol=1e-3)

    def believed(pixels):
        return probabilities(network, pixels).gather(1, truth[:, None]).mean().item()

    for changed in attacks.values():
        assert perturbation(changed, PIXELS).abs().max() < 4 / 255 + 1e-6
        assert believed(changed) < believed(sign_noise(PIXELS, 4 / 255)) < 1
    assert (probabilities(network, nearest).argmax(1) != truth).all()
    for number in torch.where(least.isfinite())[0].tolist():
        one, own = PIXELS[[number]], truth[[number]]
        stepped = fgsm(network, one, own, least[number].item() + 1e-6)
        assert probabilities(network, stepped).argmax(1) != own
