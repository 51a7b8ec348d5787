"""The deep Fisher network: Fisher vectors of small windows, projected, stacked and encoded by a second Fisher layer."""

from collections.abc import Sequence

import numpy as np
from scipy.linalg import orthogonal_procrustes
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.model_selection import StratifiedKFold
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from wsol_utils.methods.encoding import Describe, on_all_cores, sample_descriptors
from wsol_utils.methods.fisher import contributions, fisher_vector, fit_vocabulary, l2
from wsol_utils.methods.projections import PROJECTIONS, WITHOUT_LABELS, Projection
from wsol_utils.methods.sift import dense_sift, grid_shape


def window_codes(contributed: np.ndarray, size: int, stride: int = 1) -> np.ndarray:
    """Mean of a map over every window, by an integral image: as fast for large windows as for small ones.

    Averaged contributions of descriptors are the projected Fisher vector of the window.

    Args:
        contributed: (rows, columns, m)
        size: side of a window, in grid points.
        stride: from one window to the next.

    Returns:
        (rows', columns', m)

    Raises:
        ValueError: the window is larger than the map.

    Example:
        >>> window_codes(np.arange(4.0).reshape(2, 2, 1), size=2).tolist()
        [[[1.5]]]
    """
    if size > min(contributed.shape[:2]):
        rows, columns = contributed.shape[:2]
        raise ValueError(
            f"Windows of {size} x {size} points do not fit a grid of {rows} x {columns}: "
            "enlarge the images, or pass smaller windows or a smaller step."
        )
    sums = np.pad(contributed, ((1, 0), (1, 0), (0, 0))).cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    of_windows = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    return (of_windows[::stride, ::stride] / size**2).astype(contributed.dtype)


def stack(codes: np.ndarray) -> np.ndarray:
    """Put 2 x 2 neighbouring codes (rows, columns, m) in a row: (rows - 1, columns - 1, 4 m).

    Raises:
        ValueError: fewer than two rows or columns.

    Example:
        >>> stack(np.arange(4.0).reshape(2, 2, 1)).tolist()
        [[[0.0, 1.0, 2.0, 3.0]]]
    """
    if min(codes.shape[:2]) < 2:
        raise ValueError(
            f"{codes.shape[0]} x {codes.shape[1]} windows have no 2 x 2 neighbours to stack: enlarge the images, or "
            "pass smaller windows, step or stride."
        )
    return np.concatenate([codes[:-1, :-1], codes[:-1, 1:], codes[1:, :-1], codes[1:, 1:]], axis=2)


def layer_sizes(
    grid: tuple[int, int],
    n_classes: int,
    n_components: tuple[int, int],
    n_dimensions: tuple[int, int],
    window: int = 5,
    stride: int = 2,
) -> dict[str, tuple[int, ...]]:
    """Shapes of everything between a map of descriptors and the classifier, as in the talk's drawing of one layer.

    Example:
        >>> layer_sizes((60, 80), 1000, (512, 256), (80, 256))["second layer"]
        (131072,)
    """
    of_layers = [2 * k * d for k, d in zip(n_components, n_dimensions, strict=True)]
    windows = tuple((side - window) // stride + 1 for side in grid)
    stacked = tuple(side - 1 for side in windows)
    return {
        "descriptors": (*grid, n_dimensions[0]),
        "Fisher vectors of windows": (*windows, of_layers[0]),
        "projected": (*windows, n_classes),
        "stacked": (*stacked, 4 * n_classes),
        "decorrelated": (*stacked, n_dimensions[1]),
        "second layer": (of_layers[1],),
        "first layer, whole image": (of_layers[0],),
    }


class FisherNetwork(TransformerMixin, BaseEstimator):
    """Features of two Fisher layers (Simonyan, Vedaldi, Zisserman, NIPS 2013), for linear SVMs.

    The first layer encodes the descriptors of small windows, without roots or norms, and projects each Fisher vector to
    one number a class. 2 x 2 neighbours are stacked, scaled to length one, decorrelated by PCA and encoded again.
    Beside it stands the first layer's Fisher vector of the whole image.

    The projection is learnt from the Fisher vectors of whole images and their labels. Those of its own training images
    would look too good, so `fit_transform` cuts them into folds and projects each with what the others taught; hence,
    as with scikit-learn's `TargetEncoder`, it is not the same as `fit` and then `transform`.

    Args:
        n_components: Gaussians of the first and the second layer.
        n_dimensions: of PCA before the first and the second layer; None for no PCA.
        projection: "scores" of one-vs-rest SVMs, "max-margin" (WSABIE-like), or a control: "shuffled", "pca", "random".
        windows: sides, in points of the grid.
        stride: from one window to the next, in points of the grid.
        stacked: put 2 x 2 neighbours in a row.
        scaled: bring each code to length one before PCA.
        n_folds: of the training images, for `fit_transform`; 1 trusts the projection on its own training images, as
            projections that see no labels ("pca", "random") always do.
        describe, step, bin_sizes: `describe(image, step, bin_sizes)` gives dense descriptors on a grid, the same for
            all scales.
        n_descriptors: about so many are drawn to learn each vocabulary from.
        random_state: seed of draws, folds and starts.
        progress: show bars on stderr.

    Example:
        >>> images = np.random.default_rng(0).integers(0, 256, (6, 60, 60, 3), dtype=np.uint8)
        >>> network = FisherNetwork((2, 2), (4, 3), n_folds=2, progress=False)
        >>> network.fit_transform(images, [0, 0, 1, 1, 2, 2]).shape
        (6, 28)
    """

    def __init__(
        self,
        n_components: tuple[int, int] = (32, 64),
        n_dimensions: tuple[int, int | None] = (32, 32),
        *,
        projection: str = "scores",
        windows: Sequence[int] = (5,),
        stride: int = 2,
        stacked: bool = True,
        scaled: bool = True,
        n_folds: int = 5,
        describe: Describe = dense_sift,
        step: int = 4,
        bin_sizes: Sequence[int] = (4, 6, 8),
        n_descriptors: int = 100_000,
        random_state: int = 0,
        progress: bool = True,
    ) -> None:
        self.n_components, self.n_dimensions, self.projection = n_components, n_dimensions, projection
        self.windows, self.stride, self.stacked, self.scaled, self.n_folds = windows, stride, stacked, scaled, n_folds
        self.describe, self.step, self.bin_sizes, self.n_descriptors = describe, step, bin_sizes, n_descriptors
        self.random_state, self.progress = random_state, progress

    def fit(self, images: Sequence[np.ndarray], labels: Sequence[int]) -> "FisherNetwork":
        """Learn both layers from N images and their labels (N,).

        Raises:
            ValueError: no such projection, fewer than two classes, or a class with fewer images than folds.
        """
        self._fit(images, labels)
        return self

    def fit_transform(self, images: Sequence[np.ndarray], labels: Sequence[int]) -> np.ndarray:
        """Learn both layers and encode the same images, each by a projection that has not seen it: float32 (N, size).

        Raises:
            ValueError: as for `fit`.
        """
        return self._encode(images, self._fit(images, labels))

    def transform(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Encode N other images uint8 (H, W, 3): float32 (N, size), the second layer and then the whole image."""
        check_is_fitted(self)
        return self._encode(images, [self.projection_] * len(images))

    def class_maps(self, image: np.ndarray) -> np.ndarray:
        """Projected contributions of the descriptors at each point of the grid, mean over scales: (rows, columns, m).

        With the projection "scores", the mean over any window scores that window for each class.
        """
        check_is_fitted(self)
        return self._contributed(self._described(image)[0], image.shape[:2], self.projection_)

    def _described(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.describe(image, self.step, tuple(self.bin_sizes))

    def _contributed(self, descriptors: np.ndarray, shape: tuple[int, int], projection: np.ndarray) -> np.ndarray:
        own = contributions(self.vocabulary_.project(descriptors), self.vocabulary_, projection)
        grid = grid_shape(shape, self.step, tuple(self.bin_sizes))
        return own.reshape(len(self.bin_sizes), *grid, -1).mean(axis=0)

    def _codes(self, descriptors: np.ndarray, shape: tuple[int, int], projection: np.ndarray) -> np.ndarray:
        """Codes of windows of all sizes in one bag (n, 4 m), or (n, m) if they are not stacked."""
        contributed = self._contributed(descriptors, shape, projection)
        bags = [window_codes(contributed, size, self.stride) for size in self.windows]
        bags = [stack(bag) for bag in bags] if self.stacked else bags
        codes = np.concatenate([bag.reshape(-1, bag.shape[2]) for bag in bags])
        return l2(codes) if self.scaled else codes

    def _fit(self, images: Sequence[np.ndarray], labels: Sequence[int]) -> list[np.ndarray]:
        """Learn everything; returns for each image a projection that has not seen it."""
        if self.projection not in PROJECTIONS:
            raise ValueError(f"There is no projection {self.projection!r}: choose from {', '.join(PROJECTIONS)}.")
        labels, seed = np.asarray(labels), self.random_state
        if len(np.unique(labels)) < 2:
            raise ValueError("The training images are all of one class: give some of another.")
        each = -(-self.n_descriptors // len(images))
        first = sample_descriptors(images, each, seed, self._described, progress=self.progress)
        self.vocabulary_ = fit_vocabulary(first, self.n_components[0], self.n_dimensions[0], seed)
        vectors = l2(np.array(list(on_all_cores(self._whole, images, self.progress, "first layer"))))
        learn: Projection = PROJECTIONS[self.projection]
        if self.projection == "shuffled":  # once, or each fold would learn another labelling
            labels = np.random.default_rng(seed).permutation(labels)
        self.projection_, anchors = learn(vectors, labels, seed)
        projections = [self.projection_] * len(images)
        if self.n_folds > 1 and self.projection not in WITHOUT_LABELS:  # whose axes could turn from fold to fold
            if np.unique(labels, return_counts=True)[1].min() < self.n_folds:
                raise ValueError(f"A class has fewer than {self.n_folds} images: give more, or pass fewer n_folds.")
            for kept, held_out in StratifiedKFold(self.n_folds, shuffle=True, random_state=seed).split(vectors, labels):
                projection, own_anchors = learn(vectors[kept], labels[kept], seed)
                if own_anchors is not None:  # turned so that the classes point where they point for all images
                    projection = orthogonal_procrustes(own_anchors, anchors)[0].T @ projection
                for i in held_out:
                    projections[i] = projection
        generators = np.random.SeedSequence(seed).spawn(len(images))

        def draw(i: int) -> np.ndarray:
            codes = self._codes(self._described(images[i])[0], images[i].shape[:2], projections[i])
            return np.random.default_rng(generators[i]).permutation(codes)[:each]

        second = np.concatenate(list(on_all_cores(draw, range(len(images)), self.progress, "windows")))
        self.second_vocabulary_ = fit_vocabulary(second, self.n_components[1], self.n_dimensions[1], seed)
        return projections

    def _whole(self, image: np.ndarray) -> np.ndarray:
        return fisher_vector(self._described(image)[0], self.vocabulary_, improved=False)

    def _encode(self, images: Sequence[np.ndarray], projections: Sequence[np.ndarray]) -> np.ndarray:
        def encode(i: int) -> np.ndarray:
            descriptors, _ = self._described(images[i])
            codes = self._codes(descriptors, images[i].shape[:2], projections[i])
            parts = (codes, self.second_vocabulary_), (descriptors, self.vocabulary_)
            return np.concatenate([fisher_vector(*part) for part in parts])

        encoded = np.empty((len(images), self.second_vocabulary_.size + self.vocabulary_.size), np.float32)
        for i, vector in enumerate(on_all_cores(encode, range(len(images)), self.progress, "both layers")):
            encoded[i] = vector
        return encoded

    def __sklearn_tags__(self) -> Tags:
        """Tell scikit-learn that images are no tables of numbers, and that labels are needed."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.target_tags.required = False, True
        return tags
