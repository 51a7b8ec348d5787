"""OverFeat: classifier and box head slid over an image at several scales, their boxes merged (Sermanet et al. 2014)."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import nn
from torchvision.ops import nms

from wsol_utils.methods.box_coding import merge_boxes
from wsol_utils.methods.convnet import ConvNet
from wsol_utils.methods.max_pooling import rescale, shared_convolution, to_convolutional
from wsol_utils.methods.networks import device_of, evaluating, normalise

FACTORS = (1.0, 1.25, 1.5, 1.75, 2.0)
COMBINATIONS = ("best", "suppress", "merge")


def draw_windows(
    images: np.ndarray, boxes: np.ndarray, n_windows: int, smallest: float = 0.5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw square windows that see at least half of the object, to train a box head for sliding (section 4.2).

    `images` are uint8 (N, S, S, 3) with one box each, (N, 4). Window sides are `smallest` to 1 of the image. Returns
    windows resized to S pixels, uint8 (N * n_windows, S, S, 3), boxes in parts of the window, float32 (.., 4), which
    may lie partly outside 0..1, and the image of each window. Of ten draws that show too little, the fullest is kept.
    Raises ValueError for a `smallest` outside 0..1 and for images that are not square.

    >>> windows, parts, which = draw_windows(np.zeros((1, 32, 32, 3), np.uint8), np.array([[8, 8, 24, 24]]), 3)
    >>> windows.shape, parts.shape, which.tolist()
    ((3, 32, 32, 3), (3, 4), [0, 0, 0])
    """
    if not 0 < smallest <= 1:
        raise ValueError(f"smallest is a share of the image above 0 and up to 1, not {smallest}.")
    height, width = images.shape[1:3]
    if height != width:
        raise ValueError(
            f"Windows are drawn from square images, not {width}x{height} pixels; resize or crop them first."
        )
    generator, size = np.random.default_rng(seed), images.shape[1]
    windows = np.empty((len(images) * n_windows, size, size, 3), np.uint8)
    parts = np.empty((len(windows), 4), np.float32)
    which = np.repeat(np.arange(len(images)), n_windows)
    for own, part, image, box in zip(windows, parts, images[which], np.asarray(boxes)[which], strict=True):
        sides = np.maximum(1, (size * generator.uniform(smallest, 1, 10)).astype(int))
        corners = (generator.random((10, 2)) * (size + 1 - sides)[:, None]).astype(int)
        seen = np.minimum(corners + sides[:, None], box[2:]) - np.maximum(corners, box[:2])
        shares = seen.clip(min=0).prod(axis=1) / (box[2:] - box[:2]).prod()
        chosen = (shares >= 0.5).argmax() if shares.max() >= 0.5 else shares.argmax()
        (x, y), side = corners[chosen], sides[chosen]
        own[:] = cv2.resize(image[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_LINEAR)
        part[:] = (box - [x, y, x, y]) / side
    return windows, parts, which


def convolutional_head(head: nn.Sequential, side: int) -> nn.Sequential:
    """Turn a shared regression head on pool5 of side x side cells into convolutions with its very weights.

    Section 3.5. The result takes maps (B, K, h, w) to numbers (B, 4, h - side + 1, w - side + 1). Raises ValueError
    for a head with numbers for several classes.

    >>> from wsol_utils.methods.regression_heads import regression_head
    >>> convolutional_head(regression_head(3 * 5 * 5), 5)(torch.zeros(1, 3, 7, 8)).shape
    torch.Size([1, 4, 3, 4])
    """
    hidden, relu, numbers, shape = head
    if shape.unflattened_size[0] != 1:
        raise ValueError("Only a head shared by all classes slides here; train one with n_classes=1.")
    return nn.Sequential(shared_convolution(hidden, side), relu, shared_convolution(numbers, 1))


def sliding_boxes(
    convnet: ConvNet, head: nn.Sequential, images: np.ndarray, factors: Sequence[float] = FACTORS
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return for each image the boxes (M, 4) of all windows at all scales and their posteriors (M, C).

    Sections 3.3 and 4.1: the image is rescaled by each factor, both heads slide over pool5 as convolutions, and each
    window, 16 pixels from the next, gives class posteriors and one box. The shifts of pooling by 0, 1 and 2 cells are
    left out. `convnet` has the head "fc", `head` was trained on its "pool5", for windows of its image size.
    Raises ValueError for a factor at which the image is smaller than a window, and for a head on other features.
    """
    height, width = images.shape[1:3]
    size = convnet.image_size
    if round(min(height, width) * min(factors)) < size:
        raise ValueError(
            f"Images of {width}x{height} pixels at factor {min(factors)} are smaller than the network's windows of "
            f"{size} pixels; take larger factors."
        )
    sliding = to_convolutional(convnet)
    n_features = sliding.head[1].in_channels * sliding.side**2
    if head[0].in_features != n_features:
        raise ValueError(
            f"The box head takes {head[0].in_features} features, but pool5 of this network has {n_features}; train a "
            "head on its pool5."
        )
    regressor = convolutional_head(head, sliding.side)
    found: list[tuple[list, list]] = [([], []) for _ in images]
    with evaluating(sliding), torch.no_grad():
        for factor in factors:
            scaled = rescale(images, factor)
            pool5 = sliding.head[0](sliding.features(normalise(scaled).to(device_of(convnet))))
            posteriors, numbers = sliding.head[1:](pool5).softmax(1).cpu(), regressor(pool5).cpu()
            rows, columns = torch.meshgrid(*map(torch.arange, numbers.shape[2:]), indexing="ij")
            corners = torch.stack([columns, rows, columns, rows]) * sliding.stride
            scale = torch.tensor([width / scaled.shape[2], height / scaled.shape[1]] * 2)[:, None, None]
            boxes = (corners + size * numbers) * scale
            for own, box, posterior in zip(found, boxes, posteriors, strict=True):
                own[0].append(box.flatten(1).T)
                own[1].append(posterior.flatten(1).T)
    return [(torch.cat(boxes), torch.cat(posteriors)) for boxes, posteriors in found]


def combine_boxes(
    boxes: torch.Tensor, scores: torch.Tensor, how: str = "merge", least_share: float = 0.8, n_best: int = 60
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make of the boxes (M, 4) of one class, with scores (M,), the boxes (k, 4) to report and their scores, best first.

    "best" keeps the best box only; "suppress" those that no better one overlaps by more than half; "merge" averages
    greedily and adds up the scores (`box_coding.merge_boxes`). At most `n_best` windows take part, those with
    at least `least_share` of the best score, so that windows of background do not pull the average. Boxes without area
    are left out. Raises ValueError for another name and where no box has an area.

    >>> boxes, scores = torch.tensor([[0.0, 0, 10, 10], [1.0, 0, 11, 10]]), torch.tensor([0.5, 0.75])
    >>> combine_boxes(boxes, scores, "best")[0].tolist(), combine_boxes(boxes, scores, "merge", 0.5)[0].tolist()
    ([[1.0, 0.0, 11.0, 10.0]], [[0.5, 0.0, 10.5, 10.0]])
    """
    if how not in COMBINATIONS:
        raise ValueError(f"Boxes are combined by one of {', '.join(COMBINATIONS)}, not {how!r}.")
    whole = (boxes[:, 2:] > boxes[:, :2]).all(1)
    if not whole.any():
        raise ValueError("No window gives a box with an area; train the box head first.")
    used = whole & (scores >= least_share * scores[whole].max())
    boxes, scores = boxes[used], scores[used]
    order = scores.argsort(descending=True, stable=True)[: 1 if how == "best" else n_best]
    boxes, scores = boxes[order], scores[order]
    if how == "suppress":
        kept = nms(boxes, scores, 0.5)
        return boxes[kept], scores[kept]
    return merge_boxes(boxes, scores)
