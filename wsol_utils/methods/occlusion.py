"""Occlusion: how the probability of a class falls when a square hides a part of the image."""

import numpy as np
import torch
from torch import nn
from torchvision.transforms.functional import gaussian_blur
from tqdm import tqdm

from wsol_utils.methods.activations import taken
from wsol_utils.methods.networks import check_pixels, class_indices, evaluating, pixel_range

FILLS = ("zero", "mean", "blur")


def occluded_probabilities(
    network: nn.Module,
    pixels: torch.Tensor,
    classes: int | np.ndarray | torch.Tensor,
    square: int,
    stride: int,
    fill: str = "mean",
    batch_size: int = 64,
    progress: bool = True,
) -> np.ndarray:
    """Return P_c with a square over the image at each place of a grid, float32 (B, R, C) (Zeiler and Fergus 2014, 4.2).

    `pixels` is float (B, 3, H, W), `classes` one index or one per image. The squares, of `square` pixels a side, start
    at the places that `square_starts` gives. They hide the image under black ("zero"), the mean colour ("mean") or its
    own Gaussian blur, of deviation a quarter of the square ("blur"). Raises ValueError for an unknown fill, a square
    or stride that does not fit, other pixels and classes out of range.

    >>> linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
    >>> occluded_probabilities(linear, torch.zeros(1, 3, 8, 8), 1, square=4, stride=2, progress=False).shape
    (1, 3, 3)
    """
    if fill not in FILLS:
        raise ValueError(f"Unknown fill {fill!r}; choose one of {', '.join(FILLS)}.")
    pixels = check_pixels(network, pixels)
    tops, lefts = (square_starts(side, square, stride) for side in pixels.shape[2:])
    places = [(top, left) for top in tops for left in lefts]
    if fill == "blur":
        fillings = gaussian_blur(pixels, 2 * (square // 2) + 1, square / 4)
    else:
        fillings = (torch.zeros_like(pixels) if fill == "mean" else pixel_range(pixels)[0]).expand_as(pixels)
    probabilities = []
    bar = tqdm(total=len(pixels) * len(places), desc="squares", disable=not progress)
    with evaluating(network), torch.no_grad(), taken(pixels), bar:
        for number in range(len(pixels)):
            for first in range(0, len(places), batch_size):
                part = places[first : first + batch_size]
                hidden = pixels[[number] * len(part)]
                for image, (top, left) in zip(hidden, part, strict=True):
                    window = np.s_[:, top : top + square, left : left + square]
                    image[window] = fillings[number][window]
                logits = network(hidden)
                index = class_indices(classes, len(pixels), logits.shape[1])[number]
                probabilities.append(logits.softmax(1)[:, index].float().cpu())
                bar.update(len(part))
    return torch.cat(probabilities).reshape(len(pixels), len(tops), len(lefts)).numpy()


def occlusion_map(
    network: nn.Module,
    pixels: torch.Tensor,
    classes: int | np.ndarray | torch.Tensor,
    square: int,
    stride: int,
    fill: str = "mean",
    batch_size: int = 64,
    progress: bool = True,
) -> np.ndarray:
    """Return how much P_c falls when a pixel is hidden, the mean over the squares that hide it, float32 (B, H, W).

    High where the class has its evidence, below zero where hiding helps the class; arguments and errors as of
    `occluded_probabilities`.
    """
    arguments = (network, pixels, classes, square, stride, fill, batch_size, progress)
    hidden = occluded_probabilities(*arguments)
    with evaluating(network), torch.no_grad():
        seen = torch.cat([network(part) for part in check_pixels(network, pixels).split(batch_size)]).softmax(1).cpu()
    indices = class_indices(classes, len(seen), seen.shape[1])
    drops = seen.float().gather(1, indices[:, None]).numpy()[:, :, None] - hidden
    total, n_squares = np.zeros(pixels[:, 0].shape, np.float32), np.zeros(pixels.shape[2:], np.float32)
    for row, top in enumerate(square_starts(pixels.shape[2], square, stride)):
        for column, left in enumerate(square_starts(pixels.shape[3], square, stride)):
            total[:, top : top + square, left : left + square] += drops[:, row, column, None, None]
            n_squares[top : top + square, left : left + square] += 1
    return total / n_squares


def square_starts(side: int, square: int, stride: int) -> list[int]:
    """Return where the squares along a side of the image start: every `stride` pixels, and one at the far edge.

    Raises ValueError for a square that is larger than the image or a stride that would leave pixels uncovered.

    >>> square_starts(10, 4, 4)
    [0, 4, 6]
    """
    if not 1 <= square <= side:
        raise ValueError(f"A square of {square} pixels does not fit into an image side of {side}; choose 1 to {side}.")
    if not 1 <= stride <= square:
        raise ValueError(f"A stride of {stride} leaves pixels uncovered; choose 1 to {square}, the side of the square.")
    return sorted({*range(0, side - square + 1, stride), side - square})
