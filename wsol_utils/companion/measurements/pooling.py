"""Poolings compared on VOC photographs: what decides whether the maximum learns as well as the mean."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import product

import numpy as np
import torch
from tqdm import tqdm

from wsol_utils.companion import adaptation
from wsol_utils.companion.measure import Table
from wsol_utils.companion.store import Arrays, remember
from wsol_utils.datasets import load
from wsol_utils.datasets.splits import DataSet, Split
from wsol_utils.evaluation import statistics
from wsol_utils.methods import max_pooling

SEEDS, SHARES, N_FOLDS = (0, 1, 2), (4, 2, 1), 3
HIGHEST_FIFTH = partial(max_pooling.extremes, highest=0.2, lowest=0, alpha=0)


def voc() -> Table:
    """Mean average precision and points of poolings, scales, layers and numbers of training photographs."""
    learnt, test, _ = adaptation.photographs()
    label_sets = torch.tensor(learnt.label_sets, dtype=torch.float32)
    factors, default = adaptation.FACTORS, adaptation.TRAINING
    several, one = adaptation.at_scales(learnt.images), [adaptation.features(learnt.images)]
    seen = seen_in_test()
    arms = {
        f"{name}, {len(learnt) // share} photographs": (pool, several, share, factors, default)
        for share in SHARES
        for name, pool in (adaptation.POOLINGS | {"mean of the highest fifth": HIGHEST_FIFTH}).items()
    }
    largest, whole = adaptation.POOLINGS["max"], f"max, {len(learnt)} photographs"
    arms |= {
        f"{whole}, trained at one scale": (largest, one, 1, factors, default),
        f"{whole}, tested at one scale": (largest, several, 1, [1.0], default),
        f"{whole}, scores begin at 0 instead of -2": (largest, several, 1, factors, default | {"bias": 0.0}),
        f"{whole}, two layers": (largest, several, 1, factors, default | {"n_units": 64}),
        f"{whole}, twice as long": (largest, several, 1, factors, default | {"n_epochs": 48}),
    }
    rows = []
    for name, (pool, draws, share, at, settings) in tqdm(arms.items(), "poolings"):
        judged = []
        for seed in SEEDS:
            some = torch.randperm(len(learnt), generator=torch.Generator().manual_seed(seed))[: len(learnt) // share]
            head = max_pooling.adapt([draw[some] for draw in draws], label_sets[some], pool, seed=seed, **settings)
            judged.append(adaptation.judge(maps_of(head, seen, at, len(test)), pool, test))
        precisions, points = zip(*judged, strict=True)
        spread = f"{np.mean(precisions):.1f} ({min(precisions):.1f} to {max(precisions):.1f})"
        rows.append([name, spread, str(statistics.bootstrap_interval(points))])
    return Table(
        title="Pooling on photographs",
        data=f"VOC 2012, up to {len(learnt)} training and {len(test)} test images squashed to "
        f"{adaptation.IMAGE_SIZE}x{adaptation.IMAGE_SIZE}, SqueezeNet's features",
        seeds=SEEDS,
        header=["training", "mAP over the area, % (seeds from to)", adaptation.POINTS],
        rows=rows,
        note="One linear layer and the settings that ship, those that cross-validation chose, unless said "
        f"otherwise. Scales {', '.join(map(str, factors))}, one an epoch in training, all in testing.",
    )


def choice() -> Table:
    """Cross-validation on the training photographs: the settings of the shipped layers among their neighbours."""
    data, rows, means = load("voc2012"), [], {}
    for n_units, n_epochs, rate in tqdm(list(product([0, 64], [12, 24], [1e-3, 3e-3])), "settings"):
        settings = {"n_units": n_units, "n_epochs": n_epochs, "learning_rate": rate}
        of_poolings = [
            remember(_validated, data=data, pooling=pooling, **settings)["precisions"].mean()
            for pooling in adaptation.POOLINGS
        ]
        name = f"{'two layers' if n_units else 'one layer'}, {n_epochs} epochs, learning rate {rate:g}"
        means[name] = np.mean(of_poolings)
        shipped = settings | {"n_units": n_units or None} == adaptation.TRAINING
        rows.append([f"{name} (shipped)" if shipped else name, *(f"{value:.1f}" for value in of_poolings)])
    return Table(
        title="The settings, by cross-validation",
        data=f"VOC 2012, the {len(learnt_from()[0])} training photographs in {N_FOLDS} folds, SqueezeNet's features",
        seeds=(0,),
        header=["layers", *(f"mAP, trained through {name}, %" for name in adaptation.POOLINGS)],
        rows=rows,
        note=f"No test image is looked at. On average over the poolings best: {max(means, key=means.get)}.",
    )


def _validated(data: DataSet, pooling: str, n_units: int, n_epochs: int, learning_rate: float) -> Arrays:
    """mAP on each fold of layers trained on the others; no `n_units` for one layer."""
    settings = {"n_units": n_units or None, "n_epochs": n_epochs, "learning_rate": learning_rate}
    return {"precisions": cross_validated(adaptation.POOLINGS[pooling], **settings)}


def cross_validated(pool: Callable[[torch.Tensor], torch.Tensor], **settings: object) -> np.ndarray:
    """mAP in per cent on each fold of the training photographs, of layers trained on the others."""
    learnt, draws = learnt_from()
    label_sets = torch.tensor(learnt.label_sets, dtype=torch.float32)
    folds = torch.randperm(len(learnt), generator=torch.Generator().manual_seed(0)) % N_FOLDS
    precisions = []
    for fold in range(N_FOLDS):
        some, out = folds != fold, torch.where(folds == fold)[0]
        head = max_pooling.adapt([draw[some] for draw in draws], label_sets[some], pool, **settings)
        seen = dict(zip(adaptation.FACTORS, (draw[out] for draw in draws), strict=True))
        maps = maps_of(head, seen, adaptation.FACTORS, len(out))
        precisions.append(adaptation.judge(maps, pool, learnt.subset(out.numpy()))[0])
    return np.array(precisions)


@cache
def learnt_from() -> tuple[Split, list[torch.Tensor]]:
    """The training photographs, and their features at each scale."""
    learnt, _, _ = adaptation.photographs()
    return learnt, adaptation.at_scales(learnt.images)


@cache
def seen_in_test() -> dict[float, torch.Tensor]:
    """Features of the test photographs at each scale."""
    _, test, _ = adaptation.photographs()
    return dict(zip(adaptation.FACTORS, adaptation.at_scales(test.images), strict=True))


@torch.no_grad()
def maps_of(
    head: torch.nn.Module, seen: dict[float, torch.Tensor], factors: Sequence[float], n_images: int
) -> Iterator[np.ndarray]:
    """Class maps of the test images, one image after the other, the mean over scales, at the size of the images."""
    size = [adaptation.IMAGE_SIZE] * 2
    for i in range(n_images):
        maps = [head(seen[factor][i : i + 1].float()) for factor in factors]
        yield torch.cat([torch.nn.functional.interpolate(one, size, mode="bilinear") for one in maps]).mean(0).numpy()
