from itertools import product

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from wsol_utils.methods.graphcut import (
    colour_log_odds,
    contrast_weights,
    graphcut_boxes,
    graphcut_mask,
    graphcut_masks,
    minimum_cut,
    seeds_from_map,
)


def pairs_of(shape):
    """All pairs of 8-neighbours in the order of contrast_weights, found by distance."""
    steps = ((0, 1), (1, 0), (1, 1), (1, -1))
    inside = set(np.ndindex(*shape))
    for row_step, column_step in steps:
        yield [
            ((row, column), (row + row_step, column + column_step))
            for row, column in np.ndindex(*shape)
            if (row + row_step, column + column_step) in inside
        ]


def energy(mask, log_odds, weights):
    cost = -log_odds[mask].sum()
    for pairs, amounts in zip(pairs_of(mask.shape), weights, strict=True):
        cost += sum(a for (p, q), a in zip(pairs, amounts.ravel(), strict=True) if mask[p] != mask[q])
    return cost


def random_problem(shape, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*shape, 3), np.uint8)
    log_odds = rng.normal(0, 2, shape).round(2)
    weights = [amount.round(2) for amount in contrast_weights(image, smoothness=3)]
    seeds = np.zeros(shape, np.uint8)
    places = rng.permutation(shape[0] * shape[1])
    seeds.flat[places[0]], seeds.flat[places[1]] = 1, 2
    return log_odds, weights, seeds


@pytest.mark.parametrize("seed", range(8))
def test_the_cut_is_the_best_of_all_labelings(seed):
    log_odds, weights, seeds = random_problem((3, 4), seed)
    free = np.argwhere(seeds == 0)
    energies = []
    for labels in product((False, True), repeat=len(free)):
        mask = seeds == 1
        mask[tuple(free.T)] = labels
        energies.append(energy(mask, log_odds, weights))
    ours = minimum_cut(log_odds, weights, seeds)
    assert ours[seeds == 1].all()
    assert not ours[seeds == 2].any()
    assert energy(ours, log_odds, weights) == pytest.approx(min(energies), abs=1e-9)


def test_the_cut_has_the_energy_of_a_linear_programme():
    log_odds, weights, seeds = random_problem((12, 15), 0)
    pairs = [pair for group in pairs_of(seeds.shape) for pair in group]
    amounts = np.concatenate([weight.ravel() for weight in weights])
    n_pixels, n_pairs = seeds.size, len(pairs)
    rows = np.zeros((2 * n_pairs, n_pixels + n_pairs))  # |x_p - x_q| <= e_pq
    for k, (p, q) in enumerate(pairs):
        first, second = np.ravel_multi_index(p, seeds.shape), np.ravel_multi_index(q, seeds.shape)
        rows[2 * k, [first, second, n_pixels + k]] = 1, -1, -1
        rows[2 * k + 1, [first, second, n_pixels + k]] = -1, 1, -1
    low = np.concatenate([(seeds == 1).ravel(), np.zeros(n_pairs)])
    high = np.concatenate([(seeds != 2).ravel(), np.full(n_pairs, np.inf)])
    cost = np.concatenate([-log_odds.ravel(), amounts])
    solution = milp(cost, constraints=LinearConstraint(rows, ub=0), bounds=Bounds(low, high))
    ours = minimum_cut(log_odds, weights, seeds)
    assert energy(ours, log_odds, weights) == pytest.approx(solution.fun, abs=1e-6)


def test_contrast_weights_by_hand():
    image = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    colours = image.astype(float)
    groups = list(pairs_of((5, 6)))
    squares = [[((colours[p] - colours[q]) ** 2).sum() for p, q in pairs] for pairs in groups]
    beta = 1 / (2 * np.mean(np.concatenate(squares)))
    for pairs, square, ours in zip(groups, squares, contrast_weights(image, 50), strict=True):
        distance = [np.hypot(p[0] - q[0], p[1] - q[1]) for p, q in pairs]
        np.testing.assert_allclose(ours.ravel(), 50 / np.array(distance) * np.exp(-beta * np.array(square)))


def test_log_odds_equal_a_second_implementation():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (20, 20, 3), np.uint8)
    seeds = rng.integers(0, 3, (20, 20)).astype(np.uint8)
    scores = []
    for label in (1, 2):
        chosen = image[seeds == label].astype(float)
        mixture = GaussianMixture(5, init_params="k-means++", random_state=0, reg_covar=1.0, max_iter=10, tol=1e-2)
        mixture.fit(chosen)
        parts = [
            np.log(weight) + multivariate_normal(mean, covariance).logpdf(image.reshape(-1, 3))
            for weight, mean, covariance in zip(mixture.weights_, mixture.means_, mixture.covariances_, strict=True)
        ]
        uniform = np.full_like(parts[0], np.log(1e-3 / 256**3))
        scores.append(np.logaddexp(logsumexp(parts, axis=0) + np.log(0.999), uniform))
    np.testing.assert_allclose(colour_log_odds(image, seeds).ravel(), scores[0] - scores[1], atol=1e-6)


def two_colours(noise):
    rng = np.random.default_rng(0)
    truth = np.hypot(*(np.indices((60, 60)) - 30)) < 17
    image = np.where(truth[..., None], [200, 60, 40], [50, 90, 160]) + rng.normal(0, noise, (60, 60, 3))
    score_map = np.exp(-(((np.indices((60, 60)) - [[[28]], [[31]]]) / 14) ** 2).sum(0))
    return image.clip(0, 255).astype(np.uint8), truth, score_map


@pytest.mark.parametrize("noise", [0, 20])
def test_two_colours_are_recovered_exactly(noise):
    image, truth, score_map = two_colours(noise)
    np.testing.assert_array_equal(graphcut_mask(image, seeds_from_map(score_map)), truth)


def test_boxes_hold_the_largest_piece_only():
    image, truth, score_map = two_colours(0)
    image[26:34, :5] = image[30, 30]  # a speck of the object's colour
    rows, columns = np.flatnonzero(truth.any(1)), np.flatnonzero(truth.any(0))
    tight = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert graphcut_mask(image, seeds_from_map(score_map, 0.95, 0.1))[30, 0]
    np.testing.assert_array_equal(graphcut_boxes(image[None], score_map[None], 0.95, 0.1), [tight])


def test_more_smoothness_gives_a_shorter_border():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 40, 3), np.uint8)
    seeds = seeds_from_map(two_colours(0)[2][10:50, 10:50])
    borders = []
    for smoothness in (0, 1, 10, 200):
        mask = graphcut_mask(image, seeds, smoothness=smoothness)
        borders.append(int((mask[1:] != mask[:-1]).sum() + (mask[:, 1:] != mask[:, :-1]).sum()))
    assert borders == sorted(borders, reverse=True)
    assert borders[-1] < borders[0] / 3


def test_without_smoothness_each_colour_decides_alone():
    image, _, score_map = two_colours(60)
    seeds = seeds_from_map(score_map)
    odds = colour_log_odds(image, seeds)
    sure = (seeds == 0) & (abs(odds) > 0.01)
    assert (graphcut_mask(image, seeds, smoothness=0)[sure] == (odds[sure] > 0)).all()


@pytest.mark.parametrize("n_seeds", [1, 2, 7])
def test_few_seeds_are_enough(n_seeds):
    image, truth, _ = two_colours(0)
    seeds = np.zeros((60, 60), np.uint8)
    seeds[30, 30 : 30 + n_seeds], seeds[2, 2 : 2 + n_seeds] = 1, 2
    np.testing.assert_array_equal(graphcut_mask(image, seeds), truth)


def test_the_seed_alone_decides():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (48, 48, 3), np.uint8)
    seeds = seeds_from_map(rng.random((48, 48)), 0.5, 0.4)
    odds = [colour_log_odds(image, seeds, seed=seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(odds[0], odds[1])
    assert not np.array_equal(odds[0], odds[2])


@pytest.mark.parametrize("n_images", [3, 40])
def test_many_masks_are_the_masks_one_by_one(n_images):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n_images, 16, 18, 3), np.uint8)
    score_maps = rng.random((n_images, 16, 18))
    score_maps[1] = 7
    masks = graphcut_masks(images, score_maps, 0.8, 0.2, smoothness=5)
    assert masks[1].all()
    for i in (0, 2, n_images - 1):
        seeds = seeds_from_map(score_maps[i], 0.8, 0.2)
        np.testing.assert_array_equal(masks[i], graphcut_mask(images[i], seeds, smoothness=5))
    with pytest.raises(ValueError, match="not 2 for 3 images"):
        graphcut_masks(images[:3], score_maps[:2])


def test_seeds_are_quantiles_of_this_map():
    score_map = np.random.default_rng(0).normal(size=(40, 50))
    seeds = seeds_from_map(score_map * 1e-6 - 5)
    assert [(seeds == kind).mean() for kind in (0, 1, 2)] == pytest.approx([0.65, 0.05, 0.30], abs=1e-3)
    assert score_map[seeds == 1].min() > score_map[seeds == 0].max() > score_map[seeds == 2].max()


def test_errors_name_the_thing_and_the_cure():
    image, _, score_map = two_colours(0)
    with pytest.raises(ValueError, match="not finite"):
        seeds_from_map(np.where(score_map > 0.9, np.nan, score_map))
    with pytest.raises(ValueError, match=r"shape \(H, W\), not \(1, 60, 60\)"):
        seeds_from_map(score_map[None])
    with pytest.raises(ValueError, match=r"Quantiles must satisfy 0 <= 0.5 <= 0.2 <= 1"):
        seeds_from_map(score_map, 0.2, 0.5)
    with pytest.raises(ValueError, match="no foreground seeds"):
        graphcut_mask(image, seeds_from_map(np.zeros((60, 60))))
    with pytest.raises(ValueError, match="no background seeds"):
        graphcut_mask(image, np.eye(60, dtype=np.uint8))
    with pytest.raises(ValueError, match=r"not \(60, 60, 3\) and \(30, 30\)"):
        graphcut_mask(image, seeds_from_map(score_map)[:30, :30])
