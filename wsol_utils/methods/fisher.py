"""Fisher vectors over dense SIFT, linear classifiers on them, and the map of where their score comes from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from warnings import catch_warnings, simplefilter

import cv2
import joblib
import numpy as np
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import SVC, LinearSVC
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from wsol_utils.methods.histograms import bag_of_words, need_at_least
from wsol_utils.methods.sift import BIN_SIZES, STEP, dense_sift

EM_ITERATIONS = 50
VARIANCE_FLOOR = 1e-5
CHUNK = 8


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
        return (descriptors.astype(dtype) - self.pca_mean.astype(dtype)) @ self.pca_matrix.astype(dtype)

    def posteriors(self, projected: np.ndarray) -> np.ndarray:
        """Soft assignments gamma (n, K) of projected descriptors to the Gaussians, each row summing to one."""
        precisions = (1 / self.variances).astype(projected.dtype)
        constant = np.log(self.weights) - 0.5 * (np.log(self.variances) + self.means**2 / self.variances).sum(axis=1)
        linear = (self.means / self.variances).astype(projected.dtype)
        log_joint = projected @ linear.T - 0.5 * (projected**2 @ precisions.T) + constant.astype(projected.dtype)
        log_joint -= log_joint.max(axis=1, keepdims=True)
        np.exp(log_joint, out=log_joint)
        return log_joint / log_joint.sum(axis=1, keepdims=True)


def fit_vocabulary(descriptors: np.ndarray, n_components: int, n_dimensions: int, seed: int) -> Vocabulary:
    """Fit PCA to `n_dimensions`, then a Gaussian mixture of `n_components` with diagonal covariance by EM.

    Args:
        descriptors: (n, D_in); 10^5 are enough for 64 components.
        n_components: K.
        n_dimensions: D.
        seed: fixes the k-means start of EM, and with it the result (one thread, the same on every number of cores).

    Raises:
        ValueError: fewer descriptors than components or dimensions.
    """
    need_at_least(descriptors, max(n_components, n_dimensions))
    mixture = GaussianMixture(
        n_components, covariance_type="diag", max_iter=EM_ITERATIONS, reg_covar=VARIANCE_FLOOR, random_state=seed
    )
    with catch_warnings(), threadpool_limits(1):
        simplefilter("ignore", ConvergenceWarning)
        pca = PCA(n_dimensions, svd_solver="covariance_eigh").fit(descriptors)
        mixture.fit(pca.transform(descriptors))
    parts = pca.mean_, pca.components_.T, mixture.weights_, mixture.means_, mixture.covariances_
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
        ValueError: the descriptors do not fit the vocabulary.

    Example:
        >>> two = Vocabulary(np.zeros(1), np.eye(1), np.array([0.5, 0.5]), np.array([[-9.0], [9.0]]), np.ones((2, 1)))
        >>> fisher_vector(np.array([[10.0]]), two, improved=False).round(3).tolist()
        [0.0, 1.414, 0.0, 0.0]
    """
    projected = vocabulary.project(descriptors)
    if len(projected) == 0:
        return np.zeros(vocabulary.size, projected.dtype)
    posteriors = vocabulary.posteriors(projected)
    count = posteriors.sum(axis=0)[:, None].astype(np.float64)
    first = posteriors.T @ projected
    second = posteriors.T @ projected**2
    means, deviations = vocabulary.means, np.sqrt(vocabulary.variances)
    scale = 1 / (len(projected) * np.sqrt(vocabulary.weights))[:, None]
    mean_part = scale * (first - count * means) / deviations
    centred = (second - 2 * means * first + count * means**2) / vocabulary.variances
    vector = np.concatenate([mean_part.ravel(), (scale / np.sqrt(2) * (centred - count)).ravel()])
    return (l2(ssr(vector)) if improved else vector).astype(projected.dtype)


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


def encode_images(
    images: Sequence[np.ndarray],
    vocabulary: Vocabulary | np.ndarray | Sequence[Vocabulary | np.ndarray],
    *,
    improved: bool = True,
    step: int = STEP,
    bin_sizes: tuple[int, ...] = BIN_SIZES,
    progress: bool = True,
) -> np.ndarray | list[np.ndarray]:
    """Encode many images on all cores: Fisher vectors for a `Vocabulary`, word histograms for a codebook array.

    Args:
        images: N images uint8 (H, W, 3), of any sizes.
        vocabulary: from `fit_vocabulary` or `fit_codebook`; for a list of them SIFT is computed once.
        improved: SSR and L2 of Fisher vectors; without effect on histograms.
        step, bin_sizes: as for `dense_sift`.
        progress: show a bar on stderr.

    Returns:
        float32 (N, 2KD) or (N, n_words); for a list of vocabularies a list of such arrays.
    """
    several = isinstance(vocabulary, list | tuple)
    vocabularies = vocabulary if several else [vocabulary]

    def encode(image: np.ndarray) -> list[np.ndarray]:
        descriptors, _ = dense_sift(image, step, bin_sizes)
        return [
            fisher_vector(descriptors, one, improved) if isinstance(one, Vocabulary) else bag_of_words(descriptors, one)
            for one in vocabularies
        ]

    encoded = _on_all_cores(encode, images, progress)
    arrays = [
        np.array([vectors[i] for vectors in encoded], np.float32).reshape(
            len(images), one.size if isinstance(one, Vocabulary) else len(one)
        )
        for i, one in enumerate(vocabularies)
    ]
    return arrays if several else arrays[0]


def sample_descriptors(
    images: Sequence[np.ndarray],
    n_per_image: int,
    seed: int,
    *,
    step: int = STEP,
    bin_sizes: tuple[int, ...] = BIN_SIZES,
    progress: bool = True,
) -> np.ndarray:
    """Draw up to `n_per_image` dense SIFT descriptors with contrast from every image, to fit a vocabulary on.

    Returns:
        float32 (n, 128)
    """

    def draw(image_and_seed: tuple[np.ndarray, np.random.SeedSequence]) -> np.ndarray:
        image, own_seed = image_and_seed
        descriptors, _ = dense_sift(image, step, bin_sizes)
        descriptors = descriptors[descriptors.any(axis=1)]
        return np.random.default_rng(own_seed).permutation(descriptors)[:n_per_image]

    seeds = np.random.SeedSequence(seed).spawn(len(images))
    return np.concatenate(_on_all_cores(draw, list(zip(images, seeds, strict=True)), progress))


def _on_all_cores(function: Callable, items: Sequence, progress: bool) -> list:
    """Map over items with one thread a core, BLAS and OpenCV kept to one thread each."""
    chunks = [items[i : i + CHUNK] for i in range(0, len(items), CHUNK)]
    cv2_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1), tqdm(total=len(items), disable=not progress, unit="image") as bar:
            work = joblib.Parallel(n_jobs=-1, backend="threading", return_as="generator")
            results = []
            for part in work(joblib.delayed(lambda chunk: [function(item) for item in chunk])(c) for c in chunks):
                results.extend(part)
                bar.update(len(part))
    finally:
        cv2.setNumThreads(cv2_threads)
    return results


def fit_linear(
    train_x: np.ndarray,
    train_y: np.ndarray,
    val_x: np.ndarray,
    val_y: np.ndarray,
    Cs: Sequence[float] = (0.01, 0.1, 1, 10, 100),
) -> LinearSVC:
    """Fit one-vs-rest linear SVMs on train for each C and return the ones with the best validation accuracy.

    Of equal ones the smallest C wins; the chosen value is the attribute `C`. Encodings that are long against the number
    of images are fitted on the Gram matrix, several times sooner.

    Args:
        train_x, val_x: encodings (N, D).
        train_y, val_y: their labels (N,), of two classes or more.

    Raises:
        ValueError: train_y holds one class only.
    """
    if len(np.unique(train_y)) < 2:
        raise ValueError("The training images are all of one class: give some of another.")
    n_images, n_numbers = train_x.shape
    gram = train_x @ train_x.T if 2 * n_numbers > n_images else None
    best, best_accuracy = None, -1.0
    for C in sorted(Cs):
        candidate = LinearSVC(C=C, dual="auto")
        candidate = candidate.fit(train_x, train_y) if gram is None else _on_gram(candidate, gram, train_x, train_y)
        accuracy = candidate.score(val_x, val_y)
        if accuracy > best_accuracy:
            best, best_accuracy = candidate, accuracy
    return best


def _on_gram(machine: LinearSVC, gram: np.ndarray, x: np.ndarray, y: np.ndarray) -> LinearSVC:
    """Give `machine` the weights it would learn: its squared hinge loss is a hard margin on gram + 1 / 2C."""
    softened = gram + np.eye(len(gram), dtype=gram.dtype) / (2 * machine.C)
    dual = OneVsRestClassifier(SVC(C=1e6, kernel="precomputed", tol=1e-2)).fit(softened, y)
    machine.classes_, machine.n_features_in_ = dual.classes_, x.shape[1]
    machine.coef_ = np.concatenate([one.dual_coef_ @ x[one.support_] for one in dual.estimators_])
    machine.intercept_ = np.concatenate([one.intercept_ for one in dual.estimators_])
    return machine


def descriptor_scores(descriptors: np.ndarray, vocabulary: Vocabulary, class_weights: np.ndarray) -> np.ndarray:
    """Share out the linear score of an improved Fisher vector over its descriptors.

    Signed root and L2 divide every value of the Fisher vector by a number that the whole image fixes, and the Fisher
    vector is a sum over descriptors; so the shares are exact: they add up to `class_weights @ fisher_vector(...)`.

    Args:
        descriptors: (n, D_in)
        vocabulary: as for `fisher_vector`.
        class_weights: (2KD,), one row of a linear classifier, without its offset.

    Returns:
        float64 (n,)
    """
    projected = vocabulary.project(descriptors.astype(np.float64))
    vector = fisher_vector(descriptors.astype(np.float64), vocabulary, improved=False)
    roots = np.sqrt(np.abs(vector))
    divisors = roots * np.linalg.norm(roots)
    shares = np.divide(class_weights, divisors, out=np.zeros_like(divisors), where=divisors > 0)
    mean_shares, deviation_shares = shares.reshape(2, *vocabulary.means.shape)
    scale = 1 / (max(len(projected), 1) * np.sqrt(vocabulary.weights))[:, None]
    linear = scale * mean_shares / np.sqrt(vocabulary.variances)
    square = scale * deviation_shares / (np.sqrt(2) * vocabulary.variances)
    slope = linear - 2 * square * vocabulary.means
    constant = (square * (vocabulary.means**2 - vocabulary.variances) - linear * vocabulary.means).sum(axis=1)
    scores = projected @ slope.T + projected**2 @ square.T + constant
    return (vocabulary.posteriors(projected) * scores).sum(axis=1)


def fisher_score_map(
    image: np.ndarray,
    vocabulary: Vocabulary,
    class_weights: np.ndarray,
    step: int = STEP,
    bin_sizes: tuple[int, ...] = BIN_SIZES,
) -> np.ndarray:
    """Show which pixels of an image earn the linear score of one class.

    Every descriptor's share of the score (`descriptor_scores`) is spread evenly over the pixels of its patch, so the
    map adds up to the score.

    Args:
        image: uint8 (H, W, 3).
        vocabulary, class_weights: as for `descriptor_scores`.
        step, bin_sizes: as for `dense_sift`.

    Returns:
        float32 (H, W), signed.
    """
    descriptors, centres = dense_sift(image, step, bin_sizes)
    scores = descriptor_scores(descriptors, vocabulary, class_weights)
    half_sides = 2 * np.repeat(bin_sizes, len(centres) // len(bin_sizes))
    return _spread(scores, centres, half_sides, image.shape[:2]).astype(np.float32)


def _spread(scores: np.ndarray, centres: np.ndarray, half_sides: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Add each score to the pixels of a square around its centre, in equal parts; squares are cut at the border."""
    corners = np.floor(centres - half_sides[:, None] + 0.5).astype(np.intp)
    x0, y0 = np.maximum(corners, 0).T
    x1, y1 = np.minimum(corners + 2 * half_sides[:, None], shape[::-1]).T
    heights = scores / ((x1 - x0) * (y1 - y0))
    steps = np.zeros((shape[0] + 1, shape[1] + 1))
    for rows, columns, sign in ((y0, x0, 1), (y0, x1, -1), (y1, x0, -1), (y1, x1, 1)):
        np.add.at(steps, (rows, columns), sign * heights)
    return steps.cumsum(axis=0).cumsum(axis=1)[:-1, :-1]
