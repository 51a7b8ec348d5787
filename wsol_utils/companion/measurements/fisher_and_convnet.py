"""Deep Fisher network and ConvNet on the same images: which is better at which number, and do they complement?"""

import numpy as np
from scipy.special import log_softmax, logsumexp
from tqdm import tqdm

from wsol_utils.companion.measure import Table
from wsol_utils.companion.store import Arrays, remember
from wsol_utils.datasets import load
from wsol_utils.datasets.splits import DataSet, Split, joined
from wsol_utils.evaluation import claims, statistics
from wsol_utils.evaluation.claims import ClaimResult
from wsol_utils.methods import convnet, networks, training
from wsol_utils.methods.fisher_network import FisherNetwork
from wsol_utils.methods.jitter import jitter
from wsol_utils.methods.linear_svm import fit_linear

SEEDS, N_IMAGES = (0, 1, 2), (250, 1000, 4000)
N_SEEN = 60_000  # images, repeats counted, that each ConvNet learns from
TEMPERATURES, SHARES = np.geomspace(0.02, 50, 60), np.linspace(0, 1, 21)


def scenes() -> Table:
    """Drawn scenes, other training images for each seed."""
    return _table("scenes", load("scenes"))


def tiny_imagenet() -> Table:
    """Photographs of 20 classes of Tiny ImageNet, another draw of the training images for each seed."""
    return _table("Tiny ImageNet", load("tiny-imagenet", n_classes=20))


def _table(name: str, data: DataSet) -> Table:
    val, test = data.split("val"), data.split("test")
    runs = {
        n: [remember(train_both, data=data, n_images=n, seed=seed) for seed in SEEDS]
        for n in tqdm(N_IMAGES, f"numbers of {name}")
    }
    found = {n: _judge(of_seeds, val, test) for n, of_seeds in runs.items()}
    judged, shares = ({n: part[i] for n, part in found.items()} for i in (0, 1))
    arms = list(judged[N_IMAGES[-1]])
    where = f"{name}, {len(data.class_names)} classes, {len(test)} test images"
    return Table(
        title=f"Deep Fisher network and ConvNet on {name}",
        data=where,
        seeds=SEEDS,
        header=["training images", *(f"{arm}, %" for arm in arms), "ConvNet minus Fisher network", "ConvNet's weight"],
        rows=[
            [
                f"{n:,}",
                *(str(statistics.bootstrap_interval(right[arm])) for arm in arms),
                str(statistics.paired_difference(right["ConvNet"], right["Fisher network"])),
                f"{shares[n]:.2f}",
            ]
            for n, right in judged.items()
        ],
        note=f"Each ConvNet (GAP, quarter width, jitter) sees {N_SEEN:,} images, repeats counted; the Fisher network "
        "(K = 32 and 64, D = 32 twice, grey SIFT) has linear SVMs. Both are averaged as log-beliefs. The SVMs' C, a "
        "temperature for each and the weights of the average (the last column is the ConvNet's, the rest the Fisher "
        "network's) are chosen on validation images; the ConvNet's training has one setting for all.",
        claims=_claims(judged, where),
    )


def train_both(data: DataSet, n_images: int, seed: int) -> Arrays:
    """Scores (N, C) of both for the validation and the test images, after training on the same n_images."""
    learnt, val, test = draw(data, n_images, seed), data.split("val"), data.split("test")
    network = convnet.ConvNet(len(data.class_names), data.default_size, 0.25, head="gap", seed=seed)
    n_epochs = max(1, round(N_SEEN / len(learnt)))
    network.to(networks.pick_device())
    training.fit(network, lambda epoch: (learnt.images, learnt.labels), n_epochs, seed=seed, augment=jitter)
    n_folds = min(5, int(np.bincount(learnt.labels).min()))
    stride = 2 if data.default_size > 64 else 1  # or small images would have four windows
    encoder = FisherNetwork(stride=stride, n_folds=n_folds, random_state=seed, progress=False)
    x = encoder.fit_transform(learnt.images, learnt.labels)
    of_fisher = {split.name: encoder.transform(split.images) for split in (val, test)}
    machine = fit_linear(x, learnt.labels, of_fisher["val"], val.labels)
    scores = {f"Fisher network {name}": machine.decision_function(v) for name, v in of_fisher.items()}
    return scores | {f"ConvNet {split.name}": networks.predict(network, split.images) for split in (val, test)}


def draw(data: DataSet, n_images: int, seed: int) -> Split:
    """Training images with as many of each class as the number allows: fresh scenes, or a draw of the photographs."""
    if data.name == "scenes":
        return data.split("train", n_images, epoch=seed)
    every = joined([data.split(name) for name in ("train", "train_with_boxes")])
    order = np.random.default_rng(seed).permutation(len(every))
    turn = np.empty(len(every))  # of an image among those of its class
    for label in np.unique(every.labels):
        turn[order[every.labels[order] == label]] = np.arange((every.labels == label).sum())
    return every.subset(np.argsort(turn, kind="stable")[:n_images])


def beliefs(scores: np.ndarray, val_scores: np.ndarray, val_labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-beliefs (N, C) of scores and of the validation scores, at the temperature that suits validation best."""
    losses = [_loss(log_softmax(val_scores / t, axis=1), val_labels) for t in TEMPERATURES]
    best = TEMPERATURES[int(np.argmin(losses))]
    return log_softmax(scores / best, axis=1), log_softmax(val_scores / best, axis=1)


def average(
    one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray], val_labels: np.ndarray
) -> tuple[np.ndarray, float]:
    """Weighted mean (N, C) of two pairs of log-beliefs (test, validation), and the first's weight, from validation."""
    mixed = [share * one[1] + (1 - share) * other[1] for share in SHARES]
    losses = [_loss(m - logsumexp(m, axis=1, keepdims=True), val_labels) for m in mixed]
    share = SHARES[int(np.argmin(losses))]
    return share * one[0] + (1 - share) * other[0], float(share)


def _loss(log_beliefs: np.ndarray, labels: np.ndarray) -> float:
    return -float(log_beliefs[np.arange(len(labels)), labels].mean())


def _judge(runs: list[Arrays], val: Split, test: Split) -> tuple[dict[str, list[np.ndarray]], float]:
    """100 or 0 for each test image and seed, for each of the two, both together, and two ConvNets together.

    And the ConvNet's mean weight when it is averaged with the Fisher network.
    """
    found = {
        arm: [beliefs(run[f"{arm} test"], run[f"{arm} val"], val.labels) for run in runs]
        for arm in ("Fisher network", "ConvNet")
    }
    nets = found["ConvNet"]
    scores = {arm: [one[0] for one in of_arm] for arm, of_arm in found.items()}
    scores["ConvNet and Fisher network"], shares = zip(
        *(average(net, fisher, val.labels) for net, fisher in zip(nets, found["Fisher network"], strict=True)),
        strict=True,
    )
    scores["two ConvNets"] = [average(nets[i], nets[i - 1], val.labels)[0] for i in range(len(nets))]
    right = {arm: [100.0 * (one.argmax(1) == test.labels) for one in of_arm] for arm, of_arm in scores.items()}
    return right, np.mean(shares)


def _claims(judged: dict[int, dict[str, list[np.ndarray]]], data: str) -> list[ClaimResult]:
    """C3.8 and C3.9 at the largest number of images."""
    right = judged[N_IMAGES[-1]]
    over_two, over_one, over_fisher = (
        statistics.paired_difference(right["ConvNet and Fisher network"], right[arm])
        for arm in ("two ConvNets", "ConvNet", "Fisher network")
    )
    complementary = claims.sign(0.5, over_two, control_passed=over_fisher.low > 0)
    if complementary == claims.NOT_REPRODUCED and claims.sign(0.5, over_one) == claims.REPRODUCED:
        complementary = claims.NOT_RESOLVABLE  # better than one net only, as any second net would be
    leads = {n: statistics.paired_difference(of["ConvNet"], of["Fisher network"]) for n, of in judged.items()}
    lead, of_images = leads[N_IMAGES[-1]], f"{N_IMAGES[-1]:,} training images; top-1"
    gains = {"over one ConvNet": over_one.mean, "over the Fisher network": over_fisher.mean}
    smaller = {f"with {n:,} images": leads[n].mean for n in N_IMAGES[:-1]}
    return [
        ClaimResult("C3.8", over_two.mean, "points", data, SEEDS, complementary, over_two, gains, of_images),
        ClaimResult("C3.9", lead.mean, "points", data, SEEDS, claims.sign(0, lead), lead, smaller, of_images),
    ]
