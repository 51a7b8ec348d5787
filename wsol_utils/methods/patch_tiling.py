"""Transfer by patches: an image cut into many squares, labels by overlap, scores and heat maps from the squares."""

import cv2
import numpy as np

N_SCALES, LARGEST_RATIO = 8, 4.0
LEAST_OF_PATCH, LEAST_OF_OBJECT = 0.2, 0.6
POWER = 5


def tile_patches(height: int, width: int, n_scales: int = N_SCALES, overlap: float = 0.65) -> np.ndarray:
    """Cover an image with squares at several scales (Oquab et al. 2014, section 3.2), int64 (M, 4), ends exclusive.

    Sides are the shorter side of the image divided by `n_scales` numbers evenly from 1 to 4; neighbours of one scale
    share at least the part `overlap` of their side, and the outermost touch the edges of the image. About 500 patches
    for eight scales and an image of 4 to 3.

    Raises ValueError for an image below 16 pixels or an overlap outside 0 to 1 (1 excluded).

    >>> tile_patches(100, 150, n_scales=1).tolist()
    [[0, 0, 100, 100], [25, 0, 125, 100], [50, 0, 150, 100]]
    """
    if min(height, width) < 16:
        raise ValueError(f"An image of {height}x{width} is too small to be cut into patches; enlarge it to 16 pixels.")
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap is a share from 0 to less than 1, not {overlap}.")
    patches = []
    for ratio in np.linspace(1, LARGEST_RATIO, n_scales):
        side = round(min(height, width) / ratio)
        tops, lefts = (_places(length, side, overlap) for length in (height, width))
        y, x = (places.ravel() for places in np.meshgrid(tops, lefts, indexing="ij"))
        patches.append(np.stack([x, y, x + side, y + side], axis=1))
    return np.concatenate(patches)


def patch_labels(patches: np.ndarray, boxes: np.ndarray, box_labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Label patches (M, 4) by the objects (k, 4) they meet, int64 (M,); `n_classes` stands for background.

    Section 3.2: a patch takes an object's label if the object covers at least 0.2 of the patch, the patch at least 0.6
    of the object, and this is true of one object only.

    >>> patch_labels(np.array([[0, 0, 10, 10], [20, 20, 30, 30]]), np.array([[0, 0, 6, 6]]), np.array([3]), 20).tolist()
    [3, 20]
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    low = np.maximum(patches[:, None, :2], boxes[None, :, :2])
    high = np.minimum(patches[:, None, 2:], boxes[None, :, 2:])
    common = np.maximum(high - low, 0).prod(axis=2)  # (M, k)
    met = (common >= LEAST_OF_PATCH * _areas(patches)[:, None]) & (common >= LEAST_OF_OBJECT * _areas(boxes))
    labels = np.full(len(patches), n_classes, np.int64)
    alone = met.sum(axis=1) == 1
    if alone.any():
        labels[alone] = np.asarray(box_labels)[met[alone].argmax(axis=1)]
    return labels


def thin_background(labels: np.ndarray, n_classes: int, share: float = 0.1, seed: int = 0) -> np.ndarray:
    """Choose the patches to train on: all that show an object, and a random `share` of the background (section 3.2).

    Returns indices, int64, in order.

    >>> thin_background(np.array([2, 20, 20, 20, 20]), 20, share=0.5).shape
    (3,)
    """
    background = np.flatnonzero(labels == n_classes)
    kept = np.random.default_rng(seed).choice(background, round(share * len(background)), replace=False)
    return np.sort(np.concatenate([np.flatnonzero(labels != n_classes), kept]))


def cut_patches(image: np.ndarray, patches: np.ndarray, size: int) -> np.ndarray:
    """Cut patches out of an image (H, W, 3) and bring each to the size a network takes, uint8 (M, size, size, 3).

    >>> cut_patches(np.zeros((20, 30, 3), np.uint8), tile_patches(20, 30, 1), 8).shape
    (3, 8, 8, 3)
    """
    cut = np.empty((len(patches), size, size, 3), np.uint8)
    for own, (x0, y0, x1, y1) in zip(cut, patches.tolist(), strict=True):
        shrinks = x1 - x0 >= size
        own[:] = cv2.resize(
            image[y0:y1, x0:x1], (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        )
    return cut


def image_scores(posteriors: np.ndarray, power: float = POWER) -> np.ndarray:
    """Score an image by the mean of its patches' posteriors (M, C), each to the power k, (C,) (section 3.3).

    k = 1 is the plain mean; the larger k, the more the best patch decides.

    >>> image_scores(np.array([[1.0, 0.5], [0.0, 0.5]]), power=2).tolist()
    [0.5, 0.25]
    """
    return (np.asarray(posteriors) ** power).mean(axis=0)


def heat_maps(posteriors: np.ndarray, patches: np.ndarray, height: int, width: int) -> np.ndarray:
    """Sum at each pixel the posteriors (M, C) of the patches that hold it, float32 (C, height, width) (section 3.3).

    >>> heat_maps(np.array([[1.0], [2.0]]), np.array([[0, 0, 2, 1], [1, 0, 3, 1]]), 1, 3).tolist()
    [[[1.0, 3.0, 2.0]]]
    """
    steps = np.zeros((height + 1, width + 1, np.shape(posteriors)[1]))
    x0, y0, x1, y1 = patches.T
    for rows, columns, sign in ((y0, x0, 1), (y0, x1, -1), (y1, x0, -1), (y1, x1, 1)):
        np.add.at(steps, (rows, columns), sign * np.asarray(posteriors, np.float64))
    sums = steps.cumsum(axis=0).cumsum(axis=1)[:-1, :-1]
    return np.ascontiguousarray(sums.transpose(2, 0, 1), np.float32)


def _places(length: int, side: int, overlap: float) -> np.ndarray:
    """Where patches begin along one side of the image, evenly, from edge to edge."""
    n_steps = int(np.ceil((length - side) / max(1, int((1 - overlap) * side))))
    return np.rint(np.linspace(0, length - side, n_steps + 1)).astype(np.int64)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
