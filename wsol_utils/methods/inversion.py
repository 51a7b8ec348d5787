"""Inversion: an image that has the same code at a layer, and how much of the image the code still held."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio
from torch import nn
from tqdm import tqdm, trange

from wsol_utils.methods.activations import activations
from wsol_utils.methods.networks import check_pixels, denormalise, evaluating


@dataclass(frozen=True)
class Inversion:
    """Images inverted from codes, pixels (B, 3, H, W), and the course of the code error, float32 (n_steps + 1, B)."""

    pixels: torch.Tensor
    code_error: torch.Tensor


def invert(
    network: nn.Module,
    pixels: torch.Tensor,
    layer: str,
    n_steps: int = 200,
    step_size: float = 0.05,
    norm_weight: float = 1e-3,
    variation_weight: float = 1e-2,
    alpha: float = 6,
    beta: float = 2,
    seed: int = 0,
    progress: bool = True,
) -> Inversion:
    """Find images whose codes at a layer are those of `pixels`, from noise (Mahendran and Vedaldi 2015, equation 1).

    Minimises, for each image, |F(x) - F0|^2 / |F0|^2 + (norm_weight |x|_alpha^alpha + variation_weight V_beta(x)) / n,
    with V_beta of `total_variation` and n the number of its values, by Adam, whose step falls to zero along a cosine.
    The start is normal noise of deviation 0.1 drawn from `seed`. `layer` is a name of `named_modules()`. Raises
    ValueError for other pixels and names, RuntimeError for a code that is zero.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3))
    >>> invert(network, torch.rand(1, 3, 8, 8), "0", n_steps=3, progress=False).code_error.shape
    torch.Size([4, 1])
    """
    with torch.inference_mode(False), torch.enable_grad(), evaluating(network):
        pixels = check_pixels(network, pixels).detach().clone()
        (target,) = activations(network, pixels, [layer])
        if (target.flatten(1) == 0).all(1).any():
            raise RuntimeError(f"The code of an image at layer {layer!r} is zero: there is nothing to invert.")
        noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(seed))
        image = (0.1 * noise).to(pixels).requires_grad_()
        optimiser = torch.optim.Adam([image], lr=step_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(n_steps, 1))
        errors = []
        for _ in trange(n_steps, desc=f"inverting {layer}", disable=not progress):
            error = code_error(activations(network, image, [layer])[0], target)
            errors.append(error.detach())
            norm = norm_weight * image.abs().pow(alpha).sum((1, 2, 3))
            variation = variation_weight * total_variation(image, beta)
            loss = error.square() + (norm + variation) / image[0].numel()
            (image.grad,) = torch.autograd.grad(loss.sum(), image)
            optimiser.step()
            schedule.step()
        image = image.detach()
        errors.append(code_error(activations(network, image, [layer])[0], target))
    return Inversion(image.cpu(), torch.stack(errors).float().cpu())


def inversion_ladder(
    network: nn.Module, pixels: torch.Tensor, layers: Sequence[str], progress: bool = True, **options
) -> dict[str, tuple[Inversion, np.ndarray]]:
    """Invert the codes of several layers: for each its `Inversion` and the PSNR of its images in dB, (B,).

    The deeper the layer, the less of the image its code holds. `options` are those of `invert`.
    """
    rungs = {}
    for layer in tqdm(layers, desc="layers", disable=not progress):
        inversion = invert(network, pixels, layer, progress=False, **options)
        rungs[layer] = inversion, psnr(inversion.pixels, pixels)
    return rungs


def code_error(codes: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return |F(x) - F0| / |F0|, the normalised error of the codes of each image, (B,).

    >>> code_error(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[3.0, 4.0], [3.0, 4.0]])).tolist()
    [0.0, 1.0]
    """
    return (codes - targets).flatten(1).norm(dim=1) / targets.flatten(1).norm(dim=1)


def total_variation(pixels: torch.Tensor, beta: float = 2) -> torch.Tensor:
    """Return V_beta, the sum of ((x_i,j+1 - x_ij)^2 + (x_i+1,j - x_ij)^2)^(beta/2) over pixels and colours, (B,).

    Mahendran and Vedaldi 2015, section 2; differences over the edge are zero.

    >>> total_variation(torch.tensor([[[[0.0, 3.0], [4.0, 0.0]]]]), beta=1).round().tolist()
    [12.0]
    """
    right = nn.functional.pad(pixels.diff(dim=3), (0, 1))
    down = nn.functional.pad(pixels.diff(dim=2), (0, 0, 0, 1))
    squares = right.square() + down.square()
    return (squares if beta == 2 else (squares + 1e-12).pow(beta / 2)).sum((1, 2, 3))


def psnr(pixels: torch.Tensor, originals: torch.Tensor) -> np.ndarray:
    """Return the peak signal-to-noise ratio of the images that pixels show, in dB, (B,); infinite for equal images."""
    with np.errstate(divide="ignore"):
        pairs = zip(denormalise(originals), denormalise(pixels), strict=True)
        return np.array([peak_signal_noise_ratio(original, image) for original, image in pairs])
