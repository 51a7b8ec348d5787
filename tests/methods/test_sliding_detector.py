import numpy as np
import pytest
from scipy.signal import correlate

from wsol_utils.evaluation.detection_metrics import detection_map
from wsol_utils.methods.sliding_detector import HogDetector, Template, hog_blocks, pyramid, template_scores

RNG = np.random.default_rng(0)


def shapes(n, size=64):
    """Images with a striped square of class 0 or a tall bar of class 1."""
    images, boxes, labels = RNG.integers(80, 110, (n, size, size, 3), np.uint8), [], []
    for i, image in enumerate(images):
        w, h = (24, 24) if i % 2 == 0 else (14, 36)
        x, y = RNG.integers(0, size - w), RNG.integers(0, size - h)
        image[y : y + h, x : x + w] = 220
        if i % 2 == 0:
            image[y + 8 : y + 16, x : x + w] = 30
        boxes.append(np.array([[x, y, x + w, y + h]]))
        labels.append(np.array([i % 2]))
    return images, boxes, labels


def test_the_score_map_is_the_cross_correlation_with_the_template():
    blocks = RNG.random((9, 12, 36)).astype(np.float32)
    template = Template(RNG.normal(size=(4, 3, 36)).astype(np.float32), 0.7)
    scores = template_scores(blocks, template)
    assert scores.shape == (6, 10)
    np.testing.assert_allclose(scores, correlate(blocks, template.weights, "valid")[..., 0] + 0.7, atol=1e-4)
    for row, column in np.ndindex(*scores.shape):
        window = blocks[row : row + 4, column : column + 3]
        assert scores[row, column] == pytest.approx(float((window * template.weights).sum()) + 0.7, abs=1e-4)


def test_a_template_finds_the_window_it_was_cut_from():
    image = RNG.integers(0, 256, (96, 80, 3), np.uint8)
    blocks = hog_blocks(image)
    weights = blocks[3:7, 2:5] - blocks.mean()
    scores = template_scores(blocks, Template(weights, 0.0))
    assert np.unravel_index(scores.argmax(), scores.shape) == (3, 2)


def test_a_pyramid_has_the_blocks_of_each_size():
    levels = list(pyramid(np.zeros((64, 96, 3), np.uint8), (0.1, 0.5, 1, 2)))
    assert [factor for factor, _ in levels] == [0.5, 1, 2]
    assert [blocks.shape for _, blocks in levels] == [(3, 5, 36), (7, 11, 36), (15, 23, 36)]


def test_the_detector_finds_shapes_of_two_classes():
    images, boxes, labels = shapes(24)
    detector = HogDetector(2, n_blocks=12, factors=(0.8, 1, 1.25)).fit(images[:16], boxes[:16], labels[:16])
    ratios = [template.shape[0] / template.shape[1] for template in detector.templates]
    assert ratios[0] < 1.5 < ratios[1]
    found = detector.detect(images[16:])
    assert detection_map(found, boxes[16:], labels[16:], 2) > 60
    for one in found:
        assert (one.boxes >= 0).all()
        assert (one.boxes <= 64).all()
        assert (np.diff(one.scores) <= 0).all()


def test_errors_name_the_thing_and_the_cure():
    images, boxes, labels = shapes(4)
    with pytest.raises(ValueError, match="12x20 pixels is below one block of gradients; enlarge it to 16"):
        hog_blocks(np.zeros((20, 12, 3), np.uint8))
    with pytest.raises(ValueError, match="3x3 blocks of gradients, fewer than the template's 4x2; enlarge the image"):
        template_scores(np.zeros((3, 3, 36), np.float32), Template(np.zeros((4, 2, 36), np.float32), 0))
    with pytest.raises(RuntimeError, match="no templates yet; call fit first"):
        HogDetector(2).detect(images)
    with pytest.raises(ValueError, match="Class 2 has no box in the training images"):
        HogDetector(3).fit(images, boxes, labels)
    with pytest.raises(ValueError, match="template of class 0 fits into no image"):
        HogDetector(2, n_blocks=400, factors=(1,)).fit(images, boxes, labels)
    trained = HogDetector(2, n_blocks=12, factors=(1,)).fit(images, boxes, labels)
    with pytest.raises(ValueError, match="16x16 pixels are smaller than every template"):
        trained.detect(np.zeros((1, 16, 16, 3), np.uint8))
