import numpy as np
import pytest
import torch
from torch import nn

from wsol_utils.methods.convnet import ConvNet
from wsol_utils.methods.max_pooling import rescale
from wsol_utils.methods.networks import normalise
from wsol_utils.methods.overfeat import combine_boxes, convolutional_head, draw_windows, sliding_boxes
from wsol_utils.methods.regression_heads import frozen_features, regress, regression_head

RNG = np.random.default_rng(0)
NETWORK = ConvNet(4, 48, 0.1).eval()
SIDE = 2  # cells of pool5 for images of 48 pixels


def a_head(side=SIDE, n_channels=NETWORK.features[-2].num_features):
    return regression_head(n_channels * side**2, seed=1)


def test_the_convolutional_head_equals_the_head_on_every_window():
    maps = torch.rand(2, 26, 14, 13)
    head = a_head(5)
    numbers = convolutional_head(head, 5)(maps)
    assert numbers.shape == (2, 4, 10, 9)
    for row, column in np.ndindex(10, 9):
        window = maps[:, :, row : row + 5, column : column + 5]
        torch.testing.assert_close(numbers[:, :, row, column], head(window.flatten(1))[:, 0], atol=1e-5, rtol=0)


def test_an_image_of_one_window_gives_the_boxes_of_the_head():
    images = RNG.integers(0, 256, (3, 48, 48, 3), np.uint8)
    head = a_head()
    expected = 48 * regress(head, frozen_features(NETWORK, images, "pool5"))
    for (boxes, posteriors), box, image in zip(
        sliding_boxes(NETWORK, head, images, (1,)), expected, images, strict=True
    ):
        assert boxes.shape == (1, 4)
        torch.testing.assert_close(boxes[0], box, atol=1e-3, rtol=0)
        with torch.no_grad():
            torch.testing.assert_close(posteriors, NETWORK(normalise(image[None])).softmax(1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("factor", [1, 1.5])
def test_every_window_equals_the_crop_of_the_features(factor):
    """Window (u, v) begins 16 u, 16 v pixels into the rescaled image; its box comes back to the image's pixels."""
    images = RNG.integers(0, 256, (1, 96, 128, 3), np.uint8)
    head = a_head()
    (boxes, posteriors), *_ = sliding_boxes(NETWORK, head, images, (factor,))
    with torch.no_grad():
        maps = NETWORK.features(normalise(rescale(images, factor)))
        n_rows, n_columns = ((side - 6) // 2 + 1 for side in maps.shape[2:])
        assert len(boxes) == len(posteriors) == n_rows * n_columns
        for row, column in np.ndindex(n_rows, n_columns):
            window = maps[:, :, 2 * row : 2 * row + 6, 2 * column : 2 * column + 6]
            numbers = head(nn.functional.max_pool2d(window, 3, 2).flatten(1))[0, 0]
            corner = torch.tensor([16 * column, 16 * row] * 2)
            found = boxes[row * n_columns + column]
            torch.testing.assert_close(found, (corner + 48 * numbers) / factor, atol=1e-2, rtol=0)
            expected = NETWORK.head(window).softmax(1)[0]
            torch.testing.assert_close(posteriors[row * n_columns + column], expected, atol=1e-5, rtol=0)


def test_scales_come_one_after_the_other():
    images = RNG.integers(0, 256, (2, 48, 64, 3), np.uint8)
    head = a_head()
    single = [sliding_boxes(NETWORK, head, images, (factor,)) for factor in (1, 1.5)]
    for both, *apart in zip(sliding_boxes(NETWORK, head, images, (1, 1.5)), *single, strict=True):
        for k in range(2):
            torch.testing.assert_close(both[k], torch.cat([one[k] for one in apart]))


def test_windows_see_the_object_where_they_say_it_is():
    images = np.zeros((4, 64, 64, 3), np.uint8)
    boxes = np.array([[20, 16, 44, 40], [2, 30, 20, 60], [0, 0, 64, 64], [40, 40, 62, 50]])
    for image, (x0, y0, x1, y1) in zip(images, boxes, strict=True):
        image[y0:y1, x0:x1] = 255
    windows, parts, which = draw_windows(images, boxes, 5, smallest=0.6, seed=3)
    assert which.tolist() == np.repeat(range(4), 5).tolist()
    for window, part in zip(windows, parts, strict=True):
        y, x = np.nonzero(window[..., 0] > 127)
        seen = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])
        np.testing.assert_allclose(seen, (64 * part).clip(0, 64), atol=2)


def test_ways_to_combine():
    boxes = torch.tensor([[0.0, 0, 10, 10], [1.0, 0, 11, 10], [40.0, 40, 60, 60], [5.0, 5, 5, 9]])
    scores = torch.tensor([0.3, 0.4, 0.5, 0.9])
    assert combine_boxes(boxes, scores, "best")[0].tolist() == [[40, 40, 60, 60]]
    assert combine_boxes(boxes, scores, "suppress", 0.5)[0].tolist() == [[40, 40, 60, 60], [1, 0, 11, 10]]
    merged, sums = combine_boxes(boxes, scores, "merge", 0.5)
    assert merged.tolist() == [[0.5, 0, 10.5, 10], [40, 40, 60, 60]]
    assert sums.tolist() == pytest.approx([0.7, 0.5])
    assert combine_boxes(boxes, scores, "merge", 0.7)[0].tolist() == [[40, 40, 60, 60], [1, 0, 11, 10]]


def test_errors_name_the_thing_and_the_cure():
    images = np.zeros((1, 48, 48, 3), np.uint8)
    with pytest.raises(ValueError, match=r"48x48 pixels at factor 0\.5 are smaller than the network's windows of 48"):
        sliding_boxes(NETWORK, a_head(), images, (0.5, 1))
    with pytest.raises(ValueError, match="The box head takes 63 features, but pool5 of this network has 104; train"):
        sliding_boxes(NETWORK, regression_head(63), images)
    with pytest.raises(ValueError, match="from square images, not 64x48 pixels; resize or crop"):
        draw_windows(np.zeros((1, 48, 64, 3), np.uint8), np.array([[0, 0, 9, 9]]), 1)
    with pytest.raises(ValueError, match="Only a head shared by all classes slides"):
        convolutional_head(regression_head(4, n_classes=2), 2)
    with pytest.raises(ValueError, match="one of best, suppress, merge, not 'mean'"):
        combine_boxes(torch.ones(1, 4), torch.ones(1), "mean")
    with pytest.raises(ValueError, match="No window gives a box with an area"):
        combine_boxes(torch.ones(1, 4), torch.ones(1))
    with pytest.raises(ValueError, match="smallest is a share of the image"):
        draw_windows(images, np.array([[0, 0, 9, 9]]), 1, smallest=0)
