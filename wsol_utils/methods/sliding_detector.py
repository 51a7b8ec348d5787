"""A linear template on histograms of oriented gradients, slid over an image pyramid (Dalal and Triggs 2005)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
import torch
from skimage.feature import hog
from sklearn.svm import LinearSVC
from torch import nn
from torchvision.ops import clip_boxes_to_image

from wsol_utils.evaluation.boxes import iou
from wsol_utils.methods.detection import Detections, checked_examples, suppress

CELL, N_ORIENTATIONS = 8, 9
FACTORS = tuple(2 ** (k / 3) for k in range(-4, 4))
LARGEST_IOU_OF_BACKGROUND = 0.3
NEGATIVES_PER_IMAGE, HARD_PER_IMAGE = 20, 5


@dataclass(frozen=True)
class Template:
    """A linear classifier of windows: weights float32 (h, w, 36) on blocks of gradients, and bias.

    A window of h x w blocks covers (h + 1) x (w + 1) cells of 8 pixels.
    """

    weights: np.ndarray
    bias: float

    @property
    def shape(self) -> tuple[int, int]:
        """Blocks (h, w)."""
        return self.weights.shape[:2]


def hog_blocks(image: np.ndarray) -> np.ndarray:
    """Return the histograms of gradients of an image (H, W, 3), float32 (rows, columns, 36), by scikit-image.

    Cells of 8 pixels, 9 orientations, blocks of 2x2 cells that overlap by one, normalised by L2-Hys. Raises ValueError
    for an image below one block.

    >>> hog_blocks(np.zeros((32, 48, 3), np.uint8)).shape
    (3, 5, 36)
    """
    if min(image.shape[:2]) < 2 * CELL:
        height, width = image.shape[:2]
        raise ValueError(
            f"An image of {width}x{height} pixels is below one block of gradients; enlarge it to {2 * CELL}."
        )
    blocks = hog(image, N_ORIENTATIONS, (CELL, CELL), (2, 2), "L2-Hys", feature_vector=False, channel_axis=-1)
    return blocks.reshape(*blocks.shape[:2], -1).astype(np.float32)


def template_scores(blocks: np.ndarray, template: Template) -> np.ndarray:
    """Return the score of every window, float32 (rows - h + 1, columns - w + 1).

    The cross-correlation of the blocks with the template plus its bias: sum_ijk weights_ijk blocks_(r+i)(c+j)k + bias,
    which is what a convolutional layer computes. Raises ValueError where the template is larger than the image.

    >>> template_scores(np.ones((3, 4, 36), np.float32), Template(np.ones((2, 2, 36), np.float32), 0.5)).tolist()
    [[144.5, 144.5, 144.5], [144.5, 144.5, 144.5]]
    """
    if blocks.shape[0] < template.shape[0] or blocks.shape[1] < template.shape[1]:
        raise ValueError(
            f"The image has {blocks.shape[0]}x{blocks.shape[1]} blocks of gradients, fewer than the template's "
            f"{template.shape[0]}x{template.shape[1]}; enlarge the image."
        )
    maps, weights = (torch.from_numpy(array).permute(2, 0, 1)[None] for array in (blocks, template.weights))
    return nn.functional.conv2d(maps, weights)[0, 0].numpy() + np.float32(template.bias)


def pyramid(image: np.ndarray, factors: Sequence[float] = FACTORS) -> Iterator[tuple[float, np.ndarray]]:
    """Give the blocks of the image rescaled by each factor, with the factor; levels below one block are left out.

    >>> [blocks.shape for _, blocks in pyramid(np.zeros((32, 32, 3), np.uint8), (0.25, 1, 2))]
    [(3, 3, 36), (7, 7, 36)]
    """
    for factor in factors:
        height, width = (round(side * factor) for side in image.shape[:2])
        if min(height, width) >= 2 * CELL:
            way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
            yield factor, hog_blocks(cv2.resize(image, (width, height), interpolation=way))


class HogDetector:
    """One template for each class, slid over all scales: the detector before the ConvNets.

    Each template has 36 blocks in the median ratio of its class's boxes. Positives are the boxes, brought to the
    template's size; negatives windows of the pyramids whose IoU with each box of the class is below 0.3, first at
    random, then those that the first template takes for objects (Dalal and Triggs 2005, section 4).
    """

    def __init__(self, n_classes: int, n_blocks: int = 36, factors: Sequence[float] = FACTORS) -> None:
        self.n_classes, self.n_blocks, self.factors = n_classes, n_blocks, factors

    def fit(
        self,
        images: np.ndarray,
        boxes: Sequence[np.ndarray],
        labels: Sequence[np.ndarray],
        *,
        svm_cost: float = 0.01,
        seed: int = 0,
    ) -> Self:
        """Train the templates.

        Raises ValueError for examples that do not fit (see `detection.checked_examples`) and for images that are
        smaller than a template at every scale.
        """
        boxes, labels = checked_examples(images, boxes, labels, self.n_classes)
        pyramids = [list(pyramid(image, self.factors)) for image in images]
        self.templates = []
        for label in range(self.n_classes):
            own = [b[y == label].numpy() for b, y in zip(boxes, labels, strict=True)]
            shape = self._shape(np.concatenate(own))
            size = CELL * (shape[1] + 1), CELL * (shape[0] + 1)
            crops = [
                cv2.resize(
                    image[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))], size, interpolation=cv2.INTER_LINEAR
                )
                for image, objects in zip(images, own, strict=True)
                for x0, y0, x1, y1 in objects
            ]
            positives = np.stack([hog_blocks(crop).ravel() for crop in crops])
            generator = np.random.default_rng([seed, label])
            free = [_free_places(levels, objects, shape) for levels, objects in zip(pyramids, own, strict=True)]
            template, negatives = None, np.zeros((0, positives.shape[1]), np.float32)
            for n_windows in (NEGATIVES_PER_IMAGE, HARD_PER_IMAGE):
                mined = [_background(places, shape, template, n_windows, generator) for places in free]
                negatives = np.concatenate([negatives, *mined])
                if len(negatives) == 0:
                    raise ValueError(
                        f"The template of class {label} fits into no image; take larger images or factors."
                    )
                examples = np.concatenate([positives, negatives])
                svm = LinearSVC(C=svm_cost, class_weight="balanced", random_state=seed, max_iter=5000)
                svm.fit(examples, np.arange(len(examples)) < len(positives))
                template = Template(svm.coef_.reshape(*shape, 36).astype(np.float32), float(svm.intercept_[0]))
            self.templates.append(template)
        return self

    def detect(self, images: np.ndarray, least_score: float = -1.0, n_best: int = 100) -> list[Detections]:
        """Return the detections of each image.

        Raises RuntimeError before `fit`, ValueError for images smaller than every template at every scale.
        """
        if not hasattr(self, "templates"):
            raise RuntimeError("This detector has no templates yet; call fit first.")
        found = []
        for image in images:
            levels, windows = list(pyramid(image, self.factors)), []
            for label, template in enumerate(self.templates):
                for factor, scores in _scored(levels, template):
                    places = np.argwhere(scores > least_score)
                    rows = _windows(places, factor, template.shape)
                    windows.append((rows, np.full(len(rows), label), scores[tuple(places.T)]))
            if not windows:
                raise ValueError(f"Images of {image.shape[1]}x{image.shape[0]} pixels are smaller than every template.")
            boxes, labels, scores = (torch.from_numpy(np.concatenate(part)) for part in zip(*windows, strict=True))
            found.append(suppress(clip_boxes_to_image(boxes, image.shape[:2]), labels, scores, n_best=n_best))
        return found

    def _shape(self, boxes: np.ndarray) -> tuple[int, int]:
        """Blocks (h, w) of a template in the median ratio of height to width of its boxes."""
        ratio = np.median((boxes[:, 3] - boxes[:, 1]) / (boxes[:, 2] - boxes[:, 0]))
        return max(1, round(np.sqrt(self.n_blocks * ratio))), max(1, round(np.sqrt(self.n_blocks / ratio)))


def _scored(levels: Sequence[tuple[float, np.ndarray]], template: Template) -> Iterator[tuple[float, np.ndarray]]:
    """The factor and scores of each level that the template fits into."""
    for factor, blocks in levels:
        if blocks.shape[0] >= template.shape[0] and blocks.shape[1] >= template.shape[1]:
            yield factor, template_scores(blocks, template)


def _windows(places: np.ndarray, factor: float, shape: tuple[int, int]) -> np.ndarray:
    """Boxes (n, 4) in the image of windows that begin at blocks (row, column) (n, 2)."""
    rows, columns = places.T
    boxes = np.stack([columns, rows, columns + shape[1] + 1, rows + shape[0] + 1], axis=1)
    return (boxes * (CELL / factor)).astype(np.float32)


def _free_places(
    levels: Sequence[tuple[float, np.ndarray]], objects: np.ndarray, shape: tuple[int, int]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The blocks of each level that a template fits into, with the places (n, 2) that show no object of the class."""
    found = []
    for factor, blocks in levels:
        n_rows, n_columns = blocks.shape[0] - shape[0] + 1, blocks.shape[1] - shape[1] + 1
        if min(n_rows, n_columns) > 0:
            places = np.indices((n_rows, n_columns)).reshape(2, -1).T
            overlap = iou(_windows(places, factor, shape), objects).max(axis=1, initial=0)
            found.append((blocks, places[overlap < LARGEST_IOU_OF_BACKGROUND]))
    return found


def _background(
    free: list[tuple[np.ndarray, np.ndarray]],
    shape: tuple[int, int],
    template: Template | None,
    n_windows: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """Features of the free windows that score best, or of any without a template; equal scores are drawn at random."""
    scores = [
        template_scores(blocks, template)[tuple(places.T)] if template else np.zeros(len(places))
        for blocks, places in free
    ]
    best = -np.concatenate([np.zeros(0), *scores])
    order = np.lexsort((generator.random(len(best)), best))[:n_windows]
    ends = np.cumsum([len(places) for _, places in free])
    cut = np.zeros((len(order), shape[0] * shape[1] * 36), np.float32)
    for row, index in zip(cut, order, strict=True):
        level = int(np.searchsorted(ends, index, side="right"))
        blocks, places = free[level]
        y, x = places[index - ends[level] + len(places)]
        row[:] = blocks[y : y + shape[0], x : x + shape[1]].ravel()
    return cut
