"""Precision and recall of pixels: PxAP over a whole set of images, and the share of a map inside a mask."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from wsol_utils.evaluation import wsolevaluation
from wsol_utils.evaluation.boxes import checked_map, checked_mask
from wsol_utils.evaluation.statistics import Interval

N_RESAMPLES = 1000


@dataclass(frozen=True)
class PixelPrecision:
    """PxAP of a set of images in per cent, with the pooled curve and every image's histograms for the bootstrap.

    `precision` and `recall` run from the highest map value down (NaN where no pixel is predicted);
    `best_threshold` gives the largest pooled F1. `positives` and `negatives` (N, T + 2) count each image's pixels with
    map values in [t_i, t_i+1), the last but one bin holding the ones.
    """

    value: float
    thresholds: NDArray[np.float64]
    best_threshold: float
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]


class PxAP:
    """Pixel average precision, all pixels of all images pooled (Choe et al. 2020, PxAP), in per cent.

    Call `update(score_map, mask, ignore)` image by image, then `compute()`. `mode="clean"` (ours) counts negative map
    values as zero and divides by the map's maximum, so that thresholds mean what they mean for boxes;
    `mode="wsolevaluation"` takes maps in [0, 1] as they are. Both use the edges i / 1000 unless told.

    >>> metric = PxAP()
    >>> metric.update([[0.1, 0.9]], [[False, True]])
    >>> metric.compute().value
    100.0
    """

    def __init__(self, mode: str = "clean", n_thresholds: int = 1000) -> None:
        if mode not in ("clean", "wsolevaluation"):
            raise ValueError(f"The mode is 'clean' or 'wsolevaluation', not {mode!r}.")
        self.mode = mode
        self.thresholds = wsolevaluation.threshold_list(n_thresholds)
        self._positives: list[NDArray[np.int32]] = []
        self._negatives: list[NDArray[np.int32]] = []

    def update(self, score_map: ArrayLike, mask: ArrayLike, ignore: ArrayLike | None = None) -> None:
        """Add one image: map, object mask and pixels to leave out, all (H, W); the object is never left out.

        Raises ValueError for a map that is not finite and for shapes that differ.
        """
        if self.mode == "wsolevaluation":
            values = wsolevaluation.unit_map(score_map)
        else:
            values = checked_map(score_map).astype(np.float64).clip(min=0)
            values /= values.max() or 1.0
        mask = checked_mask(mask)
        ignore = np.zeros_like(mask) if ignore is None else checked_mask(ignore)
        if not values.shape == mask.shape == ignore.shape:
            raise ValueError(
                f"Map {values.shape}, mask {mask.shape} and ignored pixels {ignore.shape} differ in shape."
            )
        n_bins = len(self.thresholds) + 2
        bins = self._bins(values) + mask * n_bins + (ignore & ~mask) * (2 * n_bins)
        counts = np.bincount(bins.ravel(), minlength=3 * n_bins).astype(np.int32)
        self._negatives.append(counts[:n_bins])
        self._positives.append(counts[n_bins : 2 * n_bins])

    def compute(self) -> PixelPrecision:
        """Return PxAP over all images so far; raises RuntimeError before the first and without a positive pixel."""
        if not self._positives:
            raise RuntimeError("No image has been added; call update for every image first.")
        positives, negatives = np.stack(self._positives), np.stack(self._negatives)
        if not positives.any():
            raise RuntimeError("No image has a pixel on an object, so there is no recall; check the masks.")
        precision, recall = precision_recall(
            positives.sum(axis=0, dtype=np.int64), negatives.sum(axis=0, dtype=np.int64)
        )
        f1 = np.divide(2 * precision * recall, precision + recall, out=np.zeros_like(recall), where=recall > 0)
        best = min(len(recall) - 1 - int(np.argmax(f1)), len(self.thresholds) - 1)
        value = float(pooled_average_precision(positives.sum(axis=0), negatives.sum(axis=0)))
        return PixelPrecision(
            value, self.thresholds, float(self.thresholds[best]), precision, recall, positives, negatives
        )

    def _bins(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Index of the bin of every value in [0, 1]: by multiplication, and by comparison where an edge is near."""
        scaled = values * len(self.thresholds)
        bins = scaled.astype(np.int64)
        near_edge = np.abs(scaled - np.rint(scaled)) < 1e-6
        edges = np.concatenate([self.thresholds, [1.0, 2.0]])
        bins[near_edge] = np.searchsorted(edges, values[near_edge], side="right") - 1
        return bins


def precision_recall(
    positives: NDArray[np.int64], negatives: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return precision and recall from the highest bin down for histograms (..., bins) in ascending order.

    >>> precision_recall(np.array([0, 1]), np.array([1, 0]))[0].tolist()
    [1.0, 0.5]
    """
    hits = np.cumsum(positives[..., ::-1], axis=-1, dtype=np.float64)
    predicted = hits + np.cumsum(negatives[..., ::-1], axis=-1)
    precision = np.divide(hits, predicted, out=np.full_like(hits, np.nan), where=predicted > 0)
    return precision, hits / hits[..., -1:]


def pooled_average_precision(positives: NDArray[np.int64], negatives: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the average precision (...) in per cent of histograms (..., bins): sum of precision times recall step.

    >>> pooled_average_precision(np.array([0, 1, 0]), np.array([1, 0, 0])).item()
    100.0
    """
    precision, recall = precision_recall(positives, negatives)
    return 100 * np.nansum(precision[..., 1:] * np.diff(recall, axis=-1), axis=-1)


def pxap_interval(results: PixelPrecision | Sequence[PixelPrecision], seed: int = 0) -> Interval:
    """Return PxAP with its 95 % bootstrap interval: images resampled and pooled anew; several results are averaged.

    >>> metric = PxAP()
    >>> for _ in range(3):
    ...     metric.update([[0.1, 0.9]], [[False, True]])
    >>> pxap_interval(metric.compute())
    Interval(mean=100.0, low=100.0, high=100.0)
    """
    return _pooled_interval(_as_list(results), [], seed)


def pxap_difference(
    a: PixelPrecision | Sequence[PixelPrecision], b: PixelPrecision | Sequence[PixelPrecision], seed: int = 0
) -> Interval:
    """Return PxAP of a minus that of b with its 95 % paired bootstrap interval; the images are the same in both.

    Raises ValueError when the numbers of images differ.
    """
    return _pooled_interval(_as_list(a), _as_list(b), seed)


def _as_list(results: PixelPrecision | Sequence[PixelPrecision]) -> list[PixelPrecision]:
    return [results] if isinstance(results, PixelPrecision) else list(results)


def _pooled_interval(plus: list[PixelPrecision], minus: list[PixelPrecision], seed: int) -> Interval:
    sizes = {len(result.positives) for result in plus + minus}
    if len(sizes) != 1 or sizes == {1}:
        raise ValueError(f"PxAP is compared over the same two or more images, not over {sorted(sizes)}.")
    n_images = sizes.pop()

    def mean_value(results: list[PixelPrecision], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        pooled = [pooled_average_precision(weights @ r.positives, weights @ r.negatives) for r in results]
        return np.mean(pooled, axis=0) if pooled else np.zeros(len(weights))

    def difference(images: NDArray[np.int64], axis: int) -> NDArray[np.float64]:
        draws = images.reshape(-1, n_images)
        weights = np.stack([np.bincount(draw, minlength=n_images) for draw in draws]).astype(np.float64)
        return (mean_value(plus, weights) - mean_value(minus, weights)).reshape(images.shape[:-1])

    result = stats.bootstrap(
        (np.arange(n_images),),
        difference,
        vectorized=True,
        n_resamples=N_RESAMPLES,
        batch=100,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    value = float(difference(np.arange(n_images), axis=-1))
    return Interval(value, float(result.confidence_interval.low), float(result.confidence_interval.high))


def share_inside(score_map: ArrayLike, mask: ArrayLike) -> float:
    """Return the share of a map's positive sum that lies inside a mask, both (H, W); a map without any gives 0.

    The energy-based pointing game of Score-CAM, with a mask so that several boxes count once. Raises ValueError for
    shapes that differ.

    >>> share_inside([[1, 3], [-5, 0]], [[0, 1], [1, 0]])
    0.75
    """
    values, mask = checked_map(score_map).astype(np.float64).clip(min=0), checked_mask(mask)
    if values.shape != mask.shape:
        raise ValueError(f"Map {values.shape} and mask {mask.shape} differ in shape.")
    total = values.sum()
    return float(values[mask].sum() / total) if total > 0 else 0.0
