"""Jitter of training images as published: crops, flips, colour noise along principal axes, random occlusion."""

import numpy as np
import torch
from torch import nn

from wsol_utils.methods.networks import MEAN


def jitter(
    images: np.ndarray | torch.Tensor,
    generator: torch.Generator,
    crop: float = 1 / 8,
    flip: float = 0.5,
    colour: float = 0.1,
    occlusion: float = 0.4,
    zoom: float = 0.0,
) -> np.ndarray | torch.Tensor:
    """Return jittered copies of uint8 images (B, H, W, 3), same size and kind (Simonyan et al. 2013, training).

    Each image gets its own random values, the whole batch at once:
    - `crop`: an image moves by up to half of this share of its side (1/8 is AlexNet's 224 of 256); objects keep their
      size, and the part lost on one side is filled on the other by reflection, so that images keep theirs;
    - `flip`: probability of a left-right flip;
    - `colour`: deviation of the noise on the principal axes of the batch's colours, in multiples of the eigenvalues of
      their covariance on the scale 0 to 1 (0.1 is AlexNet's);
    - `occlusion`: largest side of the occluding rectangle as a share of the image's, filled with the ImageNet mean;
    - `zoom` (not of the paper, and off unless asked for): a window that lacks up to this share of the image's height,
      and of its width, is enlarged to the size of the image.
    Zero switches a part off. Raises ValueError for other images and for shares outside 0 to 1.

    >>> images = np.zeros((2, 8, 8, 3), np.uint8)
    >>> jitter(images, torch.Generator().manual_seed(0)).shape
    (2, 8, 8, 3)
    """
    batch = torch.as_tensor(images)
    if batch.dtype != torch.uint8 or batch.ndim != 4 or batch.shape[-1] != 3:
        raise ValueError(f"images must be uint8 (B, H, W, 3), not {batch.dtype} of shape {tuple(batch.shape)}.")
    for name, share in {"crop": crop, "flip": flip, "occlusion": occlusion, "zoom": zoom}.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is a share from 0 to 1, not {share}.")
    if zoom:
        batch = enlarge_windows(batch, generator, zoom)
    if crop or flip:
        batch = crop_and_flip(batch, generator, crop, flip)
    if colour:
        batch = add_colour_noise(batch, generator, colour)
    if occlusion:
        batch = occlude(batch, generator, occlusion)
    return batch if torch.is_tensor(images) else batch.numpy()


def enlarge_windows(images: torch.Tensor, generator: torch.Generator, zoom: float) -> torch.Tensor:
    """Enlarge a random window of each image to the image's size; its sides are 1 - `zoom` to 1 times the image's."""
    shares = 1 - zoom * torch.rand((len(images), 2), generator=generator)  # of width and height
    centres = (2 * torch.rand((len(images), 2), generator=generator) - 1) * (1 - shares)
    grid = nn.functional.affine_grid(
        torch.cat([torch.diag_embed(shares), centres[:, :, None]], 2), (len(images), 3, *images.shape[1:3]), False
    )
    pixels = images.permute(0, 3, 1, 2).float()
    enlarged = nn.functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    return enlarged.round().to(torch.uint8).permute(0, 2, 3, 1)


def crop_and_flip(images: torch.Tensor, generator: torch.Generator, crop: float, flip: float) -> torch.Tensor:
    """Shift each image by up to half of `crop` times its side in both directions, mirrored at the border; flip some."""
    n_images, height, width = images.shape[:3]
    indices = []
    for side in (height, width):
        shift = (torch.rand((n_images, 1), generator=generator) - 0.5) * crop * side
        places = (torch.arange(side) + shift.round().long()).abs()
        indices.append(torch.where(places >= side, 2 * (side - 1) - places, places))
    rows, columns = indices
    flipped = torch.rand((n_images, 1), generator=generator) < flip
    columns = torch.where(flipped, columns.flip(1), columns)
    moved = zip(images.numpy(), rows.numpy(), columns.numpy(), strict=True)
    return torch.from_numpy(np.stack([image.take(row, 0).take(column, 1) for image, row, column in moved]))


def add_colour_noise(images: torch.Tensor, generator: torch.Generator, deviation: float) -> torch.Tensor:
    """Add P (a * l) to all pixels of an image: P, l principal axes and variances of the batch, a ~ N(0, deviation)."""
    colours = images[:, ::4, ::4].reshape(-1, 3) / 255
    variances, axes = torch.linalg.eigh(torch.cov(colours.T, correction=0))
    amounts = torch.randn((len(images), 3), generator=generator) * deviation * variances
    noise = (amounts @ axes.T * 255).round().to(torch.int16)
    return (images + noise[:, None, None, :]).clamp(0, 255).to(torch.uint8)


def occlude(images: torch.Tensor, generator: torch.Generator, largest: float) -> torch.Tensor:
    """Cover a rectangle of each image with the mean colour, its sides uniform from 0 to `largest` times the image's."""
    spans = []
    for side in images.shape[1:3]:
        share, place = torch.rand((2, len(images)), generator=generator)
        length = (share * largest * side).round()
        start = (place * (side - length)).round()
        spans.append(torch.stack([start, start + length], 1).long().tolist())
    mean = (torch.tensor(MEAN) * 255).round().to(torch.uint8)
    occluded = images.clone()
    for image, (top, bottom), (left, right) in zip(occluded, *spans, strict=True):
        image[top:bottom, left:right] = mean
    return occluded
