import numpy as np
import pytest
import torch

from wsol_utils.evaluation.boxes import iou
from wsol_utils.methods.box_coding import decode_grid, encode_grid
from wsol_utils.methods.convnet import ConvNet
from wsol_utils.methods.yolo import YOLO, yolo_losses


def test_losses_equal_the_equation_spelt_out():
    generator = torch.Generator().manual_seed(0)
    n_cells, n_boxes, n_classes, size = 3, 2, 4, (60, 90)
    outputs = torch.rand(2, n_cells, n_cells, 5 * n_boxes + n_classes, generator=generator)
    truth = [
        (torch.tensor([[5.0, 5, 35, 30], [50, 30, 88, 58]]), torch.tensor([1, 3])),
        (torch.tensor([[20.0, 10, 80, 50]]), torch.tensor([0])),
    ]
    targets = torch.stack([encode_grid(*own, size, n_cells, n_classes) for own in truth])
    expected = dict.fromkeys(("place", "size", "confidence", "no object", "class"), 0.0)
    for output, target in zip(outputs, targets, strict=True):
        boxes = decode_grid(output, size, n_boxes)[0].reshape(n_cells, n_cells, n_boxes, 4)
        wanted = decode_grid(target, size)[0].reshape(n_cells, n_cells, 4)
        for i, j in np.ndindex(n_cells, n_cells):
            numbers = output[i, j, : 5 * n_boxes].reshape(n_boxes, 5)
            responsible = None
            if target[i, j, 4] == 1:
                overlaps = iou(boxes[i, j].numpy(), wanted[i, j].numpy())[:, 0]
                responsible = int(overlaps.argmax())
                one = numbers[responsible]
                expected["place"] += 5 * float((one[:2] - target[i, j, :2]).square().sum())
                expected["size"] += 5 * float((one[2:4] - target[i, j, 2:4]).square().sum())
                expected["confidence"] += float(one[4] - overlaps[responsible]) ** 2
                expected["class"] += float((output[i, j, 5 * n_boxes :] - target[i, j, 5:]).square().sum())
            for b in range(n_boxes):
                expected["no object"] += 0.5 * float(numbers[b, 4]) ** 2 * (b != responsible)
    found = yolo_losses(outputs, targets, size, n_boxes)
    assert {name: value.item() for name, value in found.items()} == pytest.approx(
        {name: value / 2 for name, value in expected.items()}, rel=1e-4
    )


def test_the_truth_has_no_loss_and_gives_its_boxes():
    boxes, labels = torch.tensor([[5.0, 5, 35, 30], [50, 30, 88, 58]]), torch.tensor([1, 3])
    target = encode_grid(boxes, labels, (60, 90), 3, 4)[None]
    assert sum(yolo_losses(target, target, (60, 90), 1).values()) < 1e-6


def test_the_output_is_one_tensor_of_the_grid():
    assert YOLO(ConvNet(2, 64, 0.05), 20, n_cells=7, n_boxes=2)(torch.zeros(3, 3, 64, 96)).shape == (3, 7, 7, 30)


def test_loss_falls_and_the_training_squares_are_found(squares):
    images, boxes, labels = squares
    detector = YOLO(ConvNet(2, 64, 0.1), 2, n_cells=4, n_units=32)
    history = detector.fit(images, boxes, labels, n_epochs=30, batch_size=4, learning_rate=5e-3)
    assert sum(history[-1].values()) < 0.5 * sum(history[0].values())
    found = detector.detect(images)
    hits = [iou(one.boxes[:1], own).max() >= 0.5 for one, own in zip(found, boxes, strict=True) if len(one.boxes)]
    assert sum(hits) >= 6
    for one in found:
        assert (one.boxes >= 0).all()
        assert (one.boxes <= 64).all()
