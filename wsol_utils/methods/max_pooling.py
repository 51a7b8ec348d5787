"""Weak supervision by max-pooling: fully connected layers run as convolutions, multi-label loss, several scales."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from wsol_utils.methods.networks import device_of, evaluating, normalise

TEST_FACTORS = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8)
GEOMETRY = {  # of a SlidingConvNet; SqueezeNet is version 1.0
    "ConvNet": (16, 0, 8), "AlexNet": (32, 16, 32), "VGG": (32, 0, 0), "SqueezeNet": (16, 9, 18),
}  # fmt: skip


class SlidingConvNet(nn.Module):
    """A network whose fully connected layers slide over images of any size (Oquab et al. 2015, section 3).

    `forward` gives the class maps of all windows that lie inside the image, (B, C, h, w): position (i, j) holds the
    logits of the window that is i strides down and j to the right. A window holds `side` x `side` pooled cells.
    `geometry`: pixels from one pooled cell to the next; pixels that the first is centred further in than half of that;
    pixels that the row of pooled cells lacks to the image's length.
    To train it on image labels: `nn.Sequential(network, GlobalMax(), nn.Flatten())`.
    """

    def __init__(
        self,
        features: nn.Sequential,
        head: nn.Sequential,
        side: int,
        geometry: tuple[int, int, int] = GEOMETRY["ConvNet"],
    ) -> None:
        super().__init__()
        self.features, self.head, self.side = features, head, side
        self.stride, self.inset, self.lacking = geometry

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(pixels))

    def class_maps(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return class maps that cover the image: padded with zeros, a cell is centred on its square of pixels."""
        before = self.stride * (self.side - 1) // 2 + self.inset
        after = [
            self.stride * (-(-size // self.stride) + self.side - 1) + self.lacking - size - before
            for size in pixels.shape[:-3:-1]
        ]
        return self(nn.functional.pad(pixels, (before, after[0], before, after[1])))


def to_convolutional(network: nn.Module) -> SlidingConvNet:
    """Turn the fully connected layers of a network into convolutions that share its weights (section 3).

    A layer on maps of C x h x w becomes a convolution of h x w, the later ones 1x1; batch normalisation of units
    becomes that of channels. Both networks hold the same numbers: training one changes the other.
    Takes a ConvNet with head "fc" and torchvision's AlexNet and VGG; raises ValueError for another network.

    >>> from wsol_utils.methods.convnet import ConvNet
    >>> to_convolutional(ConvNet(5, 32, 0.05))(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 5, 3, 3])
    """
    kind = type(network).__name__
    if kind == "ConvNet" and network.head_name == "fc":
        pooling, _, *layers = network.head
        side = round((layers[0].in_features / network.features[-2].num_features) ** 0.5)
        head = [pooling]
    elif kind in ("AlexNet", "VGG"):  # their adaptive pooling changes nothing at their own size
        head, layers, side = [], list(network.classifier), network.avgpool.output_size[0]
    else:
        raise ValueError(
            f'{kind} has no fully connected layers that can slide: a ConvNet with head "fc", AlexNet and VGG have; '
            "a ConvNet with another head gives class maps already."
        )
    first = next(layer for layer in layers if isinstance(layer, nn.Linear))
    with torch.random.fork_rng(devices=[]):  # new layers draw weights, which the shared ones replace
        for layer in layers:
            if isinstance(layer, nn.Linear):
                head.append(shared_convolution(layer, kernel=side if layer is first else 1))
            else:
                head.append(_shared_norm(layer) if isinstance(layer, nn.BatchNorm1d) else layer)
    sliding = SlidingConvNet(network.features, nn.Sequential(*head), side, GEOMETRY[kind])
    return sliding.train(network.training)


def multi_label_loss(logits: torch.Tensor, label_sets: torch.Tensor) -> torch.Tensor:
    """Return sum_k log(1 + exp(-y_k f_k)), the mean over images of K logistic losses (section 3.2).

    `logits` f and `label_sets` are (B, K); labels are present where positive, so bool, 0/1 and -1/+1 all serve.
    Raises ValueError if the shapes differ.

    >>> multi_label_loss(torch.zeros(2, 3), torch.eye(3)[:2]).item() / 3  # log 2
    0.6931471824645996
    """
    if logits.shape != label_sets.shape:
        raise ValueError(f"Logits {tuple(logits.shape)} and label sets {tuple(label_sets.shape)} must have one shape.")
    signs = (label_sets > 0).to(logits.dtype) * 2 - 1
    return nn.functional.softplus(-signs * logits).sum(1).mean()


def adaptation_layers(
    n_features: int, n_classes: int, n_units: int | None = 64, bias: float = -2.0, seed: int = 0
) -> nn.Sequential:
    """New layers on kept features, as 1x1 convolutions (section 3): to `n_units` with ReLU, then to the classes.

    Batch normalisation comes first and brings the features to mean 0 and deviation 1. Without `n_units` there is one
    convolution only. Scores begin at `bias`, below zero because an image shows few of the classes: from zero the
    maximum would first learn to push all of its features down.

    >>> adaptation_layers(8, 5)(torch.zeros(1, 8, 3, 3)).shape
    torch.Size([1, 5, 3, 3])
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hidden = [nn.Conv2d(n_features, n_units, 1), nn.ReLU()] if n_units else []
        classes = nn.Conv2d(n_units or n_features, n_classes, 1)
        nn.init.constant_(classes.bias, bias)
    return nn.Sequential(nn.BatchNorm2d(n_features, affine=False), *hidden, classes)


def adapt(
    draws: Sequence[torch.Tensor],
    label_sets: torch.Tensor,
    pool: Callable[[torch.Tensor], torch.Tensor],
    *,
    n_units: int | None = 64,
    bias: float = -2.0,
    n_epochs: int = 12,
    learning_rate: float = 2e-3,
    seed: int = 0,
    watch: Callable[[nn.Module], None] = lambda head: None,
) -> nn.Sequential:
    """Train adaptation layers on kept features from lists of labels (section 3), and return them.

    `draws` are features (N, D, h, w) of the same images, at other scales each; an epoch takes one after the other.
    `label_sets` is (N, K); `pool` takes the layers' maps (B, K, h, w) to scores (B, K). AdamW, weight decay 0.01,
    batches of 25. `watch(head)` is called before the first epoch and after each.

    >>> adapt([torch.zeros(4, 3, 2, 2)], torch.eye(4, 5), lambda maps: maps.amax((2, 3)), n_epochs=1)[-1].out_channels
    5
    """
    head = adaptation_layers(draws[0].shape[1], label_sets.shape[1], n_units, bias, seed)
    optimiser = torch.optim.AdamW(head.parameters(), lr=learning_rate, weight_decay=0.01)
    generator = torch.Generator().manual_seed(seed)
    watch(head.eval())
    for epoch in range(n_epochs):
        head.train()
        for index in torch.randperm(len(label_sets), generator=generator).split(25):
            loss = multi_label_loss(pool(head(draws[epoch % len(draws)][index].float())), label_sets[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        watch(head.eval())
    return head


def log_sum_exp(maps: torch.Tensor, sharpness: float) -> torch.Tensor:
    """Pool (B, C, h, w) to (B, C) by log(mean(exp(r s))) / r: the mean for r to 0, the maximum for r to infinity.

    Pinheiro and Collobert 2015, section 3.

    >>> log_sum_exp(torch.tensor([[[[0.0, 1.0]]]]), 1000).round(decimals=2).item()
    1.0
    """
    flat = maps.flatten(2)
    return ((sharpness * flat).logsumexp(2) - np.log(flat.shape[2])) / sharpness


def extremes(maps: torch.Tensor, highest: float, lowest: float, alpha: float) -> torch.Tensor:
    """Pool (B, C, h, w) to (B, C) by the mean of the k+ highest scores plus alpha times that of the k- lowest.

    The spatial pooling of WILDCAT (Durand et al. 2017, section 3.3); WELDON (Durand et al. 2016) has alpha 1. Low
    scores are evidence against the class. `highest` and `lowest` give k+ and k- as shares, 0 to 1, of the positions,
    rounded down to one position at least: with alpha 0, a share of 0 gives the maximum and 1 the mean.
    Raises ValueError for other shares and for a negative alpha.

    >>> extremes(torch.tensor([[[[3.0, 1.0], [0.0, -2.0]]]]), 0.5, 0.25, alpha=0.5).item()
    1.0
    """
    if not (0 <= highest <= 1 and 0 <= lowest <= 1):
        raise ValueError(f"Highest and lowest are shares of the positions, 0 to 1, not {highest} and {lowest}.")
    if not alpha >= 0:
        raise ValueError(f"Alpha, the weight of the lowest scores, is 0 or more, not {alpha}.")
    flat = maps.flatten(2)
    n_highest, n_lowest = (max(1, int(share * flat.shape[2])) for share in (highest, lowest))
    above, below = flat.topk(n_highest, sorted=False)[0], flat.topk(n_lowest, largest=False, sorted=False)[0]
    return above.mean(2) + alpha * below.mean(2)


def rescale(images: np.ndarray, factor: float) -> np.ndarray:
    """Rescale uint8 images (B, H, W, 3) by one factor, antialiased, to sides of at least one pixel.

    >>> rescale(np.zeros((1, 10, 20, 3), np.uint8), 0.5).shape
    (1, 5, 10, 3)
    """
    size = [max(1, round(side * factor)) for side in images.shape[1:3]]
    if size == list(images.shape[1:3]):
        return images
    moved = torch.as_tensor(images).permute(0, 3, 1, 2).float()
    resized = nn.functional.interpolate(moved, size, mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()


def multi_scale_maps(
    network: nn.Module, images: np.ndarray, factors: Sequence[float] = TEST_FACTORS, batch_size: int = 16
) -> np.ndarray:
    """Return class maps averaged over scales at the size of the images, float32 (B, C, H, W) (section 3.3).

    `network` has `class_maps` and `stride`: a ConvNet with head gap, gmp or max, or one made by `to_convolutional`.
    The image score of a class is the maximum of its map, the predicted location its position (section 4.2).
    """
    batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    with evaluating(network), torch.no_grad():
        return np.concatenate(
            [np.mean([_maps_at(network, batch, factor) for factor in factors], 0) for batch in batches]
        )


def _maps_at(network: nn.Module, images: np.ndarray, factor: float) -> np.ndarray:
    """Class maps of images rescaled by a factor, each cell laid over its own pixels of the unscaled images."""
    scaled = rescale(images, factor)
    maps = network.class_maps(normalise(scaled).to(device_of(network)))
    height, width = images.shape[1:3]
    covered = [
        round(network.stride * cells * side / scaled_side)
        for cells, side, scaled_side in zip(maps.shape[2:], (height, width), scaled.shape[1:3], strict=True)
    ]
    enlarged = nn.functional.interpolate(maps.float(), covered, mode="bilinear")
    return enlarged[:, :, :height, :width].cpu().numpy()


def shared_convolution(layer: nn.Linear, kernel: int) -> nn.Conv2d:
    """Return the convolution of kernel x kernel cells that does what a linear layer does, with its very weights.

    >>> shared_convolution(nn.Linear(3 * 5 * 5, 7), 5)
    Conv2d(3, 7, kernel_size=(5, 5), stride=(1, 1))
    """
    n_inputs = layer.in_features // kernel**2
    convolution = nn.Conv2d(n_inputs, layer.out_features, kernel, bias=layer.bias is not None)
    shape = (layer.out_features, n_inputs, kernel, kernel)
    convolution.weight = nn.Parameter(layer.weight.detach().view(shape), requires_grad=layer.weight.requires_grad)
    convolution.bias = layer.bias
    return convolution


def _shared_norm(norm: nn.BatchNorm1d) -> nn.BatchNorm2d:
    shared = nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum)
    shared.weight, shared.bias = norm.weight, norm.bias
    for name, buffer in norm.named_buffers():
        setattr(shared, name, buffer)
    return shared
