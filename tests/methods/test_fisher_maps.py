"""The score of a Fisher vector shared out over descriptors and pixels."""

import numpy as np
import pytest
import skimage.data

from wsol_utils.methods import fisher_maps
from wsol_utils.methods.fisher import fisher_vector, fit_vocabulary
from wsol_utils.methods.sift import dense_sift


def test_shares_and_map_add_up_to_the_score():
    photo = skimage.data.chelsea()[50:140, 60:170].copy()
    vocabulary = fit_vocabulary(dense_sift(photo)[0], 6, 12, seed=0)
    class_weights = np.random.default_rng(8).normal(0, 1, vocabulary.size)
    descriptors, _ = dense_sift(photo)
    score = class_weights @ fisher_vector(descriptors.astype(np.float64), vocabulary)
    shares = fisher_maps.descriptor_scores(descriptors, vocabulary, class_weights)
    assert shares.sum() == pytest.approx(score, abs=1e-6)
    score_map = fisher_maps.fisher_score_map(photo, vocabulary, class_weights)
    assert score_map.shape == (90, 110)
    assert score_map.dtype == np.float32
    assert score_map.sum(dtype=np.float64) == pytest.approx(score, abs=1e-4)


def test_one_share_covers_exactly_its_patch():
    spread = fisher_maps._spread(np.array([32.0]), np.array([[10.0, 6.0]]), np.array([4]), (20, 30))
    assert spread[2:10, 6:14] == pytest.approx(0.5)
    assert spread.sum() == pytest.approx(32)
    cut = fisher_maps._spread(np.array([1.0]), np.array([[0.0, 0.0]]), np.array([4]), (20, 30))
    assert cut[:4, :4] == pytest.approx(1 / 16)
