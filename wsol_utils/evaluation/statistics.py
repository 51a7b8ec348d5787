"""Bootstrap intervals over images: how sure a number is, and how sure a difference between two methods is.

Images are resampled, seeds are averaged first, so that the interval speaks about other images of the same kind.
Percentile intervals are used: they stay defined when all images agree, where the corrected kind (BCa) does not.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

N_RESAMPLES = 5000


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its confidence interval, in the unit of the values given.

    >>> print(Interval(12.34, 10.1, 14.5))
    12.3 [10.1, 14.5]
    >>> f"{Interval(0.5, 0.25, 0.75):.2f}"
    '0.50 [0.25, 0.75]'
    """

    mean: float
    low: float
    high: float

    def __format__(self, number_format: str) -> str:
        form = number_format or "z.1f"
        return f"{self.mean:{form}} [{self.low:{form}}, {self.high:{form}}]"

    def __str__(self) -> str:
        return format(self, "")


def bootstrap_interval(values: ArrayLike, seed: int = 0, confidence: float = 0.95) -> Interval:
    """Return the mean of per-image values with its bootstrap interval (`scipy.stats.bootstrap`, percentile).

    `values` is (images,) or (seeds, images); seeds are averaged before images are resampled. Give hits as 0 and 100
    for per cent. Raises ValueError for fewer than two images, another shape, or values that are not finite.

    >>> bootstrap_interval([0, 100, 100, 100] * 25)
    Interval(mean=75.0, low=66.0, high=83.0)
    """
    per_image = _mean_over_seeds(values)
    if (per_image == per_image[0]).all():
        return Interval(*[float(per_image[0])] * 3)
    result = stats.bootstrap(
        (per_image,),
        np.mean,
        confidence_level=confidence,
        n_resamples=N_RESAMPLES,
        batch=max(1, 5_000_000 // len(per_image)),
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return Interval(
        float(per_image.mean()), float(result.confidence_interval.low), float(result.confidence_interval.high)
    )


def paired_difference(a: ArrayLike, b: ArrayLike, seed: int = 0, confidence: float = 0.95) -> Interval:
    """Return the mean of a - b over the same images with its paired bootstrap interval.

    Both are (images,) or (seeds, images), in the same order of images; the numbers of seeds may differ.
    Raises ValueError when the numbers of images differ, and as `bootstrap_interval`.

    >>> paired_difference([3.0, 5.0, 7.0], [1.0, 3.0, 5.0])
    Interval(mean=2.0, low=2.0, high=2.0)
    """
    mean_a, mean_b = _mean_over_seeds(a), _mean_over_seeds(b)
    if len(mean_a) != len(mean_b):
        raise ValueError(
            f"A paired difference needs the same images in both arms, not {len(mean_a)} and {len(mean_b)}."
        )
    return bootstrap_interval(mean_a - mean_b, seed, confidence)


def _mean_over_seeds(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim not in (1, 2) or array.shape[-1] < 2 or array.shape[0] == 0:
        raise ValueError(
            f"Values have the shape (images,) or (seeds, images) with two images or more, not {array.shape}."
        )
    if not np.isfinite(array).all():
        raise ValueError("Values hold NaN or infinite numbers; leave those images out of both arms.")
    return array if array.ndim == 1 else array.mean(axis=0)
