"""Fisher vectors: describe a set of descriptors by how it would move a mixture of Gaussians."""

from dataclasses import dataclass
from warnings import catch_warnings, simplefilter

import numpy as np
from scipy.linalg import block_diag
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from wsol_utils.methods.histograms import need_at_least

EM_ITERATIONS = 50
VARIANCE_FLOOR = 1e-5
LEAST_LOG_SHARE = -60.0  # no share counts below e^-60; the tiniest float32 numbers would slow sums a hundredfold
BLOCK = 1024  # descriptors at a time, so that their posteriors stay in the processor's cache


@dataclass(frozen=True)
class Vocabulary:
    """A projection of descriptors and a diagonal Gaussian mixture over the projected ones.

    All float64: pca_mean (D_in,), pca_matrix (D_in, D) with one axis a column, weights (K,), means (K, D) and
    variances (K, D).
    """

    pca_mean: np.ndarray
    pca_matrix: np.ndarray
    weights: np.ndarray
    means: np.ndarray
    variances: np.ndarray

    @property
    def size(self) -> int:
        """Length 2KD of a Fisher vector."""
        return 2 * self.means.size

    def project(self, descriptors: np.ndarray) -> np.ndarray:
        """PCA coordinates (n, D), float64 for float64 descriptors and float32 for all others.

        Raises:
            ValueError: the descriptors are not (n, D_in).
        """
        if descriptors.ndim != 2 or descriptors.shape[1] != len(self.pca_mean):
            raise ValueError(
                f"This vocabulary takes descriptors of shape (n, {len(self.pca_mean)}), not {descriptors.shape}."
            )
        dtype = np.float64 if descriptors.dtype == np.float64 else np.float32
        if np.array_equal(self.pca_matrix, np.eye(len(self.pca_mean))):
            return descriptors.astype(dtype, copy=False) - self.pca_mean.astype(dtype)
        projected = descriptors.astype(dtype, copy=False) @ self.pca_matrix.astype(dtype)
        projected -= (self.pca_mean @ self.pca_matrix).astype(dtype)
        return projected

    def posteriors(self, projected: np.ndarray) -> np.ndarray:
        """Soft assignments gamma (n, K) of projected descriptors to the Gaussians, each row summing to one."""
        return _posteriors(_powers(projected), self._factors())

    def _factors(self) -> np.ndarray:
        """Logarithms of weighted densities as linear functions of `_powers`, (2D + 1, K), but for a constant."""
        constant = np.log(self.weights) - 0.5 * (np.log(self.variances) + self.means**2 / self.variances).sum(axis=1)
        return np.column_stack([self.means / self.variances, -0.5 / self.variances, constant]).T


def _powers(projected: np.ndarray) -> np.ndarray:
    """Values, their squares and a one, (n, 2D + 1): log-likelihoods and Fisher vectors are linear in them."""
    n, n_dimensions = projected.shape
    powers = np.ones((n, 2 * n_dimensions + 1), projected.dtype)
    powers[:, :n_dimensions] = projected
    np.square(projected, out=powers[:, n_dimensions:-1])
    return powers


def _posteriors(powers: np.ndarray, factors: np.ndarray) -> np.ndarray:
    shares = powers @ factors.astype(powers.dtype, copy=False)
    shares -= shares.max(axis=1, keepdims=True)
    np.maximum(shares, LEAST_LOG_SHARE, out=shares)
    np.exp(shares, out=shares)
    shares /= shares.sum(axis=1, keepdims=True)
    return shares


def fit_vocabulary(
    descriptors: np.ndarray, n_components: int, n_dimensions: int | None, seed: int, n_places: int = 0
) -> Vocabulary:
    """Fit PCA to `n_dimensions`, then a Gaussian mixture of `n_components` with diagonal covariance by EM.

    Args:
        descriptors: (n, D_in); 10^5 are enough for 64 components.
        n_components: K.
        n_dimensions: D, of PCA; None leaves the descriptors as they are.
        seed: fixes the k-means start of EM, and with it the result (one thread, the same on every number of cores).
        n_places: so many columns at the end say where a descriptor lies: they join D behind PCA, as they are.

    Raises:
        ValueError: fewer descriptors than components or dimensions, or descriptors shorter than `n_dimensions`.
    """
    need_at_least(descriptors, max(n_components, n_dimensions or 0))
    if n_dimensions and n_dimensions > descriptors.shape[1] - n_places:
        n_numbers = descriptors.shape[1] - n_places
        raise ValueError(
            f"Descriptors of {n_numbers} numbers cannot be cut to {n_dimensions}: pass {n_numbers} or fewer."
        )
    mixture = GaussianMixture(
        n_components, covariance_type="diag", max_iter=EM_ITERATIONS, reg_covar=VARIANCE_FLOOR, random_state=seed
    )
    n_seen = descriptors.shape[1] - n_places
    mean, matrix = np.zeros(descriptors.shape[1]), np.eye(descriptors.shape[1])
    with catch_warnings(), threadpool_limits(1):
        simplefilter("ignore", ConvergenceWarning)
        if n_dimensions:
            pca = PCA(n_dimensions, svd_solver="covariance_eigh").fit(descriptors[:, :n_seen])
            mean[:n_seen], matrix = pca.mean_, block_diag(pca.components_.T, np.eye(n_places))
        mixture.fit((descriptors - mean) @ matrix)
    parts = mean, matrix, mixture.weights_, mixture.means_, mixture.covariances_
    return Vocabulary(*(part.astype(np.float64) for part in parts))


def fisher_vector(descriptors: np.ndarray, vocabulary: Vocabulary, improved: bool = True) -> np.ndarray:
    """Mean gradient of the log-likelihood, scaled by the diagonal Fisher information.

    As in Sánchez et al. 2013; the K mean parts come first, then the K deviation parts, the weight part is dropped.
    Improved (Perronnin et al. 2010) means `l2(ssr(...))` of the whole. An empty set gives zeros.

    Args:
        descriptors: (n, D_in), float64 for a float64 result.
        vocabulary: the mixture the gradient is taken of.
        improved: apply signed square roots, then L2.

    Returns:
        (2KD,)

    Raises:
        ValueError: the descriptors do not fit the vocabulary, or are not finite.

    Example:
        >>> two = Vocabulary(np.zeros(1), np.eye(1), np.array([0.5, 0.5]), np.array([[-9.0], [9.0]]), np.ones((2, 1)))
        >>> fisher_vector(np.array([[10.0]]), two, improved=False).round(3).tolist()
        [0.0, 1.414, 0.0, 0.0]
    """
    projected = vocabulary.project(descriptors)
    if len(projected) == 0:
        return np.zeros(vocabulary.size, projected.dtype)
    factors = vocabulary._factors().astype(projected.dtype)
    totals = np.zeros(factors.T.shape)
    for start in range(0, len(projected), BLOCK):
        powers = _powers(projected[start : start + BLOCK])
        totals += _posteriors(powers, factors).T @ powers
    first, second, count = np.split(totals, [projected.shape[1], 2 * projected.shape[1]], axis=1)
    means, deviations = vocabulary.means, np.sqrt(vocabulary.variances)
    scale = 1 / (len(projected) * np.sqrt(vocabulary.weights))[:, None]
    mean_part = scale * (first - count * means) / deviations
    centred = (second - 2 * means * first + count * means**2) / vocabulary.variances
    vector = np.concatenate([mean_part.ravel(), (scale / np.sqrt(2) * (centred - count)).ravel()])
    if not np.isfinite(vector).all():
        raise ValueError("The descriptors hold NaN, infinite or huge numbers: leave those out.")
    return (l2(ssr(vector)) if improved else vector).astype(projected.dtype)


def contributions(projected: np.ndarray, vocabulary: Vocabulary, projection: np.ndarray) -> np.ndarray:
    """What each descriptor alone gives to the projection of an unimproved Fisher vector; no vector is ever written out.

    Projecting and averaging commute, so the mean over any set of descriptors is `projection @ fisher_vector(set)`.

    Args:
        projected: PCA coordinates (n, D), from `Vocabulary.project`.
        vocabulary: as for `fisher_vector`.
        projection: (m, 2KD), m linear functions of a Fisher vector.

    Returns:
        (n, m), of the type of `projected`.

    Example:
        >>> two = Vocabulary(np.zeros(1), np.eye(1), np.array([0.5, 0.5]), np.array([[-9.0], [9.0]]), np.ones((2, 1)))
        >>> contributions(np.array([[10.0]]), two, np.eye(4)).round(3).tolist()
        [[0.0, 1.414, 0.0, 0.0]]
    """
    means, variances = vocabulary.means, vocabulary.variances
    of_means, of_deviations = projection.reshape(-1, 2, *means.shape).swapaxes(0, 1) / np.sqrt(
        vocabulary.weights[:, None]
    )
    linear, square = of_means / np.sqrt(variances), of_deviations / (np.sqrt(2) * variances)  # (m, K, D)
    constant = (square * (means**2 - variances) - linear * means).sum(axis=2, keepdims=True)
    factors = np.concatenate([linear - 2 * square * means, square, constant], axis=2)
    factors = factors.reshape(-1, factors.shape[2])
    powers = _powers(projected)
    of_gaussians = (powers @ factors.T.astype(powers.dtype)).reshape(-1, len(projection), len(means))  # (n, m, K)
    return np.einsum("nmk,nk->nm", of_gaussians, vocabulary.posteriors(projected), optimize=True)


def soft_assignment(descriptors: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """How far each descriptor belongs to each Gaussian: posteriors (n, K), each row summing to one.

    Raises:
        ValueError: the descriptors do not fit the vocabulary.

    Example:
        >>> two = Vocabulary(np.zeros(1), np.eye(1), np.array([0.5, 0.5]), np.array([[-1.0], [1.0]]), np.ones((2, 1)))
        >>> soft_assignment(np.array([[0.0], [9.0]]), two).round(2).tolist()
        [[0.5, 0.5], [0.0, 1.0]]
    """
    return vocabulary.posteriors(vocabulary.project(descriptors))


def ssr(vectors: np.ndarray) -> np.ndarray:
    """Signed square root of every value; on a histogram this is the Hellinger map.

    Example:
        >>> ssr(np.array([4.0, -9.0])).tolist()
        [2.0, -3.0]
    """
    return np.sign(vectors) * np.sqrt(np.abs(vectors))


def l2(vectors: np.ndarray) -> np.ndarray:
    """Divide by the Euclidean norm along the last axis; a vector of zeros stays.

    Example:
        >>> l2(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[0.6, 0.8], [0.0, 0.0]]
    """
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1)
