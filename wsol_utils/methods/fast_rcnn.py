"""Fast R-CNN: one pass of the convolutions for all regions, RoI pooling, one loss for classes and boxes."""

import torch
from torch import nn
from torchvision import ops
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads

from wsol_utils.methods.detection import Detections, NetworkDetector, Propose, Trunk
from wsol_utils.methods.selective_search import selective_search

CELLS = 5  # each way, to which a region is pooled
N_UNITS = 256
REGIONS_PER_IMAGE, SHARE_OF_OBJECTS = 64, 0.25
LEAST_SCORE, SUPPRESSION, N_BEST = 0.02, 0.3, 100


def roi_pool(maps: torch.Tensor, boxes: list[torch.Tensor], n_cells: int, stride: int) -> torch.Tensor:
    """Return the maximum of feature maps (B, K, h, w) in each cell of each region, (m, K, n_cells, n_cells).

    Fast R-CNN, section 2.1: a box (x0, y0, x1, y1) of the image, divided by the stride and rounded, is cut into n x n
    cells of about equal size, which share a row of the map where they do not divide it. `boxes` has (m, 4) for each
    image. By torchvision's `roi_pool`, whose ends are inclusive: it takes away one cell of our exclusive ends.

    >>> roi_pool(torch.arange(16.0).reshape(1, 1, 4, 4), [torch.tensor([[0.0, 0, 16, 16]])], 2, 8).flatten().tolist()
    [0.0, 1.0, 4.0, 5.0]
    """
    inclusive = [own - own.new_tensor([0, 0, stride, stride]) for own in boxes]
    return ops.roi_pool(maps, inclusive, n_cells, 1 / stride)


class RegionPooling(nn.Module):
    """`roi_pool` in the form that torchvision's `RoIHeads` call."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(
        self, features: dict[str, torch.Tensor], boxes: list[torch.Tensor], image_sizes: list[tuple[int, int]]
    ) -> torch.Tensor:
        return roi_pool(features["0"], boxes, CELLS, self.stride)


def region_heads(trunk: Trunk, n_classes: int, n_units: int = N_UNITS) -> RoIHeads:
    """Return the second half of Fast R-CNN: RoI pooling, two full layers, C + 1 scores and (C + 1) x 4 offsets.

    Section 2: torchvision's `RoIHeads`, which sample 64 regions an image, a quarter with an IoU of at least 0.5, the
    true boxes among them; soft-max over classes and background (its class 0), smooth L1 on the offsets of the class.
    """
    return RoIHeads(
        box_roi_pool=RegionPooling(trunk.stride),
        box_head=TwoMLPHead(trunk.n_channels * CELLS**2, n_units),
        box_predictor=FastRCNNPredictor(n_units, n_classes + 1),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=REGIONS_PER_IMAGE,
        positive_fraction=SHARE_OF_OBJECTS,
        bbox_reg_weights=None,
        score_thresh=LEAST_SCORE,
        nms_thresh=SUPPRESSION,
        detections_per_img=N_BEST,
    )


def as_targets(boxes: list[torch.Tensor], labels: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """Return the truth in torchvision's form, where class 0 is background."""
    return [{"boxes": own, "labels": names + 1} for own, names in zip(boxes, labels, strict=True)]


def as_detections(results: list[dict[str, torch.Tensor]]) -> list[Detections]:
    """Turn torchvision's results into detections, best first, with classes from 0."""
    return [
        Detections(one["boxes"].cpu().numpy(), one["labels"].cpu().numpy() - 1, one["scores"].cpu().numpy())
        for one in results
    ]


class FastRCNN(NetworkDetector):
    """Girshick 2015: the convolutions of a classifier, then `region_heads` on proposals from outside.

    `network` is a ConvNet, whose convolutions are shared, not copied: training changes them. `propose(image)` gives
    boxes (m, 4), by default up to 300 of selective search. Two losses: "class" (soft-max over C + 1) and "box".
    """

    def __init__(self, network: nn.Module, n_classes: int, propose: Propose | None = None, seed: int = 0) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.propose = propose or (lambda image: selective_search(image, 300))
        self.trunk = Trunk(network)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.heads = region_heads(self.trunk, n_classes)

    def losses(self, pixels, boxes, labels, proposals) -> dict[str, torch.Tensor]:
        sizes = [tuple(pixels.shape[2:])] * len(pixels)
        _, losses = self.heads({"0": self.trunk(pixels)}, proposals, sizes, as_targets(boxes, labels))
        return {"class": losses["loss_classifier"], "box": losses["loss_box_reg"]}

    def find(self, pixels, proposals) -> list[Detections]:
        sizes = [tuple(pixels.shape[2:])] * len(pixels)
        return as_detections(self.heads({"0": self.trunk(pixels)}, proposals, sizes)[0])
