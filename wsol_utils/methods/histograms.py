"""The encodings Fisher vectors are compared with: the bag of visual words and the colour histogram."""

from warnings import catch_warnings, simplefilter

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

K_MEANS_ITERATIONS = 30


def fit_codebook(descriptors: np.ndarray, n_words: int, seed: int) -> np.ndarray:
    """Cluster descriptors (n, D) into visual words (n_words, D) by k-means; one thread, the same words everywhere.

    Raises:
        ValueError: fewer descriptors than words.
    """
    need_at_least(descriptors, n_words)
    clusters = KMeans(n_words, init="random", n_init=1, max_iter=K_MEANS_ITERATIONS, random_state=seed)
    with catch_warnings(), threadpool_limits(1):
        simplefilter("ignore", ConvergenceWarning)
        return clusters.fit(descriptors).cluster_centers_


def bag_of_words(descriptors: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """Share of descriptors (n, D) nearest to each word of a codebook (n_words, D); an empty set gives zeros.

    Example:
        >>> bag_of_words(np.array([[0.1], [0.9], [1.2]]), np.array([[0.0], [1.0]])).round(2).tolist()
        [0.33, 0.67]
    """
    distances = (codebook**2).sum(axis=1) - 2 * (descriptors @ codebook.T)
    counts = np.bincount(distances.argmin(axis=1), minlength=len(codebook))
    return (counts / max(len(descriptors), 1)).astype(np.result_type(descriptors, np.float32))


def colour_histogram(image: np.ndarray, n_bins: int = 4) -> np.ndarray:
    """Share of pixels of an image uint8 (H, W, 3) in each of n_bins^3 cells of the RGB cube.

    Example:
        >>> colour_histogram(np.zeros((8, 8, 3), np.uint8), n_bins=2).tolist()
        [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    red, green, blue = np.moveaxis(image.reshape(-1, 3).astype(np.intp) * n_bins // 256, -1, 0)
    counts = np.bincount((red * n_bins + green) * n_bins + blue, minlength=n_bins**3)
    return (counts / len(red)).astype(np.float32)


def need_at_least(descriptors: np.ndarray, n_needed: int) -> None:
    """Raise ValueError for fewer than `n_needed` descriptors."""
    if len(descriptors) < n_needed:
        raise ValueError(f"{len(descriptors)} descriptors are too few: pass at least {n_needed}.")
