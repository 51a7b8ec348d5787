"""Colour statistics and raw patches against means over pixels, one patch at a time."""

import cv2
import numpy as np
import pytest
import skimage.data

from wsol_utils.methods.descriptors import colour_statistics, raw_patches
from wsol_utils.methods.sift import grid_centres


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return cv2.resize(skimage.data.chelsea(), (80, 60), interpolation=cv2.INTER_AREA)


def test_colour_statistics_are_means_and_deviations_of_cells(photo):
    described, centres = colour_statistics(photo, 5, (4, 6))
    np.testing.assert_array_equal(centres, grid_centres((60, 80), 5, (4, 6)))
    of_scale = np.repeat([4, 6], len(centres) // 2)
    for i in range(0, len(centres), 37):
        width = of_scale[i]
        (x, y), frame = centres[i].astype(int), 20
        framed = np.pad(photo, [(frame, frame)] * 2 + [(0, 0)], mode="edge") / 255
        cells = described[i].reshape(4, 4, 6)
        for row in range(4):
            for column in range(4):
                top, left = y + frame + (row - 2) * width, x + frame + (column - 2) * width
                pixels = framed[top : top + width, left : left + width].reshape(-1, 3)
                np.testing.assert_allclose(cells[row, column, :3], pixels.mean(axis=0), atol=1e-5)
                np.testing.assert_allclose(cells[row, column, 3:], pixels.std(axis=0), atol=2e-3)


def test_raw_patches_are_shrunk_grey_pixels(photo):
    described, centres = raw_patches(photo, 5, (8,))
    inside = np.flatnonzero((centres > 18).all(axis=1) & (centres < np.array([60, 40])).all(axis=1))
    assert len(inside)
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    for i in inside:
        x, y = centres[i].astype(int)
        patch = cv2.resize(grey[y - 16 : y + 16, x - 16 : x + 16], (8, 8), interpolation=cv2.INTER_AREA).ravel()
        patch -= patch.mean()
        np.testing.assert_allclose(described[i], patch / np.linalg.norm(patch), atol=1e-4)


@pytest.mark.parametrize("describe", [colour_statistics, raw_patches])
def test_wrong_images_are_refused(photo, describe):
    with pytest.raises(ValueError, match=f"{describe.__name__} needs uint8 RGB"):
        describe(photo[:, :, 0])
    with pytest.raises(ValueError, match="too short for SIFT bins"):
        describe(photo[:10])
