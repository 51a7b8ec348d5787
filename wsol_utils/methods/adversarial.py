"""Adversarial images: the smallest changes that make a network wrong, and training against them."""

import numpy as np
import torch
from torch import nn

from wsol_utils.methods.activations import taken
from wsol_utils.methods.networks import DEVIATION, check_pixels, class_indices, evaluating, pixel_range


def loss_gradient(
    network: nn.Module, pixels: torch.Tensor, classes: int | np.ndarray | torch.Tensor, batch_size: int = 256
) -> torch.Tensor:
    """Return the gradient of the cross-entropy J(x, c) of each image at its pixels, (B, 3, H, W), on the network's
    device; evaluation mode, nothing of the network is changed. ValueError for other pixels and classes.
    """
    gradients = []
    with torch.inference_mode(False), torch.enable_grad(), evaluating(network):
        pixels = check_pixels(network, pixels)
        for number, part in enumerate(pixels.split(batch_size)):
            inputs = part.detach().clone().requires_grad_()
            with taken(inputs):
                logits = network(inputs)
            indices = class_indices(classes, len(pixels), logits.shape[1]).split(batch_size)[number].to(logits.device)
            loss = nn.functional.cross_entropy(logits, indices, reduction="sum")
            gradients.append(torch.autograd.grad(loss, inputs)[0])
    return torch.cat(gradients)


def fgsm(
    network: nn.Module,
    pixels: torch.Tensor,
    classes: int | np.ndarray | torch.Tensor,
    epsilon: float,
    targeted: bool = False,
) -> torch.Tensor:
    """Return x + epsilon sign(dJ/dx), (B, 3, H, W): one step up the loss (Goodfellow et al. 2015, section 4).

    `epsilon` is a change of grey values from 0 (black) to 1 (white), 8/255 say, the same in every colour; the result
    stays between black and white. `classes` is one index or one per image: the true class, or with `targeted` the class
    to be seen, whose loss is then descended. The result is on the device of `pixels`. Raises
    ValueError for other pixels, classes and a negative epsilon.

    >>> linear, images = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), torch.zeros(1, 3, 2, 2)
    >>> perturbation(fgsm(linear, images, 0, 0.25), images).abs().amax((0, 2, 3)).numpy().round(6)
    array([0.25, 0.25, 0.25], dtype=float32)
    """
    return pgd(network, pixels, classes, epsilon, n_steps=1, step_size=epsilon, targeted=targeted)


def pgd(
    network: nn.Module,
    pixels: torch.Tensor,
    classes: int | np.ndarray | torch.Tensor,
    epsilon: float,
    n_steps: int = 10,
    step_size: float | None = None,
    random_start: bool = False,
    targeted: bool = False,
    seed: int = 0,
) -> torch.Tensor:
    """Return the images after several steps of FGSM that stay within epsilon of x in every value (Madry et al. 2018).

    A step is 2.5 epsilon / n_steps unless given; with `random_start` the first place is drawn evenly from what epsilon
    allows. The other arguments and the errors are those of `fgsm`, whose attack this is with one step of epsilon.
    """
    if epsilon < 0:
        raise ValueError(f"epsilon is the size of a change, at least 0, not {epsilon}.")
    original = check_pixels(network, pixels).detach()
    black, white = pixel_range(original)
    scale = original.new_tensor(DEVIATION)[:, None, None]
    low, high = (original - epsilon / scale).clamp_min(black), (original + epsilon / scale).clamp_max(white)
    step = (2.5 * epsilon / max(n_steps, 1) if step_size is None else step_size) / scale
    changed = original
    if random_start:
        share = torch.rand(original.shape, generator=torch.Generator().manual_seed(seed)).to(original)
        changed = low + share * (high - low)
    for _ in range(n_steps):
        sign = loss_gradient(network, changed, classes).sign()
        changed = (changed + (-step if targeted else step) * sign).clamp(low, high)
    return changed.to(pixels.device)


def sign_noise(pixels: torch.Tensor, epsilon: float, seed: int = 0) -> torch.Tensor:
    """Return the pixels moved by epsilon up or down at random, between black and white: the control of `fgsm`."""
    signs = torch.randint(0, 2, pixels.shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    scale = pixels.new_tensor(DEVIATION)[:, None, None]
    return (pixels + epsilon * signs.to(pixels) / scale).clamp(*pixel_range(pixels))


def perturbation(changed: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Return how far images were changed, in grey values, where black is 0 and white is 1, (B, 3, H, W).

    Its largest absolute value is the epsilon of `fgsm`, its norm what `deepfool` makes small.

    >>> perturbation(torch.ones(1, 3, 1, 1), torch.zeros(1, 3, 1, 1)).flatten().numpy().round(3)
    array([0.229, 0.224, 0.225], dtype=float32)
    """
    return (changed - pixels) * pixels.new_tensor(DEVIATION)[:, None, None]


def smallest_epsilon(
    network: nn.Module,
    pixels: torch.Tensor,
    classes: int | np.ndarray | torch.Tensor,
    largest: float = 1.0,
    n_halvings: int = 12,
) -> torch.Tensor:
    """Return the smallest epsilon at which `fgsm` makes each image be seen as another class, (B,), by bisection.

    0 for an image that is seen wrongly without any change, infinite for one that `largest` leaves right; else exact to
    largest / 2^n_halvings, as long as larger steps along the sign of the gradient keep fooling. Raises as `fgsm`.

    >>> linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    >>> smallest_epsilon(linear, torch.zeros(3, 3, 2, 2), linear(torch.zeros(3, 3, 2, 2)).argmax(1)).shape
    torch.Size([3])
    """
    pixels = check_pixels(network, pixels).detach()
    direction = loss_gradient(network, pixels, classes).sign() / pixels.new_tensor(DEVIATION)[:, None, None]
    black, white = pixel_range(pixels)

    def fooled(epsilon: torch.Tensor) -> torch.Tensor:
        logits = _logits(network, (pixels + epsilon[:, None, None, None] * direction).clamp(black, white))
        return logits.argmax(1) != class_indices(classes, *logits.shape).to(logits.device)

    low = pixels.new_zeros(len(pixels))
    high = low + largest
    never, at_once = ~fooled(high), fooled(low)
    for _ in range(n_halvings):
        middle = (low + high) / 2
        below = fooled(middle)
        low, high = torch.where(below, low, middle), torch.where(below, middle, high)
    return high.masked_fill(never, torch.inf).masked_fill(at_once, 0).cpu()


def deepfool(
    network: nn.Module,
    pixels: torch.Tensor,
    n_candidates: int = 10,
    n_steps: int = 50,
    overshoot: float = 0.02,
) -> torch.Tensor:
    """Return images just over the nearest border of their class, by L2 (Moosavi-Dezfooli et al. 2016, algorithm 2).

    Each step goes to the nearest border of the network made linear at the image, among the `n_candidates` classes that
    score highest besides its own; the distance is in grey values (`perturbation`). The sum of the steps is made longer
    by `overshoot`; values may leave the range of an image. An image that is not over a border after `n_steps` comes
    back as it then is. Of a linear network the result is the nearest image of another class, and that little over.
    Raises ValueError for other pixels.

    >>> linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    >>> images = torch.rand(4, 3, 2, 2)
    >>> bool((linear(deepfool(linear, images)).argmax(1) != linear(images).argmax(1)).all())
    True
    """
    with torch.inference_mode(False), torch.enable_grad(), evaluating(network):
        original = check_pixels(network, pixels).detach().clone()
        scale = original.new_tensor(DEVIATION)[:, None, None]
        order = network(original).argsort(1, descending=True)
        change = torch.zeros_like(original)  # in grey values
        for _ in range(n_steps):
            inputs = (original + (1 + overshoot) * change / scale).requires_grad_()
            logits = network(inputs)
            still = logits.argmax(1) == order[:, 0]
            if not still.any():
                break
            own = logits.gather(1, order[:, :1])
            nearest, step = torch.full_like(own[:, 0], torch.inf), torch.zeros_like(change)
            for candidate in order[:, 1 : n_candidates + 1].T:
                behind = (own - logits.gather(1, candidate[:, None]))[:, 0]
                (slope,) = torch.autograd.grad(-behind.sum(), inputs, retain_graph=True)
                slope = slope / scale
                squared = slope.square().sum((1, 2, 3)).clamp_min(1e-20)
                distance = behind.detach().abs() / squared.sqrt()
                closer = (distance < nearest)[:, None, None, None]
                length = ((behind.detach().abs() + 1e-6) / squared)[:, None, None, None]
                step, nearest = torch.where(closer, length * slope, step), nearest.minimum(distance)
            change = change + step * still[:, None, None, None]
        return (original + (1 + overshoot) * change / scale).to(pixels.device)


def adversarial_loss(
    network: nn.Module, pixels: torch.Tensor, labels: torch.Tensor, epsilon: float, share: float = 0.5
) -> torch.Tensor:
    """Return share J(x) + (1 - share) J(fgsm(x)), a number to descend in training (Goodfellow et al. 2015, section 6).

    Gradients flow to the parameters; the attack is made anew by the network as it is, in evaluation mode. `labels` is
    int64 (B,). Raises ValueError as `fgsm` does and for a share outside 0 to 1.

    >>> linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    >>> adversarial_loss(linear, torch.zeros(4, 3, 2, 2), torch.tensor([0, 1, 1, 0]), 0.1).requires_grad
    True
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is a part from 0 to 1, not {share}.")
    pixels = check_pixels(network, pixels)
    attacked, labels = fgsm(network, pixels, labels, epsilon), labels.to(pixels.device)
    clean, adversarial = (nn.functional.cross_entropy(network(each), labels) for each in (pixels, attacked))
    return share * clean + (1 - share) * adversarial


def _logits(network: nn.Module, pixels: torch.Tensor, batch_size: int = 256) -> torch.Tensor:
    with evaluating(network), torch.no_grad(), taken(pixels):
        return torch.cat([network(part) for part in pixels.split(batch_size)])
