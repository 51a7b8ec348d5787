"""The eight-layer ConvNet of the talk, with four ways to pool over space, alone or several on one trunk."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

HEADS = ("fc", "gap", "gmp", "max")
MIN_IMAGE_SIZE = 17  # leaves a map of 3x3 for the last max-pooling


class GlobalMax(nn.Module):
    """Maximum over all positions, (B, K, h, w) to (B, K, 1, 1), by `amax`: deterministic on every device.

    >>> GlobalMax()(torch.arange(8.0).reshape(1, 2, 2, 2)).flatten().tolist()
    [3.0, 7.0]
    """

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.amax((2, 3), keepdim=True)


class ConvNet(nn.Module):
    """conv64 - conv256 x 4 - full4096 x 2 - full1000 (Simonyan et al. 2013, section 1), every width times `width`
    (the fully connected layers' times `fc_width`, if it is given).

    Takes pixels (B, 3, H, W) and returns logits (B, C). Heads:
    - "fc": max-pooling and the three fully connected layers; the image size is fixed.
    - "gap", "gmp" (CAM paper, section 3): a 3x3 convolution to 1024 units, global average or maximum, one linear layer.
    - "max" (Oquab et al. 2015, section 3): the same convolution, 1x1 class maps, then their global maximum.

    The paper gives the widths only. Our choices: kernels 7 (stride 2), 5, 3, 3, 3; 3x3 max-pooling with stride 2 after
    conv1, conv2 and before the fully connected layers; batch normalisation before every ReLU, also between the fully
    connected layers, which learn nothing in a short training without it; dropout 0.1 instead of AlexNet's 0.5;
    He initialisation. Maps are 12x12 for images of 96 pixels.

    Raises ValueError for an unknown head and for images below 17 pixels.

    >>> ConvNet(10, image_size=32, width=0.125, head="gap")(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    stride = 8  # pixels between neighbouring cells of the last feature map

    def __init__(
        self,
        n_classes: int,
        image_size: int = 96,
        width: float = 0.25,
        head: str = "fc",
        seed: int = 0,
        fc_width: float | None = None,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if head not in HEADS:
            raise ValueError(f"Unknown head {head!r}; choose one of {', '.join(HEADS)}.")
        _check_size(image_size)
        self.n_classes, self.image_size, self.width, self.head_name = n_classes, image_size, width, head
        narrow, wide, mid = (max(1, round(units * width)) for units in (64, 256, 1024))
        full = max(1, round(4096 * (fc_width or width)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.features = nn.Sequential(
                *_block(nn.Conv2d(3, narrow, 7, stride=2, padding=3, bias=False)),
                nn.MaxPool2d(3, 2, 1),
                *_block(nn.Conv2d(narrow, wide, 5, padding=2, bias=False)),
                nn.MaxPool2d(3, 2, 1),
                *(layer for _ in range(3) for layer in _block(nn.Conv2d(wide, wide, 3, padding=1, bias=False))),
            )
            if head == "fc":
                side = (map_size(image_size) - 3) // 2 + 1
                self.head = nn.Sequential(
                    nn.MaxPool2d(3, 2),
                    nn.Flatten(),
                    *_block(nn.Linear(wide * side * side, full, bias=False)),
                    nn.Dropout(dropout),
                    *_block(nn.Linear(full, full, bias=False)),
                    nn.Dropout(dropout),
                    nn.Linear(full, n_classes),
                )
            else:
                convolution, norm, relu = _block(nn.Conv2d(wide, mid, 3, padding=1, bias=False))
                layers = OrderedDict(convolution=convolution, norm=norm, relu=relu)
                if head == "max":
                    layers |= OrderedDict(classes=nn.Conv2d(mid, n_classes, 1), pool=GlobalMax(), flatten=nn.Flatten())
                else:
                    pool = GlobalMax() if head == "gmp" else nn.AdaptiveAvgPool2d(1)
                    layers |= OrderedDict(pool=pool, flatten=nn.Flatten(), classes=nn.Linear(mid, n_classes))
                self.head = nn.Sequential(layers)
            self.apply(_initialise)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        _check_size(min(pixels.shape[-2:]))
        if self.head_name == "fc" and tuple(pixels.shape[-2:]) != (self.image_size, self.image_size):
            height, width = pixels.shape[-2:]
            raise ValueError(
                f"This network has fully connected layers for images of {self.image_size}x{self.image_size}, not "
                f"{height}x{width}; resize the images or run it by max_pooling.to_convolutional."
            )
        return self.head(self.features(pixels))

    @property
    def class_layer(self) -> nn.Linear | nn.Conv2d:
        """The layer whose weights are w_k^c; ValueError for the head "fc"."""
        self._need_maps()
        return self.head.classes

    def feature_maps(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the last maps f_k, (B, K, h, w), before pooling; ValueError for the head "fc"."""
        self._need_maps()
        _check_size(min(pixels.shape[-2:]))
        return self.head[:3](self.features(pixels))

    def class_maps(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the scores at every position, bias included, (B, C, h, w).

        Their mean is the logit for "gap", their maximum the logit for "max". ValueError for the head "fc".
        """
        weight = self.class_layer.weight.flatten(1)[:, :, None, None]
        return nn.functional.conv2d(self.feature_maps(pixels), weight, self.class_layer.bias)

    def _need_maps(self) -> None:
        if self.head_name == "fc":
            raise ValueError(
                'A ConvNet with head "fc" has no class maps; build it with head gap, gmp or max, or turn it into '
                "convolutions by max_pooling.to_convolutional."
            )


class SharedTrunk(nn.Module):
    """ConvNets on one trunk, the features of the first: pixels (B, 3, H, W) to logits (B, C, k), one for each of k.

    Trained together they differ in what their heads make of the same features, and cost little more than one.

    >>> networks = [ConvNet(10, image_size=32, width=0.125, head=head) for head in ("fc", "gap")]
    >>> SharedTrunk(networks)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10, 2])
    """

    def __init__(self, networks: Sequence[ConvNet]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        for network in networks[1:]:
            network.features = networks[0].features

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        features = self.networks[0].features(pixels)
        return torch.stack([network.head(features) for network in self.networks], dim=2)


def map_size(image_size: int) -> int:
    """Return the side of the last feature map for an image side: three halvings, each rounded up.

    >>> map_size(96), map_size(224)
    (12, 28)
    """
    for _ in range(3):
        image_size = (image_size + 1) // 2
    return image_size


def _check_size(size: int) -> None:
    if size < MIN_IMAGE_SIZE:
        raise ValueError(f"A ConvNet needs images of at least {MIN_IMAGE_SIZE} pixels a side, not {size}.")


def _block(layer: nn.Conv2d | nn.Linear) -> tuple[nn.Module, nn.Module, nn.Module]:
    """A layer, its batch normalisation and a ReLU of its own, not in place."""
    norm = nn.BatchNorm2d(layer.out_channels) if isinstance(layer, nn.Conv2d) else nn.BatchNorm1d(layer.out_features)
    return layer, norm, nn.ReLU()


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        if module.bias is None:
            nn.init.kaiming_normal_(module.weight, mode="fan_out" if isinstance(module, nn.Conv2d) else "fan_in")
        else:
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
