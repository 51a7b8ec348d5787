"""Every choice of the Fisher pipeline switched on and off, on drawn scenes and on photographs, with three seeds."""

import os
import time
from collections.abc import Sequence
from functools import lru_cache, partial

import cv2
import numpy as np
from sklearn.multiclass import OneVsRestClassifier
from tqdm import tqdm

from wsol_utils.companion.measure import Table
from wsol_utils.companion.measurements.fisher_claims import BASE, judged
from wsol_utils.companion.store import Arrays, remember
from wsol_utils.datasets import load
from wsol_utils.datasets.splits import DataSet, Split, joined
from wsol_utils.evaluation import metrics, statistics
from wsol_utils.methods import descriptors, linear_svm, sift
from wsol_utils.methods.encoding import BagOfWords, Describe, FisherVector, SpatialPyramid
from wsol_utils.methods.fisher import l2, ssr
from wsol_utils.methods.fisher_network import FisherNetwork
from wsol_utils.methods.projections import PROJECTIONS

SEEDS = (0, 1, 2)
CS = (0.01, 0.1, 1.0, 10.0, 100.0)
SIZES = {"scenes": 96, "folder": 128, "voc2012": 160}  # pixels
N_DESCRIPTORS = 40_000  # that mixtures are fitted on
N_SCENES = {"train": 2000, "val": 250, "test": 400}
STEPS = {"neither": lambda v: v, "only SSR": ssr, "only L2": l2, "both": lambda v: l2(ssr(v))}
NETWORK = {"kind": "network"}
SHORT = NETWORK | {"n_dimensions": [32, 8]}
ARMS: dict[str, dict] = {
    BASE: {},
    **{f"K = {k}": {"n_components": k} for k in (4, 8, 16, 64, 128)},
    "K = 96, as long as two layers": {"n_components": 96},
    **{f"D = {d}": {"n_dimensions": d} for d in (8, 16, 64)},
    "D = 32 by a random projection": {"describe": "SIFT, random projection"},
    **{f"{steps}": {"steps": steps} for steps in ("neither", "only SSR", "only L2")},
    **{f"{n} words": {"kind": "words", "n_words": n, "steps": "only L2"} for n in (256, 2048)},
    **{f"{n} words, Hellinger": {"kind": "words", "n_words": n, "steps": "only SSR"} for n in (256, 2048)},
    "three bands": {"kind": "pyramid", "grids": [[1, 1], [3, 1]]},
    "bands and quadrants": {"kind": "pyramid", "grids": [[1, 1], [3, 1], [2, 2]]},
    "x and y appended": {"places": True},
    "flips and crops": {"views": True},
    **{
        name: {"describe": name}
        for name in (
            "SIFT, Gaussian window",
            "RootSIFT",
            "opponent SIFT",
            "rgb SIFT",
            "colour statistics",
            "raw patches",
        )
    },
    "two layers": NETWORK,
    **{f"two layers, projection {name}": NETWORK | {"projection": name} for name in ("max-margin", "pca", "random")},
    "two layers, projection learnt from shuffled labels": NETWORK | {"projection": "shuffled"},
    "two layers, 8 of the second": SHORT,  # a score a class is not enough for 32
    "two layers, 8 of the second, not stacked": SHORT | {"stacked": False},
    "two layers, 8 of the second, not stacked, larger windows": SHORT | {"stacked": False, "windows": [7]},
    "two layers, no L2": NETWORK | {"scaled": False},
    "two layers, no PCA": NETWORK | {"n_dimensions": [32, None]},
    "two layers, no L2, no PCA": NETWORK | {"scaled": False, "n_dimensions": [32, None]},
    "two layers, no L2, covariances with common axes": NETWORK | {"scaled": False, "rotated": True},
    "two layers, four sizes of windows": NETWORK | {"windows": [5, 7, 9, 11]},
    "two layers, windows at every point": NETWORK | {"stride": 1},
    "two layers, no folds": NETWORK | {"n_folds": 1},
}

ON_VOC = (  # where images are few and labels several, a selection
    BASE,
    "K = 64",
    "neither",
    "256 words, Hellinger",
    "2048 words, Hellinger",
    "three bands",
    "x and y appended",
    "flips and crops",
    "opponent SIFT",
    "colour statistics",
    "two layers",
    "two layers, projection random",
)


def scenes() -> Table:
    """Drawn scenes: 2,000 for training, others for each seed."""
    return _table("scenes", load("scenes"))


def photographs() -> Table:
    """Caltech-101, or what else WSOL_DATA_ROOT names: a folder with one sub-folder of photographs per class."""
    return _table("Caltech-101", load("folder", root=os.environ.get("WSOL_DATA_ROOT")))


def voc() -> Table:
    """VOC photographs, by mean average precision and without verdicts."""
    return _table("VOC 2012", load("voc2012"), ON_VOC)


def _table(name: str, data: DataSet, arms: Sequence[str] = tuple(ARMS)) -> Table:
    runs = _runs(data, {arm: ARMS[arm] for arm in arms})
    rows = [_row(arm, of_seeds, runs[BASE], data.multi_label) for arm, of_seeds in runs.items()]
    train, _, test = splits(data, 0)
    found = f"{name}, {len(data.class_names)} classes, {len(train)} training and {len(test)} test images"
    return Table(
        title=f"The Fisher pipeline on {name}",
        data=f"{found} of {SIZES[data.name]} pixels",
        seeds=SEEDS,
        header=[
            "encoding",
            "numbers per image",
            "C",
            "mAP over the area, % (seeds from to)" if data.multi_label else "right, % [95 % interval]",
            "minus the first row, points",
        ],
        rows=rows,
        note="One-vs-rest linear SVMs; C is chosen on validation images for each row and seed (here their median). A "
        "row differs from the first one, or from “two layers” (K = 32 and 64, D = 32 twice, windows of 5 x 5 points, "
        "every second), in what it names. Mixtures are fitted on "
        f"{N_DESCRIPTORS:,} descriptors, words on 100,000. " + _of_seeds(data),
        claims=[] if data.multi_label else judged(runs, _arrangements(), found, SEEDS),
    )


def _of_seeds(data: DataSet) -> str:
    if data.name == "scenes":
        return "Each seed has other training images."
    largest = " Projections are learnt from the class of the largest object in an image." if data.multi_label else ""
    return "All seeds have the same training images: they differ in draws of descriptors and starts of fits." + largest


def _runs(data: DataSet, arms: dict[str, dict]) -> dict[str, list[Arrays]]:
    return {
        arm: [remember(judge, data=data, seed=seed, **options) for seed in SEEDS]
        for arm, options in tqdm(arms.items(), data.name)
    }


def _arrangements() -> dict[str, list[Arrays]]:
    """Scenes of two objects where the label is how they stand to each other: there place is all."""
    return _runs(load("scenes", view="relation"), {arm: ARMS[arm] for arm in (BASE, "three bands", "x and y appended")})


def _row(arm: str, of_seeds: list[Arrays], base: list[Arrays], multi_label: bool) -> list[str]:
    right, of_base = ([run["right"] for run in runs] for runs in (of_seeds, base))
    shown, over = str(statistics.bootstrap_interval(right)), str(statistics.paired_difference(right, of_base))
    if multi_label:  # of classes, not of images: their spread is no interval
        means = np.mean(right, axis=1)
        shown = f"{means.mean():.1f} ({means.min():.1f} to {means.max():.1f})"
        over = f"{round(means.mean() - np.mean(of_base), 1) + 0.0:.1f}"
    costs = np.median([run["C"] for run in of_seeds])
    return [arm, str(of_seeds[0]["size"]), f"{costs:g}", shown, over]


@lru_cache(maxsize=len(SEEDS))
def splits(data: DataSet, seed: int) -> tuple[Split, Split, Split]:
    """Training, validation and test images; of scenes other training images for each seed."""
    size, n_of = SIZES[data.name], N_SCENES if data.name == "scenes" else {}
    names = ["train"] if data.name == "scenes" else ["train", "train_with_boxes"]
    learnt = joined([data.split(name, n_of.get(name), size, seed if n_of else 0) for name in names])
    return learnt, *(data.split(name, n_of.get(name), size) for name in ("val", "test"))


def judge(data: DataSet, seed: int, **options: object) -> Arrays:
    """Train one arm and judge it on the test images.

    Returns `right`: 100 or 0 for each image, or with several labels an image the average precision of each class in
    per cent; `C`: the cost chosen; `size`: numbers per image; `seconds` for everything; `projecting`: seconds in which
    a network learns its projection, once.
    """
    began, options = time.perf_counter(), dict(options)
    if options.pop("rotated", False):  # PCA without a cut
        options["n_dimensions"] = [32, 4 * len(data.class_names)]
    done_inside = options.get("kind") in ("network", "pyramid")  # roots and norms, part by part
    steps = STEPS[options.pop("steps", "neither" if done_inside else "both")]
    n_views = 4 if options.pop("views", False) else 1
    learnt, val, test = splits(data, seed)
    encoder = encoder_of(seed, **options)
    labels, label_sets = np.tile(learnt.labels, n_views), np.tile(learnt.label_sets, (n_views, 1))
    x = steps(encoder.fit_transform(np.concatenate(_views(learnt.images, n_views)), labels))
    val_x = steps(encoder.transform(val.images))
    test_x = [steps(encoder.transform(view)) for view in _views(test.images, n_views)]
    if data.multi_label:
        signs = [np.where(split.label_sets, 1, -1) for split in (val, test)]
        machines = [OneVsRestClassifier(linear_svm.LinearSVM(C)).fit(x, label_sets) for C in CS]
        best = max(machines, key=lambda m: metrics.mean_average_precision(m.decision_function(val_x), signs[0]))
        scores = np.mean([best.decision_function(view) for view in test_x], axis=0)
        precisions = [metrics.average_precision(of_class, y) for of_class, y in zip(scores.T, signs[1].T, strict=True)]
        right, C = 100 * np.array(precisions), best.estimator.C
    else:
        best = linear_svm.fit_linear(x, labels, val_x, val.labels, CS)
        scores = np.mean([best.decision_function(view) for view in test_x], axis=0)
        right, C = 100.0 * (best.classes_[scores.argmax(1)] == test.labels), best.C
    made = {"right": right, "C": C, "size": x.shape[1], "seconds": time.perf_counter() - began}
    if isinstance(encoder, FisherNetwork):
        vectors, began = x[:, -encoder.vocabulary_.size :], time.perf_counter()
        PROJECTIONS[encoder.projection](vectors, labels, seed)
        made["projecting"] = time.perf_counter() - began
    return {name: np.asarray(value) for name, value in made.items()}


def encoder_of(seed: int, kind: str = "vector", describe: str = "SIFT", grids: list | None = None, **options: object):
    """An encoder by plain options, so that the store can tell arms apart; vectors come without roots and norms."""
    common = {"describe": DESCRIBE[describe], "random_state": seed, "progress": False}
    if kind == "words":
        return BagOfWords(hellinger=False, **common | options)
    common["n_descriptors"] = N_DESCRIPTORS
    if kind == "network":
        return FisherNetwork(**common | {"n_components": (32, 64)} | options)
    sizes = {"n_components": 32, "n_dimensions": 32}
    if kind == "pyramid":  # its parts are normalised one by one
        return SpatialPyramid(FisherVector(**sizes | common), [tuple(grid) for grid in grids])
    return FisherVector(improved=False, **sizes | common | options)


def _views(images: np.ndarray, n_views: int) -> list[np.ndarray]:
    """The images, their mirror images, and both without an eighth of the border, enlarged again."""
    side = images.shape[1]
    cut = side // 16
    middle = np.array([cv2.resize(one[cut : side - cut, cut : side - cut], (side, side)) for one in images])
    views = [images, images[:, :, ::-1], middle, middle[:, :, ::-1]]
    return [np.ascontiguousarray(view) for view in views[:n_views]]


def _root_sift(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    described, centres = sift.dense_sift(image)
    return sift.root_sift(described), centres


def _squeezed(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """SIFT under a random projection to 32 numbers, the control of PCA."""
    described, centres = sift.dense_sift(image)
    matrix = np.random.default_rng(0).normal(0, 32**-0.5, (described.shape[1], 32))
    return described @ matrix.astype(np.float32), centres


DESCRIBE: dict[str, Describe] = {
    "SIFT": sift.dense_sift,
    "SIFT, Gaussian window": partial(sift.dense_sift, window="gaussian"),
    "RootSIFT": _root_sift,
    "SIFT, random projection": _squeezed,
    "opponent SIFT": sift.colour_sift,
    "rgb SIFT": partial(sift.colour_sift, space="rgb"),
    "colour statistics": descriptors.colour_statistics,
    "raw patches": descriptors.raw_patches,
}
