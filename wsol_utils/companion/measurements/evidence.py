"""Between the mean and the maximum, and low scores as evidence against a class: poolings on VOC photographs."""

from collections.abc import Callable
from functools import partial
from itertools import product

import numpy as np
import torch
from tqdm import tqdm

from wsol_utils.companion import adaptation
from wsol_utils.companion.measure import Table
from wsol_utils.companion.measurements import pooling
from wsol_utils.companion.store import Arrays, remember
from wsol_utils.datasets import load
from wsol_utils.datasets.splits import DataSet
from wsol_utils.evaluation import claims, metrics, statistics
from wsol_utils.evaluation.claims import ClaimResult
from wsol_utils.methods import max_pooling

SEEDS = (0, 1, 2)
SHARPNESSES = (0.1, 0.3, 1, 3, 10, 30)
SHARES, ALPHAS = (0, 0.05, 0.2, 0.5), (0, 0.3, 0.6, 1)  # of positions, 0 for a single one; weights of the lowest
BIAS = -2.0  # that the scores of images begin at
POOLINGS = adaptation.POOLINGS | {"extremes": max_pooling.extremes}


def voc() -> Table:
    """All poolings by cross-validation; the best of each kind and what they are held against on test photographs."""
    data = load("voc2012")
    arms = {"mean": {"pooling": "mean"}}
    arms |= {f"log-sum-exp, r = {r:g}": {"pooling": "log-sum-exp", "sharpness": r} for r in SHARPNESSES}
    arms |= dict(extremes_arm(share, share, alpha) for share, alpha in product(SHARES, ALPHAS))
    validated = _validate(data, arms)
    best = arms[chosen(arms, validated)["evidence"]]
    arms |= dict(extremes_arm(best["highest"], lowest, best["alpha"]) for lowest in SHARES)
    validated = _validate(data, arms)
    parts = chosen(arms, validated)
    tested = {
        name: [remember(judge, data=data, arm=arms[name], seed=seed, **_settings(arms[name])) for seed in SEEDS]
        for name in tqdm(dict.fromkeys(["mean", "max", *parts.values()]), "tested")
    }
    learnt, test, _ = adaptation.photographs()
    own = [parts["soft"], parts["evidence"]]
    differences = {
        (one, other): map_difference(tested[one], tested[other], test.label_sets)
        for one, other in product(own, tested)
        if one != other
    }
    rows = []
    for name in arms:
        found = ["", "", "", ""]
        if name in tested:
            precisions = [adaptation.mean_ap(run["scores"], test.label_sets) for run in tested[name]]
            spread = f"{np.mean(precisions):.1f} ({min(precisions):.1f} to {max(precisions):.1f})"
            points = str(statistics.bootstrap_interval([run["points"] for run in tested[name]]))
            found = [spread, points, *("" if name == one else str(differences[one, name]) for one in own)]
        rows.append([name, f"{validated[name]:.1f}", *found])
    photographs = f"VOC 2012, {len(learnt)} training and {len(test)} test images"
    return Table(
        title="Between mean and maximum, and evidence against",
        data=f"{photographs} squashed to {adaptation.IMAGE_SIZE}x{adaptation.IMAGE_SIZE}, SqueezeNet's features",
        seeds=SEEDS,
        header=[
            "pooling",
            "mAP in cross-validation, %",
            "mAP on test images, % (seeds from to)",
            adaptation.POINTS,
            *(f"“{one}” minus this, points of mAP" for one in own),
        ],
        rows=rows,
        note=f"Cross-validation on the training images, {pooling.N_FOLDS} folds, one seed, chose r, and k+ and alpha "
        "with k- = k+, then k-; only these and what they are held against were tested. “highest 20 % + 0.3 lowest 5 %” "
        "is the mean over the highest 20 % of positions plus 0.3 times that over the lowest 5 %; without a percentage "
        "it is one position. One linear layer and the settings that ship, those that cross-validation chose for max, "
        f"log-sum-exp and mean; maps begin at {BIAS:g} / (1 + alpha), so that the scores of images begin alike.",
        claims=judged(tested, differences, parts, photographs),
    )


def extremes_arm(highest: float, lowest: float, alpha: float) -> tuple[str, dict]:
    """The name of a pooling of WILDCAT and its settings; without alpha the lowest scores do not count.

    >>> extremes_arm(0.2, 0.05, 0.3)[0], extremes_arm(0, 0, 1)[0], extremes_arm(0, 0.5, 0)[0]
    ('highest 20 % + 0.3 lowest 5 %', 'highest + 1 lowest', 'max')
    """
    if highest == alpha == 0:
        return "max", {"pooling": "max"}
    above, below = (f" {100 * share:g} %" if share else "" for share in (highest, lowest))
    name = f"highest{above} + {alpha:g} lowest{below}" if alpha else f"highest{above}"
    return name, {"pooling": "extremes", "highest": highest, "lowest": lowest if alpha else 0, "alpha": alpha}


def chosen(arms: dict[str, dict], validated: dict[str, float]) -> dict[str, str]:
    """Names of the best log-sum-exp, and of the best with negative evidence, the same without, and the best without."""
    kinds = {
        "soft": [name for name, arm in arms.items() if arm["pooling"] == "log-sum-exp"],
        "evidence": [name for name, arm in arms.items() if arm.get("alpha")],
        "best without": [name for name, arm in arms.items() if name == "max" or arm.get("alpha") == 0],
    }
    best = {kind: max(names, key=validated.get) for kind, names in kinds.items()}
    return best | {"same without": extremes_arm(arms[best["evidence"]]["highest"], 0, 0)[0]}


def judged(
    tested: dict[str, list[Arrays]],
    differences: dict[tuple[str, str], statistics.Interval],
    parts: dict[str, str],
    data: str,
) -> list[ClaimResult]:
    """C9.9 in two parts: log-sum-exp and its limits; negative evidence and the same highest positions without it."""
    soft, evidence, same = parts["soft"], parts["evidence"], parts["same without"]
    error = limit_errors()
    over = {limit: differences[soft, limit] for limit in ("mean", "max")}
    nearer = min(over, key=lambda limit: over[limit].mean)
    between = claims.all_of([claims.eq(1e-4, error), *(claims.sign(1, difference) for difference in over.values())])
    of_soft = {f"over the {limit}": difference.mean for limit, difference in over.items()}
    of_soft |= {f"in points, over the {limit}": _gain(tested, soft, limit) for limit in over}
    of_soft["largest error at the limits"] = np.abs(error).max()
    gain = differences[evidence, same]
    others = {name: differences[evidence, name].mean for name in tested if name not in (evidence, same)}
    of_evidence = {f"over {name}": value for name, value in others.items()}
    of_evidence["in points"] = _gain(tested, evidence, same)
    return [
        _result(data, between, over[nearer], of_soft, f"mAP, {soft} over the {nearer}"),
        _result(data, claims.sign(1, gain), gain, of_evidence, f"mAP, {evidence} over {same}"),
    ]


def limit_errors() -> np.ndarray:
    """How far log-sum-exp is from the mean and from the maximum near its limits, on 100 random maps each."""
    maps = 3 * torch.randn(100, 1, 13, 13, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    limits = {1e-6: maps.mean((2, 3)), 1e6: maps.amax((2, 3))}
    return torch.cat([max_pooling.log_sum_exp(maps, r) - limit for r, limit in limits.items()]).numpy()


def map_difference(runs: list[Arrays], others: list[Arrays], label_sets: np.ndarray) -> statistics.Interval:
    """mAP of images in points, one minus the other: each class is a guess that fills the image, as its objects do."""
    boxes = [np.tile([0, 0, 1, 1], (n, 1)) for n in label_sets.sum(1)]
    labels = [np.flatnonzero(of_image) for of_image in label_sets]
    n_classes = label_sets.shape[1]
    whole = np.tile([0, 0, 1, 1], (n_classes, 1)), np.arange(n_classes)
    guesses, of_others = ([[(*whole, row) for row in run["scores"]] for run in arm] for arm in (runs, others))
    return metrics.map_difference(guesses, of_others, boxes, labels, n_classes)


def validate(data: DataSet, arm: dict, **settings: object) -> Arrays:
    """mAP on each fold of the training photographs."""
    return {"precisions": pooling.cross_validated(_pool(**arm), **settings)}


def judge(data: DataSet, arm: dict, seed: int, **settings: object) -> Arrays:
    """Scores (N, C) of the test photographs, and 100 for each point that lies in a box of its class, else 0."""
    learnt, draws = pooling.learnt_from()
    _, test, _ = adaptation.photographs()
    pool = _pool(**arm)
    head = max_pooling.adapt(draws, torch.tensor(learnt.label_sets, dtype=torch.float32), pool, seed=seed, **settings)
    maps = pooling.maps_of(head, pooling.seen_in_test(), adaptation.FACTORS, len(test))
    scores, points = adaptation.scores_and_points(maps, pool, test)
    return {"scores": scores, "points": np.array(points)}


def _validate(data: DataSet, arms: dict[str, dict]) -> dict[str, float]:
    return {
        name: remember(validate, data=data, arm=arm, **_settings(arm))["precisions"].mean()
        for name, arm in tqdm(arms.items(), "cross-validated")
    }


def _settings(arm: dict) -> dict:
    return adaptation.TRAINING | {"bias": BIAS / (1 + arm.get("alpha", 0))}


def _pool(pooling: str, **numbers: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return partial(POOLINGS[pooling], **numbers)


def _gain(tested: dict[str, list[Arrays]], one: str, other: str) -> float:
    points, of_other = ([run["points"] for run in tested[name]] for name in (one, other))
    return statistics.paired_difference(points, of_other).mean


def _result(
    data: str, verdict: str, difference: statistics.Interval, controls: dict[str, float], note: str
) -> ClaimResult:
    return ClaimResult("C9.9", difference.mean, "points", data, SEEDS, verdict, difference, controls, note)
