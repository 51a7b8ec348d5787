"""Boxes that may hold an object of any class: the baselines that look at no image, and what all proposals obey."""

from collections.abc import Sequence

import numpy as np

from wsol_utils.evaluation.boxes import areas, checked_boxes

GRID_SHAPES = tuple((side, ratio) for side in (0.7, 0.45, 0.3) for ratio in (1.0, 0.5, 2.0))


def checked_image(image: np.ndarray, least: int = 16) -> np.ndarray:
    """Return the image after checking that it is uint8 (H, W, 3) of at least 16 pixels a side; ValueError otherwise.

    >>> checked_image(np.zeros((20, 30, 3), np.uint8)).shape
    (20, 30, 3)
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"An image is uint8 (H, W, 3), not {image.dtype} {image.shape}; give one image at a time.")
    if min(image.shape[:2]) < least:
        height, width = image.shape[:2]
        raise ValueError(
            f"An image of {width}x{height} pixels is too small for proposals; enlarge it to {least} pixels."
        )
    return image


def checked_proposals(proposals: Sequence[np.ndarray], n_images: int, image_size: tuple[int, int]) -> list[np.ndarray]:
    """Return proposals as float32 (m, 4) for each image, after checking them; `image_size` is (height, width).

    Raises ValueError for images without a proposal and for boxes that are empty or reach out of the image.

    >>> checked_proposals([[[0, 0, 5, 5]]], 1, (10, 10))[0].tolist()
    [[0.0, 0.0, 5.0, 5.0]]
    """
    if len(proposals) != n_images:
        raise ValueError(
            f"There are proposals for {len(proposals)} images, not for {n_images}; give each image its own."
        )
    height, width = image_size
    checked = [checked_boxes(own).astype(np.float32) for own in proposals]
    for i, own in enumerate(checked):
        if len(own) == 0:
            raise ValueError(f"Image {i} has no proposal; give it at least one box, such as the whole image.")
        if (own[:, :2] < 0).any() or (own[:, 2:] > [width, height]).any():
            raise ValueError(f"Image {i} has a proposal outside its {width}x{height} pixels; clip proposals first.")
        if (areas(own) <= 0).any():
            raise ValueError(f"Image {i} has a proposal without area; leave it out.")
    return checked


def random_boxes(n_boxes: int, height: int, width: int, least: int = 8, seed: int = 0) -> np.ndarray:
    """Return random boxes, int64 (n, 4): both corners anywhere in the image, sides of at least `least` pixels.

    Raises ValueError for an image with no room for such a box.

    >>> random_boxes(3, 20, 30).shape
    (3, 4)
    """
    if min(height, width) < least:
        raise ValueError(f"An image of {width}x{height} pixels has no room for boxes of {least} pixels; lower `least`.")
    generator = np.random.default_rng(seed)
    kept = np.zeros((0, 4), np.int64)
    while len(kept) < n_boxes:
        x = np.sort(generator.integers(0, width + 1, (2 * n_boxes + 8, 2)), axis=1)
        y = np.sort(generator.integers(0, height + 1, (2 * n_boxes + 8, 2)), axis=1)
        drawn = np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1)
        kept = np.concatenate([kept, drawn[(drawn[:, 2:] - drawn[:, :2] >= least).all(axis=1)]])
    return kept[:n_boxes]


def grid_boxes(n_boxes: int, height: int, width: int) -> np.ndarray:
    """Return a uniform grid of boxes, int64 (n, 4): nine shapes (three sizes, three ratios), each evenly placed.

    With less than nine boxes the largest shapes come alone. Made for its number: a grid of 100 is not the beginning of
    one of 200. Raises ValueError for less than one box.

    >>> grid_boxes(1, 100, 200).tolist()
    [[30, 15, 170, 85]]
    """
    if n_boxes < 1:
        raise ValueError(f"A grid has at least one box, not {n_boxes}.")
    n_shapes = min(n_boxes, len(GRID_SHAPES))
    boxes = []
    for shape, (side, ratio) in enumerate(GRID_SHAPES[:n_shapes]):
        n_places = n_boxes // n_shapes + (shape < n_boxes % n_shapes)
        n_steps = int(np.ceil(np.sqrt(n_places)))
        h, w = min(1, side * np.sqrt(ratio)), min(1, side / np.sqrt(ratio))
        steps = np.linspace(0, 1, n_steps) if n_steps > 1 else np.array([0.5])
        y, x = (places.ravel() for places in np.meshgrid((1 - h) * steps, (1 - w) * steps, indexing="ij"))
        chosen = np.linspace(0, len(x) - 1, n_places).round().astype(int)
        boxes.append(np.stack([x, y, x + w, y + h], axis=1)[chosen])
    return (np.concatenate(boxes) * [width, height, width, height]).round().astype(np.int64)
