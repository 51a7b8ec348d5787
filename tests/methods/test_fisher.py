"""Fisher vectors against numerical gradients, scikit-image and the identities of the papers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.feature import fisher_vector as skimage_fisher_vector
from sklearn.mixture import GaussianMixture

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


@pytest.mark.parametrize(("n_components", "n_dimensions", "bound"), [(64, 64, 1e-3), (256, 80, 5e-3)])
def test_float32_is_close_at_the_sizes_of_the_papers(n_components, n_dimensions, bound):
    rng = np.random.default_rng(6)
    vocabulary = random_vocabulary(rng, n_components, n_dimensions)
    descriptors = rng.normal(0, 1, (1000, n_dimensions))
    exact = fisher_vector(descriptors, vocabulary, improved=False)
    single = fisher_vector(descriptors.astype(np.float32), vocabulary, improved=False)
    assert np.linalg.norm(single - exact) < bound * np.linalg.norm(exact)


def test_contributions_average_to_the_projected_vector():
    rng = np.random.default_rng(9)
    for spread in (0.3, 3):
        vocabulary = random_vocabulary(rng, spread=spread)
        descriptors, projection = rng.normal(0, 1, (30, 3)), rng.normal(0, 1, (5, vocabulary.size))
        own = fisher.contributions(vocabulary.project(descriptors), vocabulary, projection)
        expected = projection @ fisher_vector(descriptors, vocabulary, improved=False)
        np.testing.assert_allclose(own.mean(axis=0), expected, atol=1e-10)


def test_places_pass_the_pca_untouched():
    rng = np.random.default_rng(10)
    descriptors, places = rng.normal(0, 1, (200, 6)), rng.uniform(-0.5, 0.5, (200, 2))
    vocabulary = fisher.fit_vocabulary(np.hstack([descriptors, places]), 3, 4, seed=0, n_places=2)
    projected = vocabulary.project(np.hstack([descriptors, places]))
    np.testing.assert_allclose(projected[:, 4:], places, atol=1e-12)
    plain = fisher.fit_vocabulary(descriptors, 3, 4, seed=0).project(descriptors)
    np.testing.assert_allclose(projected[:, :4], plain, atol=1e-12)
    assert vocabulary.size == 2 * 3 * (4 + 2)


def test_no_pca_leaves_descriptors_as_they_are():
    descriptors = np.random.default_rng(11).normal(0, 1, (50, 3))
    vocabulary = fisher.fit_vocabulary(descriptors, 2, None, seed=0)
    np.testing.assert_array_equal(vocabulary.project(descriptors), descriptors)


def test_wrong_descriptors_are_refused():
    vocabulary = random_vocabulary(np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"shape \(n, 3\), not \(5, 4\)"):
        fisher_vector(np.zeros((5, 4)), vocabulary)
    with pytest.raises(ValueError, match="at least 8"):
        fisher.fit_vocabulary(np.zeros((5, 4)), 8, 2, seed=0)
    with pytest.raises(ValueError, match="Descriptors of 4 numbers cannot be cut to 5: pass 4 or fewer"):
        fisher.fit_vocabulary(np.zeros((50, 4)), 2, 5, seed=0)
    with pytest.raises(ValueError, match="at least 6"):
        histograms.fit_codebook(np.zeros((5, 4)), 6, seed=0)


def test_what_is_not_finite_is_named_and_an_empty_set_contributes_nothing():
    vocabulary = random_vocabulary(np.random.default_rng(0))
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="hold NaN, infinite or huge numbers: leave those out"):
            fisher_vector(np.array([[0.0, 1.0, 2.0], [0.0, bad, 1.0]]), vocabulary)
    assert fisher.contributions(np.empty((0, 3)), vocabulary, np.ones((2, vocabulary.size))).shape == (0, 2)
