import numpy as np
import pytest
import torch
from torch import nn

from wsol_utils.evaluation.boxes import iou
from wsol_utils.evaluation.detection_metrics import detection_map
from wsol_utils.methods.convnet import ConvNet
from wsol_utils.methods.proposals import random_boxes
from wsol_utils.methods.rcnn import RCNN, fine_tune, label_proposals, near_proposals, warp_boxes

RNG = np.random.default_rng(0)


def proposals_around(boxes, n=30):
    """True boxes shaken by a few pixels, and random ones."""
    found = []
    for i, own in enumerate(boxes):
        shaken = np.concatenate([own + RNG.uniform(-4, 4, own.shape) for _ in range(4)])
        found.append(np.concatenate([shaken.clip(0, 64), random_boxes(n, 64, 64, seed=i)]))
    return found


@pytest.fixture(scope="module")
def trained(squares):
    images, boxes, labels = squares
    proposals = proposals_around(boxes)
    network = ConvNet(2, 32, 0.1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    detector = RCNN(network, 2, size=32).fit(images, boxes, labels, proposals, svm_cost=0.1, ridge=1)
    return detector, network, before


def test_boxes_are_warped_with_a_margin():
    image = np.zeros((40, 60, 3), np.uint8)
    image[10:20, 20:40] = 255
    (plain,) = warp_boxes(image, np.array([[20, 10, 40, 20]]), 28, context=0)
    assert plain.min() == 255
    (margin,) = warp_boxes(image, np.array([[20, 10, 40, 20]]), 28, context=2 / 14)
    inside = margin[:, :, 0] > 127
    assert inside[14, 14]
    assert not inside[[0, -1]].any()
    assert not inside[:, [0, -1]].any()
    assert warp_boxes(image, np.array([[0, 0, 60, 40]]), 28).shape == (1, 28, 28, 3)


def test_proposals_get_the_class_of_the_object_they_overlap_most():
    boxes, labels = random_boxes(4, 64, 64, least=20), np.array([3, 1, 0, 2])
    proposals = random_boxes(60, 64, 64, seed=1)
    classes, own = label_proposals(proposals, boxes, labels, 5)
    for proposal, found, box in zip(proposals, classes, own, strict=True):
        overlap = iou(proposal, boxes)[0]
        if overlap.max() >= 0.5:
            assert found == labels[overlap.argmax()]
            assert box.tolist() == boxes[overlap.argmax()].tolist()
        else:
            assert found == 5
            assert box.tolist() == proposal.tolist()
    assert label_proposals(proposals, np.zeros((0, 4)), np.zeros(0), 5)[0].tolist() == [5] * 60


def test_the_detector_finds_squares_and_leaves_the_network_alone(trained, squares):
    images, boxes, labels = squares
    detector, network, before = trained
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    found = detector.detect(images, proposals_around(boxes))
    assert detection_map(found, boxes, labels, 2) > 70
    for one in found:
        assert (one.boxes >= 0).all()
        assert (one.boxes <= 64).all()
        assert (np.diff(one.scores) <= 0).all()


def test_kept_features_give_the_same_detections(trained, squares):
    images, boxes, _ = squares
    detector, *_ = trained
    proposals = proposals_around(boxes)[:3]
    kept = detector.describe(images[:3], proposals)
    for first, second in zip(
        detector.detect(images[:3], proposals), detector.detect(images[:3], proposals, kept=kept), strict=True
    ):
        assert all(np.array_equal(*pair) for pair in zip(first, second, strict=True))
    with pytest.raises(ValueError, match="The features kept are of other proposals"):
        detector.detect(images[:3], proposals, kept=kept[:2])
    with pytest.raises(RuntimeError, match="has not been trained; call fit first"):
        RCNN(ConvNet(2, 32, 0.05), 2, size=32).describe(images[:3], proposals)


def test_box_regression_repairs_shaken_proposals(trained, squares):
    images, boxes, _ = squares
    detector, *_ = trained
    shaken = [np.clip(own[:1] + np.array([-4, 3, 3, 4]), 0, 64) for own in boxes]
    ious = {}
    for regress in (False, True):
        found = detector.detect(images, shaken, regress=regress, least_score=-np.inf)
        own = [one.boxes[one.labels == 0][0] for one in found]
        ious[regress] = np.mean([iou(box, truth[:1])[0, 0] for box, truth in zip(own, boxes, strict=True)])
    assert ious[True] > ious[False] + 0.02


def test_fine_tuning_tells_objects_from_background(squares):
    images, boxes, labels = squares
    network = ConvNet(5, 64, 0.1, "gap")
    before = [p.clone() for p in network.parameters()]
    tuned, history = fine_tune(
        network, images, boxes, labels, proposals_around(boxes), 2, n_epochs=4, regions_per_epoch=64, learning_rate=0.05
    )
    assert tuned.class_layer.out_features == 3
    assert history[-1]["loss"] < history[0]["loss"]
    assert all(torch.equal(p, q) for p, q in zip(network.parameters(), before, strict=True))


def test_errors_name_the_thing_and_the_cure(squares):
    images, boxes, labels = squares
    detector = RCNN(ConvNet(2, 32, 0.05), 2, size=32)
    with pytest.raises(RuntimeError, match="has not been trained; call fit first"):
        detector.detect(images)
    with pytest.raises(ValueError, match="Image 0 has no proposal"):
        detector.fit(images, boxes, labels, [[]] * len(images))
    own = [np.array([[0, 0, 30, 30]])], [np.array([0])]
    with pytest.raises(ValueError, match="Class 0 overlaps every proposal, so it has no background"):
        RCNN(ConvNet(2, 32, 0.05), 1, size=32).fit(images[:1], *own, [[[0, 0, 30, 28]]])
    with pytest.raises(ValueError, match="No proposal is background"):
        fine_tune(ConvNet(2, 64, 0.05), images[:1], *own, [[[0, 0, 30, 28]]], 1)
    with pytest.raises(ValueError, match="Image 0 has a proposal outside its 64x64 pixels"):
        fine_tune(ConvNet(2, 64, 0.05), images[:1], *own, [[[0, 0, 30, 28], [70, 40, 90, 60]]], 1)
    for outside in ([[70, 40, 90, 60]], [[-9, 0, 20, 20]]):
        with pytest.raises(ValueError, match="a proposal outside its 64x64 pixels; clip proposals first"):
            warp_boxes(images[0], np.array(outside), 32)
    with pytest.raises(ValueError, match="a proposal without area; leave it out"):
        warp_boxes(images[0], np.array([[9, 9, 9, 20]]), 32)
    with pytest.raises(ValueError, match="Conv2d has no linear layer to replace"):
        fine_tune(nn.Conv2d(3, 2, 1), images[:1], *own, [[[0, 0, 30, 28], [40, 40, 60, 60]]], 1)


def test_near_proposals_know_their_image_and_object(squares):
    _, boxes, labels = squares
    proposals = proposals_around(boxes)
    near = near_proposals(proposals, boxes, labels, 2, 0.6)
    for i, j, own, truth, label in zip(*near, strict=True):
        assert own.tolist() == np.asarray(proposals[i][j], float).tolist()
        assert iou(own, truth)[0, 0] >= 0.6
        assert label in labels[i][(boxes[i] == truth).all(1)]
    n_near = sum((iou(own, truth).max(1) >= 0.6).sum() for own, truth in zip(proposals, boxes, strict=True))
    assert len(near.images) == n_near > 0
