import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsol_utils.methods.patch_tiling import (
    cut_patches,
    heat_maps,
    image_scores,
    patch_labels,
    thin_background,
    tile_patches,
)


@given(st.integers(16, 300), st.integers(16, 300), st.integers(1, 8), st.sampled_from([0.0, 0.3, 0.5, 0.7]))
def test_patches_are_squares_that_cover_the_image_and_overlap(height, width, n_scales, overlap):
    patches = tile_patches(height, width, n_scales, overlap)
    sides = patches[:, 2:] - patches[:, :2]
    assert (sides[:, 0] == sides[:, 1]).all()
    assert patches.min() >= 0
    assert patches[:, 2].max() == width
    assert patches[:, 3].max() == height
    for side in np.unique(sides[:, 0]):
        for begin in (0, 1):
            starts = np.unique(patches[sides[:, 0] == side, begin])
            assert (np.diff(starts) <= (1 - overlap) * side + 1).all()
            assert (np.diff(starts) <= side).all()


def test_the_published_number_of_patches():
    assert 400 < len(tile_patches(375, 500)) < 650


def test_labels_by_overlap_equal_the_rule_spelt_out():
    generator = np.random.default_rng(0)
    patches = tile_patches(60, 80, 4)
    for _ in range(30):
        k = generator.integers(0, 4)
        corners = generator.integers(0, 60, (k, 2))
        boxes = np.concatenate([corners, corners + generator.integers(4, 40, (k, 2))], axis=1).astype(np.float32)
        classes = generator.integers(0, 5, k)
        expected = []
        for x0, y0, x1, y1 in patches:
            met = []
            for (a0, b0, a1, b1), label in zip(boxes, classes, strict=True):
                common = max(0, min(x1, a1) - max(x0, a0)) * max(0, min(y1, b1) - max(y0, b0))
                if common >= 0.2 * (x1 - x0) * (y1 - y0) and common >= 0.6 * (a1 - a0) * (b1 - b0):
                    met.append(label)
            expected.append(met[0] if len(met) == 1 else 5)
        assert patch_labels(patches, boxes, classes, 5).tolist() == expected


def test_background_is_thinned_and_objects_are_kept():
    labels = np.array([5] * 100 + [1, 2] * 10)
    kept = thin_background(labels, 5, share=0.1, seed=1)
    assert (labels[kept] != 5).sum() == 20
    assert (labels[kept] == 5).sum() == 10
    assert (np.diff(kept) > 0).all()
    assert not np.array_equal(kept, thin_background(labels, 5, share=0.1, seed=2))


def test_heat_maps_equal_a_sum_over_patches():
    generator = np.random.default_rng(0)
    patches = tile_patches(33, 47, 3)
    posteriors = generator.random((len(patches), 2))
    expected = np.zeros((2, 33, 47))
    for (x0, y0, x1, y1), own in zip(patches, posteriors, strict=True):
        expected[:, y0:y1, x0:x1] += own[:, None, None]
    np.testing.assert_allclose(heat_maps(posteriors, patches, 33, 47), expected, rtol=1e-5)


def test_patches_are_cut_where_they_lie():
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    patches = np.array([[5, 3, 21, 19], [0, 0, 32, 32]])
    cut = cut_patches(image, patches, 16)
    np.testing.assert_array_equal(cut[0], image[3:19, 5:21])
    np.testing.assert_allclose(cut[1].mean(), image[:32, :32].mean(), atol=1)


def test_the_power_moves_the_mean_towards_the_best_patch():
    posteriors = np.array([[0.9, 0.5], [0.0, 0.5]])
    assert np.argmax(image_scores(posteriors, 1)) == 1
    assert np.argmax(image_scores(posteriors, 5)) == 0


def test_errors_name_the_thing_and_the_cure():
    with pytest.raises(ValueError, match="10x40 is too small to be cut into patches; enlarge it to 16"):
        tile_patches(10, 40)
    with pytest.raises(ValueError, match="overlap is a share from 0 to less than 1, not 1"):
        tile_patches(40, 40, overlap=1)
