"""Images to vectors of one length, as scikit-learn transformers that see one image after the other, on all cores."""

from collections.abc import Callable, Iterator, Sequence

import cv2
import joblib
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from wsol_utils.methods.descriptors import append_places
from wsol_utils.methods.fisher import Vocabulary, fisher_vector, fit_vocabulary, l2, ssr
from wsol_utils.methods.histograms import bag_of_words, fit_codebook
from wsol_utils.methods.sift import dense_sift

Describe = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # image to descriptors (n, D) and centres (n, 2)
CHUNK = 8


def on_all_cores(function: Callable, items: Sequence, progress: bool = True, doing: str = "") -> Iterator:
    """The results of a function on each item, in order, made by one thread a core with BLAS and OpenCV on one each.

    Nothing but a few items ahead is kept, so the results may be as many as one likes.
    """
    chunks = (items[i : i + CHUNK] for i in range(0, len(items), CHUNK))
    cv2_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1), tqdm(total=len(items), disable=not progress, unit="image", desc=doing) as bar:
            work = joblib.Parallel(n_jobs=-1, backend="threading", return_as="generator")
            for part in work(joblib.delayed(lambda chunk: [function(item) for item in chunk])(c) for c in chunks):
                yield from part
                bar.update(len(part))
    finally:
        cv2.setNumThreads(cv2_threads)


def sample_descriptors(
    images: Sequence[np.ndarray],
    n_per_image: int,
    seed: int,
    describe: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] = dense_sift,
    *,
    places: bool = False,
    progress: bool = True,
) -> np.ndarray:
    """Draw up to `n_per_image` descriptors with contrast from every image, to fit a vocabulary on.

    Args:
        images: N images uint8 (H, W, 3), of any sizes.
        n_per_image: of the descriptors that are not zero.
        seed: fixes the draw.
        describe: gives an image's descriptors (n, D) and their centres (n, 2).
        places: append the place of each descriptor, as `append_places`.
        progress: show a bar on stderr.

    Returns:
        float32 (n, D)

    Raises:
        ValueError: no image has any contrast.
    """

    seeds = np.random.SeedSequence(seed).spawn(len(images))

    def draw(i: int) -> np.ndarray:
        image = images[i]
        descriptors, centres = describe(image)
        kept = np.random.default_rng(seeds[i]).permutation(np.flatnonzero(descriptors.any(axis=1)))[:n_per_image]
        drawn = descriptors[kept]
        return append_places(drawn, centres[kept], image.shape[:2]) if places else drawn

    drawn = list(on_all_cores(draw, range(len(images)), progress, "descriptors"))
    if not any(map(len, drawn)):
        raise ValueError("There is nothing to learn a vocabulary from: give images with some contrast.")
    return np.concatenate(drawn)


class Encoder(TransformerMixin, BaseEstimator):
    """What the encoders share: `transform` describes each image and hands its descriptors to the encoder's `encode`."""

    def transform(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Encode N images uint8 (H, W, 3) of any sizes: float32 (N, size).

        Raises:
            NotFittedError: neither fitted nor given a vocabulary.
        """
        check_is_fitted(self)
        return encode_images(images, [self], self.describe, progress=self.progress)[0]

    def __sklearn_tags__(self) -> Tags:
        """Tell scikit-learn that images are no tables of numbers."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags


class FisherVector(Encoder):
    """Fisher vectors of images; `fit` learns PCA and mixture from the images' descriptors.

    Args:
        n_components: K Gaussians.
        n_dimensions: D, of PCA.
        describe: gives an image's descriptors and their centres; `functools.partial` sets its options.
        places: append the place of each descriptor behind PCA, which stands for a pyramid at a fraction of its size.
        improved: signed roots, then L2.
        vocabulary: a fitted one; then `fit` learns nothing.
        n_descriptors: about so many are drawn to learn from.
        random_state: seed of the draw and of EM's start.
        progress: show bars on stderr.

    Example:
        >>> images = np.random.default_rng(0).integers(0, 256, (3, 60, 60, 3), dtype=np.uint8)
        >>> FisherVector(n_components=2, n_dimensions=4, progress=False).fit_transform(images).shape
        (3, 16)
    """

    def __init__(
        self,
        n_components: int = 64,
        n_dimensions: int = 64,
        *,
        describe: Describe = dense_sift,
        places: bool = False,
        improved: bool = True,
        vocabulary: Vocabulary | None = None,
        n_descriptors: int = 100_000,
        random_state: int = 0,
        progress: bool = True,
    ) -> None:
        self.n_components, self.n_dimensions, self.describe, self.places = n_components, n_dimensions, describe, places
        self.improved, self.vocabulary, self.n_descriptors = improved, vocabulary, n_descriptors
        self.random_state, self.progress = random_state, progress

    def fit(self, images: Sequence[np.ndarray], labels: object = None) -> "FisherVector":
        """Learn the vocabulary from N images, unless one was given; labels are not looked at."""
        self.vocabulary_ = self.vocabulary
        if self.vocabulary is None:
            each = -(-self.n_descriptors // max(len(images), 1))
            sample = sample_descriptors(
                images, each, self.random_state, self.describe, places=self.places, progress=self.progress
            )
            n_places = 2 if self.places else 0
            self.vocabulary_ = fit_vocabulary(sample, self.n_components, self.n_dimensions, self.random_state, n_places)
        return self

    @property
    def size(self) -> int:
        """Length of a vector."""
        return self._in_use.size

    def encode(self, descriptors: np.ndarray, centres: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Fisher vector (size,) of some descriptors (n, D) with centres (n, 2) in an image of shape (H, W)."""
        placed = append_places(descriptors, centres, shape) if self.places else descriptors
        return fisher_vector(placed, self._in_use, self.improved)

    @property
    def _in_use(self) -> Vocabulary:
        return getattr(self, "vocabulary_", self.vocabulary)

    def __sklearn_is_fitted__(self) -> bool:
        return self._in_use is not None


class BagOfWords(Encoder):
    """Histograms of visual words of images; `fit` clusters the images' descriptors into words.

    Args:
        n_words: of them.
        hellinger: square roots of the shares, of length one; otherwise the shares themselves.
        codebook: fitted words (n_words, D); then `fit` learns nothing.
        describe, n_descriptors, random_state, progress: as for `FisherVector`.

    Example:
        >>> images = np.random.default_rng(0).integers(0, 256, (3, 60, 60, 3), dtype=np.uint8)
        >>> BagOfWords(n_words=5, hellinger=False, progress=False).fit_transform(images).sum(axis=1).round(3).tolist()
        [1.0, 1.0, 1.0]
    """

    def __init__(
        self,
        n_words: int = 256,
        *,
        hellinger: bool = True,
        codebook: np.ndarray | None = None,
        describe: Describe = dense_sift,
        n_descriptors: int = 100_000,
        random_state: int = 0,
        progress: bool = True,
    ) -> None:
        self.n_words, self.hellinger, self.codebook, self.describe = n_words, hellinger, codebook, describe
        self.n_descriptors, self.random_state, self.progress = n_descriptors, random_state, progress

    def fit(self, images: Sequence[np.ndarray], labels: object = None) -> "BagOfWords":
        """Learn the words from N images, unless some were given; labels are not looked at."""
        self.codebook_ = self.codebook
        if self.codebook is None:
            each = -(-self.n_descriptors // max(len(images), 1))
            sample = sample_descriptors(images, each, self.random_state, self.describe, progress=self.progress)
            self.codebook_ = fit_codebook(sample, self.n_words, self.random_state)
        return self

    @property
    def size(self) -> int:
        """Number of words."""
        return len(self._in_use)

    def encode(self, descriptors: np.ndarray, centres: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Histogram (n_words,) of some descriptors (n, D); where they lie does not matter."""
        histogram = bag_of_words(descriptors, self._in_use)
        return ssr(histogram) if self.hellinger else histogram

    @property
    def _in_use(self) -> np.ndarray:
        return getattr(self, "codebook_", self.codebook)

    def __sklearn_is_fitted__(self) -> bool:
        return self._in_use is not None


class SpatialPyramid(Encoder):
    """Encode parts of an image apart and put them in a row (Lazebnik et al. 2006).

    Every part is encoded, and with it normalised, by itself; the whole gets length one. A descriptor belongs to the
    part that its centre lies in.

    Args:
        encoder: a `FisherVector` or `BagOfWords`.
        grids: rows and columns of each level; (3, 1) are three bands.

    Example:
        >>> images = np.random.default_rng(0).integers(0, 256, (3, 60, 60, 3), dtype=np.uint8)
        >>> SpatialPyramid(FisherVector(2, 4, progress=False), [(1, 1), (3, 1)]).fit_transform(images).shape
        (3, 64)
    """

    def __init__(self, encoder: Encoder, grids: Sequence[tuple[int, int]] = ((1, 1), (3, 1))) -> None:
        self.encoder, self.grids = encoder, grids

    def fit(self, images: Sequence[np.ndarray], labels: object = None) -> "SpatialPyramid":
        """Fit a copy of the encoder on N images."""
        self.encoder_ = clone(self.encoder).fit(images, labels)
        return self

    @property
    def describe(self) -> Describe:
        """The encoder's."""
        return self.encoder.describe

    @property
    def progress(self) -> bool:
        """The encoder's."""
        return self.encoder.progress

    @property
    def size(self) -> int:
        """Length of a vector: the encoder's, once for each part."""
        return self.encoder_.size * sum(rows * columns for rows, columns in self.grids)

    def encode(self, descriptors: np.ndarray, centres: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Vector (size,) of the descriptors (n, D) of an image of shape (H, W), by their centres (n, 2)."""
        parts = []
        for grid in self.grids:
            rows, columns = np.minimum(centres[:, ::-1] / shape * grid, np.array(grid) - 1e-9).astype(np.intp).T
            for cell in range(grid[0] * grid[1]):
                inside = rows * grid[1] + columns == cell
                parts.append(self.encoder_.encode(descriptors[inside], centres[inside], shape))
        return l2(np.concatenate(parts))


def encode_images(
    images: Sequence[np.ndarray], encoders: Sequence[Encoder], describe: Describe = dense_sift, *, progress: bool = True
) -> list[np.ndarray]:
    """Describe each image once and encode it by several fitted encoders: for each a float32 array (N, size).

    Args:
        images: N images uint8 (H, W, 3), of any sizes.
        encoders: their own `describe` is not used.
        describe: gives an image's descriptors (n, D) and their centres (n, 2).
        progress: show a bar on stderr.
    """

    def encode(image: np.ndarray) -> list[np.ndarray]:
        descriptors, centres = describe(image)
        return [encoder.encode(descriptors, centres, image.shape[:2]) for encoder in encoders]

    arrays = [np.empty((len(images), encoder.size), np.float32) for encoder in encoders]
    for i, vectors in enumerate(on_all_cores(encode, images, progress, "encoding")):
        for array, vector in zip(arrays, vectors, strict=True):
            array[i] = vector
    return arrays
