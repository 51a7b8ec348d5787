"""Class model images: gradient ascent on a class score, with the image as the variable."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torchvision.transforms.functional import gaussian_blur
from tqdm import trange

from wsol_utils.methods.activations import taken
from wsol_utils.methods.networks import class_indices, device_of, evaluating, unrectified

OBJECTIVES = ("score", "log_posterior")


@dataclass(frozen=True)
class ClassModel:
    """Class model images, pixels (B, 3, S, S) in the network's precision, and the traces of the ascent, float32
    (n_steps + 1, B).
    """

    pixels: torch.Tensor
    score: torch.Tensor
    log_posterior: torch.Tensor


def class_model(
    network: nn.Module,
    classes: Sequence[int],
    image_size: int = 227,
    n_steps: int = 100,
    step_size: float = 0.05,
    momentum: float = 0.9,
    weight_decay: float = 0.02,
    objective: str = "score",
    shift: int = 0,
    blur_sigma: float = 0.0,
    blur_every: int = 4,
    clip_share: float = 0.0,
    contribution_share: float = 0.0,
    seed: int = 0,
    on_step: Callable[[int, torch.Tensor], None] | None = None,
    progress: bool = True,
) -> ClassModel:
    """Ascend S_c(I) - weight_decay |I|^2 from the zero image, one image per class (Deep Inside ConvNets, section 2).

    The zero image of normalised pixels is the mean colour. `objective` is "score", the published S_c before the
    soft-max, or "log_posterior", log P_c, which the paper advises against. A step is `step_size` (in normalised pixels)
    times the objective's gradient divided by its root mean square in each image, with momentum. SqueezeNet's scores
    are taken before its last ReLU.

    Later work made the images smoother (Yosinski et al. 2015; Mordvintsev et al. 2015), all off by default: `shift`
    moves the images by a random number of pixels, cyclically, before each step; `blur_sigma` blurs them every
    `blur_every` steps, when also the `clip_share` of pixels with the smallest norms is set to zero, and the
    `contribution_share` with the smallest |sum over colours of x dS/dx|. `seed` draws the shifts.
    `on_step(step, pixels)` is called after every step.

    Raises ValueError for an unknown objective, for images too small for the network and for classes out of range or
    none, RuntimeError if the zero image gives no gradient, as in an untrained network without biases.

    >>> linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    >>> class_model(linear, [0, 1], image_size=2, n_steps=3, progress=False).score.shape
    torch.Size([4, 2])
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"Unknown objective {objective!r}; choose one of {', '.join(OBJECTIVES)}.")
    generator = torch.Generator().manual_seed(seed)
    device = device_of(network)
    dtype = next((parameter.dtype for parameter in network.parameters()), torch.float32)
    pixels = torch.zeros((len(classes), 3, image_size, image_size), dtype=dtype, device=device)
    velocity = torch.zeros_like(pixels)
    scores, log_posteriors = [], []

    def look(images: torch.Tensor) -> torch.Tensor:
        """Append the scores and log posteriors of the images to the traces and return the objective's sum."""
        with taken(images):
            logits = network(images).float()
        indices = class_indices(classes, *logits.shape).to(device)[:, None]
        score, log_posterior = logits.gather(1, indices)[:, 0], logits.log_softmax(1).gather(1, indices)[:, 0]
        scores.append(score.detach().cpu())
        log_posteriors.append(log_posterior.detach().cpu())
        return (score if objective == "score" else log_posterior).sum()

    with torch.inference_mode(False), torch.enable_grad(), evaluating(network), unrectified(network):
        for step in trange(n_steps, desc="class models", disable=not progress):
            down, right = torch.randint(-shift, shift + 1, (2,), generator=generator).tolist()
            moved = pixels.roll((down, right), (2, 3)).contiguous(memory_format=torch.channels_last).requires_grad_()
            (gradient,) = torch.autograd.grad(look(moved), moved)
            slope = gradient.roll((-down, -right), (2, 3))
            gradient = slope - 2 * weight_decay * pixels
            size = gradient.square().mean((1, 2, 3), keepdim=True).sqrt()
            if step == 0 and (size == 0).any():
                dead = [class_ for class_, length in zip(classes, size, strict=True) if length == 0]
                raise RuntimeError(f"The zero image gives classes {dead} no gradient; train the network first.")
            velocity = momentum * velocity + step_size * gradient / size.clamp_min(1e-12)
            pixels = pixels + velocity
            if (step + 1) % blur_every == 0:
                if blur_sigma:
                    pixels = gaussian_blur(pixels, 2 * round(3 * blur_sigma) + 1, blur_sigma)
                contributions = (pixels * slope).sum(1, keepdim=True).abs()
                pixels = _clip(pixels, pixels.norm(dim=1, keepdim=True), clip_share)
                pixels = _clip(pixels, contributions, contribution_share)
            if on_step:
                on_step(step, pixels)
        with torch.no_grad():
            look(pixels)
    return ClassModel(pixels.contiguous().cpu(), torch.stack(scores), torch.stack(log_posteriors))


def _clip(pixels: torch.Tensor, values: torch.Tensor, share: float) -> torch.Tensor:
    """Set the share of pixels with the smallest values (B, 1, S, S) to zero."""
    if not share:
        return pixels
    limits = values.flatten(1).quantile(share, 1)[:, None, None, None]
    return torch.where(values < limits, 0, pixels)
