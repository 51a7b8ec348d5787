"""Dense SIFT against a descriptor written out bin by bin and against OpenCV."""

import time

import cv2
import numpy as np
import pytest
import skimage.data

from wsol_utils.methods.sift import dense_sift, grid_centres


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return cv2.resize(skimage.data.chelsea(), (120, 90), interpolation=cv2.INTER_AREA)


def written_out(image: np.ndarray, centre: np.ndarray, bin_size: int) -> np.ndarray:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) / 255.0
    grey = cv2.GaussianBlur(grey, (0, 0), bin_size / 6, borderType=cv2.BORDER_REPLICATE)
    descriptor = np.zeros((4, 4, 8))
    for y in range(1, grey.shape[0] - 1):
        for x in range(1, grey.shape[1] - 1):
            across = (grey[y, x + 1] - grey[y, x - 1]) / 2
            up = (grey[y - 1, x] - grey[y + 1, x]) / 2
            direction = np.arctan2(up, across) / (np.pi / 4)
            for i in range(4):
                for j in range(4):
                    dy = abs(y - (centre[1] + (i - 1.5) * bin_size)) / bin_size
                    dx = abs(x - (centre[0] + (j - 1.5) * bin_size)) / bin_size
                    window = np.exp(-((i - 1.5) ** 2 + (j - 1.5) ** 2) / 8)
                    share = max(0, 1 - dy) * max(0, 1 - dx) * window * np.hypot(across, up)
                    for o in range(8):
                        apart = abs((direction - o + 4) % 8 - 4)
                        descriptor[i, j, o] += share * max(0, 1 - apart)
    descriptor = descriptor.ravel() / np.linalg.norm(descriptor)
    descriptor = np.minimum(descriptor, 0.2)
    return descriptor / np.linalg.norm(descriptor)


@pytest.mark.parametrize("bin_size", [4, 5])
def test_equals_the_sum_over_pixels_and_bins(photo, bin_size):
    image = photo[20:60, 30:70].copy()
    descriptors, centres = dense_sift(image, 7, (bin_size,))
    inside = 9  # third row, second column of four by four: away from the border
    expected = written_out(image, centres[inside], bin_size)
    np.testing.assert_allclose(descriptors[inside], expected, atol=2e-4)


@pytest.mark.parametrize(("bin_size", "least"), [(4, 0.90), (6, 0.97), (8, 0.99)])
def test_agrees_with_opencv(photo, bin_size, least):
    descriptors, centres = dense_sift(photo, 4, (bin_size,))
    points = [cv2.KeyPoint(float(x), float(y), bin_size / 1.5, 0) for x, y in centres]
    _, theirs = cv2.SIFT_create().compute(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), points)
    cosine = (descriptors * theirs).sum(axis=1) / np.maximum(np.linalg.norm(theirs, axis=1), 1e-9)
    assert np.median(cosine[descriptors.any(axis=1)]) > least


def test_norms_and_clip(photo):
    descriptors, _ = dense_sift(photo)
    assert descriptors.dtype == np.float32
    assert descriptors.min() >= 0
    np.testing.assert_allclose(np.linalg.norm(descriptors[descriptors.any(axis=1)], axis=1), 1, atol=1e-5)
    assert not np.isnan(descriptors).any()


def test_scales_share_their_centres(photo):
    sets = np.split(grid_centres(photo.shape[:2], 4, (4, 5, 8)), 3)
    np.testing.assert_allclose(sets[0], sets[2])
    np.testing.assert_allclose(sets[1], sets[2], atol=0.5)


def test_flat_patches_are_zero_and_faint_noise_is_not_amplified():
    noise = np.random.default_rng(0).integers(127, 129, (96, 96, 3), dtype=np.uint8)
    assert not dense_sift(np.full((96, 96, 3), 200, np.uint8))[0].any()
    assert dense_sift(noise, bin_sizes=(8,))[0].any(axis=1).mean() < 0.5


def test_brightness_and_contrast_do_not_matter(photo):
    darker = (photo.astype(np.float32) * 0.5 + 40).round().astype(np.uint8)
    a, b = dense_sift(photo)[0], dense_sift(darker)[0]
    both = a.any(axis=1) & b.any(axis=1)
    assert np.median((a * b).sum(axis=1)[both]) > 0.99


def test_a_batch_equals_its_images(photo):
    flipped = photo[:, ::-1].copy()
    batch, centres = dense_sift(np.stack([photo, flipped]))
    alone, alone_centres = dense_sift(flipped)
    np.testing.assert_array_equal(batch[1], alone)
    np.testing.assert_array_equal(centres, alone_centres)
    assert dense_sift(np.zeros((0, 96, 96, 3), np.uint8))[0].shape == (0, 972, 128)


def test_wrong_images_are_refused(photo):
    with pytest.raises(ValueError, match="uint8 RGB"):
        dense_sift(photo / 255)
    with pytest.raises(ValueError, match="too short for SIFT bins of 8 pixels"):
        dense_sift(photo[:20])


def test_is_much_faster_than_opencv(photo):
    image = cv2.resize(photo, (96, 96))
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    points = [
        cv2.KeyPoint(float(x), float(y), b / 1.5, 0) for b in (4, 6, 8) for x, y in grid_centres((96, 96), 4, (b,))
    ]

    def best_of_five(function):
        times = []
        for _ in range(5):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
        return min(times)

    sift = cv2.SIFT_create()
    assert best_of_five(lambda: dense_sift(image)) < best_of_five(lambda: sift.compute(grey, points))
