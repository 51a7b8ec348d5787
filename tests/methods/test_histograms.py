"""Word and colour histograms against counting."""

import numpy as np

from wsol_utils.methods import histograms
from wsol_utils.methods.histograms import bag_of_words


def test_words_are_the_nearest():
    rng = np.random.default_rng(6)
    descriptors, codebook = rng.normal(0, 1, (60, 4)), rng.normal(0, 1, (7, 4))
    nearest = np.linalg.norm(descriptors[:, None] - codebook, axis=2).argmin(axis=1)
    np.testing.assert_allclose(bag_of_words(descriptors, codebook), np.bincount(nearest, minlength=7) / 60)


def test_colour_histogram_counts_cells():
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 0] = (255, 64, 128)
    histogram = histograms.colour_histogram(image)
    assert histogram.shape == (64,)
    assert histogram[0] == 0.75
    assert histogram[3 * 16 + 1 * 4 + 2] == 0.25
