"""Fisher vectors against numerical gradients, scikit-image and the identities of the papers."""

import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.feature import fisher_vector as skimage_fisher_vector
from sklearn.mixture import GaussianMixture
from sklearn.svm import LinearSVC

from wsol_utils.methods import fisher, histograms
from wsol_utils.methods.fisher import Vocabulary, fisher_vector, l2, ssr
from wsol_utils.methods.histograms import bag_of_words


def random_vocabulary(rng: np.random.Generator, n_components=4, n_dimensions=3, spread=1.0) -> Vocabulary:
    return Vocabulary(
        pca_mean=np.zeros(n_dimensions),
        pca_matrix=np.eye(n_dimensions),
        weights=rng.dirichlet(np.full(n_components, 5.0)),
        means=rng.normal(0, spread, (n_components, n_dimensions)),
        variances=rng.uniform(0.3, 2.0, (n_components, n_dimensions)),
    )


def mean_log_likelihood(descriptors, weights, means, deviations) -> float:
    standard = (descriptors[:, None] - means) / deviations
    log_joint = np.log(weights) - 0.5 * (standard**2 + np.log(2 * np.pi) + 2 * np.log(deviations)).sum(axis=2)
    return float(np.logaddexp.reduce(log_joint, axis=1).mean())


def numerical_fisher_vector(descriptors, vocabulary, h=1e-5) -> np.ndarray:
    parameters = [vocabulary.means, np.sqrt(vocabulary.variances)]
    parts = []
    for which, information in ((0, 1), (1, 2)):
        gradient = np.zeros_like(parameters[which])
        for index in np.ndindex(gradient.shape):
            sides = []
            for sign in (1, -1):
                moved = [p.copy() for p in parameters]
                moved[which][index] += sign * h
                sides.append(mean_log_likelihood(descriptors, vocabulary.weights, *moved))
            gradient[index] = (sides[0] - sides[1]) / (2 * h)
        parts.append(gradient / np.sqrt(information * vocabulary.weights[:, None] / vocabulary.variances))
    return np.concatenate([p.ravel() for p in parts])


@pytest.mark.parametrize("spread", [0.3, 1.0, 5.0])
def test_equals_the_scaled_numerical_gradient(spread):
    rng = np.random.default_rng(0)
    for _ in range(5):
        vocabulary = random_vocabulary(rng, spread=spread)
        descriptors = rng.normal(0, 1.5, (40, 3))
        ours = fisher_vector(descriptors, vocabulary, improved=False)
        assert ours.dtype == np.float64
        np.testing.assert_allclose(ours, numerical_fisher_vector(descriptors, vocabulary), atol=1e-7)


def test_equals_scikit_image_with_the_deviation_part_turned():
    rng = np.random.default_rng(1)
    data = rng.normal(0, 1, (500, 5)) * [1, 2, 0.5, 1, 1]
    mixture = GaussianMixture(4, covariance_type="diag", random_state=0).fit(data)
    vocabulary = Vocabulary(np.zeros(5), np.eye(5), mixture.weights_, mixture.means_, mixture.covariances_)
    theirs = skimage_fisher_vector(data[:80], mixture)
    expected = np.concatenate([theirs[4:24], -theirs[24:]])
    np.testing.assert_allclose(fisher_vector(data[:80], vocabulary, improved=False), expected, atol=1e-10)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 30), m=st.integers(1, 30), copies=st.integers(2, 5))
def test_order_copies_and_unions(seed, n, m, copies):
    rng = np.random.default_rng(seed)
    vocabulary = random_vocabulary(rng)
    a, b = rng.normal(0, 2, (n, 3)), rng.normal(1, 1, (m, 3))
    plain = fisher_vector(a, vocabulary, improved=False)
    np.testing.assert_allclose(fisher_vector(rng.permutation(a), vocabulary, improved=False), plain, atol=1e-10)
    np.testing.assert_allclose(fisher_vector(np.tile(a, (copies, 1)), vocabulary, improved=False), plain, atol=1e-10)
    union = fisher_vector(np.concatenate([a, b]), vocabulary, improved=False)
    parts = (n * plain + m * fisher_vector(b, vocabulary, improved=False)) / (n + m)
    np.testing.assert_allclose(union, parts, atol=1e-10)


def test_shift_and_scale_of_each_dimension_do_not_matter():
    rng = np.random.default_rng(2)
    vocabulary = random_vocabulary(rng)
    scale, shift = rng.uniform(0.2, 5, 3), rng.normal(0, 3, 3)
    moved = Vocabulary(
        np.zeros(3), np.eye(3), vocabulary.weights, vocabulary.means * scale + shift, vocabulary.variances * scale**2
    )
    descriptors = rng.normal(0, 1, (25, 3))
    np.testing.assert_allclose(
        fisher_vector(descriptors * scale + shift, moved), fisher_vector(descriptors, vocabulary), atol=1e-10
    )


def test_improved_is_signed_root_then_l2_and_forgets_an_earlier_l2():
    rng = np.random.default_rng(3)
    vocabulary = random_vocabulary(rng)
    descriptors = rng.normal(0, 1, (25, 3))
    plain = fisher_vector(descriptors, vocabulary, improved=False)
    improved = fisher_vector(descriptors, vocabulary)
    np.testing.assert_allclose(improved, l2(ssr(plain)), atol=1e-12)
    np.testing.assert_allclose(improved, l2(ssr(l2(plain))), atol=1e-12)
    assert np.linalg.norm(improved) == pytest.approx(1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_empty_constant_and_far_sets_stay_finite(dtype):
    vocabulary = random_vocabulary(np.random.default_rng(4))
    empty = fisher_vector(np.zeros((0, 3), dtype), vocabulary)
    assert empty.dtype == dtype
    assert not empty.any()
    for descriptors in (np.zeros((7, 3), dtype), np.full((7, 3), 1e4, dtype), vocabulary.means[:1].astype(dtype)):
        assert np.isfinite(fisher_vector(descriptors, vocabulary)).all()
    assert not bag_of_words(np.zeros((0, 3), dtype), vocabulary.means).any()


def test_float32_is_close_to_float64():
    rng = np.random.default_rng(5)
    vocabulary = random_vocabulary(rng, 16, 20)
    descriptors = rng.normal(0, 1, (500, 20))
    single = fisher_vector(descriptors.astype(np.float32), vocabulary, improved=False)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, fisher_vector(descriptors, vocabulary, improved=False), atol=1e-4)


def test_wrong_descriptors_are_refused():
    vocabulary = random_vocabulary(np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"shape \(n, 3\), not \(5, 4\)"):
        fisher_vector(np.zeros((5, 4)), vocabulary)
    with pytest.raises(ValueError, match="at least 8"):
        fisher.fit_vocabulary(np.zeros((5, 4)), 8, 2, seed=0)
    with pytest.raises(ValueError, match="at least 6"):
        histograms.fit_codebook(np.zeros((5, 4)), 6, seed=0)


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    cat, cup = skimage.data.chelsea(), skimage.data.coffee()
    return [p[y : y + 90, x : x + 110].copy() for p in (cat, cup) for y in (50, 120) for x in (60, 150, 240)]


@pytest.fixture(scope="module")
def vocabulary(photos) -> Vocabulary:
    return fisher.fit_vocabulary(fisher.sample_descriptors(photos, 200, seed=0, progress=False), 6, 12, seed=0)


def test_fits_are_deterministic_and_valid(photos, vocabulary):
    again = fisher.fit_vocabulary(fisher.sample_descriptors(photos, 200, seed=0, progress=False), 6, 12, seed=0)
    np.testing.assert_array_equal(again.means, vocabulary.means)
    assert vocabulary.size == 2 * 6 * 12
    assert vocabulary.weights.sum() == pytest.approx(1, abs=1e-5)
    assert (vocabulary.variances > 0).all()
    data = np.random.default_rng(0).normal(0, 1, (300, 4))
    np.testing.assert_array_equal(histograms.fit_codebook(data, 5, seed=1), histograms.fit_codebook(data, 5, seed=1))


def test_encode_images_equals_one_by_one(photos, vocabulary):
    encoded = fisher.encode_images(photos, vocabulary, progress=False)
    expected = [fisher_vector(fisher.dense_sift(photo)[0], vocabulary) for photo in photos]
    np.testing.assert_allclose(encoded, expected, atol=1e-6)
    assert fisher.encode_images([], vocabulary, progress=False).shape == (0, vocabulary.size)
    codebook = histograms.fit_codebook(fisher.sample_descriptors(photos, 100, seed=0, progress=False), 9, seed=0)
    np.testing.assert_allclose(fisher.encode_images(photos, codebook, progress=False).sum(axis=1), 1, atol=1e-6)
    both = fisher.encode_images(photos, [vocabulary, codebook], progress=False)
    np.testing.assert_array_equal(both[0], encoded)
    assert both[1].shape == (len(photos), 9)


def test_fit_linear_takes_c_from_validation_and_never_trains_on_it():
    rng = np.random.default_rng(7)
    centres = rng.normal(0, 3, (3, 5))
    y = np.arange(90) % 3
    x = centres[y] + rng.normal(0, 1, (90, 5))
    classifier = fisher.fit_linear(x[:60], y[:60], x[60:], y[60:], Cs=(10, 0.1))
    assert classifier.C == 0.1
    assert classifier.coef_.shape == (3, 5)
    assert classifier.score(x[60:], y[60:]) > 0.9


def test_fit_linear_needs_two_classes():
    with pytest.raises(ValueError, match="all of one class: give some of another"):
        fisher.fit_linear(np.eye(3), np.ones(3, int), np.eye(3), np.ones(3, int))


@pytest.mark.parametrize("n_classes", [2, 4])
def test_fit_linear_gives_the_machines_that_liblinear_finds(n_classes):
    rng = np.random.default_rng(8)
    y = np.arange(120) % n_classes
    x = rng.normal(0, 1, (n_classes, 60))[y] + rng.normal(0, 1, (120, 60))
    ours = fisher.fit_linear(x[:80], y[:80], x[80:], y[80:], Cs=[0.1])
    theirs = LinearSVC(C=0.1, intercept_scaling=100, max_iter=1_000_000).fit(x[:80], y[:80])
    scores = ours.decision_function(x[80:])
    assert np.corrcoef(scores.ravel(), theirs.decision_function(x[80:]).ravel())[0, 1] > 0.995
    np.testing.assert_array_equal(
        ours.predict(x[80:]), ours.classes_[scores.argmax(1) if n_classes > 2 else (scores > 0) * 1]
    )


def test_shares_and_map_add_up_to_the_score(photos, vocabulary):
    class_weights = np.random.default_rng(8).normal(0, 1, vocabulary.size)
    descriptors, _ = fisher.dense_sift(photos[0])
    score = class_weights @ fisher_vector(descriptors.astype(np.float64), vocabulary)
    shares = fisher.descriptor_scores(descriptors, vocabulary, class_weights)
    assert shares.sum() == pytest.approx(score, abs=1e-6)
    score_map = fisher.fisher_score_map(photos[0], vocabulary, class_weights)
    assert score_map.shape == (90, 110)
    assert score_map.dtype == np.float32
    assert score_map.sum(dtype=np.float64) == pytest.approx(score, abs=1e-4)


def test_one_share_covers_exactly_its_patch():
    spread = fisher._spread(np.array([32.0]), np.array([[10.0, 6.0]]), np.array([4]), (20, 30))
    assert spread[2:10, 6:14] == pytest.approx(0.5)
    assert spread.sum() == pytest.approx(32)
    cut = fisher._spread(np.array([1.0]), np.array([[0.0, 0.0]]), np.array([4]), (20, 30))
    assert cut[:4, :4] == pytest.approx(1 / 16)
