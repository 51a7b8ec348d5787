"""What the ConvNet gains from jitter, width, images and ten crops, on photographs: three trainings of each kind."""

import numpy as np
import torch
from tqdm import tqdm

from wsol_utils.companion.measure import Table
from wsol_utils.companion.store import Arrays, remember
from wsol_utils.datasets import load
from wsol_utils.datasets.splits import DataSet, Split
from wsol_utils.evaluation import boxes, statistics
from wsol_utils.methods import cam, convnet, linear_svm, networks, saliency, training
from wsol_utils.methods.encoding import FisherVector
from wsol_utils.methods.jitter import jitter

SEEDS, N_CLASSES, N_EPOCHS, WIDTH = (0, 1, 2), 20, 20, 0.25
OFF = {"crop": 0.0, "flip": 0.0, "colour": 0.0, "occlusion": 0.0}  # of jitter
N_BINS = 15  # of the calibration error


def tiny_imagenet() -> Table:
    """Accuracy, calibration and extent of the maps of GAP ConvNets, and Fisher vectors on the same photographs."""
    dataset = load("tiny-imagenet", n_classes=N_CLASSES)
    test = dataset.split("test")
    arms = {"all jitter": {}} | {f"without {kind}": {"without": [kind]} for kind in OFF}
    arms |= {"no jitter": {"without": list(OFF)}}
    arms |= {f"all jitter, width {width:g}": {"width": width} for width in (0.125, 0.5)}
    arms |= {f"all jitter, 1 in {k} images": {"one_in": k} for k in (4, 2)}
    runs_of = {
        name: [remember(_train_and_judge, dataset=dataset, seed=seed, **options) for seed in SEEDS]
        for name, options in tqdm(arms.items(), "kinds of training")
    }
    every_one, every_area = _right(runs_of["all jitter"], test), _log_areas(runs_of["all jitter"])
    rows = []
    for name, runs in runs_of.items():
        one, ten = (_right(runs, test, key) for key in ("logits", "ten_crops"))
        curve = np.mean([run["curve"] for run in runs], axis=0)
        quarter = len(curve) // 4
        rows.append(
            [
                name,
                " / ".join(f"{curve[epoch - 1]:.0f}" for epoch in (quarter, 2 * quarter, 4 * quarter)),
                str(statistics.bootstrap_interval(one)),
                str(statistics.paired_difference(one, every_one)),
                str(statistics.paired_difference(ten, one)),
                f"{np.mean([calibration_error(run['logits'], test.labels) for run in runs]):.1f}",
                f"{np.mean([np.median(run['area_ratio']) for run in runs]):.2f}",
                str(statistics.paired_difference(_log_areas(runs), every_area)),
            ]
        )
    shallow = [_fisher(dataset, test, seed) for seed in SEEDS]
    over = str(statistics.paired_difference(shallow, every_one))
    rows.append(["Fisher vectors, SVM", "", str(statistics.bootstrap_interval(shallow)), over, "", "", "", ""])
    return Table(
        title="What helps the ConvNet",
        data=f"Tiny ImageNet, {N_CLASSES} classes, {len(dataset.split('train'))} training and {len(test)} test images",
        seeds=SEEDS,
        header=[
            "training",
            "validation after 1/4, 1/2 and all of the steps, %",
            "test, %",
            "minus all jitter, points",
            "ten crops minus one look, points",
            "calibration error, points",
            "area of the CAM's box / true, median",
            "wider than with all jitter, log-%",
        ],
        rows=rows,
        note=f"GAP heads, width {WIDTH} unless said, {N_EPOCHS} epochs, or more with fewer images, so that all take "
        f"equally many steps. The calibration error is the mean distance between belief and "
        f"share of right answers in {N_BINS} bins. The box is cut at 20 % of the map's maximum, the class being given. "
        "The last column is 100 times the difference of the areas' logarithms: 10 is a tenth wider.",
    )


def _right(runs: list[Arrays], test: Split, key: str = "logits") -> list[np.ndarray]:
    return [100.0 * (run[key].argmax(1) == test.labels) for run in runs]


def _log_areas(runs: list[Arrays]) -> list[np.ndarray]:
    return [100 * np.log(run["area_ratio"]) for run in runs]


def _train_and_judge(
    dataset: DataSet, seed: int, without: list[str] | None = None, width: float = WIDTH, one_in: int = 1
) -> Arrays:
    """Train one ConvNet; its validation curve, logits of the test images, and areas of its boxes against the true."""
    train, val, test = (dataset.split(name) for name in ("train", "val", "test"))
    train = train.subset(np.random.default_rng(seed).permutation(len(train))[: len(train) // one_in])
    network = convnet.ConvNet(len(dataset.class_names), dataset.default_size, width, head="gap", seed=seed)
    off = {kind: OFF[kind] for kind in without or []}
    history = training.fit(
        network.to(networks.pick_device()),
        lambda epoch: (train.images, train.labels),
        N_EPOCHS * one_in,
        seed=seed,
        augment=lambda images, generator: jitter(images, generator, **off),
        evaluate=lambda network: {"val": 100 * np.mean(networks.predict(network, val.images).argmax(1) == val.labels)},
    )
    maps = [
        cam.class_activation_map(network, networks.normalise(test.images[some]), test.labels[some])
        for some in np.array_split(np.arange(len(test)), 10)
    ]
    found = np.array([boxes.box_from_map(score_map) for score_map in np.concatenate(maps)])
    true = np.array([boxes.areas(test.boxes_of_label(i)).max() for i in range(len(test))])
    return {
        "curve": np.array([record["val"] for record in history]),
        "logits": networks.predict(network, test.images),
        "ten_crops": saliency.ten_crop_logits(network, test.images),
        "area_ratio": boxes.areas(found) / true,
    }


def calibration_error(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean distance in points between the belief in the best class and the share of right answers at that belief.

    Guo et al. 2017, equation 3, bins of equal width. `logits` is (N, C), `labels` (N,).

    >>> calibration_error(np.array([[50.0, 0.0], [50.0, 0.0]]), np.array([0, 1]))
    50.0
    """
    posteriors = torch.tensor(logits).softmax(1).numpy()
    belief, right = posteriors.max(1), posteriors.argmax(1) == labels
    place = np.minimum((belief * N_BINS).astype(int), N_BINS - 1)
    distances = [abs(np.sum((belief - right)[place == b])) for b in range(N_BINS)]
    return float(100 * np.sum(distances) / len(labels))


def _fisher(dataset: DataSet, test: Split, seed: int) -> np.ndarray:
    """100 where the SVM on Fisher vectors names a test image rightly, else 0."""
    train, val = dataset.split("train"), dataset.split("val")
    encoder = FisherVector(64, 64, n_descriptors=60_000, random_state=seed).fit(train.images[:1000])
    x, val_x, test_x = (encoder.transform(split.images) for split in (train, val, test))
    machine = linear_svm.fit_linear(x, train.labels, val_x, val.labels)
    return 100.0 * (machine.predict(test_x) == test.labels)
