"""Class saliency: the magnitude of the gradient of a class score with respect to the image."""

import numpy as np
import torch
from torch import nn

from wsol_utils.methods.networks import check_pixels, class_indices, evaluating, normalise, predict


def saliency_map(
    network: nn.Module, pixels: torch.Tensor, classes: int | np.ndarray | torch.Tensor, batch_size: int = 64
) -> np.ndarray:
    """Return max over colours of |dS_c/dI|, (B, H, W), by one backward pass (Deep Inside ConvNets, section 3).

    `pixels` is float (B, 3, H, W), `classes` one index or one per image; the map has the type of the pixels, float32
    as a rule. The network runs in evaluation mode, so images of a batch do not mix; nothing of it is changed. At most
    `batch_size` images are in memory at a time. Raises ValueError for other pixels and for classes out of range.

    >>> linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    >>> saliency_map(linear, torch.zeros(1, 3, 2, 2), 1).shape
    (1, 2, 2)
    """
    maps = []
    with torch.inference_mode(False), torch.enable_grad(), evaluating(network):
        pixels = check_pixels(network, pixels)
        for number, part in enumerate(pixels.split(batch_size)):
            inputs = part.detach().clone().requires_grad_()
            logits = network(inputs)
            indices = class_indices(classes, len(pixels), logits.shape[1]).split(batch_size)[number].to(logits.device)
            (gradient,) = torch.autograd.grad(logits.gather(1, indices[:, None]).sum(), inputs)
            maps.append(gradient.abs().amax(1).cpu())
    return torch.cat(maps).numpy()


def ten_crops(images: np.ndarray, crop_size: int | None = None) -> list[tuple[int, int, bool]]:
    """Return top, left and whether flipped of the four corner crops, the centre crop and their mirror images.

    `crop_size` is 7/8 of the shorter side unless given (AlexNet's 224 of 256). Raises ValueError if the crops do not
    fit into the image or leave parts of it uncovered.

    >>> ten_crops(np.zeros((1, 8, 8, 3)), 6)[:5]
    [(0, 0, False), (0, 2, False), (2, 0, False), (2, 2, False), (1, 1, False)]
    """
    height, width = images.shape[1:3]
    size = _crop_size(images, crop_size)
    if size > min(height, width) or 2 * size < max(height, width):
        raise ValueError(
            f"Ten crops of {size} pixels do not cover an image of {height}x{width}; "
            f"crop_size must be from {-(-max(height, width) // 2)} to {min(height, width)}."
        )
    bottom, right = height - size, width - size
    places = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    return [(top, left, flipped) for flipped in (False, True) for top, left in places]


def ten_crop_logits(network: nn.Module, images: np.ndarray, crop_size: int | None = None) -> np.ndarray:
    """Return the mean logits over ten crops, float32 (B, C), of uint8 images (B, H, W, 3) (same paper, section 4)."""
    size = _crop_size(images, crop_size)
    crops = [_crop(images, crop, size) for crop in ten_crops(images, crop_size)]
    return np.mean([predict(network, crop) for crop in crops], axis=0)


def ten_crop_saliency(
    network: nn.Module,
    images: np.ndarray,
    classes: int | np.ndarray | None = None,
    crop_size: int | None = None,
) -> np.ndarray:
    """Return saliency averaged over ten crops, (B, H, W), each map put back in its place (same paper, section 3).

    `images` is uint8 (B, H, W, 3). Without `classes`, each image's class is the best of its mean logits. A pixel's
    value is the mean over the crops that hold it. Raises ValueError as `saliency_map` and `ten_crops` do.
    """
    size = _crop_size(images, crop_size)
    crops = ten_crops(images, crop_size)
    if classes is None:
        classes = ten_crop_logits(network, images, crop_size).argmax(1)
    total = np.zeros(images.shape[:3], np.float32)
    n_maps = np.zeros(images.shape[1:3], np.float32)
    for top, left, flipped in crops:
        saliency = saliency_map(network, normalise(_crop(images, (top, left, flipped), size)), classes)
        total[:, top : top + size, left : left + size] += saliency[:, :, ::-1] if flipped else saliency
        n_maps[top : top + size, left : left + size] += 1
    return total / n_maps


def _crop_size(images: np.ndarray, crop_size: int | None) -> int:
    return min(images.shape[1:3]) * 7 // 8 if crop_size is None else crop_size


def _crop(images: np.ndarray, crop: tuple[int, int, bool], size: int) -> np.ndarray:
    top, left, flipped = crop
    cut = images[:, top : top + size, left : left + size]
    return np.ascontiguousarray(cut[:, :, ::-1] if flipped else cut)
