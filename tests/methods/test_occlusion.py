from itertools import pairwise

import numpy as np
import pytest
import torch
from captum.attr import Occlusion
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.models import squeezenet1_0
from torchvision.transforms.functional import gaussian_blur

from wsol_utils.methods.convnet import ConvNet
from wsol_utils.methods.networks import normalise, predict
from wsol_utils.methods.occlusion import FILLS, occluded_probabilities, occlusion_map, square_starts

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 24, 20, 3), np.uint8)
PIXELS = normalise(IMAGES)
CLASSES = [0, 3, 1]


def network():
    return ConvNet(4, 20, 0.1, "gap")


def probability(pixels, class_):
    with torch.no_grad():
        return network().eval()(pixels[None]).softmax(1)[0, class_].item()


@pytest.mark.parametrize("fill", FILLS)
def test_equals_brute_force(fill):
    black = normalise(np.zeros((1, 24, 20, 3), np.uint8))[0]
    filling = {"zero": [black] * 3, "mean": torch.zeros_like(PIXELS), "blur": gaussian_blur(PIXELS, 7, 1.5)}[fill]
    expected = np.zeros((3, 5, 4))
    drops, n_squares = np.zeros((3, 24, 20)), np.zeros((24, 20))
    for number, class_ in enumerate(CLASSES):
        for row, top in enumerate([0, 5, 10, 15, 18]):
            for column, left in enumerate([0, 5, 10, 14]):
                hidden = PIXELS[number].clone()
                for y in range(top, top + 6):
                    for x in range(left, left + 6):
                        hidden[:, y, x] = filling[number][:, y, x]
                        n_squares[y, x] += number == 0
                expected[number, row, column] = probability(hidden, class_)
                drop = probability(PIXELS[number], class_) - expected[number, row, column]
                drops[number, top : top + 6, left : left + 6] += drop
    arguments = (network(), PIXELS, CLASSES, 6, 5, fill, 7, False)
    np.testing.assert_allclose(occluded_probabilities(*arguments), expected, atol=1e-6)
    ours = occlusion_map(*arguments)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, drops / n_squares, atol=1e-6)


def test_equals_captum_where_the_squares_fit():
    trained = network().eval()
    peer = Occlusion(lambda pixels: trained(pixels).softmax(1))
    theirs = peer.attribute(PIXELS, (3, 4, 4), (3, 2, 2), baselines=0, target=CLASSES, perturbations_per_eval=16)
    ours = occlusion_map(trained, PIXELS, CLASSES, 4, 2, progress=False)
    np.testing.assert_allclose(ours, theirs[:, 0].numpy(), atol=1e-6)


def test_a_whole_square_shows_the_fill_alone():
    hidden = occluded_probabilities(network(), PIXELS[:, :, :20], 2, 20, 20, "zero", progress=False)
    expected = predict(network(), np.zeros((1, 20, 20, 3), np.uint8))
    np.testing.assert_allclose(hidden.ravel(), np.repeat(torch.tensor(expected).softmax(1)[0, 2].item(), 3), atol=1e-6)


def test_only_the_evidence_counts():
    corner = nn.Sequential(nn.AdaptiveAvgPool2d((4, 4)), nn.Flatten(), nn.Linear(48, 2, bias=False))
    nn.init.zeros_(corner[2].weight)
    corner[2].weight.data[1, [0, 16, 32]] = 1.0  # the upper left sixteenth of the image
    drops = occlusion_map(corner, torch.ones(1, 3, 16, 16), 1, 4, 4, progress=False)
    assert (drops[0, :4, :4] > 0.1).all()
    assert np.abs(drops).sum() == pytest.approx(drops[0, :4, :4].sum())


@given(st.integers(1, 60), st.data())
@settings(deadline=None)
def test_squares_cover_the_side(side, data):
    square = data.draw(st.integers(1, side))
    stride = data.draw(st.integers(1, square))
    starts = square_starts(side, square, stride)
    covered = {pixel for start in starts for pixel in range(start, start + square)}
    assert covered == set(range(side))
    assert starts == sorted(set(starts))
    assert all(later - earlier <= stride for earlier, later in pairwise(starts))


def test_the_network_is_left_as_it_was(unchanged):
    with unchanged(squeezenet1_0(num_classes=4)) as watched:
        occlusion_map(watched, torch.zeros(1, 3, 32, 32), 1, 16, 16, "blur", progress=False)
    with pytest.raises(ValueError, match="classes 0 to 3"), unchanged(network()) as watched:
        occlusion_map(watched, PIXELS, 4, 6, 6, progress=False)


def test_errors_name_the_thing_and_the_cure():
    with pytest.raises(ValueError, match="Unknown fill 'grey'; choose one of zero, mean, blur"):
        occlusion_map(network(), PIXELS, 0, 6, 6, "grey")
    with pytest.raises(ValueError, match="A square of 21 pixels does not fit into an image side of 20; choose 1 to 20"):
        occlusion_map(network(), PIXELS, 0, 21, 6)
    for stride in (0, 7):
        with pytest.raises(ValueError, match=f"A stride of {stride} leaves pixels uncovered; choose 1 to 6"):
            occluded_probabilities(network(), PIXELS, 0, 6, stride)
    with pytest.raises(ValueError, match="pixels must be a float tensor"):
        occlusion_map(network(), PIXELS[0], 0, 6, 6)
    with pytest.raises(ValueError, match="batch of pixels is empty"):
        occlusion_map(network(), PIXELS[:0], 0, 6, 6)
