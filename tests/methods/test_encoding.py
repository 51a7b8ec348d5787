"""Encoders of images against their own pieces, one image at a time."""

import pickle
import weakref
from functools import partial

import joblib
import numpy as np
import pytest
import skimage.data
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import estimator_checks_generator

from wsol_utils.methods import encoding, histograms
from wsol_utils.methods.descriptors import append_places
from wsol_utils.methods.encoding import BagOfWords, FisherVector, SpatialPyramid, encode_images, sample_descriptors
from wsol_utils.methods.fisher import Vocabulary, fisher_vector, fit_vocabulary, l2
from wsol_utils.methods.fisher_network import FisherNetwork
from wsol_utils.methods.linear_svm import LinearSVM
from wsol_utils.methods.sift import dense_sift

ENCODERS = [FisherVector(2, 3), BagOfWords(4), SpatialPyramid(FisherVector(2, 3)), FisherNetwork((2, 2), (4, 3))]


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    cat, cup = skimage.data.chelsea(), skimage.data.coffee()
    return [p[y : y + 90, x : x + 110].copy() for p in (cat, cup) for y in (50, 120) for x in (60, 150, 240)]


@pytest.fixture(scope="module")
def vocabulary(photos) -> Vocabulary:
    return fit_vocabulary(sample_descriptors(photos, 200, seed=0, progress=False), 6, 12, seed=0)


@pytest.mark.filterwarnings("ignore:Can't test estimator")
@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda encoder: type(encoder).__name__)
def test_are_estimators_as_scikit_learn_knows_them(encoder):
    for estimator, check in estimator_checks_generator(encoder):
        check(estimator)
    assert repr(clone(encoder)) == repr(encoder)
    assert clone(encoder).get_params().keys() == encoder.get_params().keys()
    with pytest.raises(NotFittedError, match="Call 'fit'"):
        encoder.transform([])


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda encoder: type(encoder).__name__)
def test_keep_the_rules_that_scikit_learn_checks_on_tables_only(photos, encoder):
    encoder, labels = clone(encoder), [0] * 6 + [1] * 6
    if isinstance(encoder, FisherNetwork):
        encoder.set_params(windows=(3,), n_folds=2)
    encoder.set_params(**{name: False for name in ("progress", "encoder__progress") if name in encoder.get_params()})
    before = repr(encoder.get_params())
    assert encoder.fit(photos, labels) is encoder
    assert repr(encoder.get_params()) == before, "fitting leaves the parameters"
    encoded = encoder.transform(photos)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(encoder)).transform(photos), encoded)
    np.testing.assert_array_equal(encoder.fit(photos, labels).transform(photos), encoded)


def test_fits_are_deterministic_and_valid(photos, vocabulary):
    again = fit_vocabulary(sample_descriptors(photos, 200, seed=0, progress=False), 6, 12, seed=0)
    np.testing.assert_array_equal(again.means, vocabulary.means)
    assert vocabulary.size == 2 * 6 * 12
    assert vocabulary.weights.sum() == pytest.approx(1, abs=1e-5)
    assert (vocabulary.variances > 0).all()
    data = np.random.default_rng(0).normal(0, 1, (300, 4))
    np.testing.assert_array_equal(histograms.fit_codebook(data, 5, seed=1), histograms.fit_codebook(data, 5, seed=1))


def test_transform_is_the_fisher_vector_of_each_image(photos, vocabulary):
    encoder = FisherVector(vocabulary=vocabulary, progress=False)
    encoded = encoder.transform(photos)
    expected = [fisher_vector(dense_sift(photo)[0], vocabulary) for photo in photos]
    before_root, wanted = (np.abs(v) * v for v in (encoded, np.array(expected)))  # a root magnifies rounding near zero
    np.testing.assert_allclose(before_root, wanted, atol=1e-6)
    assert encoder.transform([]).shape == (0, vocabulary.size)
    words = BagOfWords(9, hellinger=False, n_descriptors=600, progress=False).fit(photos)
    np.testing.assert_allclose(words.transform(photos).sum(axis=1), 1, atol=1e-6)
    assert (np.linalg.norm(clone(words).set_params(hellinger=True).fit_transform(photos), axis=1) > 0.99).all()
    both = encode_images(photos, [encoder, words], progress=False)
    np.testing.assert_array_equal(both[0], encoded)
    np.testing.assert_array_equal(both[1], words.transform(photos))


def test_a_pyramid_is_its_parts_in_a_row(photos, vocabulary):
    encoder = FisherVector(vocabulary=vocabulary, progress=False)
    pyramid = SpatialPyramid(encoder, [(1, 1), (2, 3)]).fit(photos)
    descriptors, centres = dense_sift(photos[0])
    height, width = photos[0].shape[:2]
    parts = [fisher_vector(descriptors, vocabulary)]
    for top, bottom in ((0, height / 2), (height / 2, height)):
        for left, right in ((0, width / 3), (width / 3, 2 * width / 3), (2 * width / 3, width)):
            x, y = centres.T
            inside = (left <= x) & (x < right) & (top <= y) & (y < bottom)
            parts.append(fisher_vector(descriptors[inside], vocabulary))
    np.testing.assert_allclose(pyramid.transform(photos[:1])[0], l2(np.concatenate(parts)), atol=1e-6)
    assert pyramid.size == 7 * vocabulary.size


def test_places_join_the_descriptors(photos):
    encoder = FisherVector(3, 8, places=True, n_descriptors=500, progress=False).fit(photos)
    descriptors, centres = dense_sift(photos[1])
    expected = fisher_vector(append_places(descriptors, centres, photos[1].shape[:2]), encoder.vocabulary_)
    np.testing.assert_allclose(encoder.transform(photos[1:2])[0], expected, atol=1e-6)
    assert encoder.size == 2 * 3 * (8 + 2)


def test_a_pipeline_tells_cats_from_cups(photos):
    labels = ["cat"] * 6 + ["cup"] * 6
    coarse = partial(dense_sift, step=8)
    pipeline = make_pipeline(FisherVector(4, 8, describe=coarse, n_descriptors=600, progress=False), LinearSVM())
    seen, held_out = np.arange(12) % 3 > 0, np.arange(12) % 3 == 0
    pipeline.fit([photos[i] for i in np.flatnonzero(seen)], [labels[i] for i in np.flatnonzero(seen)])
    assert pipeline.score([photos[i] for i in np.flatnonzero(held_out)], [labels[i] for i in np.flatnonzero(held_out)])


def test_images_are_taken_as_they_are_needed_and_let_go():
    few = 4 * encoding.CHUNK * joblib.cpu_count()

    class Lazy:
        loaded, most = [], 0

        def __len__(self):
            return 10 * few

        def __getitem__(self, wanted):
            some = range(len(self))[wanted]
            images = [np.zeros((4, 4, 3), np.uint8) for _ in np.atleast_1d(some)]
            Lazy.loaded = [image for image in Lazy.loaded if image() is not None] + [weakref.ref(i) for i in images]
            Lazy.most = max(Lazy.most, len(Lazy.loaded))
            return images if isinstance(wanted, slice) else images[0]

    sums = encoding.on_all_cores(lambda image: int(image.sum()), Lazy(), progress=False)
    assert sum(1 for _ in sums) == 10 * few
    assert Lazy.most <= few

    def describe(image):
        return np.random.default_rng(0).random((5, 4)) + image[0, 0, 0], np.ones((5, 2))

    Lazy.loaded, Lazy.most = [], 0
    FisherVector(2, 3, describe=describe, progress=False).fit(Lazy())
    assert 0 < Lazy.most <= few


def test_images_without_contrast_teach_nothing():
    with pytest.raises(ValueError, match="nothing to learn a vocabulary from: give images with some contrast"):
        FisherVector(progress=False).fit([np.full((60, 60, 3), 9, np.uint8)])
