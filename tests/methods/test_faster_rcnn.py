import numpy as np
import pytest
import torch
from torchvision.ops import clip_boxes_to_image, nms

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
            objectness, offsets = detector.proposer.head([detector.trunk(normalise(moved))])
            offsets = offsets[0].reshape(1, n_anchors, 4, cells, cells).permute(0, 3, 4, 1, 2)
            anchors = anchor_boxes((cells, cells), 8, (24, 40))
            boxes = decode_boxes(offsets, anchors.reshape(1, cells, cells, n_anchors, 4))
            found.append((objectness[0], boxes))
    (scores, boxes), (moved_scores, moved_boxes) = found
    torch.testing.assert_close(moved_scores[:, :, 10:-8, 9:-9], scores[:, :, 8:-10, 8:-10], atol=1e-4, rtol=0)
    shift = torch.tensor([8.0, 16, 8, 16])
    torch.testing.assert_close(moved_boxes[:, 10:-8, 9:-9], boxes[:, 8:-10, 8:-10] + shift, atol=1e-3, rtol=1e-4)
    assert boxes[:, 8:-10, 8:-10].std() > 10  # they are not the same everywhere


@pytest.mark.parametrize(("height", "width"), [(64, 64), (52, 75)])
def test_proposals_are_the_best_anchors_moved(height, width):
    """By hand from the maps of a padded image: anchors of box_coding, moved, clipped, suppressed at IoU 0.7."""
    detector = moving_detector()
    image = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
    padding = 0, -width % 8, 0, -height % 8
    with torch.no_grad():
        maps = detector.trunk(torch.nn.functional.pad(normalise(image), padding))
        (objectness,), (offsets,) = detector.proposer.head([maps])
    anchors = anchor_boxes(maps.shape[2:], 8, (24, 40))
    boxes = decode_boxes(offsets[0].unflatten(0, (6, 4)).permute(2, 3, 0, 1).reshape(-1, 4), anchors)
    scores, best = objectness[0].permute(1, 2, 0).flatten().sort(descending=True)
    boxes = clip_boxes_to_image(boxes[best[:500]], (height, width))
    whole = (boxes[:, 2:] - boxes[:, :2]).min(1).values >= 1e-3
    kept = nms(boxes[whole], scores[:500][whole], 0.7)[:100]
    (found,) = detector.proposals(image)
    np.testing.assert_allclose(found, boxes[whole][kept], atol=1e-3)


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
