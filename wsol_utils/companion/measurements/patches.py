"""The 2014 transfer by patches with boxes, beside training on lists of labels, on VOC photographs."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from wsol_utils.companion import adaptation, settings, weights
from wsol_utils.companion.measure import Table
from wsol_utils.datasets.splits import Split
from wsol_utils.evaluation import boxes, metrics, statistics
from wsol_utils.methods import convnet, jitter, max_pooling, networks, patch_tiling, training

UPRIGHT = ("cat", "cow", "dog", "horse", "person", "sheep")  # their heads are on top, as a rule


def voc() -> Table:
    """Classification, points and pixels of box-trained patches and of weakly trained maps on the same photographs."""
    learnt, test, class_names = adaptation.photographs()
    n_classes, size = len(class_names), learnt.images.shape[1]
    patches = adaptation.patches_of(size, size)
    seen, targets = adaptation.labelled_patches(learnt, patches)
    arms = {
        "patches with boxes, pre-trained": weights.adapted("patches").network,
        "patches with boxes, not pre-trained": _from_scratch(seen, targets, n_classes + 1),
    }
    rows = []
    for name, network in arms.items():
        posteriors = [own[:, :n_classes] for own in adaptation.patch_posteriors(network, test.images, patches)]
        maps = [patch_tiling.heat_maps(own, patches, size, size) for own in posteriors]
        powers = (1, patch_tiling.POWER)
        scores = [np.array([patch_tiling.image_scores(own, power) for own in posteriors]) for power in powers]
        rows.append([name, *(_mean_ap(of_power, test) for of_power in scores), *places(maps, test, class_names)])
    for pooling, pool in adaptation.POOLINGS.items():
        network = weights.adapted(pooling).network
        maps = max_pooling.multi_scale_maps(network, test.images, adaptation.FACTORS)
        scores = pool(torch.tensor(maps)).numpy()
        rows.append([f"lists of labels, {pooling}", "", _mean_ap(scores, test), *places(maps, test, class_names)])
    centre = np.broadcast_to(boxes.centre_gaussian(size, size), (len(test), n_classes, size, size))
    rows.append(["the centre of every image, a control", "", "", *places(centre, test, class_names)])
    return Table(
        title="Boxes or lists of labels: the 2014 transfer beside weak training",
        data=f"VOC 2012, {len(learnt)} training and {len(test)} test images squashed to {size}x{size}",
        seeds=[0],
        header=[
            "training",
            "mAP, plain sum of patches, %",
            f"mAP, sum of powers {patch_tiling.POWER} or pooled, %",
            adaptation.POINTS,
            "PxAP, %",
            "points in the upper half, %",
        ],
        rows=rows,
        note=f"{len(patches)} patches an image (the paper about 500), each seen at {adaptation.PATCH_SIZE} pixels; "
        f"{len(seen)} learnt from, {100 * np.mean(targets == n_classes):.0f} % of them background. mAP is over the "
        "area. PxAP is over images with one object of the largest object's class. The last column counts, among points "
        f"that hit a box of {', '.join(UPRIGHT)}, those in its upper half. Not pre-trained: a quarter-width ConvNet "
        "that saw these patches only.",
    )


def _from_scratch(seen: np.ndarray, targets: np.ndarray, n_outputs: int) -> nn.Module:
    """The ConvNet trained on nothing but these patches."""
    network = convnet.ConvNet(n_outputs, adaptation.PATCH_SIZE, 0.25, head="gap", seed=0).to(networks.pick_device())
    checkpoint = settings.store_folder() / "checkpoints" / "patches-from-scratch.pt"
    kind = f"{len(seen)} patches of {n_outputs} kinds"
    training.fit(network, lambda epoch: (seen, targets), 12, augment=jitter.jitter, checkpoint=checkpoint, recipe=kind)
    return network


def _mean_ap(scores: np.ndarray, test: Split) -> str:
    return f"{adaptation.mean_ap(scores, test.label_sets):.1f}"


def places(maps: Sequence[np.ndarray], test: Split, class_names: Sequence[str]) -> list[str]:
    """Points in a box of the class, PxAP of single objects, and points in the upper half of upright animals."""
    hits, upper, pixels = [], [], metrics.PxAP()
    for i, of_image in enumerate(maps):
        for k in np.flatnonzero(test.label_sets[i]):
            true = test.boxes[i][test.box_labels[i] == k]
            hits.append(100.0 * metrics.point_in_boxes(of_image[k], true, adaptation.TOLERANCE))
            x, y = metrics.point_of_maximum(of_image[k])
            inside = [box for box in true if box[0] <= x < box[2] and box[1] <= y < box[3]]
            if class_names[k] in UPRIGHT and inside:
                upper.append(100.0 * (y < (inside[0][1] + inside[0][3]) / 2))
        if len(test.boxes_of_label(i)) == 1:
            pixels.update(of_image[test.labels[i]] - of_image[test.labels[i]].min(), test.masks[i])
    intervals = statistics.bootstrap_interval(hits), metrics.pxap_interval(pixels.compute())
    return [*map(str, intervals), str(statistics.bootstrap_interval(upper))]
