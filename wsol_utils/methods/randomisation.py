"""Sanity checks of maps: do they change when the weights do, and can gradients change when predictions do not?"""

import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy

import numpy as np
import torch
from scipy.stats import ConstantInputWarning, pearsonr, spearmanr
from skimage.color import rgb2gray
from skimage.feature import hog
from skimage.filters import sobel
from skimage.metrics import structural_similarity
from torch import nn

from wsol_utils.methods.networks import untrained

HOG_CELLS = 8  # along a side of the map


def randomised_cascade(network: nn.Module, seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """Yield, from the top layer with weights down, its name and a copy of the network, random from there up.

    Adebayo et al. 2018 (cascading randomisation). The order is that of `named_modules()`; normalisation
    layers go with the layer of weights before them. The random weights are those of `untrained(network, seed)`, which
    the last copy equals. The network itself is left as it was. Raises ValueError for a network without weights.

    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    >>> [name for name, _ in randomised_cascade(network)]
    ['3', '0']
    """
    mixed, random = deepcopy(network), dict(untrained(network, seed).named_modules())
    modules = [(name, module) for name, module in mixed.named_modules() if hasattr(module, "reset_parameters")]
    weighted = [
        name for name, module in modules if getattr(module, "weight", None) is not None and module.weight.ndim > 1
    ]
    if not weighted:
        raise ValueError(f"{type(network).__name__} has no layer of weights that could be drawn anew.")
    for name, module in reversed(modules):
        module.load_state_dict(random[name].state_dict())
        if name == weighted[0]:
            mixed.load_state_dict(random[""].state_dict())
        if name in weighted:
            yield name, deepcopy(mixed)


def map_similarity(maps: np.ndarray, others: np.ndarray) -> dict[str, np.ndarray]:
    """Compare maps (B, H, W) pair by pair as Adebayo et al. 2018 do; each value is float64 (B,).

    - "spearman": rank correlation of the signed values;
    - "spearman_absolute": rank correlation of the absolute values;
    - "ssim": structural similarity of the absolute values, each map scaled to 0 .. 1;
    - "hog": correlation of the histograms of oriented gradients of the same, 8 cells along each side.
    All are 1 for equal maps. Absolute values of any two maps of one image agree to some degree, because both follow its
    edges: show controls beside them. A constant map gives NaN in the correlations. Raises ValueError for maps of
    different shapes or below 24 pixels a side.

    >>> maps = np.random.default_rng(0).normal(size=(2, 32, 32))
    >>> {name: values.round(6).tolist() for name, values in map_similarity(maps, -maps).items()}
    {'spearman': [-1.0, -1.0], 'spearman_absolute': [1.0, 1.0], 'ssim': [1.0, 1.0], 'hog': [1.0, 1.0]}
    """
    maps, others = np.asarray(maps, np.float64), np.asarray(others, np.float64)
    if maps.shape != others.shape or maps.ndim != 3 or min(maps.shape[1:]) < 24:
        raise ValueError(
            f"Maps to compare have one shape (B, H, W), 24 pixels a side or more, not {maps.shape} and {others.shape}."
        )
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        for pair in zip(maps, others, strict=True):
            scaled = [_scale(np.abs(each)) for each in pair]
            cell = tuple(side // HOG_CELLS for side in maps.shape[1:])
            histograms = [hog(each, pixels_per_cell=cell) for each in scaled]
            absolute = spearmanr(*(each.ravel() for each in scaled)).statistic
            signed = min(pair[0].min(), pair[1].min()) < 0  # else both have the same ranks
            rows.append(
                {
                    "spearman": spearmanr(*(each.ravel() for each in pair)).statistic if signed else absolute,
                    "spearman_absolute": absolute,
                    "ssim": structural_similarity(*scaled, data_range=1),
                    "hog": pearsonr(*histograms).statistic,
                }
            )
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def edge_maps(images: np.ndarray) -> np.ndarray:
    """Return the Sobel magnitude of the brightness of uint8 images (B, H, W, 3), float32 (B, H, W): the control that
    knows no network (Adebayo et al. 2018).

    >>> edge_maps(np.zeros((1, 4, 5, 3), np.uint8)).shape
    (1, 4, 5)
    """
    return np.stack([sobel(rgb2gray(image)) for image in images]).astype(np.float32)


def shuffled_maps(maps: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return maps (B, H, W) with the pixels of each in random order: the control that keeps only its values.

    >>> shuffled_maps(np.arange(4).reshape(1, 2, 2)).sum()
    np.int64(6)
    """
    flat = maps.reshape(len(maps), -1)
    return np.random.default_rng(seed).permuted(flat, axis=1).reshape(maps.shape)


def roughness(maps: np.ndarray) -> np.ndarray:
    """Return the mean change of maps (B, H, W) from pixel to pixel, right and down, over their mean size, (B,).

    The total variation of a map without its scale; 0 for a constant map.

    >>> roughness(np.array([[[1.0, 1.0], [1.0, 1.0]], [[0.0, 2.0], [2.0, 0.0]]])).tolist()
    [0.0, 4.0]
    """
    changes = sum(np.abs(np.diff(maps, axis=axis)).mean((1, 2)) for axis in (1, 2))
    return changes / np.maximum(np.abs(maps).mean((1, 2)), np.finfo(np.float32).tiny)


class ShiftedLogits(nn.Module):
    """A classifier with one function g of the image added to all its logits (Srinivas and Fleuret 2021, section 2).

    Predictions, P_c and the gradients of log P_c stay; the gradient of every S_c gets that of g added. `offset` takes
    pixels (B, 3, H, W) and returns (B,): for a pattern p of the shape of an image, `lambda pixels: (pixels * p).sum((1,
    2, 3))` adds p itself to all gradients.

    >>> shifted = ShiftedLogits(nn.Flatten(), lambda pixels: pixels.sum((1, 2, 3)))
    >>> shifted(torch.ones(1, 3, 1, 1)).tolist()
    [[4.0, 4.0, 4.0]]
    """

    def __init__(self, network: nn.Module, offset: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.network, self.offset = network, offset

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.network(pixels) + self.offset(pixels)[:, None]


def _scale(values: np.ndarray) -> np.ndarray:
    """Scale values to 0 .. 1; a constant map becomes 0."""
    return (values - values.min()) / (np.ptp(values) or 1)
