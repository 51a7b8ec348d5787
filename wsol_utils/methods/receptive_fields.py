"""What a unit can see: receptive fields, and the patches of images that excite a unit most."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import nn
from tqdm import trange

from wsol_utils.methods.activations import activations
from wsol_utils.methods.networks import MEAN, device_of, normalise

POSITIONWISE = {
    "AddBackward0", "CatBackward0", "CloneBackward0", "CudnnBatchNormBackward0", "EluBackward0", "GeluBackward0",
    "HardswishBackward0", "HardtanhBackward0", "LeakyReluBackward0", "MulBackward0", "NativeBatchNormBackward0",
    "ReluBackward0", "SelectBackward0", "SigmoidBackward0", "SiluBackward0", "SubBackward0", "TanhBackward0",
    "ToCopyBackward0", "UnsqueezeBackward0",
}  # fmt: skip


@dataclass(frozen=True)
class ReceptiveField:
    """What the units of a layer can see, in pixels, rows first: its size, the stride from one position to the next, and
    where the field of position (0, 0) starts, which is negative where it hangs over the edge.
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    start: tuple[int, int]

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Return the field of a position as a box (x0, y0, x1, y1) with exclusive ends; it may leave the image.

        >>> ReceptiveField(size=(7, 7), stride=(2, 2), start=(-3, -3)).box(0, 10)
        (17, -3, 24, 4)
        """
        y, x = self.start[0] + row * self.stride[0], self.start[1] + column * self.stride[1]
        return x, y, x + self.size[1], y + self.size[0]


@dataclass(frozen=True)
class Patches:
    """The patches that excite a unit most, strongest first: the images they are from (n,), positions (row, column) in
    the layer (n, 2), activations (n,), boxes (n, 4) in pixels, exclusive ends, and crops, uint8 (n, h, w, 3).
    """

    images: np.ndarray
    positions: np.ndarray
    activations: np.ndarray
    boxes: np.ndarray
    crops: np.ndarray


def receptive_field(network: nn.Module, layer: str, image_size: int | tuple[int, int] = 224) -> ReceptiveField:
    """Return the receptive field of a layer's units, exactly, from kernels, strides, padding and dilation.

    A layer of kernel k, stride s and padding p on one of field r, stride j and start a has the field r + (k - 1) j, the
    stride s j and the start a - p j (Araujo et al. 2019). They are read from the graph that autograd records in one
    forward pass, so branches count: the field spans theirs. It does not depend on `image_size` (a side, or height and
    width), as long as the network takes such images. Raises ValueError for a layer that is not there or that sees the
    whole image.

    >>> network = nn.Sequential(nn.Conv2d(3, 4, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3))
    >>> receptive_field(network, "3", 32)
    ReceptiveField(size=(10, 10), stride=(2, 2), start=(-2, -2))
    """
    shape = (image_size, image_size) if isinstance(image_size, int) else image_size
    dtype = next((parameter.dtype for parameter in network.parameters()), torch.float32)
    with torch.inference_mode(False), torch.enable_grad():
        pixels = torch.zeros((1, 3, *shape), dtype=dtype, device=device_of(network), requires_grad=True)
        (maps,) = activations(network, pixels, [layer])

    @cache
    def field(node: torch.autograd.graph.Node) -> np.ndarray:
        """Return first, end and stride of the field that the results of a node have, rows and columns: (3, 2)."""
        name = node.name()
        if name == "torch::autograd::AccumulateGrad":
            return np.array([[0, 0], [1, 1], [1, 1]])
        sources = np.array([field(source) for source, _ in node.next_functions if source is not None])
        starts, ends, strides = sources.swapaxes(0, 1)
        along_channels = getattr(node, "_saved_dim", 1) == 1  # selection, unsqueezing and concatenation only
        kept = name in WINDOWS or (name in POSITIONWISE and along_channels)
        if not kept or (strides != strides[0]).any():
            raise ValueError(
                f"Layer {layer!r} has no receptive field smaller than the image, because of {name}; choose a layer "
                "made of convolutions and pooling only."
            )
        kernel, stride, before = WINDOWS[name](node) if name in WINDOWS else np.array([[1, 1], [1, 1], [0, 0]])
        start = starts.min(0) - before * strides[0]
        end = ends.max(0) + (kernel - 1 - before) * strides[0]
        return np.array([start, end, stride * strides[0]])

    start, end, stride = field(maps.grad_fn)
    return ReceptiveField(*(tuple(pair.tolist()) for pair in (end - start, stride, start)))


def _convolution(node: torch.autograd.graph.Node) -> np.ndarray:
    if node._saved_transposed:
        raise ValueError("A transposed convolution has no receptive field of one size; choose a layer below it.")
    extent = (np.array(node._saved_weight.shape[2:]) - 1) * node._saved_dilation + 1
    return np.array([extent, node._saved_stride, node._saved_padding])


def _pooling(node: torch.autograd.graph.Node) -> np.ndarray:
    kernel = np.array(node._saved_kernel_size)
    extent = (kernel - 1) * getattr(node, "_saved_dilation", (1, 1)) + 1
    return np.array([extent, node._saved_stride or kernel, node._saved_padding])


def _padding(node: torch.autograd.graph.Node) -> np.ndarray:
    left, _, top, _ = node._saved_pad
    return np.array([[1, 1], [1, 1], [top, left]])


WINDOWS = {
    "ConvolutionBackward0": _convolution,
    "MaxPool2DWithIndicesBackward0": _pooling,
    "AvgPool2DBackward0": _pooling,
    "ConstantPadNdBackward0": _padding,
}


def max_activating_patches(
    network: nn.Module,
    layer: str,
    units: Sequence[int],
    images: np.ndarray,
    n_patches: int = 9,
    whole: bool = True,
    batch_size: int = 64,
    progress: bool = True,
) -> list[Patches]:
    """Return, for each unit of a layer, the receptive fields in which it is most active, at most one per image.

    Girshick et al. 2014, section 3.1; CS231n notes. `images` is uint8 (N, H, W, 3), `layer` a name of
    `named_modules()`. Only fields that lie wholly in the image compete; with `whole=False` all do, and what of a crop
    is outside the image has the mean colour. Raises ValueError for images smaller than the field, for units and names
    that are not there, and as `receptive_field`.

    >>> network = nn.Sequential(nn.Conv2d(3, 4, 5))
    >>> images = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), np.uint8)
    >>> patches = max_activating_patches(network, "0", [0, 3], images, n_patches=2, progress=False)
    >>> [of_unit.crops.shape for of_unit in patches]
    [(2, 5, 5, 3), (2, 5, 5, 3)]
    """
    height, width = images.shape[1:3]
    field = receptive_field(network, layer, (height, width))
    values, places = [], []
    for first in trange(0, len(images), batch_size, desc="patches", disable=not progress):
        with torch.no_grad():
            (maps,) = activations(
                network, normalise(images[first : first + batch_size]).to(device_of(network)), [layer]
            )
        if outside := [unit for unit in units if not 0 <= unit < maps.shape[1]]:
            raise ValueError(f"Layer {layer!r} has units 0 to {maps.shape[1] - 1}, not {outside}.")
        inside = [
            _inside(n_places, *parts)
            for n_places, *parts in zip(
                maps.shape[2:], field.size, field.stride, field.start, (height, width), strict=True
            )
        ]
        allowed = torch.tensor(inside[0][:, None] & inside[1]) | (not whole)
        if not allowed.any():
            raise ValueError(
                f"No receptive field of layer {layer!r}, {field.size[0]}x{field.size[1]} pixels, lies wholly in an "
                f"image of {height}x{width}; take larger images, a lower layer or whole=False."
            )
        chosen = maps[:, list(units)].float().cpu().masked_fill(~allowed, -torch.inf)
        best = chosen.flatten(2).max(2)
        values.append(best.values)
        places.append(torch.stack([best.indices // maps.shape[3], best.indices % maps.shape[3]], 2))
    values, places = torch.cat(values).numpy(), torch.cat(places).numpy()
    found = []
    for number in range(len(units)):
        order = (-values[:, number]).argsort(kind="stable")[:n_patches]
        positions = places[order, number]
        boxes = np.array([field.box(*position) for position in positions.tolist()])
        found.append(Patches(order, positions, values[order, number], boxes, _crops(images, order, boxes)))
    return found


def random_patches(images: np.ndarray, size: tuple[int, int], n_patches: int = 9, seed: int = 0) -> np.ndarray:
    """Return patches of random images at random places, uint8 (n, h, w, 3): the control of those a unit chooses.

    Raises ValueError if the patches are larger than the images.

    >>> random_patches(np.zeros((2, 16, 16, 3), np.uint8), (5, 4)).shape
    (9, 5, 4, 3)
    """
    rng = np.random.default_rng(seed)
    (height, width), sides = size, images.shape[1:3]
    if height > sides[0] or width > sides[1]:
        raise ValueError(f"Patches of {height}x{width} do not fit into images of {sides[0]}x{sides[1]}.")
    chosen = rng.integers(0, len(images), n_patches)
    tops, lefts = (rng.integers(0, side - length + 1, n_patches) for side, length in zip(sides, size, strict=True))
    return _crops(images, chosen, np.stack([lefts, tops, lefts + width, tops + height], 1))


def _inside(n_places: int, size: int, stride: int, start: int, side: int) -> np.ndarray:
    """Tell for each position along an axis whether its field lies between 0 and the image's side."""
    starts = start + stride * np.arange(n_places)
    return (starts >= 0) & (starts + size <= side)


def _crops(images: np.ndarray, chosen: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Cut boxes, which may leave the image, out of the chosen images; what is outside gets the mean colour."""
    height, width = images.shape[1:3]
    crops = []
    for index, (x0, y0, x1, y1) in zip(chosen, boxes, strict=True):
        crop = np.empty((y1 - y0, x1 - x0, 3), np.uint8)
        crop[:] = np.round(np.multiply(MEAN, 255))
        top, left, bottom, right = max(y0, 0), max(x0, 0), min(y1, height), min(x1, width)
        crop[top - y0 : bottom - y0, left - x0 : right - x0] = images[index, top:bottom, left:right]
        crops.append(crop)
    return np.stack(crops)
