"""The 2014 transfer by patches with boxes, beside training on lists of labels, on VOC photographs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import inf

import numpy as np
import torch
import torchvision
from torch import nn
from tqdm import tqdm

from wsol_utils.companion import adaptation, settings, weights
from wsol_utils.companion.measure import Table
from wsol_utils.companion.measurements import pooling
from wsol_utils.companion.measurements.evidence import map_difference
from wsol_utils.companion.store import Arrays, remember
from wsol_utils.datasets import load
from wsol_utils.datasets.splits import DataSet, Split
from wsol_utils.evaluation import boxes, claims, metrics, statistics
from wsol_utils.evaluation.claims import ClaimResult
from wsol_utils.evaluation.metrics import PixelPrecision
from wsol_utils.methods import convnet, jitter, max_pooling, networks, patch_tiling, training

SEEDS, WIDTH = (0, 1, 2), 0.25  # width of the network that is taught from nothing
UPRIGHT = ("cat", "cow", "dog", "horse", "person", "sheep")  # their heads are on top, as a rule
POWERS = (1, 2, 3, patch_tiling.POWER, 8, 12, 20, inf)  # of the patch scores of an image; the last is the maximum
N_TO_CHOOSE = 100  # training photographs, the last ones, that choose the power for layers trained on the others
PRETRAINED, RANDOM, NOTHING = "pre-trained", "random and kept", "none"  # trunks


@dataclass(frozen=True)
class Places:
    """Where maps point: hits (P,) and points in the upper half (P,) in per cent, NaN if not asked; and pixels.

    pixels: None if not all images have masks.
    """

    hits: np.ndarray
    upper: np.ndarray
    pixels: PixelPrecision | None


def voc() -> Table:
    """Classification, points and pixels of box-trained patches and of weakly trained maps on the same photographs."""
    data, (learnt, test, class_names) = load("voc2012"), adaptation.photographs()
    n_classes, size = len(class_names), adaptation.IMAGE_SIZE
    patches = adaptation.patches_of(size, size)
    runs_of, scores, rows, found = {}, {}, [], {}
    for trunk in (PRETRAINED, RANDOM, NOTHING):
        runs = runs_of[trunk] = [remember(learn_patches, data=data, trunk=trunk, seed=seed) for seed in SEEDS]
        name = f"patches with boxes, trunk {trunk}"
        plain, scores[name] = ([scores_of(run["test"], power) for run in runs] for power in (1, patch_tiling.POWER))
        found[name] = [places(_heat_maps(run["test"], patches), test, class_names) for run in runs]
        right = " / ".join(f"{100 * of_kind:.0f}" for of_kind in np.mean([run["right"] for run in runs], axis=0))
        rows.append([name, right, _mean_ap(plain, test), _mean_ap(scores[name], test), *_in_words(found[name])])
    for name in adaptation.POOLINGS:
        scores[name], found[name] = zip(*(_by_lists(name, seed, test, class_names) for seed in SEEDS), strict=True)
        rows.append([f"lists of labels, {name}", "", "", _mean_ap(scores[name], test), *_in_words(found[name])])
    centre = np.broadcast_to(boxes.centre_gaussian(size, size), (len(test), n_classes, size, size))
    uniform = np.ones((len(test), len(patches), n_classes + 1))
    found |= {
        "the centre of every image": [places(centre, test, class_names)],
        "all patches alike": [places(_heat_maps(uniform, patches), test, class_names)],
    }
    rows += [[f"{name}, a control", "", "", "", *_in_words(found[name])] for name in list(found)[-2:]]
    photographs = f"VOC 2012, {len(learnt)} training and {len(test)} test images"
    targets = adaptation.labelled_patches(learnt, patches)[1]
    return Table(
        title="Boxes or lists of labels: the 2014 transfer beside weak training",
        data=f"{photographs} squashed to {size}x{size}",
        seeds=SEEDS,
        header=[
            "training",
            "patches of objects named rightly, training / test photographs, %",
            "mAP, plain sum of patches, % (seeds from to)",
            f"mAP, sum of powers {patch_tiling.POWER} or pooled, % (seeds from to)",
            adaptation.POINTS,
            "PxAP, %",
            "points in the upper half, %",
        ],
        rows=rows,
        note=f"{len(patches)} patches an image (the paper about 500), each seen at {adaptation.PATCH_SIZE} pixels; "
        f"{len(targets)} learnt from, {100 * np.mean(targets == n_classes):.0f} % of them background. mAP is over the "
        "area. PxAP is over images with one object of the largest object's class. The last column counts, among points "
        f"that hit a box of {', '.join(UPRIGHT)}, those in its upper half. The trunk is SqueezeNet, trained on "
        "ImageNet, or with one draw of random weights, not trained further; with none, a quarter-width ConvNet sees "
        "these patches only. Adaptation layers have equally many steps on every trunk.",
        claims=_judged(runs_of, scores, found, test, photographs),
    )


def learn_patches(data: DataSet, trunk: str, seed: int) -> Arrays:
    """Posteriors (N, M, C + 1) of test photographs, those that choose the power, and right answers on objects."""
    learnt, test, class_names = adaptation.photographs()
    n_outputs = len(class_names) + 1
    patches = adaptation.patches_of(adaptation.IMAGE_SIZE, adaptation.IMAGE_SIZE)
    if trunk == NOTHING:
        seen, targets = adaptation.labelled_patches(learnt, patches)
        network = _from_nothing(seen, targets, n_outputs, seed)
        answers = networks.predict(network, seen).argmax(1)
        posteriors, choosing = np.array(adaptation.patch_posteriors(network, test.images, patches)), np.zeros(0)
    else:
        codes, targets, of_test, of_choosing, n_first = _codes(trunk)
        head = adaptation.transferred(codes, targets, n_outputs, seed)
        part = adaptation.transferred(codes[:n_first], targets[:n_first], n_outputs, seed)
        answers = _posteriors(head, codes).argmax(1)
        posteriors, choosing = (
            _posteriors(layers, own).reshape(-1, len(patches), n_outputs)
            for layers, own in ((head, of_test), (part, of_choosing))
        )
    true = np.array(
        [
            patch_tiling.patch_labels(patches, of_image, labels, n_outputs - 1)
            for of_image, labels in zip(test.boxes, test.box_labels, strict=True)
        ]
    )
    right = [
        np.mean((given == labels)[labels < n_outputs - 1])
        for given, labels in ((answers, targets), (posteriors.argmax(2), true))
    ]
    return {"test": posteriors, "choosing": choosing, "right": np.array(right)}


@cache
def _codes(trunk: str) -> tuple[torch.Tensor, np.ndarray, torch.Tensor, torch.Tensor, int]:
    """Codes and labels of the patches that are learnt from, codes of all patches of the test photographs and of those
    that choose, and how many of the first come from other photographs than these."""
    learnt, test, _ = adaptation.photographs()
    patches = adaptation.patches_of(adaptation.IMAGE_SIZE, adaptation.IMAGE_SIZE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = weights.imagenet().network if trunk == PRETRAINED else torchvision.models.squeezenet1_0().eval()

    def of_all(images: np.ndarray) -> torch.Tensor:
        cut = (
            patch_tiling.cut_patches(image, patches, adaptation.PATCH_SIZE)
            for image in tqdm(images, f"photographs, trunk {trunk}")
        )
        return torch.cat([adaptation.patch_codes(own, network.features) for own in cut])

    seen, targets = adaptation.labelled_patches(learnt, patches)
    others = learnt.subset(np.arange(len(learnt) - N_TO_CHOOSE))
    n_first = len(adaptation.labelled_patches(others, patches)[1])
    codes = adaptation.patch_codes(seen, network.features)
    return codes, targets, of_all(test.images), of_all(learnt.images[-N_TO_CHOOSE:]), n_first


@torch.no_grad()
def _posteriors(head: nn.Module, codes: torch.Tensor) -> np.ndarray:
    return head(codes).flatten(1).softmax(1).numpy()


def _from_nothing(seen: np.ndarray, targets: np.ndarray, n_outputs: int, seed: int) -> nn.Module:
    """The ConvNet trained on nothing but these patches."""
    network = convnet.ConvNet(n_outputs, adaptation.PATCH_SIZE, WIDTH, head="gap", seed=seed).to(networks.pick_device())
    checkpoint = settings.store_folder() / "checkpoints" / f"patches-from-nothing-{seed}.pt"
    data = load("voc2012").fingerprint
    training.fit(
        network,
        lambda epoch: (seen, targets),
        12,
        seed=seed,
        augment=jitter.jitter,
        checkpoint=checkpoint,
        recipe=f"{len(seen)} patches {seen.shape[1:]} of {n_outputs} kinds, width {WIDTH}, {data}",
    )
    return network


def scores_of(posteriors: np.ndarray, power: float) -> Arrays:
    """Scores (N, C) of images from the posteriors (N, M, C + 1) of their patches, background last.

    >>> scores_of(np.array([[[0.5, 0.5], [0.25, 0.75]]]), inf)["scores"].tolist()
    [[0.5]]
    """
    of_classes = posteriors[:, :, :-1]
    if power == inf:
        return {"scores": of_classes.max(1)}
    return {"scores": np.array([patch_tiling.image_scores(own, power) for own in of_classes])}


def _heat_maps(posteriors: np.ndarray, patches: np.ndarray) -> Iterable[np.ndarray]:
    size = adaptation.IMAGE_SIZE
    return (patch_tiling.heat_maps(own[:, :-1], patches, size, size) for own in posteriors)


def _by_lists(name: str, seed: int, test: Split, class_names: Sequence[str]) -> tuple[Arrays, Places]:
    """Scores of the test photographs and places of the maps of layers trained on lists of labels."""
    learnt, draws = pooling.learnt_from()
    pool, label_sets = adaptation.POOLINGS[name], torch.tensor(learnt.label_sets, dtype=torch.float32)
    head = max_pooling.adapt(draws, label_sets, pool, seed=seed, **adaptation.TRAINING)
    scores = []

    def maps() -> Iterator[np.ndarray]:
        for own in pooling.maps_of(head, pooling.seen_in_test(), adaptation.FACTORS, len(test)):
            scores.append(pool(torch.tensor(own)[None])[0].numpy())
            yield own

    found = places(maps(), test, class_names)
    return {"scores": np.array(scores)}, found


def places(maps: Iterable[np.ndarray], test: Split, class_names: Sequence[str]) -> Places:
    """Points in a box of the class, points in the upper half of upright animals, and pixels of single objects."""
    hits, upper, pixels = [], [], metrics.PxAP()
    for i, of_image in enumerate(maps):
        for k in np.flatnonzero(test.label_sets[i]):
            true = test.boxes[i][test.box_labels[i] == k]
            hits.append(100.0 * metrics.point_in_boxes(of_image[k], true, adaptation.TOLERANCE))
            x, y = metrics.point_of_maximum(of_image[k])
            inside = [box for box in true if box[0] <= x < box[2] and box[1] <= y < box[3]]
            asked = class_names[k] in UPRIGHT and inside
            upper.append(100.0 * (y < (inside[0][1] + inside[0][3]) / 2) if asked else np.nan)
        if test.masks is not None and len(test.boxes_of_label(i)) == 1:
            pixels.update(of_image[test.labels[i]] - of_image[test.labels[i]].min(), test.masks[i])
    return Places(np.array(hits), np.array(upper), None if test.masks is None else pixels.compute())


def _in_words(found: Sequence[Places]) -> list[str]:
    """Points, PxAP and points in the upper half, the mean over seeds."""
    upper = np.array([run.upper for run in found])
    asked = upper[:, ~np.isnan(upper).all(0)]
    points = statistics.bootstrap_interval([run.hits for run in found])
    pixels = metrics.pxap_interval([run.pixels for run in found]) if found[0].pixels else "not all images have masks"
    return [str(points), str(pixels), str(statistics.bootstrap_interval(np.nanmean(asked, axis=0)))]


def _mean_ap(runs: Sequence[Arrays], test: Split) -> str:
    precisions = [adaptation.mean_ap(run["scores"], test.label_sets) for run in runs]
    return f"{np.mean(precisions):.1f} ({min(precisions):.1f} to {max(precisions):.1f})"


def _judged(
    runs_of: dict[str, list[Arrays]],
    scores: dict[str, Sequence[Arrays]],
    found: dict[str, Sequence[Places]],
    test: Split,
    data: str,
) -> list[ClaimResult]:
    """C6.1, C6.6 and C6.7 of patches with boxes; C7.1 through the maximum, as the paper, and through log-sum-exp."""
    own, *others = (f"patches with boxes, trunk {trunk}" for trunk in (PRETRAINED, RANDOM, NOTHING))
    gains = {other: map_difference(scores[own], scores[other], test.label_sets) for other in others}
    least = min(gains, key=lambda other: gains[other].mean)
    verdict = claims.all_of(claims.sign(3, gain) for gain in gains.values())
    of_others = {f"over {other}": gain.mean for other, gain in gains.items()}
    results = [_result("C6.1", verdict, gains[least], of_others, data, f"mAP over {least}; nothing tuned from scratch")]
    results.append(_powers(runs_of[PRETRAINED], test, data))
    results += _heat_maps_judged(found, own, data) if found[own][0].pixels else []
    for name in ("max", "log-sum-exp"):
        ahead = map_difference(scores[name], scores[own], test.label_sets)
        verdict = claims.any_of([claims.equiv(1, ahead), claims.sign(0, ahead)])
        results.append(_result("C7.1", verdict, ahead, {}, data, f"mAP, lists of labels through {name} minus boxes"))
    return results


def _heat_maps_judged(found: dict[str, Sequence[Places]], own: str, data: str) -> list[ClaimResult]:
    """C6.7: PxAP of the heat maps against the centre and against patches that are all alike."""
    pixels = [run.pixels for run in found[own]]
    controls = ("the centre of every image", "all patches alike")
    leads = {name: metrics.pxap_difference(pixels, found[name][0].pixels) for name in controls}
    least = min(leads, key=lambda name: leads[name].mean)
    verdict = claims.all_of(claims.sign(5, lead) for lead in leads.values())
    of_controls = {f"over {name}": lead.mean for name, lead in leads.items()}
    return [_result("C6.7", verdict, leads[least], of_controls, data, f"PxAP over {least}")]


def _powers(runs: list[Arrays], test: Split, data: str) -> ClaimResult:
    """C6.6: the best power on photographs that chose it, against the plain sum and the maximum on test photographs."""
    label_sets = adaptation.photographs()[0].label_sets[-N_TO_CHOOSE:]
    chosen_by = {
        power: np.mean([adaptation.mean_ap(scores_of(run["choosing"], power)["scores"], label_sets) for run in runs])
        for power in POWERS
    }
    best = max(POWERS[1:-1], key=chosen_by.get)
    scores = {power: [scores_of(run["test"], power) for run in runs] for power in (1, best, inf)}
    over = {power: map_difference(scores[best], scores[power], test.label_sets) for power in (1, inf)}
    verdict = claims.all_of(claims.sign(0, difference) for difference in over.values())
    least = min(over, key=lambda power: over[power].mean)
    controls = {f"power {power:g} on {len(label_sets)} others": precision for power, precision in chosen_by.items()}
    note = f"mAP, power {best:g} over {'the plain sum' if least == 1 else 'the maximum'}"
    return _result("C6.6", verdict, over[least], controls, data, note)


def _result(
    number: str, verdict: str, difference: statistics.Interval, controls: dict[str, float], data: str, note: str
) -> ClaimResult:
    return ClaimResult(number, difference.mean, "points", data, SEEDS, verdict, difference, controls, note)
