"""Boxes as numbers a network can learn: offsets from proposals, anchors, the YOLO grid, and the merging of boxes."""

from collections.abc import Sequence
from math import log

import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import box_iou

LARGEST_LOG_RATIO = log(1000 / 16)  # of the sides of a decoded box to the proposal's, as in torchvision


def encode_boxes(boxes: torch.Tensor, proposals: torch.Tensor) -> torch.Tensor:
    """Return the offsets t that turn proposals P into boxes G, float (n, 4).

    R-CNN, appendix C: t = ((G_x - P_x) / P_w, (G_y - P_y) / P_h, log(G_w / P_w), log(G_h / P_h)) with x, y the centres.
    Raises ValueError for a box or a proposal without area.

    >>> encode_boxes(torch.tensor([[2.0, 0, 12, 10]]), torch.tensor([[0.0, 0, 10, 10]])).round(decimals=2).tolist()
    [[0.20000000298023224, 0.0, 0.0, 0.0]]
    """
    (centres, sizes), (own_centres, own_sizes) = _centres_and_sizes(boxes), _centres_and_sizes(proposals)
    if (sizes <= 0).any() or (own_sizes <= 0).any():
        raise ValueError("A box or proposal has no area, so it has no offsets; leave it out.")
    return torch.cat([(centres - own_centres) / own_sizes, (sizes / own_sizes).log()], dim=-1)


def decode_boxes(offsets: torch.Tensor, proposals: torch.Tensor) -> torch.Tensor:
    """Apply offsets (..., 4) to proposals (..., 4) and return boxes, the inverse of `encode_boxes`.

    Sides grow by 1000 / 16 at most, so that an untrained regressor gives finite boxes.

    >>> decode_boxes(torch.tensor([[0.2, 0, 0, 0]]), torch.tensor([[0.0, 0, 10, 10]])).tolist()
    [[2.0, 0.0, 12.0, 10.0]]
    """
    centres, sizes = _centres_and_sizes(proposals)
    moved = centres + offsets[..., :2] * sizes
    half = sizes * offsets[..., 2:].clamp(max=LARGEST_LOG_RATIO).exp() / 2
    return torch.cat([moved - half, moved + half], dim=-1)


def anchor_boxes(
    map_size: tuple[int, int], stride: int, sides: Sequence[float], ratios: Sequence[float] = (0.5, 1.0, 2.0)
) -> torch.Tensor:
    """Return the anchors of a feature map of (h, w) cells, float (h * w * A, 4), by torchvision's `AnchorGenerator`.

    Faster R-CNN, section 3.1: at each cell the same A boxes, of each side and each ratio of height to width, in whole
    pixels about the point (column * stride, row * stride). Anchors may reach out of the image.

    >>> anchor_boxes((1, 2), 8, [16], [1]).tolist()
    [[-8.0, -8.0, 8.0, 8.0], [0.0, -8.0, 16.0, 8.0]]
    """
    generator = AnchorGenerator((tuple(sides),), (tuple(ratios),))
    return generator.grid_anchors([list(map_size)], [[torch.tensor(stride)] * 2])[0]


def encode_grid(
    boxes: torch.Tensor, labels: torch.Tensor, image_size: tuple[int, int], n_cells: int, n_classes: int
) -> torch.Tensor:
    """Write boxes (k, 4) into the grid of YOLO, float (S, S, 5 + C), first rows, then columns.

    YOLO, section 2: the cell that holds an object's centre gets x, y in parts of the cell, the square roots of w, h in
    parts of the image of (height, width) pixels, confidence 1 and the class as a one-hot vector. A cell holds one
    object; of two with their centres in it the later stays. Raises ValueError for a centre outside the image and for
    a label outside 0 .. C - 1.

    >>> encode_grid(torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([1]), (8, 8), 2, 2)[0, 0].round(decimals=2).tolist()
    [0.5, 0.5, 0.7099999785423279, 0.7099999785423279, 1.0, 0.0, 1.0]
    """
    grid = torch.zeros(n_cells, n_cells, 5 + n_classes)
    frame = torch.tensor([image_size[1], image_size[0]])
    centres, sizes = _centres_and_sizes(boxes.float())
    places = centres / frame * n_cells
    if ((places < 0) | (places > n_cells)).any():
        raise ValueError(f"A box has its centre outside the image of {frame[0]}x{frame[1]}; clip boxes to the image.")
    if len(wrong := labels[(labels < 0) | (labels >= n_classes)]):
        raise ValueError(f"A box has the label {int(wrong[0])}; this grid has classes 0 to {n_classes - 1}.")
    cells = places.long().clamp(max=n_cells - 1)
    for (column, row), place, size, label in zip(cells.tolist(), places - cells, sizes / frame, labels, strict=True):
        grid[row, column] = 0
        grid[row, column, :5] = torch.cat([place, size.sqrt(), torch.ones(1)])
        grid[row, column, 5 + label] = 1
    return grid


def decode_grid(grid: torch.Tensor, image_size: tuple[int, int], n_boxes: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Read boxes (S * S * B, 4) and class scores (S * S * B, C) out of a grid (S, S, 5B + C).

    YOLO, section 2: the score is confidence times class score, both at least 0; what `encode_grid` gives has score 0 in
    cells without an object. B is `n_boxes`.

    >>> grid = encode_grid(torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([1]), (8, 8), 2, 2)
    >>> boxes, scores = decode_grid(grid, (8, 8))
    >>> boxes[scores.sum(1) > 0].round().tolist(), scores[0].tolist()
    ([[0.0, 0.0, 4.0, 4.0]], [0.0, 1.0])
    """
    n_cells = len(grid)
    frame = torch.tensor([image_size[1], image_size[0]], device=grid.device)
    numbers = grid[..., : 5 * n_boxes].reshape(n_cells, n_cells, n_boxes, 5)
    rows, columns = torch.meshgrid(*[torch.arange(n_cells, device=grid.device)] * 2, indexing="ij")
    corners = torch.stack([columns, rows], dim=-1)[:, :, None]
    centres = (numbers[..., :2] + corners) / n_cells * frame
    half = numbers[..., 2:4].clamp(min=0) ** 2 * frame / 2
    scores = numbers[..., 4:].clamp(min=0) * grid[..., None, 5 * n_boxes :].clamp(min=0)
    return torch.cat([centres - half, centres + half], dim=-1).reshape(-1, 4), scores.flatten(0, 2)


def match_scores(boxes: torch.Tensor) -> torch.Tensor:
    """Return how badly each of (n, 4) boxes matches each other, float (n, n): 0 for equal boxes, above 1 for far ones.

    OverFeat, section 4.3, takes the distance of the centres and the intersection, with units left open. Ours: the
    distance over the mean of the two diagonals, plus 1 minus intersection over union.
    """
    centres, sizes = _centres_and_sizes(boxes)
    diagonals = sizes.norm(dim=1)
    distance = (centres[:, None] - centres).norm(dim=2) / ((diagonals[:, None] + diagonals) / 2)
    return distance + 1 - box_iou(boxes, boxes)


def merge_boxes(
    boxes: torch.Tensor, scores: torch.Tensor, largest_match_score: float = 0.4
) -> tuple[torch.Tensor, torch.Tensor]:
    """Merge boxes (n, 4) of one class greedily instead of suppressing them, best score first.

    OverFeat, section 4.3: take the pair that matches best, stop where it matches worse than `largest_match_score`,
    replace it by the average box with the sum of the scores, go on. Raises ValueError for a box without area.

    >>> boxes = torch.tensor([[0.0, 0, 10, 10], [1.0, 0, 11, 10], [50.0, 50, 60, 60]])
    >>> [tensor.tolist() for tensor in merge_boxes(boxes, torch.tensor([0.25, 0.5, 0.5]))]
    [[[0.5, 0.0, 10.5, 10.0], [50.0, 50.0, 60.0, 60.0]], [0.75, 0.5]]
    """
    if len(boxes) != len(scores):
        raise ValueError(f"There are {len(boxes)} boxes and {len(scores)} scores; give one score for each box.")
    if (boxes[:, 2:] <= boxes[:, :2]).any():
        raise ValueError("A box has no area, so it matches no other; leave it out.")
    while len(boxes) > 1:
        matches = match_scores(boxes).fill_diagonal_(torch.inf)
        first, second = divmod(int(matches.argmin()), len(boxes))
        if matches[first, second] > largest_match_score:
            break
        pair = [first, second]
        others = torch.ones(len(boxes), dtype=torch.bool).index_fill_(0, torch.tensor(pair), False)
        boxes = torch.cat([boxes[others], boxes[pair].mean(0, keepdim=True)])
        scores = torch.cat([scores[others], scores[pair].sum(0, keepdim=True)])
    order = scores.argsort(descending=True, stable=True)
    return boxes[order], scores[order]


def _centres_and_sizes(boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
