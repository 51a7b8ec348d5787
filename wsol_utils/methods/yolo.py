"""YOLO: one network writes boxes and classes straight into the cells of a grid, in one pass, without proposals."""

import torch
from torch import nn
from torchvision.ops import clip_boxes_to_image

from wsol_utils.methods.box_coding import decode_grid, encode_grid
from wsol_utils.methods.detection import Detections, NetworkDetector, Trunk, suppress

COORDINATES, NO_OBJECT = 5.0, 0.5  # weights of the losses, lambda in the paper


def yolo_losses(
    outputs: torch.Tensor, targets: torch.Tensor, image_size: tuple[int, int], n_boxes: int
) -> dict[str, torch.Tensor]:
    """Return the parts of YOLO's loss, each the mean over images of a sum of squares (section 2.2, equation 3).

    `outputs` is (N, S, S, 5B + C), `targets` (N, S, S, 5 + C) from `encode_grid`. In a cell with an object the one of B
    boxes that overlaps it most is responsible: "place" (x, y), "size" (roots of w, h), both times 5, and "confidence",
    which learns that IoU. All other boxes learn confidence 0, "no object", times 0.5. "class" counts in cells with an
    object.

    >>> target = encode_grid(torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([1]), (8, 8), 2, 2)[None]
    >>> {name: round(value.item(), 3) for name, value in yolo_losses(target, target, (8, 8), 1).items()}
    {'place': 0.0, 'size': 0.0, 'confidence': 0.0, 'no object': 0.0, 'class': 0.0}
    """
    n_images, n_cells = outputs.shape[:2]
    numbers = outputs[..., : 5 * n_boxes].unflatten(-1, (n_boxes, 5))
    holds = targets[..., 4] == 1
    overlaps = torch.zeros(numbers.shape[:-1], device=outputs.device)
    with torch.no_grad():
        for overlap, output, target in zip(overlaps, outputs, targets, strict=True):
            boxes, _ = decode_grid(output, image_size, n_boxes)
            truth, _ = decode_grid(target, image_size)
            overlap[:] = _own_iou(boxes.reshape(-1, n_boxes, 4), truth).reshape(n_cells, n_cells, n_boxes)
    responsible = nn.functional.one_hot(overlaps.argmax(-1), n_boxes).bool() & holds[..., None]
    found, wanted = numbers[responsible], targets[holds]
    return {
        "place": COORDINATES * (found[:, :2] - wanted[:, :2]).square().sum() / n_images,
        "size": COORDINATES * (found[:, 2:4] - wanted[:, 2:4]).square().sum() / n_images,
        "confidence": (found[:, 4] - overlaps[responsible]).square().sum() / n_images,
        "no object": NO_OBJECT * numbers[~responsible][:, 4].square().sum() / n_images,
        "class": (outputs[holds][:, 5 * n_boxes :] - wanted[:, 5:]).square().sum() / n_images,
    }


class YOLO(NetworkDetector):
    """Redmon et al. 2016: convolutions, then for each of S x S cells B boxes with confidence and C class scores.

    `network` is a ConvNet, whose convolutions are shared, not copied: training changes them. The last layer is linear
    and the loss a sum of squares, as in the paper. Our choices: two 3x3 convolutions at S x S cells instead of its two
    full layers, which need more images than a laptop has time for; the network gives the roots of w and h.
    """

    def __init__(
        self, network: nn.Module, n_classes: int, n_cells: int = 6, n_boxes: int = 2, n_units: int = 128, seed: int = 0
    ) -> None:
        super().__init__()
        self.n_classes, self.n_cells, self.n_boxes, self.trunk = n_classes, n_cells, n_boxes, Trunk(network)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = nn.Sequential(
                nn.Conv2d(self.trunk.n_channels, n_units, 3, padding=1),
                nn.LeakyReLU(0.1),
                nn.AdaptiveAvgPool2d(n_cells),
                nn.Conv2d(n_units, n_units, 3, padding=1),
                nn.LeakyReLU(0.1),
                nn.Conv2d(n_units, 5 * n_boxes + n_classes, 1),
            )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the grids, (N, S, S, 5B + C)."""
        return self.head(self.trunk(pixels)).permute(0, 2, 3, 1)

    def losses(self, pixels, boxes, labels, proposals) -> dict[str, torch.Tensor]:
        size = tuple(pixels.shape[2:])
        grids = [
            encode_grid(own.cpu(), names.cpu(), size, self.n_cells, self.n_classes)
            for own, names in zip(boxes, labels, strict=True)
        ]
        return yolo_losses(self(pixels), torch.stack(grids).to(pixels.device), size, self.n_boxes)

    def find(self, pixels, proposals) -> list[Detections]:
        found, size = [], tuple(pixels.shape[2:])
        for output in self(pixels).cpu():
            boxes, scores = decode_grid(output, size, self.n_boxes)
            rows, labels = torch.nonzero(scores > 0.02, as_tuple=True)
            boxes = clip_boxes_to_image(boxes, size)
            found.append(suppress(boxes[rows], labels, scores[rows, labels], iou_threshold=0.5))
        return found


def _own_iou(boxes: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """IoU (n, B) of the B boxes of each of n cells with that cell's true box (n, 4); 0 where it has none."""
    low, high = torch.maximum(boxes[..., :2], truth[:, None, :2]), torch.minimum(boxes[..., 2:], truth[:, None, 2:])
    common = (high - low).clamp(min=0).prod(-1)
    sizes = (boxes[..., 2:] - boxes[..., :2]).prod(-1) + (truth[:, None, 2:] - truth[:, None, :2]).prod(-1)
    return common / (sizes - common).clamp(min=1e-6)
