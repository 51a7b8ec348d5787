"""Dense SIFT: a 128-number description of gradient directions around every point of a regular grid."""

from functools import lru_cache

import cv2
import numpy as np
from scipy.sparse import csr_array

STEP = 4
BIN_SIZES = (4, 6, 8)
N_BINS = 4
N_ORIENTATIONS = 8
SMOOTHING = 6.0
CONTRAST_THRESHOLD = 0.005
CLIP = 0.2
COLOUR_SPACES = {  # each row weighs red, green and blue
    "rgb": np.eye(3),
    "opponent": np.array([[1, -1, 0], [1, 1, -2], [1, 1, 1]]) / np.sqrt([[2], [6], [3]]),
}


def dense_sift(
    image: np.ndarray,
    step: int = STEP,
    bin_sizes: tuple[int, ...] = BIN_SIZES,
    window: str = "flat",
    smoothing: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Describe every `step`-th point of an image by SIFT at several scales, upright, all scales on the same centres.

    Gradients go to 8 orientations and, with bilinear weights, to 4 x 4 spatial bins; a Gaussian window lowers the outer
    ones. Then L2, clip at 0.2, L2 again. Patches without contrast (norm of the 128 mean gradients under 0.005, grey
    values in 0..1) give zeros. Neighbouring points share the work: one filter along each side serves the whole grid.

    Args:
        image: uint8 (H, W, 3) RGB, or a batch (B, H, W, 3).
        step: grid step in pixels.
        bin_sizes: widths of a spatial bin in pixels, one for each scale; a patch covers 4 x 4 bins.
        window: "gaussian" with a deviation of two bins, as in Lowe 2004, or "flat": one weight for each bin, the
            window's value at its centre (VLFeat's fast form; Vedaldi and Fulkerson 2010).
        smoothing: deviation of the blur before the gradients, in pixels; by default a sixth of the bin size.

    Returns:
        Descriptors float32 (n, 128), for a batch (B, n, 128), scale after scale in the order of `bin_sizes`; the 128
        are (bin row, bin column, orientation counter-clockwise from the right) as in `cv2.SIFT`. Centres float32
        (n, 2), x and y in pixels.

    Raises:
        ValueError: the image is not uint8 RGB or is smaller than the largest patch, or there is no such window.

    Example:
        >>> descriptors, centres = dense_sift(np.zeros((96, 96, 3), np.uint8))
        >>> descriptors.shape, centres[0].tolist()
        ((972, 128), [12.0, 12.0])
    """
    need_rgb(image, "dense_sift")
    centres = grid_centres(image.shape[-3:-1], step, bin_sizes)
    if image.ndim == 4:
        described = [dense_sift(one, step, bin_sizes, window, smoothing)[0] for one in image]
        return np.array(described, np.float32).reshape(len(image), len(centres), N_BINS**2 * N_ORIENTATIONS), centres
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    return _all_scales(grey, step, bin_sizes, window, smoothing), centres


def colour_sift(
    image: np.ndarray,
    step: int = STEP,
    bin_sizes: tuple[int, ...] = BIN_SIZES,
    space: str = "opponent",
    window: str = "flat",
) -> tuple[np.ndarray, np.ndarray]:
    """SIFT of three colour channels, side by side (van de Sande et al. 2010).

    `space` "rgb" takes red, green and blue; "opponent" takes red against green, yellow against blue, and brightness.

    Args:
        image: uint8 (H, W, 3) RGB.
        step, bin_sizes, window: as for `dense_sift`.

    Returns:
        Descriptors float32 (n, 384), each channel's 128 of length one (or zero), and centres float32 (n, 2).

    Raises:
        ValueError: as for `dense_sift`, or there is no such colour space.

    Example:
        >>> colour_sift(np.zeros((96, 96, 3), np.uint8))[0].shape
        (972, 384)
    """
    need_rgb(image, "colour_sift", ndim=3)
    if space not in COLOUR_SPACES:
        raise ValueError(f"There is no colour space {space!r}: choose from {', '.join(COLOUR_SPACES)}.")
    channels = cv2.transform(image.astype(np.float32) / 255, COLOUR_SPACES[space])
    centres = grid_centres(image.shape[:2], step, bin_sizes)
    described = [_all_scales(channels[:, :, c], step, bin_sizes, window) for c in range(3)]
    return np.concatenate(described, axis=1), centres


def root_sift(descriptors: np.ndarray) -> np.ndarray:
    """Square roots of descriptors (n, D) scaled to a sum of one: their scalar product is the Hellinger kernel.

    Arandjelović and Zisserman 2012; descriptors of zeros stay.

    Example:
        >>> root_sift(np.array([[1.0, 3.0], [0.0, 0.0]])).round(3).tolist()
        [[0.5, 0.866], [0.0, 0.0]]
    """
    sums = descriptors.sum(axis=1, keepdims=True)
    return np.sqrt(descriptors / np.where(sums > 0, sums, 1))


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


def grid_shape(shape: tuple[int, int], step: int = STEP, bin_sizes: tuple[int, ...] = BIN_SIZES) -> tuple[int, int]:
    """Rows and columns of the grid of patches, the same for all scales, of an image of shape (H, W).

    Raises:
        ValueError: the image is smaller than the largest patch.
    """
    return tuple(len(_first_bins(length, step, max(bin_sizes), max(bin_sizes))) for length in shape)


def need_rgb(image: np.ndarray, who: str, ndim: int | None = None) -> None:
    """Raise ValueError for anything but uint8 RGB images."""
    if image.dtype != np.uint8 or image.ndim not in (3, ndim or 4) or image.shape[-1] != 3:
        batch = "" if ndim else " or (B, H, W, 3)"
        raise ValueError(f"{who} needs uint8 RGB (H, W, 3){batch}, not {image.dtype} {image.shape}.")


def _first_bins(length: int, step: int, bin_size: int, largest: int) -> np.ndarray:
    """Coordinates of the first bin of all patches along one side."""
    n_patches = (length - 3 * largest - 1) // step + 1
    if n_patches < 1:
        raise ValueError(
            f"An image side of {length} pixels is too short for SIFT bins of {largest} pixels: "
            f"enlarge the image to at least {3 * largest + 1} pixels or pass smaller bin_sizes."
        )
    return np.arange(n_patches) * step + 3 * (largest - bin_size) // 2


def _all_scales(
    channel: np.ndarray, step: int, bin_sizes: tuple[int, ...], window: str, smoothing: float | None = None
) -> np.ndarray:
    described = []
    for size in bin_sizes:
        along_y, along_x = (_filters(length, step, size, max(bin_sizes), window) for length in channel.shape)
        sigma = smoothing or size / SMOOTHING
        smooth = cv2.GaussianBlur(channel, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
        height, width = channel.shape
        pooled = along_y @ _orientation_channels(smooth).reshape(height, width * N_ORIENTATIONS)
        by_column = pooled.reshape(-1, width, N_ORIENTATIONS).swapaxes(0, 1).reshape(width, -1)
        pooled = (along_x @ by_column).reshape(-1, N_BINS, along_y.shape[0] // N_BINS, N_BINS, N_ORIENTATIONS)
        described.append(_normalise(pooled.transpose(2, 0, 3, 1, 4).reshape(-1, N_BINS**2 * N_ORIENTATIONS)))
    return np.concatenate(described)


@lru_cache(maxsize=64)
def _filters(length: int, step: int, bin_size: int, largest: int, window: str) -> csr_array:
    """Weights (n_patches * 4, length) with which pixels along one side enter the bins of all patches."""
    first = _first_bins(length, step, bin_size, largest)[:, None, None]
    offsets = np.arange(length) - first - bin_size * np.arange(N_BINS)[:, None]  # (n_patches, 4, length)
    if window == "gaussian":
        heights = np.exp(-(((np.arange(length) - first) / bin_size - 1.5) ** 2) / 8)
    elif window == "flat":
        heights = np.exp(-((np.arange(N_BINS)[:, None] - 1.5) ** 2) / 8)
    else:
        raise ValueError(f"There is no window {window!r}: choose from flat, gaussian.")
    weights = np.maximum(0, 1 - np.abs(offsets) / bin_size) / bin_size * heights
    return csr_array(weights.reshape(-1, length).astype(np.float32))


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


def _normalise(descriptors: np.ndarray) -> np.ndarray:
    norms = np.sqrt(np.einsum("ij,ij->i", descriptors, descriptors))
    descriptors *= np.where(norms < CONTRAST_THRESHOLD, 0, 1 / np.maximum(norms, CONTRAST_THRESHOLD))[:, None]
    np.minimum(descriptors, CLIP, out=descriptors)
    norms = np.sqrt(np.einsum("ij,ij->i", descriptors, descriptors))
    descriptors /= np.where(norms > 0, norms, 1)[:, None]
    return descriptors
