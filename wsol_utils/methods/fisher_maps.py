"""Where the linear score of a Fisher vector comes from: shared out over descriptors, spread over pixels."""

import numpy as np

from wsol_utils.methods.fisher import Vocabulary, contributions, fisher_vector
from wsol_utils.methods.sift import BIN_SIZES, STEP, dense_sift


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
    return contributions(projected, vocabulary, shares[None])[:, 0] / max(len(projected), 1)


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
