"""What the layers of a network hold: layers by name, and their activations by no more of a forward pass than needed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches

import torch
from torch import nn

from wsol_utils.methods.networks import check_pixels, evaluating

TOO_SMALL = ("too small", "greater than actual input size")  # what torch says of a map that has shrunk to nothing


class _EnoughError(Exception):
    """Ends a forward pass whose higher layers nobody asked for."""


def layer_named(network: nn.Module, name: str) -> nn.Module:
    """Return the layer of that name, as `network.named_modules()` lists it; ValueError names the nearest otherwise.

    >>> layer_named(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), "1")
    ReLU()
    """
    layers = dict(network.named_modules(remove_duplicate=False))
    if not name or name not in layers:
        nearest = ", ".join(get_close_matches(name, filter(None, layers), 5, 0))
        raise ValueError(f"{type(network).__name__} has no layer {name!r}; choose one of named_modules(): {nearest}.")
    return layers[name]


def stages(network: nn.Module) -> list[str]:
    """Return the names of a network's stages from the image up: its ReLUs and blocks, not what is within blocks.

    Stages are sought among the children of `network.features` where there is such a part, else among its own.

    >>> stages(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU())))
    ['1', '2']
    """
    prefix, part = ("features.", network.features) if hasattr(network, "features") else ("", network)
    parts = [(prefix + name, child) for name, child in part.named_children()]
    return [name for name, child in parts if isinstance(child, nn.ReLU) or any(child.children())]


@contextmanager
def taken(pixels: torch.Tensor) -> Iterator[None]:
    """Say of pixels that a network cannot take why, by ValueError: an empty batch, or images that are too small.

    >>> with taken(torch.zeros(1, 3, 2, 2)):
    ...     nn.MaxPool2d(3)(torch.zeros(1, 3, 2, 2))
    Traceback (most recent call last):
    ValueError: Images of 2x2 pixels are too small for this network: its layers shrink them to nothing; enlarge them.
    """
    if len(pixels) == 0:
        raise ValueError("There is nothing to look at: the batch of pixels is empty.")
    try:
        yield
    except RuntimeError as error:
        if not any(words in str(error) for words in TOO_SMALL):
            raise
        size = "x".join(str(side) for side in pixels.shape[2:])
        message = f"Images of {size} pixels are too small for this network: its layers shrink them to nothing"
        raise ValueError(f"{message}; enlarge them.") from error


def activations(network: nn.Module, pixels: torch.Tensor, layers: Sequence[str]) -> list[torch.Tensor]:
    """Return the activations of the layers named, one tensor for each, (B, K, h, w) or (B, K), in evaluation mode.

    Gradients flow to `pixels` if these ask for them, never to the parameters. The pass ends with the last layer needed;
    of a layer that runs several times, the first run counts. Later in-place layers change nothing of what is returned.
    Raises ValueError for other pixels, none or too small ones, a name that is not there and a layer that does not run.

    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten())
    >>> [tuple(maps.shape) for maps in activations(network, torch.zeros(1, 3, 8, 8), ["0", "1"])]
    [(1, 4, 6, 6), (1, 4, 6, 6)]
    """
    modules = {name: layer_named(network, name) for name in layers}
    found = {}

    def keep(name: str):
        def hook(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            found.setdefault(name, output.clone())
            if len(found) == len(modules):
                raise _EnoughError

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    try:
        pixels = check_pixels(network, pixels)
        with evaluating(network), taken(pixels), suppress(_EnoughError):
            network(pixels)
    finally:
        for handle in handles:
            handle.remove()
    if missing := [name for name in modules if name not in found]:
        raise ValueError(f"Layer {missing[0]!r} does not run in evaluation mode; choose another.")
    return [found[name] for name in layers]
