"""Dense SIFT: a 128-number description of gradient directions around every point of a regular grid."""

import cv2
import numpy as np

STEP = 4
BIN_SIZES = (4, 6, 8)
N_BINS = 4
N_ORIENTATIONS = 8
SMOOTHING = 6.0
CONTRAST_THRESHOLD = 0.005
CLIP = 0.2


def dense_sift(
    image: np.ndarray, step: int = STEP, bin_sizes: tuple[int, ...] = BIN_SIZES
) -> tuple[np.ndarray, np.ndarray]:
    """Describe every `step`-th point of an image by SIFT at several scales, upright, all scales on the same centres.

    Flat-window dense SIFT (PHOW of VLFeat; Vedaldi and Fulkerson 2010): gradients go to 8 orientations and, with
    bilinear weights, to 4 x 4 spatial bins. The Gaussian window is constant inside a bin, so that one triangular filter
    serves all grid points. Then L2, clip at 0.2, L2 again. Patches without contrast (norm of the 128 mean gradients
    under 0.005, grey values in 0..1) give zeros.

    Args:
        image: uint8 (H, W, 3) RGB, or a batch (B, H, W, 3).
        step: grid step in pixels.
        bin_sizes: widths of a spatial bin in pixels, one for each scale; a patch covers 4 x 4 bins.

    Returns:
        Descriptors float32 (n, 128), for a batch (B, n, 128), scale after scale in the order of `bin_sizes`; the 128
        are (bin row, bin column, orientation counter-clockwise from the right) as in `cv2.SIFT`. Centres float32
        (n, 2), x and y in pixels.

    Raises:
        ValueError: the image is not uint8 RGB or is smaller than the largest patch.

    Example:
        >>> descriptors, centres = dense_sift(np.zeros((96, 96, 3), np.uint8))
        >>> descriptors.shape, centres[0].tolist()
        ((972, 128), [12.0, 12.0])
    """
    if image.dtype != np.uint8 or image.ndim not in (3, 4) or image.shape[-1] != 3:
        raise ValueError(f"dense_sift needs uint8 RGB (H, W, 3) or (B, H, W, 3), not {image.dtype} {image.shape}.")
    if image.ndim == 4:
        centres = grid_centres(image.shape[1:3], step, bin_sizes)
        if len(image) == 0:
            return np.zeros((0, len(centres), N_BINS**2 * N_ORIENTATIONS), np.float32), centres
        return np.stack([dense_sift(one, step, bin_sizes)[0] for one in image]), centres
    centres = grid_centres(image.shape[:2], step, bin_sizes)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    return np.concatenate([_one_scale(grey, step, size, max(bin_sizes)) for size in bin_sizes]), centres


def grid_centres(shape: tuple[int, int], step: int = STEP, bin_sizes: tuple[int, ...] = BIN_SIZES) -> np.ndarray:
    """Centres of all patches of an image of shape (H, W): float32 (n, 2), x and y, scale after scale.

    Raises:
        ValueError: the image is smaller than the largest patch.
    """
    centres = []
    for size in bin_sizes:
        rows, columns = (_first_bins(length, step, size, max(bin_sizes)) + 1.5 * size for length in shape)
        centres.append(np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2))
    return np.concatenate(centres).astype(np.float32)


def _first_bins(length: int, step: int, bin_size: int, largest: int) -> np.ndarray:
    """Coordinates of the first bin of all patches along one side."""
    n_patches = (length - 3 * largest - 1) // step + 1
    if n_patches < 1:
        raise ValueError(
            f"An image side of {length} pixels is too short for SIFT bins of {largest} pixels: "
            f"enlarge the image to at least {3 * largest + 1} pixels or pass smaller bin_sizes."
        )
    return np.arange(n_patches) * step + 3 * (largest - bin_size) // 2


def _one_scale(grey: np.ndarray, step: int, bin_size: int, largest: int) -> np.ndarray:
    smooth = cv2.GaussianBlur(grey, (0, 0), bin_size / SMOOTHING, borderType=cv2.BORDER_REPLICATE)
    pooled = _pool(_orientation_channels(smooth), bin_size)
    rows, columns = (
        _first_bins(length, step, bin_size, largest)[:, None] + bin_size * np.arange(N_BINS) for length in grey.shape
    )
    window = np.exp(-(((np.arange(N_BINS) - 1.5) / 2) ** 2) / 2).astype(np.float32)
    patches = pooled[rows[:, None, :, None], columns[None, :, None, :]]  # (rows, columns, 4, 4, 8)
    patches *= np.outer(window, window)[:, :, None]
    return _normalise(patches.reshape(-1, N_BINS**2 * N_ORIENTATIONS))


def _orientation_channels(grey: np.ndarray) -> np.ndarray:
    """Gradient magnitude shared linearly between the two nearest of 8 directions, (H, W, 8)."""
    across = cv2.Sobel(grey, cv2.CV_32F, 1, 0, ksize=1, scale=0.5, borderType=cv2.BORDER_REPLICATE)
    up = cv2.Sobel(grey, cv2.CV_32F, 0, 1, ksize=1, scale=-0.5, borderType=cv2.BORDER_REPLICATE)
    magnitude, angle = cv2.cartToPolar(across, up)
    position = angle.ravel() * np.float32(N_ORIENTATIONS / (2 * np.pi))
    lower = position.astype(np.int64)
    upper_share = magnitude.ravel() * (position - lower)
    channels = np.zeros(grey.size * N_ORIENTATIONS, np.float32)
    first = np.arange(0, channels.size, N_ORIENTATIONS)
    channels[first + lower % N_ORIENTATIONS] = magnitude.ravel() - upper_share
    channels[first + (lower + 1) % N_ORIENTATIONS] = upper_share
    return channels.reshape(*grey.shape, N_ORIENTATIONS)


def _pool(channels: np.ndarray, bin_size: int) -> np.ndarray:
    """Triangular mean of half-width `bin_size`: two boxes whose anchors cancel for even widths."""
    for anchor in (bin_size // 2, (bin_size - 1) // 2):
        channels = cv2.blur(channels, (bin_size, bin_size), anchor=(anchor, anchor), borderType=cv2.BORDER_REPLICATE)
    return channels


def _normalise(descriptors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(descriptors, axis=1, keepdims=True)
    descriptors = descriptors * np.where(norms < CONTRAST_THRESHOLD, 0, 1 / np.maximum(norms, CONTRAST_THRESHOLD))
    np.minimum(descriptors, CLIP, out=descriptors)
    norms = np.linalg.norm(descriptors, axis=1, keepdims=True)
    return descriptors / np.where(norms > 0, norms, 1)
