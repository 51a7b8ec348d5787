"""Where the parts of a classifier are: its input, last feature maps, class weights and scores."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy

import numpy as np
import torch
from torch import nn

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
SERVING_NETWORKS = (
    "ConvNet with head gap, gmp or max, SqueezeNet, ResNet, GoogLeNet, DenseNet, MobileNetV2 or EfficientNet"
)
SQUEEZENET_KINDS = [nn.Conv2d, nn.ReLU, nn.AdaptiveAvgPool2d]


def normalise(images: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Subtract the ImageNet mean and divide by the ImageNet deviation, for every network of the companion.

    `images` is uint8 (B, H, W, 3), RGB; the result float32 (B, 3, H, W), about -2.1 to 2.6, in memory still channel by
    channel within each pixel (`torch.channels_last`), which convolutions on a processor do nearly twice as fast.
    Raises ValueError for another type or shape.

    >>> normalise(np.zeros((1, 2, 2, 3), np.uint8))[0, :, 0, 0].round(decimals=2).tolist()
    [-2.119999885559082, -2.0399999618530273, -1.7999999523162842]
    """
    images = torch.as_tensor(images)
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(
            f"images must be uint8 of shape (B, H, W, 3), not {images.dtype} of shape {tuple(images.shape)}; "
            "write image[None] for a single image."
        )
    mean, deviation = images.new_tensor([MEAN, DEVIATION], dtype=torch.float32)
    return ((images / 255 - mean) / deviation).permute(0, 3, 1, 2)


def denormalise(pixels: torch.Tensor) -> np.ndarray:
    """Turn pixels back into images, uint8 (B, H, W, 3); values outside the range of an image are cut off.

    >>> denormalise(normalise(np.full((1, 2, 2, 3), 200, np.uint8))).max()
    np.uint8(200)
    """
    mean, deviation = torch.tensor([MEAN, DEVIATION], dtype=torch.float32)
    images = pixels.detach().float().cpu().permute(0, 2, 3, 1) * deviation + mean
    return (images * 255).round().clamp(0, 255).to(torch.uint8).contiguous().numpy()


def pixel_range(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return black and white as pixels, each (3, 1, 1) in the type of `pixels`: what lies between them is an image.

    >>> black, white = pixel_range(torch.zeros(1))
    >>> denormalise(torch.stack([black, white]).expand(2, 3, 1, 1)).flatten().tolist()
    [0, 0, 0, 255, 255, 255]
    """
    mean, deviation = pixels.new_tensor([MEAN, DEVIATION])[:, :, None, None]
    return -mean / deviation, (1 - mean) / deviation


def pick_device(name: str = "auto") -> torch.device:
    """Choose the device: CUDA, then Apple's MPS, then the CPU, or the one named.

    Raises ValueError for an unknown name, RuntimeError if this machine lacks the device named.

    >>> pick_device("cpu")
    device(type='cpu')
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, there in available.items() if there))
    if name not in available:
        raise ValueError(f"Unknown device {name!r}; choose auto, cuda, mps or cpu.")
    if not available[name]:
        raise RuntimeError(f"This machine offers no {name} device to torch; use device auto or cpu.")
    return torch.device(name)


def device_of(network: nn.Module) -> torch.device:
    """Return the device of the network's parameters (the CPU if it has none)."""
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """Put the network into evaluation mode with frozen parameters; restore both afterwards, also after an error.

    >>> network = nn.Dropout().train()
    >>> with evaluating(network):
    ...     network.training
    False
    >>> network.training
    True
    """
    modes = [(module, module.training) for module in network.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    try:
        network.eval().requires_grad_(False)
        yield network
    finally:
        for module, training in modes:
            module.training = training
        for parameter, requires_grad in flags:
            parameter.requires_grad_(requires_grad)


class GroupedClasses(nn.Module):
    """A classifier whose classes are groups of another's: a group scores the log of the sum of its members' exp.

    So a group's share of the soft-max is the sum of its members'. Its class map is the mean of theirs, each weighted by
    its share of the group, which is also what Grad-CAM makes of the group's score.

    >>> pairs = GroupedClasses(nn.Flatten(), [[0, 1], [2]])
    >>> pairs(torch.tensor([[0.0, 0.0, 1.0]])).round(decimals=2).tolist()  # log 2
    [[0.6899999976158142, 1.0]]
    """

    def __init__(self, network: nn.Module, groups: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.network, self.groups = network, groups

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits = self.network(pixels)
        return torch.stack([logits[:, group].logsumexp(1) for group in self.groups], dim=1)

    def class_maps(self, pixels: torch.Tensor) -> torch.Tensor:
        """Class maps of the groups at the resolution of the features, bias left out, (B, G, h, w).

        Raises ValueError for a network without global pooling.
        """
        with torch.no_grad():
            logits, features = self.network(pixels), feature_maps(self.network, pixels)
            weights, _ = class_weights(self.network)
            grouped = [
                torch.einsum("bm,mk,bkhw->bhw", logits[:, group].softmax(1), weights[group], features)
                for group in self.groups
            ]
            return torch.stack(grouped, dim=1)


def untrained(network: nn.Module, seed: int = 0) -> nn.Module:
    """Return a copy of the network whose weights are drawn anew, so that it has learnt nothing.

    The control of Adebayo et al. 2018: a map that looks the same without training does not show what was learnt.
    Layers begin as PyTorch has them begin, so signals fade from layer to layer: compare forms of maps, not their sizes.

    >>> layer = nn.Linear(2, 2)
    >>> torch.equal(untrained(layer).weight, layer.weight)
    False
    """
    twin = deepcopy(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in twin.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    return twin


@contextmanager
def unrectified(network: nn.Module) -> Iterator[nn.Module]:
    """Take away SqueezeNet's ReLU after its class maps for a while; other networks stay as they are.

    It clips scores at zero, where they have no gradient: a class that an image does not excite at all, as the zero
    image does most, could never be ascended.
    """
    classifier = getattr(network, "classifier", None)
    rectifies = isinstance(classifier, nn.Sequential) and _kinds(classifier) == SQUEEZENET_KINDS
    relu = classifier[-2] if rectifies else None
    try:
        if rectifies:
            classifier[-2] = nn.Identity()
        yield network
    finally:
        if rectifies:
            classifier[-2] = relu


def check_pixels(network: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Return pixels on the network's device; ValueError unless they are floats of shape (B, 3, H, W)."""
    if not torch.is_tensor(pixels) or not pixels.is_floating_point() or pixels.ndim != 4 or pixels.shape[1] != 3:
        kind = f"{getattr(pixels, 'dtype', type(pixels).__name__)} of shape {tuple(getattr(pixels, 'shape', ()))}"
        raise ValueError(f"pixels must be a float tensor (B, 3, H, W) as normalise(images) makes it, not {kind}.")
    return pixels.to(device_of(network))


def class_indices(classes: int | np.ndarray | torch.Tensor, n_images: int, n_classes: int) -> torch.Tensor:
    """Return one class index per image, int64 (B,), from one index for all or one for each.

    Raises ValueError for an index outside 0 .. n_classes - 1 and for a wrong number of indices.

    >>> class_indices(7, 3, 10)
    tensor([7, 7, 7])
    """
    indices = torch.as_tensor(classes, device="cpu")
    if indices.is_floating_point() or indices.dtype == torch.bool:
        raise ValueError(f"Class indices must be whole numbers from 0 to {n_classes - 1}, not {indices.dtype}.")
    if indices.ndim > 1 or (indices.ndim == 1 and len(indices) != n_images):
        raise ValueError(f"Give one class index or one for each of the {n_images} images, not {tuple(indices.shape)}.")
    if ((indices < 0) | (indices >= n_classes)).any():
        raise ValueError(f"Class {indices.tolist()} is out of range: this network has classes 0 to {n_classes - 1}.")
    return indices.long().expand(n_images)


def predict(network: nn.Module, images: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """Return the logits, float32 (N, C), of uint8 images (N, H, W, 3), in evaluation mode and without gradients.

    >>> predict(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), np.zeros((5, 8, 8, 3), np.uint8)).shape
    (5, 3)
    """
    device = device_of(network)
    with evaluating(network), torch.no_grad():
        starts = range(0, len(images), batch_size)
        logits = [network(normalise(images[start : start + batch_size]).to(device)) for start in starts]
    return torch.cat(logits).float().cpu().numpy()


def feature_maps(network: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Return the last convolutional maps f_k, float (B, K, h, w), those that are pooled globally.

    CAM paper, section 2. Gradients flow to `pixels` if these ask for them, never to the parameters.
    Raises ValueError for a network without global pooling, naming the networks that can serve.
    """
    pixels = check_pixels(network, pixels)
    _linear_layer(network)
    with evaluating(network):
        if hasattr(network, "feature_maps"):
            return network.feature_maps(pixels)
        if hasattr(network, "features"):
            maps = network.features(pixels)
            return maps.relu() if isinstance(network.classifier, nn.Linear) else maps  # DenseNet rectifies in forward
        seen = []
        handle = network.avgpool.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            network(pixels)
        finally:
            handle.remove()
        return seen[0]


def class_weights(network: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weights w_k^c (C, K) and biases (C,) that turn pooled feature maps into class scores.

    CAM paper, section 2. Raises ValueError for a network without global pooling, naming those that can serve.
    """
    layer = _linear_layer(network)
    weights = layer.weight.detach().flatten(1)
    return weights, weights.new_zeros(len(weights)) if layer.bias is None else layer.bias.detach()


def _linear_layer(network: nn.Module) -> nn.Linear | nn.Conv2d:
    """Find the one linear map (or 1x1 convolution) between globally pooled features and class scores."""
    if hasattr(network, "class_layer"):
        return network.class_layer
    classifier = getattr(network, "classifier", None)
    pooling = getattr(network, "avgpool", None)
    pools_globally = isinstance(pooling, nn.AdaptiveAvgPool2d) and pooling.output_size in (1, (1, 1))
    if hasattr(network, "features") and (pooling is None or pools_globally):
        layers = classifier if isinstance(classifier, nn.Sequential) else nn.Sequential(classifier)
        if _kinds(layers) in ([nn.Linear], SQUEEZENET_KINDS):
            return next(layer for layer in layers if isinstance(layer, nn.Linear | nn.Conv2d))
    elif pools_globally and isinstance(getattr(network, "fc", None), nn.Linear):
        return network.fc
    raise ValueError(
        f"{type(network).__name__} has no layer of global pooling followed by one linear layer, so no class activation "
        f"maps can be had; use {SERVING_NETWORKS}."
    )


def _kinds(layers: nn.Sequential) -> list[type]:
    return [type(layer) for layer in layers if not isinstance(layer, nn.Dropout)]
