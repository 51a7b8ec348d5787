"""What all detectors share: what they give, how their examples are checked, and one loop that trains the networks.

A detector has `fit(images, boxes, labels)` and `detect(images)`. `images` is uint8 (N, H, W, 3); `boxes` are N arrays
(k, 4), `labels` N arrays (k,) of classes 0 .. C - 1. The detectors: `sliding_detector.HogDetector`, `rcnn.RCNN`,
`fast_rcnn.FastRCNN`, `faster_rcnn.FasterRCNN`, `yolo.YOLO`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import nn
from torchvision.ops import batched_nms
from tqdm import tqdm

from wsol_utils.evaluation.boxes import areas, checked_boxes
from wsol_utils.methods.networks import device_of, evaluating, normalise
from wsol_utils.methods.proposals import checked_proposals

Propose = Callable[[np.ndarray], np.ndarray]


class Detections(NamedTuple):
    """What is found in one image, best first: boxes float32 (m, 4), labels int64 (m,), scores float32 (m,)."""

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


def checked_examples(
    images: np.ndarray, boxes: Sequence[np.ndarray], labels: Sequence[np.ndarray], n_classes: int
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return boxes float32 (k, 4) and labels int64 (k,) of each training image, after checking them.

    Raises ValueError for lists of unequal length, boxes that are empty or reach out of the image, labels outside
    0 .. C - 1, and a class without an example.

    >>> boxes, labels = checked_examples(np.zeros((1, 32, 32, 3), np.uint8), [[[0, 0, 5, 5]]], [[0]], 1)
    >>> boxes[0].tolist(), labels[0].tolist()
    ([[0.0, 0.0, 5.0, 5.0]], [0])
    """
    if not len(images) == len(boxes) == len(labels):
        raise ValueError(
            f"{len(images)} images need as many lists of boxes and labels, not {len(boxes)}, {len(labels)}."
        )
    height, width = images.shape[1:3]
    kept_boxes = [checked_boxes(own).astype(np.float32) for own in boxes]
    kept_labels = [np.asarray(own, dtype=np.int64).reshape(-1) for own in labels]
    for i, (own, names) in enumerate(zip(kept_boxes, kept_labels, strict=True)):
        if len(own) != len(names):
            raise ValueError(f"Image {i} has {len(own)} boxes and {len(names)} labels; give one label for each box.")
        if (own[:, :2] < 0).any() or (own[:, 2:] > [width, height]).any():
            raise ValueError(f"Image {i} has a box outside its {width}x{height} pixels; clip boxes to the image first.")
        if (areas(own) <= 0).any():
            raise ValueError(f"Image {i} has a box without area; leave it out.")
        if (wrong := names[(names < 0) | (names >= n_classes)]).size:
            raise ValueError(f"Image {i} has the label {wrong[0]}; this detector has classes 0 to {n_classes - 1}.")
    missing = sorted(set(range(n_classes)).difference(*map(set, kept_labels)))
    if missing:
        raise ValueError(f"Class {missing[0]} has no box in the training images; add images that show it.")
    return list(map(torch.from_numpy, kept_boxes)), list(map(torch.from_numpy, kept_labels))


def all_proposals(
    images: np.ndarray, propose: Propose, proposals: Sequence[np.ndarray] | None = None
) -> list[torch.Tensor]:
    """Return the proposals of each image, float32 (m, 4), those given or what `propose(image)` gives; checked.

    Raises ValueError as `proposals.checked_proposals`.
    """
    given = [propose(image) for image in images] if proposals is None else proposals
    return list(map(torch.from_numpy, checked_proposals(given, len(images), images.shape[1:3])))


def suppress(
    boxes: torch.Tensor, labels: torch.Tensor, scores: torch.Tensor, iou_threshold: float = 0.3, n_best: int = 100
) -> Detections:
    """Keep the best box of every class where several overlap by more than a threshold (torchvision's `batched_nms`).

    >>> found = suppress(torch.tensor([[0.0, 0, 9, 9], [1, 0, 9, 9]]), torch.tensor([3, 3]), torch.tensor([0.5, 0.75]))
    >>> found.boxes.tolist(), found.labels.tolist(), found.scores.tolist()
    ([[1.0, 0.0, 9.0, 9.0]], [3], [0.75])
    """
    kept = batched_nms(boxes.float(), scores.float(), labels, iou_threshold)[:n_best]
    return Detections(boxes[kept].float().numpy(), labels[kept].numpy(), scores[kept].float().numpy())


class Trunk(nn.Module):
    """The convolutions of a classifier as the trunk of a detector, (B, 3, H, W) to (B, K, h, w).

    They go on learning, but batch normalisation keeps the statistics it has, as in the public detectors: batches of a
    few images would give poor ones. Raises ValueError for a network without `features` and `stride`, and for images
    smaller than the 17 pixels that a ConvNet needs.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        if not hasattr(network, "features") or not hasattr(network, "stride"):
            raise ValueError(
                f"{type(network).__name__} has no `features` with a `stride`; take a ConvNet as the trunk."
            )
        self.features, self.stride = network.features, network.stride
        with evaluating(self), torch.no_grad():
            self.n_channels = self.features(torch.zeros(1, 3, 32, 32, device=device_of(network))).shape[1]

    def train(self, mode: bool = True) -> Self:
        return super().train(False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        height, width = pixels.shape[2:]
        if min(height, width) < 17:
            raise ValueError(f"Images of {width}x{height} pixels are too small for this detector; enlarge them to 17.")
        return self.features(pixels)


@contextmanager
def _leaving_no_trace(network: nn.Module) -> Iterator[None]:
    """Give every module its mode back and drop the gradients, also after an error."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        network.zero_grad(set_to_none=True)


class NetworkDetector(nn.Module):
    """A detector that is one network. Subclasses give `losses` and `find`; this class trains them and runs them."""

    n_classes: int
    propose: Propose | None = None  # proposals from outside, for those that need them

    def losses(
        self, pixels: torch.Tensor, boxes: list[torch.Tensor], labels: list[torch.Tensor], proposals: list[torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Return the losses of a batch by name; training minimises their sum."""
        raise NotImplementedError

    def find(self, pixels: torch.Tensor, proposals: list[torch.Tensor]) -> list[Detections]:
        """Return the detections of a batch."""
        raise NotImplementedError

    def fit(
        self,
        images: np.ndarray,
        boxes: Sequence[np.ndarray],
        labels: Sequence[np.ndarray],
        proposals: Sequence[np.ndarray] | None = None,
        *,
        n_epochs: int = 10,
        learning_rate: float = 1e-3,
        batch_size: int = 8,
        seed: int = 0,
        progress: bool = False,
    ) -> list[dict[str, float]]:
        """Train end to end by AdamW on a one-cycle schedule; return the mean of every loss for each epoch.

        `proposals` saves the time to make them, for a detector that needs them from outside. Modes come back as they
        were, no gradients stay. Raises ValueError for examples that do not fit (see `checked_examples`), RuntimeError
        if the loss is no longer finite.
        """
        boxes, labels = checked_examples(images, boxes, labels, self.n_classes)
        given = self._proposals(images, proposals)
        device, generator = device_of(self), torch.Generator().manual_seed(seed)
        optimiser = torch.optim.AdamW(self.parameters(), lr=learning_rate, weight_decay=1e-4)
        n_steps = n_epochs * -(-len(images) // batch_size) + 1  # the rate reaches zero after the last step
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, n_steps)
        history = []
        with torch.random.fork_rng(), _leaving_no_trace(self):
            torch.manual_seed(seed)  # regions and anchors are sampled by torch's own generator
            for _ in tqdm(range(n_epochs), "epochs", disable=not progress):
                self.train()
                sums: dict[str, float] = {}
                for index in torch.randperm(len(images), generator=generator).split(batch_size):
                    own = [[one[i].to(device) for i in index] for one in (boxes, labels, given)]
                    losses = self.losses(normalise(images[index.numpy()]).to(device), *own)
                    total = sum(losses.values())
                    if not torch.isfinite(total):
                        raise RuntimeError(f"The loss is {total.item()}; lower the learning rate of {learning_rate}.")
                    optimiser.zero_grad()
                    total.backward()
                    optimiser.step()
                    schedule.step()
                    for name, value in losses.items():
                        sums[name] = sums.get(name, 0) + len(index) * value.item() / len(images)
                history.append(sums)
        return history

    def detect(
        self, images: np.ndarray, proposals: Sequence[np.ndarray] | None = None, batch_size: int = 16
    ) -> list[Detections]:
        """Return the detections of each of the uint8 images (N, H, W, 3), in evaluation mode."""
        given, found = self._proposals(images, proposals), []
        device = device_of(self)
        with evaluating(self), torch.no_grad():
            for start in range(0, len(images), batch_size):
                pixels = normalise(images[start : start + batch_size]).to(device)
                found += self.find(pixels, [own.to(device) for own in given[start : start + batch_size]])
        return found

    def _proposals(self, images: np.ndarray, proposals: Sequence[np.ndarray] | None) -> list[torch.Tensor]:
        if self.propose is None:
            return [torch.zeros(0, 4)] * len(images)
        return all_proposals(images, self.propose, proposals)
