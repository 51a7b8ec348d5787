"""Faster R-CNN: a region proposal network on the shared convolutions takes the place of outside proposals."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead

from wsol_utils.methods.detection import Detections, NetworkDetector, Trunk
from wsol_utils.methods.fast_rcnn import as_detections, as_targets, region_heads
from wsol_utils.methods.networks import device_of, evaluating, normalise

SIDES, RATIOS = (24, 40, 64), (0.5, 1.0, 2.0)


class FasterRCNN(NetworkDetector):
    """Ren et al. 2015: convolutions, region proposal network and the heads of Fast R-CNN, trained together.

    `network` is a ConvNet, whose convolutions are shared, not copied: training changes them. At each cell of its maps
    the proposal network judges anchors of 3 sides (pixels, here for images of about 100 pixels) and 3 ratios
    (`box_coding.anchor_boxes`): positive from IoU 0.7, negative below 0.3. Four losses: "objectness" and "proposal
    box", "class" and "box" (torchvision's `RegionProposalNetwork` and `RoIHeads`).
    """

    def __init__(
        self,
        network: nn.Module,
        n_classes: int,
        sides: Sequence[int] = SIDES,
        ratios: Sequence[float] = RATIOS,
        n_proposals: int = 100,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.n_classes, self.trunk = n_classes, Trunk(network)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.proposer = RegionProposalNetwork(
                AnchorGenerator((tuple(sides),), (tuple(ratios),)),
                RPNHead(self.trunk.n_channels, len(sides) * len(ratios)),
                fg_iou_thresh=0.7,
                bg_iou_thresh=0.3,
                batch_size_per_image=64,
                positive_fraction=0.5,
                pre_nms_top_n={"training": 5 * n_proposals, "testing": 5 * n_proposals},
                post_nms_top_n={"training": n_proposals, "testing": n_proposals},
                nms_thresh=0.7,
            )
            self.heads = region_heads(self.trunk, n_classes)

    def losses(self, pixels, boxes, labels, proposals) -> dict[str, torch.Tensor]:
        images, features, targets = *self._features(pixels), as_targets(boxes, labels)
        proposals, of_proposals = self.proposer(images, features, targets)
        _, of_heads = self.heads(features, proposals, images.image_sizes, targets)
        return {
            "objectness": of_proposals["loss_objectness"],
            "proposal box": of_proposals["loss_rpn_box_reg"],
            "class": of_heads["loss_classifier"],
            "box": of_heads["loss_box_reg"],
        }

    def find(self, pixels, proposals) -> list[Detections]:
        images, features = self._features(pixels)
        return as_detections(self.heads(features, self.proposer(images, features)[0], images.image_sizes)[0])

    def proposals(self, images: np.ndarray, batch_size: int = 16) -> list[np.ndarray]:
        """Return the boxes of the proposal network for uint8 images (N, H, W, 3), float32 (m, 4) each, best first."""
        found = []
        with evaluating(self), torch.no_grad():
            for start in range(0, len(images), batch_size):
                pixels = normalise(images[start : start + batch_size]).to(device_of(self))
                found += [own.cpu().numpy() for own in self.proposer(*self._features(pixels))[0]]
        return found

    def _features(self, pixels: torch.Tensor) -> tuple[ImageList, dict[str, torch.Tensor]]:
        """Pad to whole cells, so that anchors are one stride apart, and run the convolutions."""
        height, width = pixels.shape[2:]
        stride = self.trunk.stride
        padded = nn.functional.pad(pixels, (0, -width % stride, 0, -height % stride))
        return ImageList(padded, [(height, width)] * len(pixels)), {"0": self.trunk(padded)}
