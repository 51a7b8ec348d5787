"""EdgeBoxes: a box is likely to hold an object if many edges lie wholly inside it (Zitnick and Dollar 2014)."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from scipy.ndimage import label
from skimage.feature import canny
from torchvision.ops import nms

from wsol_utils.evaluation.boxes import checked_boxes
from wsol_utils.methods.proposals import checked_image

KAPPA = 1.5  # power of the perimeter, against larger boxes holding more edges
N_ORIENTATIONS = 8
RATIOS = (1 / 3, 1 / 2, 1.0, 2.0, 3.0)
BOXES_AT_ONCE = 2000


@dataclass(frozen=True)
class EdgeGroups:
    """Edge pixels in groups of like orientation, in the order of the groups.

    x, y: int64 (E,), places. strength: float64 (E,), magnitude of the gradient in 0..1. starts: int64 (G,), where each
    group begins.
    """

    x: np.ndarray
    y: np.ndarray
    strength: np.ndarray
    starts: np.ndarray


def edge_groups(image: np.ndarray, sigma: float = 1.0) -> EdgeGroups:
    """Find the thin edges of an image (H, W, 3) and group neighbours of like orientation.

    Section 3.1, with two simplifications: Canny's edges on grey instead of learnt ones, and groups that are the
    8-connected edge pixels whose orientation falls into one of 8 intervals. Raises ValueError for images that are not
    uint8 (H, W, 3) of at least 16 pixels.

    >>> image = np.zeros((32, 32, 3), np.uint8)
    >>> image[8:24, 8:24] = 255
    >>> len(edge_groups(image).starts) >= 4
    True
    """
    grey = cv2.cvtColor(checked_image(image), cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    smooth = cv2.GaussianBlur(grey, (0, 0), sigma)
    dx, dy = cv2.Sobel(smooth, -1, 1, 0), cv2.Sobel(smooth, -1, 0, 1)
    edges = canny(grey, sigma)
    intervals = np.floor(np.arctan2(dy, dx) / np.pi * N_ORIENTATIONS + 0.5).astype(int) % N_ORIENTATIONS
    groups, n_groups = np.zeros(grey.shape, int), 0
    for interval in range(N_ORIENTATIONS):
        own, n_own = label(edges & (intervals == interval), np.ones((3, 3)))
        groups[own > 0] = own[own > 0] + n_groups
        n_groups += n_own
    y, x = np.nonzero(groups)
    order = np.argsort(groups[y, x], kind="stable")
    y, x = y[order], x[order]
    strength = np.hypot(dx, dy)[y, x].astype(np.float64)
    return EdgeGroups(
        x, y, strength / max(strength.max(initial=0), 1e-6), np.searchsorted(groups[y, x], np.arange(n_groups) + 1)
    )


def edge_box_scores(groups: EdgeGroups, boxes: np.ndarray, kappa: float = KAPPA) -> np.ndarray:
    """Score boxes (n, 4) by the strength of edges, float64 (n,).

    Section 3.2: the edge groups wholly inside the box minus those that cross its border, over the perimeter to the
    power `kappa`. A group crosses if some of its pixels are inside and some are not. Paths of groups, by which the
    paper also takes away groups connected to a crossing one, are left out. Raises ValueError for a box without area.

    >>> one_edge = EdgeGroups(np.array([2, 3]), np.array([2, 2]), np.ones(2), np.array([0]))
    >>> edge_box_scores(one_edge, np.array([[1, 1, 5, 5], [3, 1, 7, 5], [6, 6, 10, 10]])).round(4).tolist()
    [0.0312, -0.0312, 0.0]
    """
    boxes = checked_boxes(boxes)
    perimeters = 2 * (boxes[:, 2:] - boxes[:, :2]).sum(axis=1)
    if (boxes[:, 2:] <= boxes[:, :2]).any():
        raise ValueError("A box has no area, so no edge lies inside it; leave it out.")
    if len(groups.starts) == 0:
        return np.zeros(len(boxes))
    total = np.add.reduceat(groups.strength, groups.starts)
    lengths = np.diff(groups.starts, append=len(groups.x))
    sums = np.zeros(len(boxes))
    for start in range(0, len(boxes), BOXES_AT_ONCE):
        x0, y0, x1, y1 = boxes[start : start + BOXES_AT_ONCE].T[:, :, None]
        inside = (groups.x >= x0) & (groups.x < x1) & (groups.y >= y0) & (groups.y < y1)
        n_inside = np.add.reduceat(inside, groups.starts, axis=1, dtype=np.uint16)
        signs = (n_inside == lengths).astype(float) - ((n_inside > 0) & (n_inside < lengths))
        sums[start : start + BOXES_AT_ONCE] = signs @ total
    return sums / perimeters**kappa


def window_boxes(height: int, width: int, overlap: float = 0.65, least: int = 16) -> np.ndarray:
    """Return boxes at all places, sizes and ratios, int64 (n, 4).

    Section 3.4: neighbours in place or size have an IoU of about `overlap`; sides begin at about `least` pixels.
    Raises ValueError for an overlap outside 0 to 1 (both excluded).

    >>> window_boxes(16, 16).tolist()
    [[0, 0, 16, 16]]
    """
    if not 0 < overlap < 1:
        raise ValueError(f"overlap is an IoU between 0 and 1, not {overlap}.")
    n_sizes = int(np.log(min(height, width) / least) / np.log(1 / np.sqrt(overlap))) + 1
    boxes = []
    for side in least * overlap ** (-np.arange(n_sizes) / 2):
        for ratio in RATIOS:
            h, w = round(side * np.sqrt(ratio)), round(side / np.sqrt(ratio))
            if max(h / height, w / width) > 1 or min(h, w) < least / 2:
                continue
            step = (1 - overlap) / (1 + overlap)
            tops, lefts = (
                np.arange(0, free + 1, max(1, round(step * own))) for free, own in ((height - h, h), (width - w, w))
            )
            y, x = (places.ravel() for places in np.meshgrid(tops, lefts, indexing="ij"))
            boxes.append(np.stack([x, y, x + w, y + h], axis=1))
    return np.concatenate(boxes)


def edge_boxes(image: np.ndarray, n_boxes: int = 100, kappa: float = KAPPA, iou_threshold: float = 0.55) -> np.ndarray:
    """Return the boxes with the best `edge_box_scores`, int64 (m, 4), best first, at most `n_boxes` of them.

    Section 3.4: windows of all places, sizes and ratios are scored, then suppressed by better ones that they overlap by
    more than `iou_threshold`, a little above the IoU at which objects are to be found; the refinement of windows by
    smaller steps is left out. Raises ValueError as `edge_groups`.

    >>> edge_boxes(np.zeros((32, 32, 3), np.uint8), 5).shape
    (5, 4)
    """
    boxes = window_boxes(*checked_image(image).shape[:2])
    scores = edge_box_scores(edge_groups(image), boxes, kappa)
    best = np.argsort(-scores, kind="stable")[:BOXES_AT_ONCE]  # suppression takes the square of their number in time
    boxes, scores = boxes[best], scores[best]
    return boxes[
        nms(torch.from_numpy(boxes).float(), torch.from_numpy(scores).float(), iou_threshold)[:n_boxes].numpy()
    ]
