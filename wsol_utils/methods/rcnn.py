"""R-CNN: proposals warped and put through a classifier, one linear SVM and one box regression for each class."""

from collections.abc import Sequence
from copy import deepcopy
from typing import NamedTuple, Self

import numpy as np
import torch
from sklearn.linear_model import Ridge
from sklearn.svm import LinearSVC
from torch import nn
from torchvision.ops import clip_boxes_to_image

from wsol_utils.evaluation.boxes import iou
from wsol_utils.methods.box_coding import decode_boxes, encode_boxes
from wsol_utils.methods.detection import Detections, Propose, all_proposals, checked_examples, suppress
from wsol_utils.methods.patch_tiling import cut_patches
from wsol_utils.methods.proposals import checked_proposals
from wsol_utils.methods.regression_heads import frozen_features
from wsol_utils.methods.selective_search import selective_search
from wsol_utils.methods.training import fit

LARGEST_IOU_OF_BACKGROUND, LEAST_IOU_TO_REGRESS = 0.3, 0.6
FEATURE_NORM = 20.0  # mean norm to which features are scaled, so that the constants of SVM and ridge fit every layer


def warp_boxes(image: np.ndarray, boxes: np.ndarray, size: int, context: float = 0.07) -> np.ndarray:
    """Cut boxes (m, 4) out of an image and warp each to a square, uint8 (m, size, size, 3).

    R-CNN, appendix A: with a margin of `context` of the square on each side (16 of 227 pixels), here cut off at the
    edges of the image. Raises ValueError as `proposals.checked_proposals`.

    >>> warp_boxes(np.zeros((20, 30, 3), np.uint8), np.array([[0, 0, 30, 5]]), 8).shape
    (1, 8, 8, 3)
    """
    checked_proposals([boxes], 1, image.shape[:2])
    boxes = np.asarray(boxes, dtype=np.float64)
    margins = (boxes[:, 2:] - boxes[:, :2]) * context / (1 - 2 * context)
    low = np.floor(np.maximum(boxes[:, :2] - margins, 0) + 1e-6)
    high = np.ceil(np.minimum(boxes[:, 2:] + margins, image.shape[1::-1]) - 1e-6)
    return cut_patches(image, np.concatenate([low, high], axis=1).astype(np.int64), size)


def label_proposals(
    proposals: np.ndarray, boxes: np.ndarray, labels: np.ndarray, n_classes: int, least_iou: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Return the class, int64 (m,), and the true box, float64 (m, 4), of the object that each proposal overlaps most.

    R-CNN, section 2.3: below `least_iou` it is background, class C, and its box is the proposal itself.

    >>> proposals = np.array([[0, 0, 5, 5], [9, 9, 12, 12]])
    >>> label_proposals(proposals, np.array([[0, 0, 5, 4]]), np.array([2]), 10)[0].tolist()
    [2, 10]
    """
    overlap = np.hstack([iou(proposals, boxes), np.zeros((len(proposals), 1))])  # a column for images without an object
    best = overlap.argmax(axis=1)
    found = overlap.max(axis=1) >= least_iou
    classes = np.where(found, np.append(np.asarray(labels, np.int64), n_classes)[best], n_classes)
    own = np.concatenate([np.asarray(boxes, np.float64).reshape(-1, 4), np.zeros((1, 4))])[best]
    return classes, np.where(found[:, None], own, proposals)


class NearProposals(NamedTuple):
    """Proposals that overlap an object: images int64 (n,), places int64 (n,) among the image's proposals, boxes and
    true boxes float64 (n, 4), classes int64 (n,)."""

    images: np.ndarray
    places: np.ndarray
    boxes: np.ndarray
    truth: np.ndarray
    classes: np.ndarray


def near_proposals(
    proposals: Sequence[np.ndarray],
    boxes: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    n_classes: int,
    least_iou: float = 0.5,
) -> NearProposals:
    """Return the proposals of all images that overlap an object by at least `least_iou`, with that object.

    >>> near = near_proposals([[[0, 0, 5, 5], [9, 9, 12, 12]]], [[[0, 0, 5, 4]]], [[2]], 10)
    >>> near.places.tolist(), near.classes.tolist()
    ([0], [2])
    """
    parts = []
    for i, (own, *truth) in enumerate(zip(proposals, boxes, labels, strict=True)):
        classes, goal = label_proposals(np.asarray(own), *truth, n_classes, least_iou)
        near = np.flatnonzero(classes < n_classes)
        parts.append((np.full(len(near), i), near, np.asarray(own, np.float64)[near], goal[near], classes[near]))
    return NearProposals(*map(np.concatenate, zip(*parts, strict=True)))


def fine_tune(
    network: nn.Module,
    images: np.ndarray,
    boxes: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    proposals: Sequence[np.ndarray],
    n_classes: int,
    *,
    n_epochs: int = 5,
    regions_per_epoch: int = 512,
    learning_rate: float = 0.01,
    seed: int = 0,
) -> tuple[nn.Module, list[dict]]:
    """Return a copy of a classifier trained on warped proposals for C classes and background, and its history.

    R-CNN, section 2.3: the last layer is drawn anew with C + 1 outputs; a quarter of the regions, and the true boxes
    among them, overlap an object by at least half, the others are background. Each epoch draws other regions.
    Raises ValueError as `detection.checked_examples` and `proposals.checked_proposals`, for a network without a linear
    layer, and where no proposal is background.
    """
    boxes, labels = checked_examples(images, boxes, labels, n_classes)
    proposals = checked_proposals(proposals, len(images), images.shape[1:3])
    regions = [np.concatenate([own, truth]) for own, truth in zip(proposals, boxes, strict=True)]
    classes = [label_proposals(own, b, y, n_classes)[0] for own, b, y in zip(regions, boxes, labels, strict=True)]
    places = [(i, j) for i, own in enumerate(regions) for j in range(len(own))]
    is_object = np.concatenate(classes) < n_classes
    if is_object.all():
        raise ValueError("No proposal is background, so nothing tells objects from it; give more proposals.")
    network = deepcopy(network)
    last = next((name for name, part in reversed([*network.named_modules()]) if isinstance(part, nn.Linear)), None)
    if last is None:
        raise ValueError(f"{type(network).__name__} has no linear layer to replace; take a ConvNet with head fc.")
    parent, _, name = last.rpartition(".")
    layer = nn.Linear(network.get_submodule(last).in_features, n_classes + 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        nn.init.normal_(layer.weight, std=0.01)
    setattr(network.get_submodule(parent), name, layer)

    def epoch_of_regions(epoch: int) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng([seed, epoch])
        n_objects = regions_per_epoch // 4
        counts = (n_objects, regions_per_epoch - n_objects)
        drawn = [
            generator.choice(np.flatnonzero(is_object == kind), n)
            for kind, n in zip((True, False), counts, strict=True)
        ]
        chosen = [places[k] for k in np.concatenate(drawn)]
        warped = [warp_boxes(images[i], regions[i][[j]], images.shape[1]) for i, j in chosen]
        return np.concatenate(warped), np.array([classes[i][j] for i, j in chosen])

    history = fit(network, epoch_of_regions, n_epochs, learning_rate=learning_rate, seed=seed, progress=False)
    return network, history


class RCNN:
    """Girshick et al. 2014: features of warped proposals, kept; a linear SVM and a box regression for each class.

    `network` is a classifier whose `layer` gives the features (`regression_heads.frozen_features`), taking squares of
    `size` pixels; `propose(image)` gives boxes (m, 4), by default up to 300 of selective search. SVM (section 2.3): the
    true boxes of a class against all proposals whose IoU with each of them is below 0.3. Box regression (appendix C):
    ridge regression of the offsets of proposals whose IoU with a box of their class is at least 0.6. Both take features
    scaled to a mean norm of 20 (as the public code does). All features are held at once, so that no hard negatives
    need to be mined.
    """

    def __init__(
        self, network: nn.Module, n_classes: int, size: int, layer: str = "conv", propose: Propose | None = None
    ) -> None:
        self.network, self.n_classes, self.size, self.layer = network, n_classes, size, layer
        self.propose = propose or (lambda image: selective_search(image, 300))

    def features(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Return the features of boxes (m, 4), float32 (m, D)."""
        return frozen_features(self.network, warp_boxes(image, boxes, self.size), self.layer).numpy()

    def describe(self, images: np.ndarray, proposals: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return what SVMs and regressions look at: the features of each image's proposals, scaled, float32 (m, D).

        Raises RuntimeError before `fit`.
        """
        if not hasattr(self, "scale"):
            raise RuntimeError("This R-CNN has not been trained; call fit first.")
        return [self.features(*pair) * self.scale for pair in zip(images, proposals, strict=True)]

    def fit(
        self,
        images: np.ndarray,
        boxes: Sequence[np.ndarray],
        labels: Sequence[np.ndarray],
        proposals: Sequence[np.ndarray] | None = None,
        *,
        svm_cost: float = 0.01,
        ridge: float = 10.0,
        seed: int = 0,
    ) -> Self:
        """Train SVMs and regressions on proposals and true boxes; the network stays as it is.

        `svm_cost` and `ridge` suit some hundred objects; for VOC's thousands the paper has 0.001 and 1000.
        Raises ValueError for examples that do not fit (see `detection.checked_examples`) or bad proposals, and for a
        class whose boxes are in every proposal, so that it has no background.
        """
        boxes, labels = checked_examples(images, boxes, labels, self.n_classes)
        given = all_proposals(images, self.propose, proposals)
        regions = [np.concatenate(pair) for pair in zip(given, boxes, strict=True)]
        kept = np.concatenate([self.features(*pair) for pair in zip(images, regions, strict=True)])
        self.scale = FEATURE_NORM / max(np.linalg.norm(kept, axis=1).mean(), 1e-6)
        kept *= self.scale
        self.svms, self.regressors = [], []
        for label in range(self.n_classes):
            own = [b[y == label].numpy() for b, y in zip(boxes, labels, strict=True)]
            overlap = [np.hstack([iou(r, b), np.zeros((len(r), 1))]) for r, b in zip(regions, own, strict=True)]
            best = np.concatenate([o.max(axis=1) for o in overlap])
            is_truth = np.concatenate([
                np.append(np.zeros(len(m), bool), y.numpy() == label) for m, y in zip(given, labels, strict=True)
            ])  # fmt: skip
            used = is_truth | (best < LARGEST_IOU_OF_BACKGROUND)
            if is_truth[used].all():
                raise ValueError(
                    f"Class {label} overlaps every proposal, so it has no background; give more proposals."
                )
            svm = LinearSVC(C=svm_cost, random_state=seed, max_iter=5000)
            self.svms.append(svm.fit(kept[used], is_truth[used]))
            near = best >= LEAST_IOU_TO_REGRESS
            truth = np.concatenate(
                [np.vstack([b, np.zeros((1, 4))])[o.argmax(axis=1)] for b, o in zip(own, overlap, strict=True)]
            )
            targets = encode_boxes(torch.tensor(truth[near]), torch.from_numpy(np.concatenate(regions)[near]))
            self.regressors.append(Ridge(alpha=ridge).fit(kept[near], targets.numpy()))
        return self

    def detect(
        self,
        images: np.ndarray,
        proposals: Sequence[np.ndarray] | None = None,
        *,
        kept: Sequence[np.ndarray] | None = None,
        regress: bool = True,
        least_score: float = -1.0,
        n_best: int = 100,
    ) -> list[Detections]:
        """Return the detections of each image: scores are distances to the SVMs, suppression takes IoU 0.3.

        `kept` are the features of the given proposals from `describe`, for a second look without the network;
        `regress=False` keeps the proposals as boxes. Raises RuntimeError before `fit`, ValueError for bad proposals and
        for features of another number of them.
        """
        if not hasattr(self, "svms"):
            raise RuntimeError("This R-CNN has not been trained; call fit first.")
        found, given = [], all_proposals(images, self.propose, proposals)
        if kept is not None and list(map(len, kept)) != list(map(len, given)):
            raise ValueError("The features kept are of other proposals; give the proposals that they describe.")
        for i, (image, own) in enumerate(zip(images, given, strict=True)):
            rows = self.features(image, own.numpy()) * self.scale if kept is None else kept[i]
            scores = torch.from_numpy(np.stack([svm.decision_function(rows) for svm in self.svms], axis=1))
            boxes = own[:, None].expand(-1, self.n_classes, 4).double()
            if regress:
                offsets = np.stack([regressor.predict(rows) for regressor in self.regressors], axis=1)
                boxes = clip_boxes_to_image(decode_boxes(torch.from_numpy(offsets).double(), boxes), image.shape[:2])
            which, labels = torch.nonzero(scores > least_score, as_tuple=True)
            found.append(suppress(boxes[which, labels], labels, scores[which, labels], n_best=n_best))
        return found
