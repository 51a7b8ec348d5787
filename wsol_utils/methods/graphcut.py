"""From a score map to an object mask: seeds at quantiles, colour models, one minimum cut."""

from functools import cache

import joblib
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow
from sklearn.cluster import kmeans_plusplus
from threadpoolctl import ThreadpoolController
from tqdm import tqdm

from wsol_utils.evaluation.boxes import box_of_mask, largest_component

UNDEFINED, FOREGROUND, BACKGROUND = 0, 1, 2
UNITS = 100  # integer capacities: hundredths of a nat
MAX_FIT_PIXELS = 500
N_ROUNDS, TOLERANCE = 10, 1e-2  # of fitting a mixture: rounds at most, and the gain in nats per pixel that ends them
LEAST_FOR_ALL_CORES = 32  # images: starting a process for each core takes as long as cutting these
OUTLIERS = 1e-3  # share of each colour model spread evenly over all colours
# The half of the eight neighbours that counts every pair once: row step, column step.
STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))


def seeds_from_map(
    score_map: np.ndarray, foreground_quantile: float = 0.95, background_quantile: float = 0.30
) -> np.ndarray:
    """Mark the pixels above one quantile of this map foreground (1), below another background (2), the rest 0.

    Deep Inside ConvNets, section 3.2. `score_map` is (H, W), the seeds uint8 (H, W). A map without differences has no
    seeds. Raises ValueError for a map that is not finite or not 2-D, and for quantiles out of order.

    >>> seeds_from_map(np.arange(20.0).reshape(2, 10)).tolist()
    [[2, 2, 2, 2, 2, 2, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]]
    """
    if score_map.ndim != 2:
        raise ValueError(f"A score map has shape (H, W), not {score_map.shape}; seed one map at a time.")
    if not np.isfinite(score_map).all():
        raise ValueError("The score map holds values that are not finite, so it has no quantiles; check the network.")
    if not 0 <= background_quantile <= foreground_quantile <= 1:
        raise ValueError(f"Quantiles must satisfy 0 <= {background_quantile} <= {foreground_quantile} <= 1.")
    low, high = np.quantile(score_map, [background_quantile, foreground_quantile])
    return np.where(score_map > high, FOREGROUND, np.where(score_map < low, BACKGROUND, UNDEFINED)).astype(np.uint8)


def graphcut_mask(
    image: np.ndarray, seeds: np.ndarray, n_components: int = 5, smoothness: float = 50.0, seed: int = 0
) -> np.ndarray:
    """Segment a uint8 image (H, W, 3) from its seeds by the colours they have, bool (H, W).

    Boykov and Jolly 2001 with the colour mixtures of GrabCut (Rother et al. 2004, equations 2 to 11), one cut: the mask
    minimises sum_p -log p(colour_p | label_p) + sum over 8-neighbours of different label of smoothness / distance *
    exp(-beta |difference of colour|^2), with 1 / beta twice the mean squared difference. Seeds are kept. Mixtures of at
    most `n_components` Gaussians are fitted to at most 500 seeds of each kind drawn by `seed`.

    Raises ValueError if one kind of seed is missing or the shapes disagree.
    """
    if image.dtype != np.uint8 or image.shape != (*seeds.shape, 3):
        raise ValueError(f"The image must be uint8 (H, W, 3) with seeds (H, W), not {image.shape} and {seeds.shape}.")
    for label, name in ((FOREGROUND, "foreground"), (BACKGROUND, "background")):
        if not (seeds == label).any():
            raise ValueError(f"There are no {name} seeds; a map that is constant above or below gives none.")
    unary = colour_log_odds(image, seeds, n_components, seed)
    return minimum_cut(unary, contrast_weights(image, smoothness), seeds)


def graphcut_masks(
    images: np.ndarray,
    score_maps: np.ndarray,
    foreground_quantile: float = 0.95,
    background_quantile: float = 0.30,
    smoothness: float = 50.0,
    seed: int = 0,
) -> np.ndarray:
    """Segment many images (N, H, W, 3) from the seeds of their score maps (N, H, W), bool (N, H, W), on all cores.

    An image whose map gives no seeds of one kind, being flat, is segmented as a whole: its mask is full.
    Raises ValueError if the numbers of images and maps differ, and as `seeds_from_map` does.

    >>> graphcut_masks(np.zeros((2, 4, 4, 3), np.uint8), np.zeros((2, 4, 4))).sum().item()
    32
    """
    if len(images) != len(score_maps):
        raise ValueError(f"Give a score map for every image, not {len(score_maps)} for {len(images)} images.")
    seeds = [seeds_from_map(score_map, foreground_quantile, background_quantile) for score_map in score_maps]
    n_jobs = 1 if len(images) < LEAST_FOR_ALL_CORES else -1
    work = joblib.Parallel(n_jobs=n_jobs, batch_size=8, return_as="generator")(
        joblib.delayed(_mask_or_all)(image, marks, smoothness, seed) for image, marks in zip(images, seeds, strict=True)
    )
    masks = list(tqdm(work, "GraphCut", total=len(images), unit="image", leave=False, disable=n_jobs == 1))
    return np.array(masks, bool).reshape(images.shape[:3])


def graphcut_boxes(images: np.ndarray, score_maps: np.ndarray, *options: float, **named: float) -> np.ndarray:
    """Return the box of the largest piece of each of `graphcut_masks`, int64 (N, 4), ends exclusive (same section).

    >>> graphcut_boxes(np.zeros((1, 4, 4, 3), np.uint8), np.zeros((1, 4, 4))).tolist()
    [[0, 0, 4, 4]]
    """
    masks = graphcut_masks(images, score_maps, *options, **named)
    return np.array([box_of_mask(largest_component(mask)) for mask in masks]).reshape(-1, 4)


def colour_log_odds(image: np.ndarray, seeds: np.ndarray, n_components: int = 5, seed: int = 0) -> np.ndarray:
    """Return log p(colour | foreground) - log p(colour | background) of every pixel, float64 (H, W)."""
    colours = image.reshape(-1, 3).astype(np.float64)
    scores = [_log_likelihood(colours, colours[seeds.ravel() == kind], n_components, seed) for kind in (1, 2)]
    return (scores[0] - scores[1]).reshape(seeds.shape)


def contrast_weights(image: np.ndarray, smoothness: float) -> list[np.ndarray]:
    """Return the cost of different labels for the neighbours right, below, below right and below left of each pixel.

    >>> [weights.shape for weights in contrast_weights(np.zeros((4, 5, 3), np.uint8), 50)]
    [(4, 4), (3, 5), (3, 4), (3, 4)]
    """
    colours = image.astype(np.float64)
    squares = [((first - second) ** 2).sum(-1) for first, second in (_neighbours(colours, step) for step in STEPS)]
    mean = np.concatenate([square.ravel() for square in squares]).mean()
    beta = 1 / (2 * mean) if mean > 0 else 0.0
    return [smoothness / np.hypot(*step) * np.exp(-beta * square) for step, square in zip(STEPS, squares, strict=True)]


def minimum_cut(log_odds: np.ndarray, weights: list[np.ndarray], seeds: np.ndarray) -> np.ndarray:
    """Return the bool mask of least energy: -log_odds inside it, the weights across its border; seeds are kept.

    All seeds of a kind are one node, the terminal of their kind, which leaves a smaller graph for the maximum flow.
    """
    free = seeds == UNDEFINED
    n_nodes = int(free.sum()) + 2
    nodes = np.where(seeds == FOREGROUND, 0, 1)  # 0 source, 1 sink
    nodes[free] = np.arange(2, n_nodes)
    pairs = [_neighbours(nodes, step) for step in STEPS]
    first = np.concatenate([pair[0].ravel() for pair in pairs])
    second = np.concatenate([pair[1].ravel() for pair in pairs])
    capacity = np.rint(np.concatenate([weight.ravel() for weight in weights]) * UNITS).astype(np.int32)
    odds = np.rint(log_odds[free] * UNITS).astype(np.int32)
    others = np.arange(2, n_nodes)
    zeros = np.zeros_like(others)
    start = np.concatenate([first, second, zeros, others])
    end = np.concatenate([second, first, others, zeros + 1])
    amount = np.concatenate([capacity, capacity, np.maximum(odds, 0), np.maximum(-odds, 0)])
    useful = (amount > 0) & (start != end) & (start != 1) & (end != 0) & ~((start == 0) & (end == 1))
    graph = csr_array((amount[useful], (start[useful], end[useful])), shape=(n_nodes, n_nodes), dtype=np.int32)
    residual = graph - maximum_flow(graph, 0, 1).flow
    residual.data[residual.data < 0] = 0
    residual.eliminate_zeros()
    inside = np.zeros(n_nodes, bool)
    inside[breadth_first_order(residual, 0, return_predecessors=False)] = True
    return inside[nodes]


def _mask_or_all(image: np.ndarray, seeds: np.ndarray, smoothness: float, seed: int) -> np.ndarray:
    both = (seeds == FOREGROUND).any() and (seeds == BACKGROUND).any()
    return graphcut_mask(image, seeds, smoothness=smoothness, seed=seed) if both else np.ones(seeds.shape, bool)


def _neighbours(array: np.ndarray, step: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Two views of an (H, W, ...) array, shifted so that each pixel meets its neighbour one step on."""
    rows, columns = step
    height, width = array.shape[:2]
    if columns < 0:
        return array[: height - rows, 1:], array[rows:, : width - 1]
    return array[: height - rows, : width - columns], array[rows:, columns:]


def _log_likelihood(colours: np.ndarray, seeds: np.ndarray, n_components: int, seed: int) -> np.ndarray:
    """Fit a mixture to the colours of seeds, at least ten a component, and score all colours; none is impossible."""
    if len(seeds) > MAX_FIT_PIXELS:
        seeds = np.random.default_rng(seed).choice(seeds, MAX_FIT_PIXELS, replace=False)
    n_components = max(1, min(n_components, len(seeds) // 10, len(np.unique(seeds, axis=0))))
    with _thread_pools().limit(limits=1):
        inside = _log_sum(_log_terms(colours, *_fit_mixture(seeds, n_components, seed)))
    return np.logaddexp(inside + np.log1p(-OUTLIERS), np.log(OUTLIERS) - 3 * np.log(256))


def _fit_mixture(colours: np.ndarray, n_components: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit Gaussians by rounds of expectation and maximisation from k-means++ colours: weights, means, whitenings.

    The rounds of scikit-learn's GaussianMixture, all components at once, in a third of its time.
    """
    _, chosen = kmeans_plusplus(colours, n_components, random_state=seed)
    shares = np.zeros((n_components, len(colours)))
    shares[np.arange(n_components), chosen] = 1
    squares = (colours[:, :, None] * colours[:, None, :]).reshape(-1, 9)
    gain = previous = np.inf
    for _ in range(N_ROUNDS + 1):
        counts = shares.sum(1) + 1e-15
        means = shares @ colours / counts[:, None]
        moments = (shares @ squares / counts[:, None]).reshape(-1, 3, 3)
        covariances = moments - means[:, :, None] * means[:, None, :] + np.eye(3)
        mixture = counts / counts.sum(), means, np.linalg.inv(np.linalg.cholesky(covariances))
        if abs(gain) < TOLERANCE:
            break
        terms = _log_terms(colours, *mixture)
        total = _log_sum(terms)
        shares = np.exp(terms - total)
        gain, previous = total.mean() - previous, total.mean()
    return mixture


def _log_terms(colours: np.ndarray, weights: np.ndarray, means: np.ndarray, whitenings: np.ndarray) -> np.ndarray:
    """Return log(weight * density) of each colour (N, 3) under each of K Gaussians, (K, N)."""
    whitened = (whitenings.reshape(-1, 3) @ colours.T).reshape(len(means), 3, -1) - whitenings @ means[:, :, None]
    scale = np.log(weights) + np.log(np.diagonal(whitenings, axis1=1, axis2=2)).sum(1) - 1.5 * np.log(2 * np.pi)
    return scale[:, None] - (whitened**2).sum(1) / 2


def _log_sum(terms: np.ndarray) -> np.ndarray:
    """Return log(sum(exp(terms))) over the first axis without overflow."""
    top = terms.max(0)
    return top + np.log(np.exp(terms - top).sum(0))


@cache
def _thread_pools() -> ThreadpoolController:
    """The linear algebra libraries' threads: on matrices as small as these they cost a hundred times what they save."""
    return ThreadpoolController()
