"""The deep Fisher network: what commutes, what its sizes are, and that it learns without looking at itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from test_fisher import random_vocabulary

from wsol_utils.methods import projections
from wsol_utils.methods.fisher import contributions, fisher_vector, l2, ssr
from wsol_utils.methods.fisher_network import FisherNetwork, layer_sizes, stack, window_codes
from wsol_utils.methods.sift import dense_sift, grid_shape


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 5), stride=st.integers(1, 3))
def test_projecting_then_pooling_is_pooling_then_projecting(seed, size, stride):
    rng = np.random.default_rng(seed)
    vocabulary, descriptors = random_vocabulary(rng), rng.normal(0, 1, (6 * 7, 3))
    projection = rng.normal(0, 1, (4, vocabulary.size))
    projected_first = contributions(descriptors, vocabulary, projection).reshape(6, 7, 4)
    codes = window_codes(projected_first, size, stride)
    grid = descriptors.reshape(6, 7, 3)
    for i, row in enumerate(codes):
        for j, code in enumerate(row):
            window = grid[i * stride : i * stride + size, j * stride : j * stride + size].reshape(-1, 3)
            pooled_first = projection @ fisher_vector(window, vocabulary, improved=False)
            np.testing.assert_allclose(code, pooled_first, atol=1e-10)
    assert codes.shape[:2] == tuple((side - size) // stride + 1 for side in (6, 7))


def test_signed_roots_break_it():
    rng = np.random.default_rng(0)
    vocabulary, descriptors = random_vocabulary(rng), rng.normal(0, 1, (25, 3))
    projection = rng.normal(0, 1, (4, vocabulary.size))
    roots_first = np.mean([projection @ ssr(fisher_vector(d[None], vocabulary, False)) for d in descriptors], axis=0)
    pooled_first = projection @ ssr(fisher_vector(descriptors, vocabulary, False))
    assert np.linalg.norm(roots_first - pooled_first) > 0.01 * np.linalg.norm(pooled_first)


def test_stacking_keeps_neighbours_in_reading_order():
    codes = np.random.default_rng(0).normal(0, 1, (4, 5, 2))
    stacked = stack(codes)
    expected = np.concatenate([codes[2, 1], codes[2, 2], codes[3, 1], codes[3, 2]])
    np.testing.assert_array_equal(stacked[2, 1], expected)
    assert stacked.shape == (3, 4, 8)


def test_sizes_are_the_published_ones():
    sizes = layer_sizes((60, 80), 1000, (512, 256), (80, 256))
    assert sizes["descriptors"][-1] == 80
    assert sizes["Fisher vectors of windows"][-1] == sizes["first layer, whole image"][0] == 81_920
    assert sizes["projected"][-1] == 1000
    assert sizes["stacked"][-1] == 4000
    assert sizes["decorrelated"][-1] == 256
    assert sizes["second layer"] == (131_072,)


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Stripes that lie down, stand up, or do both in different halves of a 48 x 48 image, with noise."""
    rng, labels = np.random.default_rng(0), np.arange(36) % 3
    phase = rng.uniform(0, 6, 36)[:, None, None]
    y, x = np.mgrid[:48, :48][:, None]
    along = np.where(labels[:, None, None] == 0, y, np.where(labels[:, None, None] == 1, x, np.where(x < 24, y, x)))
    grey = 128 + 90 * np.sin(along / 2 + phase) + rng.normal(0, 10, (36, 48, 48))
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=3), labels


def small(**options) -> FisherNetwork:
    settings = {"n_components": (3, 3), "n_dimensions": (8, 4), "n_folds": 3, "windows": (3,), "n_descriptors": 4000}
    return FisherNetwork(**settings | {"progress": False} | options)


@pytest.mark.parametrize("projection", list(projections.PROJECTIONS))
def test_learns_by_every_projection(drawn, projection):
    images, labels = drawn
    network = small(projection=projection)
    seen = network.fit_transform(images, labels)
    assert seen.shape == (36, 2 * 3 * 4 + 2 * 3 * 8)
    assert seen.dtype == np.float32
    fresh = network.transform(images[:, :, ::-1].copy())
    np.testing.assert_allclose(np.linalg.norm(fresh[:, :24], axis=1), 1, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(fresh[:, 24:], axis=1), 1, atol=1e-4)
    np.testing.assert_array_equal(clone(network).fit_transform(images, labels), seen)


def test_class_maps_score_windows_as_the_projection_does(drawn):
    images, labels = drawn
    network = small().fit(images, labels)
    maps = network.class_maps(images[0])
    assert maps.shape == (*grid_shape((48, 48)), 3)
    whole = network.projection_ @ fisher_vector(dense_sift(images[0])[0], network.vocabulary_, improved=False)
    np.testing.assert_allclose(maps.mean(axis=(0, 1)), whole, atol=1e-3 * np.abs(whole).max())


def test_several_window_sizes_share_a_bag_and_scaling_can_be_left_out(drawn):
    images, labels = drawn
    network = small(windows=(3, 5), stride=1, scaled=False, stacked=False, n_dimensions=(8, None)).fit(images, labels)
    descriptors, _ = dense_sift(images[0])
    rows, columns = grid_shape((48, 48))
    codes = network._codes(descriptors, (48, 48), network.projection_)
    assert len(codes) == (rows - 2) * (columns - 2) + (rows - 4) * (columns - 4)
    assert not np.allclose(np.linalg.norm(codes, axis=1), 1)


def test_folds_keep_an_image_from_judging_itself(drawn):
    images, _ = drawn
    shuffled = np.random.default_rng(1).permutation(np.arange(36) % 3)

    def scores_for_the_own_label(n_folds):
        network = small(n_folds=n_folds)
        own = network._fit(images, shuffled)
        vectors = l2(np.array([network._whole(image) for image in images]))
        scores = np.array([projection @ vector for projection, vector in zip(own, vectors, strict=True)])
        return (scores.argmax(axis=1) == shuffled).mean()

    assert scores_for_the_own_label(1) > scores_for_the_own_label(3) + 0.1


def test_controls_speak_one_language_in_all_folds(drawn):
    images, labels = drawn
    for projection in projections.WITHOUT_LABELS:
        assert len({id(own) for own in small(projection=projection)._fit(images, labels)}) == 1
    network = small(projection="shuffled")
    own, whole = network._fit(images, labels), network.projection_
    alike = [np.corrcoef(a, b)[0, 1] for projection in own for a, b in zip(projection, whole, strict=True)]
    assert np.mean(alike) > 0.4, "the labels are shuffled once, not in each fold"


def test_the_max_margin_objective_falls_and_folds_are_turned_alike():
    rng = np.random.default_rng(2)
    labels = np.arange(60) % 3
    vectors = rng.normal(0, 1, (3, 20))[labels] + 0.5 * rng.normal(0, 1, (60, 20))
    projection, anchors = projections.max_margin(vectors, labels, 0)
    assert projection.shape == (3, 20)
    assert ((vectors @ projection.T @ anchors.T).argmax(axis=1) == labels).mean() > 0.95


def test_bad_input_is_named(drawn):
    images, labels = drawn
    with pytest.raises(ValueError, match="no projection 'best': choose from scores, max-margin, shuffled, pca, random"):
        small(projection="best").fit(images, labels)
    with pytest.raises(ValueError, match="all of one class: give some of another"):
        small().fit(images, labels * 0)
    with pytest.raises(ValueError, match="fewer than 20 images: give more, or pass fewer n_folds"):
        small(n_folds=20).fit(images, labels)
    with pytest.raises(ValueError, match="1 x 1 windows have no 2 x 2 neighbours to stack: enlarge the images"):
        small(windows=(5,)).fit(images, labels)
    with pytest.raises(ValueError, match="Windows of 50 x 50 points do not fit a grid of 6 x 6"):
        small(windows=(50,)).fit(images, labels)
    with pytest.raises(NotFittedError):
        small().transform(images)
