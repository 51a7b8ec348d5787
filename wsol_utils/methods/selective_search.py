"""Selective search: an over-segmentation merged region by region, each with its box (Uijlings et al. 2013)."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import find_objects
from skimage.color import rgb2hsv, rgb2lab
from skimage.segmentation import felzenszwalb

from wsol_utils.methods.proposals import checked_image

COLOUR_BINS, TEXTURE_BINS, N_DIRECTIONS = 25, 10, 8
COLOUR_SPACES = {
    "rgb": lambda image: image / 255,
    "hsv": rgb2hsv,
    "lab": lambda image: (rgb2lab(image) + np.array([0, 128, 128])) / [100, 255, 255],
    "grey": lambda image: np.repeat(image.mean(axis=2, keepdims=True) / 255, 3, axis=2),
}


@dataclass(frozen=True)
class Hierarchy:
    """Regions merged two by two until one is left.

    start: int64 (H, W), the n first regions. merges: int64 (n - 1, 2), the two regions that become region n, n + 1 ...
    boxes: int64 (2n - 1, 4), the box of every region, the whole image last.
    """

    start: np.ndarray
    merges: np.ndarray
    boxes: np.ndarray

    def level(self, n_regions: int) -> np.ndarray:
        """Return the regions, int64 (H, W), when `n_regions` are left.

        Raises ValueError for more than there were, or none.
        """
        n_first = len(self.merges) + 1
        if not 1 <= n_regions <= n_first:
            raise ValueError(f"This hierarchy has 1 to {n_first} regions, not {n_regions}.")
        names = np.arange(len(self.boxes))
        for new, pair in enumerate(self.merges[: n_first - n_regions], start=n_first):
            names[np.isin(names, pair)] = new
        return names[self.start]


def group_regions(start: np.ndarray, colours: np.ndarray) -> Hierarchy:
    """Merge the two neighbouring regions that are most alike, again and again (section 3.2).

    `start` is int (H, W) with regions 0 .. n - 1, `colours` float (H, W, 3) in 0..1. Alike is the sum of the
    intersections of the regions' histograms of colour (25 bins) and texture (Gaussian derivatives in 8 directions, 10
    bins), and two measures of 0..1 by which small regions merge first, and those that fit into each other: 1 minus
    their share of the image, and 1 minus the share that their common box has beside them.

    >>> colours = np.array([[[0.0] * 3, [0.0] * 3, [0.1] * 3, [0.9] * 3]])
    >>> group_regions(np.array([[0, 0, 1, 2]]), colours).merges[0].tolist()
    [1, 2]
    """
    n = int(start.max()) + 1
    colour = _histograms(start, colours, COLOUR_BINS, n)
    texture = _histograms(start, derivatives(colours), TEXTURE_BINS, n)
    histograms = np.concatenate([colour, texture], axis=1)
    sizes = np.bincount(start.ravel(), minlength=n).astype(float)
    boxes = np.concatenate([_region_boxes(start), np.zeros((n - 1, 4), np.int64)])
    neighbours = _neighbours(start, n)
    ids, merges = np.arange(n), np.zeros((n - 1, 2), np.int64)

    def likeness(i: int, others: np.ndarray) -> np.ndarray:
        common = np.minimum(histograms[i], histograms[others]).sum(axis=1)
        low = np.minimum(boxes[ids[i], :2], boxes[ids[others], :2])
        high = np.maximum(boxes[ids[i], 2:], boxes[ids[others], 2:])
        return common + 2 - (high - low).prod(axis=1) / start.size  # size and fill: 1 - s / S + 1 - (box - s) / S

    alike = np.full((n, n), -np.inf)
    for i in range(n):
        alike[i, neighbours[i]] = likeness(i, np.flatnonzero(neighbours[i]))
    for step in range(n - 1):
        i, j = divmod(int(alike.argmax()), n)
        merges[step] = ids[[i, j]]
        new = n + step
        boxes[new, :2] = boxes[merges[step], :2].min(axis=0)
        boxes[new, 2:] = boxes[merges[step], 2:].max(axis=0)
        histograms[i] = np.average(histograms[[i, j]], axis=0, weights=sizes[[i, j]])
        sizes[i] += sizes[j]
        ids[i] = new
        neighbours[i] |= neighbours[j]
        neighbours[:, i] |= neighbours[:, j]
        neighbours[j] = neighbours[:, j] = neighbours[i, i] = False
        alike[j] = alike[:, j] = alike[i] = alike[:, i] = -np.inf
        others = np.flatnonzero(neighbours[i])
        alike[i, others] = alike[others, i] = likeness(i, others)
    return Hierarchy(start, merges, boxes)


def derivatives(colours: np.ndarray) -> np.ndarray:
    """Return rectified derivatives of the smoothed channels (H, W, 3) in 8 directions, (H, W, 24), brought to 0..1.

    What the histograms of texture count (section 3.2).

    >>> derivatives(np.zeros((20, 30, 3))).shape
    (20, 30, 24)
    """
    smooth = cv2.GaussianBlur(colours.astype(np.float32), (0, 0), 1)
    dx, dy = cv2.Sobel(smooth, -1, 1, 0), cv2.Sobel(smooth, -1, 0, 1)
    angles = np.arange(N_DIRECTIONS) * (2 * np.pi / N_DIRECTIONS)
    responses = np.concatenate([np.maximum(np.cos(a) * dx + np.sin(a) * dy, 0) for a in angles], axis=2)
    return responses / max(float(responses.max()), 1e-6)


def hierarchy(image: np.ndarray, scale: float = 50, colour_space: str = "lab", min_size: int = 20) -> Hierarchy:
    """Over-segment an image (H, W, 3) by Felzenszwalb and Huttenlocher 2004 (scikit-image) and merge its regions.

    The larger `scale`, the larger the first regions; `min_size` is their least number of pixels. Raises ValueError for
    an unknown colour space and for images that are not uint8 (H, W, 3) of at least 16 pixels.
    """
    if colour_space not in COLOUR_SPACES:
        raise ValueError(f"Unknown colour space {colour_space!r}; choose one of {', '.join(COLOUR_SPACES)}.")
    colours = np.clip(COLOUR_SPACES[colour_space](checked_image(image)), 0, 1)
    start = felzenszwalb(colours, scale=scale, sigma=0.8, min_size=min_size)
    return group_regions(start.astype(np.int64), colours)


def selective_search(
    image: np.ndarray,
    n_boxes: int | None = None,
    *,
    scales: Sequence[float] = (50, 100),
    colour_spaces: Sequence[str] = ("hsv", "lab"),
    min_side: int = 8,
    seed: int = 0,
) -> np.ndarray:
    """Return the boxes of all regions of several hierarchies, int64 (m, 4), each once, best first.

    Section 4.2: a region's rank is its place in its hierarchy, counted from the whole image, times a random number, so
    that large regions come first, but not always. Boxes with a side below `min_side` are left out; at most `n_boxes`
    come back. Raises ValueError as `hierarchy`.

    >>> image = np.zeros((32, 32, 3), np.uint8)
    >>> image[8:24, 4:20] = 255
    >>> selective_search(image, 5).shape[1]
    4
    """
    hierarchies = [hierarchy(image, scale, space) for scale in scales for space in colour_spaces]
    boxes = np.concatenate([one.boxes[::-1] for one in hierarchies])
    places = np.concatenate([np.arange(1, len(one.boxes) + 1) for one in hierarchies])
    order = np.argsort(places * np.random.default_rng(seed).random(len(places)), kind="stable")
    boxes = boxes[order][(boxes[order, 2:] - boxes[order, :2]).min(axis=1) >= min_side]
    _, first = np.unique(boxes, axis=0, return_index=True)
    return boxes[np.sort(first)][:n_boxes]


def _histograms(start: np.ndarray, values: np.ndarray, n_bins: int, n_regions: int) -> np.ndarray:
    """One histogram of values in 0..1 for each region and channel, (n, channels * bins), each row's sum 1."""
    n_channels = values.shape[2]
    bins = (values * n_bins).astype(np.int64).clip(0, n_bins - 1) + n_bins * np.arange(n_channels)
    index = start[:, :, None] * (n_channels * n_bins) + bins
    counts = np.bincount(index.ravel(), minlength=n_regions * n_channels * n_bins).reshape(n_regions, -1)
    return counts / counts.sum(axis=1, keepdims=True)


def _region_boxes(start: np.ndarray) -> np.ndarray:
    return np.array([(x.start, y.start, x.stop, y.stop) for y, x in find_objects(start + 1)], dtype=np.int64)


def _neighbours(start: np.ndarray, n_regions: int) -> np.ndarray:
    touch = np.zeros((n_regions, n_regions), bool)
    for a, b in ((start[:, 1:], start[:, :-1]), (start[1:], start[:-1])):
        touch[a, b] = touch[b, a] = True
    np.fill_diagonal(touch, False)
    return touch
