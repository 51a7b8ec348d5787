import numpy as np
import pytest
import torch

from wsol_utils.methods.box_coding import anchor_boxes, decode_boxes
from wsol_utils.methods.convnet import ConvNet
from wsol_utils.methods.faster_rcnn import FasterRCNN
from wsol_utils.methods.networks import normalise
from wsol_utils.methods.proposals import checked_proposals


def moving_detector():
    """Random numbers everywhere in the proposal network, also in the offsets."""
    detector = FasterRCNN(ConvNet(2, 64, 0.05), 2, sides=(24, 40)).eval()
    torch.manual_seed(0)
    for parameter in detector.proposer.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return detector


def test_shifting_the_input_by_a_stride_shifts_the_proposals():
    """Away from the edges of the image, where padding is seen."""
    detector = moving_detector()
    image = np.random.default_rng(0).integers(0, 256, (1, 208, 208, 3), np.uint8)
    n_anchors, cells = 6, 26
    with torch.no_grad():
        found = []
        for moved in (image, np.roll(image, (16, 8), axis=(1, 2))):  # two cells down, one right
            images, features = detector._features(normalise(moved))
            objectness, offsets = detector.proposer.head(list(features.values()))
            offsets = offsets[0].reshape(1, n_anchors, 4, cells, cells).permute(0, 3, 4, 1, 2)
            anchors = detector.proposer.anchor_generator(images, list(features.values()))[0]
            boxes = decode_boxes(offsets, anchors.reshape(1, cells, cells, n_anchors, 4))
            found.append((objectness[0], boxes))
    (scores, boxes), (moved_scores, moved_boxes) = found
    torch.testing.assert_close(moved_scores[:, :, 10:-8, 9:-9], scores[:, :, 8:-10, 8:-10], atol=1e-4, rtol=0)
    shift = torch.tensor([8.0, 16, 8, 16])
    torch.testing.assert_close(moved_boxes[:, 10:-8, 9:-9], boxes[:, 8:-10, 8:-10] + shift, atol=1e-3, rtol=1e-4)
    assert boxes[:, 8:-10, 8:-10].std() > 10  # they are not the same everywhere


@pytest.mark.parametrize(("height", "width"), [(64, 64), (52, 75)])
def test_anchors_are_those_of_box_coding(height, width):
    detector = moving_detector()
    images, features = detector._features(torch.zeros(1, 3, height, width))
    cells = -(-height // 8), -(-width // 8)
    assert features["0"].shape[2:] == cells
    anchors = detector.proposer.anchor_generator(images, [features["0"]])[0]
    torch.testing.assert_close(anchors, anchor_boxes(cells, 8, (24, 40)))


def test_proposals_lie_in_the_image_and_are_few():
    images = np.random.default_rng(1).integers(0, 256, (3, 52, 75, 3), np.uint8)
    detector = FasterRCNN(ConvNet(2, 64, 0.05), 2, sides=(16, 24), n_proposals=30)
    proposals = detector.proposals(images, batch_size=2)
    checked_proposals(proposals, 3, (52, 75))
    assert all(0 < len(own) <= 30 for own in proposals)


def test_four_losses_fall_together(squares):
    images, boxes, labels = squares
    detector = FasterRCNN(ConvNet(2, 64, 0.1), 2, sides=(16, 24), n_proposals=40)
    history = detector.fit(images, boxes, labels, n_epochs=8, batch_size=4, learning_rate=3e-3)
    assert set(history[0]) == {"objectness", "proposal box", "class", "box"}
    assert sum(history[-1].values()) < sum(history[0].values())
    assert history[-1]["objectness"] < history[0]["objectness"]
    found = detector.detect(images[:2])
    assert len(found) == 2
    assert all(set(one.labels) <= {0, 1} for one in found)


def test_images_without_an_object_teach_background(squares):
    images, boxes, labels = squares
    boxes, labels = [*boxes[:-1], np.zeros((0, 4))], [*labels[:-1], np.zeros(0)]
    detector = FasterRCNN(ConvNet(2, 64, 0.05), 2, sides=(16, 24), n_proposals=20)
    assert np.isfinite(sum(detector.fit(images, boxes, labels, n_epochs=1)[0].values()))


def test_errors_name_the_thing_and_the_cure():
    with pytest.raises(ValueError, match="16x16 pixels are too small for this detector; enlarge them to 17"):
        moving_detector().detect(np.zeros((1, 16, 16, 3), np.uint8))
