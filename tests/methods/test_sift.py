"""Dense SIFT against a descriptor written out bin by bin and against OpenCV."""

import cv2
import numpy as np
import pytest
import skimage.data

from wsol_utils.methods.sift import colour_sift, dense_sift, grid_centres, root_sift


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return cv2.resize(skimage.data.chelsea(), (120, 90), interpolation=cv2.INTER_AREA)


def written_out(image: np.ndarray, centre: np.ndarray, bin_size: int, kind: str) -> np.ndarray:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) / 255.0
    grey = cv2.GaussianBlur(grey, (0, 0), bin_size / 6, borderType=cv2.BORDER_REPLICATE)
    descriptor = np.zeros((4, 4, 8))
    framed = np.pad(grey, 1, mode="edge")
    for y in range(grey.shape[0]):
        for x in range(grey.shape[1]):
            across = (framed[y + 1, x + 2] - framed[y + 1, x]) / 2
            up = (framed[y, x + 1] - framed[y + 2, x + 1]) / 2
            direction = np.arctan2(up, across) / (np.pi / 4)
            for i in range(4):
                for j in range(4):
                    dy = abs(y - (centre[1] + (i - 1.5) * bin_size)) / bin_size
                    dx = abs(x - (centre[0] + (j - 1.5) * bin_size)) / bin_size
                    down, right = i - 1.5, j - 1.5
                    if kind == "gaussian":
                        down, right = (y - centre[1]) / bin_size, (x - centre[0]) / bin_size
                    window = np.exp(-(down**2 + right**2) / 8)
                    share = max(0, 1 - dy) * max(0, 1 - dx) * window * np.hypot(across, up)
                    for o in range(8):
                        apart = abs((direction - o + 4) % 8 - 4)
                        descriptor[i, j, o] += share * max(0, 1 - apart)
    descriptor = descriptor.ravel() / np.linalg.norm(descriptor)
    descriptor = np.minimum(descriptor, 0.2)
    return descriptor / np.linalg.norm(descriptor)


@pytest.mark.parametrize("window", ["flat", "gaussian"])
@pytest.mark.parametrize("bin_size", [4, 5])
def test_equals_the_sum_over_pixels_and_bins(photo, bin_size, window):
    image = photo[20:60, 30:70].copy()
    descriptors, centres = dense_sift(image, 7, (bin_size,), window)
    for i in (0, 9):  # the corner, and a patch away from the border
        expected = written_out(image, centres[i], bin_size, window)
        np.testing.assert_allclose(descriptors[i], expected, atol=2e-4)


def by_opencv(image: np.ndarray, centres: np.ndarray, bin_size: int) -> np.ndarray:
    points = [cv2.KeyPoint(float(x), float(y), bin_size / 1.5, 0) for x, y in centres]
    _, descriptors = cv2.SIFT_create().compute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), points)
    return descriptors / np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), 1e-9)


@pytest.mark.parametrize("bin_size", [4, 6, 8, 10])
def test_is_opencvs_with_its_window_and_blur(photo, bin_size):
    of_opencv = np.sqrt(1.6**2 - 0.5**2)
    descriptors, centres = dense_sift(photo, 4, (bin_size,), "gaussian", of_opencv)
    cosine = (descriptors * by_opencv(photo, centres, bin_size)).sum(axis=1)[descriptors.any(axis=1)]
    assert np.median(cosine) > 0.999
    assert cosine.min() > 0.95


@pytest.mark.parametrize(("bin_size", "least"), [(4, 0.90), (6, 0.97), (8, 0.99)])
def test_the_flat_window_stays_near_opencv(photo, bin_size, least):
    descriptors, centres = dense_sift(photo, 4, (bin_size,))
    cosine = (descriptors * by_opencv(photo, centres, bin_size)).sum(axis=1)[descriptors.any(axis=1)]
    assert np.median(cosine) > least


def test_colour_sift_is_sift_of_each_channel(photo):
    described, centres = colour_sift(photo, space="rgb")
    for c, of_channel in enumerate(np.split(described, 3, axis=1)):
        alone, same = dense_sift(np.repeat(photo[:, :, c : c + 1], 3, axis=2))
        np.testing.assert_allclose(of_channel, alone, atol=1e-4)
        np.testing.assert_array_equal(centres, same)


def test_opponent_colours_tell_brightness_from_hue(photo):
    grey = np.repeat(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2)
    red_green, yellow_blue, brightness = np.split(colour_sift(grey)[0], 3, axis=1)
    assert not red_green.any()
    assert not yellow_blue.any()
    np.testing.assert_allclose(brightness, dense_sift(grey)[0], atol=1e-3)
    stripes = np.zeros((60, 60, 3), np.uint8)
    stripes[:, ::2, 0] = stripes[:, 1::2, 1] = 200  # red and green, equally bright in the sum
    strong = np.split(colour_sift(np.kron(stripes, np.ones((4, 4, 1), np.uint8)), bin_sizes=(8,))[0], 3, axis=1)
    assert [part.any() for part in strong] == [True, False, False]


def test_root_sift_has_length_one_and_keeps_zeros(photo):
    roots = root_sift(dense_sift(photo)[0])
    assert set(np.linalg.norm(roots, axis=1).round(4)) <= {0.0, 1.0}


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
    with pytest.raises(ValueError, match="no window 'round': choose from flat, gaussian"):
        dense_sift(photo, window="round")
    with pytest.raises(ValueError, match="no colour space 'hsv': choose from rgb, opponent"):
        colour_sift(photo, space="hsv")
    with pytest.raises(ValueError, match=r"colour_sift needs uint8 RGB \(H, W, 3\), not uint8 \(1, 90, 120, 3\)"):
        colour_sift(photo[None])
