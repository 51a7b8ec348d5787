"""Local descriptors beside SIFT, on the same grid of points and scales: colours, raw pixels, and the place itself."""

import cv2
import numpy as np

from wsol_utils.methods.sift import BIN_SIZES, N_BINS, STEP, grid_centres, need_rgb

RAW_SIDE = 8  # cells along the side of a raw patch
RAW_CONTRAST = 0.01  # deviation of grey values in 0..1 below which a raw patch counts as flat


def colour_statistics(
    image: np.ndarray, step: int = STEP, bin_sizes: tuple[int, ...] = BIN_SIZES
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of red, green and blue in each of the 4 x 4 cells of a patch (Perronnin et al. 2010).

    Args:
        image: uint8 (H, W, 3) RGB.
        step, bin_sizes: as for `dense_sift`; a cell is as wide as a SIFT bin.

    Returns:
        Descriptors float32 (n, 96): 16 cells by (3 means, 3 deviations), in 0..1, and centres float32 (n, 2).

    Raises:
        ValueError: the image is not uint8 RGB, or is smaller than the largest patch.

    Example:
        >>> described, _ = colour_statistics(np.full((96, 96, 3), 255, np.uint8))
        >>> described.shape, described[0, :6].tolist()
        ((972, 96), [1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    """
    need_rgb(image, "colour_statistics", ndim=3)
    centres, described = grid_centres(image.shape[:2], step, bin_sizes), []
    colours = image.astype(np.float32) / 255
    for size, own in zip(bin_sizes, np.split(centres, len(bin_sizes)), strict=True):
        means, squares = (_cell_means(values, own, size, N_BINS) for values in (colours, colours**2))
        deviations = np.sqrt(np.maximum(squares - means**2, 0))
        described.append(np.concatenate([means, deviations], axis=2).reshape(len(own), -1))
    return np.concatenate(described), centres


def raw_patches(
    image: np.ndarray, step: int = STEP, bin_sizes: tuple[int, ...] = BIN_SIZES
) -> tuple[np.ndarray, np.ndarray]:
    """Grey values of each patch in 8 x 8 cells, brought to mean 0 and length 1; flat patches give zeros.

    Args:
        image: uint8 (H, W, 3) RGB.
        step, bin_sizes: as for `dense_sift`; a cell is half as wide as a SIFT bin (odd bins are rounded down).

    Returns:
        Descriptors float32 (n, 64) and centres float32 (n, 2).

    Raises:
        ValueError: the image is not uint8 RGB, or is smaller than the largest patch.

    Example:
        >>> raw_patches(np.full((96, 96, 3), 9, np.uint8))[0].any()
        np.False_
    """
    need_rgb(image, "raw_patches", ndim=3)
    centres, described = grid_centres(image.shape[:2], step, bin_sizes), []
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)[:, :, None] / 255
    for size, own in zip(bin_sizes, np.split(centres, len(bin_sizes)), strict=True):
        cells = _cell_means(grey, own, max(size * N_BINS // RAW_SIDE, 1), RAW_SIDE)[:, :, 0]
        cells -= cells.mean(axis=1, keepdims=True)
        norms = np.linalg.norm(cells, axis=1, keepdims=True)
        described.append(np.where(norms > RAW_CONTRAST * RAW_SIDE, cells / np.maximum(norms, 1e-9), 0))
    return np.concatenate(described), centres


def append_places(descriptors: np.ndarray, centres: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Put x / W - 1/2 and y / H - 1/2 behind each descriptor, so that a mixture learns place too (Sánchez et al. 2012).

    Args:
        descriptors: (n, D)
        centres: (n, 2), x and y in pixels.
        shape: height and width of the image.

    Returns:
        (n, D + 2)

    Example:
        >>> append_places(np.ones((1, 1)), np.array([[30.0, 5.0]]), (20, 40)).tolist()
        [[1.0, 0.25, -0.25]]
    """
    places = centres / np.array(shape[::-1]) - 0.5
    return np.concatenate([descriptors, places.astype(descriptors.dtype)], axis=1)


def _cell_means(values: np.ndarray, centres: np.ndarray, width: int, n_cells: int) -> np.ndarray:
    """Mean of values (H, W, C) over n_cells x n_cells cells around each centre, (n, n_cells^2, C)."""
    frame = width * n_cells
    framed = cv2.copyMakeBorder(values, *[frame] * 4, cv2.BORDER_REPLICATE)
    means = cv2.blur(framed, (width, width), anchor=(0, 0)).reshape(*framed.shape[:2], -1)
    x, y = np.floor(centres).astype(np.intp).T[:, :, None, None] + frame
    offsets = width * (np.arange(n_cells) - n_cells // 2)
    return means[y + offsets[:, None], x + offsets].reshape(len(centres), n_cells**2, -1)
