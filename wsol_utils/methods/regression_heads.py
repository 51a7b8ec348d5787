"""Localisation as regression: a head on the frozen features of a classifier learns boxes or key points as numbers."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from wsol_utils.methods.networks import device_of, evaluating, normalise

LAYERS = ("conv", "pool5", "fc6", "fc7")
POOLED = 6  # cells each way to which the maps are pooled for the layer "conv"


def frozen_features(network: nn.Module, images: np.ndarray, layer: str = "conv", batch_size: int = 64) -> torch.Tensor:
    """Return what a layer of a classifier makes of uint8 images (N, H, W, 3), float32 (N, D).

    The network stays as it is. "conv": the last convolutional maps, max-pooled to 6x6 cells, of any network with
    `features` (where OverFeat and VGG attach a box head). "pool5", "fc6", "fc7": what the first, second and third
    fully connected layer takes, for a network with three, as the ConvNet with head "fc" (DeepPose and R-CNN attach
    theirs to the last). Raises ValueError for an unknown layer and for one that this network does not have.

    >>> network = nn.Module()
    >>> network.features = nn.MaxPool2d(4)
    >>> frozen_features(network, np.zeros((2, 48, 48, 3), np.uint8)).shape
    torch.Size([2, 108])
    """
    return features_of_layers(network, images, (layer,), batch_size)[layer]


def features_of_layers(
    network: nn.Module, images: np.ndarray, layers: Sequence[str], batch_size: int = 64
) -> dict[str, torch.Tensor]:
    """Return `frozen_features` of several layers from one pass of the network, {layer: float32 (N, D)}.

    Raises ValueError as `frozen_features`.
    """
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    for layer in layers:
        if layer not in LAYERS:
            raise ValueError(f"Unknown layer {layer!r}; choose one of {', '.join(LAYERS)}.")
        if layer == "conv" and not hasattr(network, "features"):
            raise ValueError(
                f"{type(network).__name__} has no part `features`; take a ConvNet, AlexNet, VGG or SqueezeNet."
            )
        if layer != "conv" and len(linear) != 3:
            raise ValueError(
                f"{type(network).__name__} has {len(linear)} fully connected layers, not three, so it has no {layer}; "
                'take the layer "conv" or a ConvNet with head "fc".'
            )
    seen: dict[str, list[torch.Tensor]] = {layer: [] for layer in layers}

    def pool(maps: torch.Tensor) -> None:
        seen["conv"].append(nn.functional.adaptive_max_pool2d(maps, POOLED).flatten(1))

    handles = []
    try:
        for layer in set(layers) - {"conv"}:
            place = linear[LAYERS.index(layer) - 1]
            handles.append(place.register_forward_pre_hook(lambda _, inputs, own=seen[layer]: own.append(inputs[0])))
        if handles and "conv" in layers:
            handles.append(network.features.register_forward_hook(lambda _, inputs, maps: pool(maps)))
        with evaluating(network), torch.no_grad():
            for start in range(0, len(images), batch_size):
                pixels = normalise(images[start : start + batch_size]).to(device_of(network))
                if handles:
                    network(pixels)
                else:
                    pool(network.features(pixels))
    finally:
        for handle in handles:
            handle.remove()
    return {layer: torch.cat(parts).float().cpu() for layer, parts in seen.items()}


def regression_head(
    n_features: int, n_numbers: int = 4, n_classes: int = 1, n_units: int = 256, seed: int = 0
) -> nn.Sequential:
    """Return a head from features (B, D) to numbers (B, G, M): full, ReLU, full.

    `n_numbers` M is 4 for a box, 4K for K boxes and 2K for K key points in a fixed order. `n_classes` G is 1 for a head
    shared by all classes, C for numbers of its own for each class. OverFeat, section 4.1: 4096, 1024, 4.

    >>> regression_head(8, n_classes=10)(torch.zeros(2, 8)).shape
    torch.Size([2, 10, 4])
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = nn.Linear(n_features, n_units), nn.ReLU(), nn.Linear(n_units, n_classes * n_numbers)
        return nn.Sequential(*layers, nn.Unflatten(1, (n_classes, n_numbers)))


def train_head(
    head: nn.Sequential,
    features: torch.Tensor,
    targets: torch.Tensor,
    classes: torch.Tensor | None = None,
    *,
    n_epochs: int = 30,
    learning_rate: float = 1e-3,
    batch_size: int = 64,
    seed: int = 0,
) -> list[float]:
    """Train a regression head in place by the squared distance to its targets; return the mean loss of each epoch.

    `features` are (N, D), `targets` float (N, M): boxes or key points in parts of the image's sides. `classes` (N,)
    choose the row that learns in a head with one for each class; such a head needs an example of every class. The loss
    is sum_m (number_m - target_m)^2 (L2), the optimiser AdamW on a one-cycle schedule.
    Raises ValueError for shapes that do not fit, missing classes and a class without an example.

    >>> head = regression_head(3, 2)
    >>> losses = train_head(head, torch.eye(3), torch.tensor([[0.0, 1], [1, 0], [0.5, 0.5]]), n_epochs=100)
    >>> losses[-1] < 0.01
    True
    """
    n_classes, n_numbers = head[-1].unflattened_size
    if len(features) != len(targets) or targets.shape[1:] != (n_numbers,):
        raise ValueError(
            f"Targets of {len(features)} images for this head have shape ({len(features)}, {n_numbers}), not "
            f"{tuple(targets.shape)}."
        )
    rows = _rows(n_classes, classes, len(features))
    missing = sorted(set(range(n_classes)) - set(rows.tolist()))
    if missing:
        raise ValueError(
            f"Class {missing[0]} has no example, so its boxes cannot be learnt; add one or share the head."
        )
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(head.parameters(), lr=learning_rate, weight_decay=1e-4)
    n_steps = n_epochs * -(-len(features) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, n_steps + 1)
    losses = []
    for _ in range(n_epochs):
        total = 0.0
        for index in torch.randperm(len(features), generator=generator).split(batch_size):
            numbers = head(features[index])[torch.arange(len(index)), rows[index]]
            loss = (numbers - targets[index]).square().sum(1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += len(index) * loss.item()
        losses.append(total / len(features))
    return losses


def regress(head: nn.Sequential, features: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
    """Return the numbers (N, M) that a head gives for features (N, D).

    A head with numbers for each class gives those of each image's class. Boxes in parts of the sides times (width,
    height, width, height) are pixels. Raises ValueError for missing classes.

    >>> regress(regression_head(8), torch.zeros(2, 8)).shape
    torch.Size([2, 4])
    """
    rows = _rows(head[-1].unflattened_size[0], classes, len(features))
    with torch.no_grad():
        return head(features)[torch.arange(len(features)), rows]


def head_with_parameters(
    n_parameters: int, n_features: int, n_numbers: int = 4, n_classes: int = 1, seed: int = 0
) -> nn.Sequential:
    """Return the regression head with as many units as bring it nearest to a number of parameters.

    So a shared head and one for each class can be compared at equal size. Raises ValueError where that is below a unit.

    >>> sum(p.numel() for p in head_with_parameters(1000, 8).parameters())
    1005
    """
    n_outputs = n_numbers * n_classes
    n_units = round((n_parameters - n_outputs) / (n_features + 1 + n_outputs))
    if n_units < 1:
        raise ValueError(f"{n_parameters} parameters are too few for a head of {n_features} features; allow more.")
    return regression_head(n_features, n_numbers, n_classes, n_units, seed)


def _rows(n_classes: int, classes: torch.Tensor | None, n_images: int) -> torch.Tensor:
    """The row of numbers of each image: 0 for a shared head, else its class."""
    if n_classes == 1:
        return torch.zeros(n_images, dtype=torch.long)
    if classes is None or len(classes) != n_images:
        raise ValueError(f"This head has numbers for each of {n_classes} classes; give the class of every image.")
    rows = torch.as_tensor(classes).long()
    if ((rows < 0) | (rows >= n_classes)).any():
        raise ValueError(f"This head has classes 0 to {n_classes - 1}; found {rows.min()} to {rows.max()}.")
    return rows
