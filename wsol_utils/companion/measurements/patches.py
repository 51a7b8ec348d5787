"""The 2014 transfer by patches with boxes, beside training on lists of labels, on VOC photographs."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from wsol_utils.companion import adaptation, weights
from wsol_utils.companion.measure import Table
from wsol_utils.datasets.splits import Split
from wsol_utils.evaluation import metrics, statistics
from wsol_utils.methods import convnet, jitter, max_pooling, networks, patch_tiling, training

PATCH_SIZE, N_SCALES, OVERLAP = 128, 4, 0.5
UPRIGHT = ("cat", "cow", "dog", "horse", "person", "sheep")  # their heads are on top, as a rule


def voc() -> Table:
    """Classification, points and pixels of box-trained patches and of weakly trained maps on the same photographs."""
    learnt, test, class_names = adaptation.photographs()
    n_classes, size = len(class_names), learnt.images.shape[1]
    patches = patch_tiling.tile_patches(size, size, N_SCALES, OVERLAP)
    seen, targets = labelled_patches(learnt, patches, n_classes)
    arms = {
        "patches with boxes, pre-trained": _transferred(seen, targets, n_classes + 1),
        "patches with boxes, not pre-trained": _from_scratch(seen, targets, n_classes + 1),
    }
    rows = []
    for name, posteriors_of in arms.items():
        posteriors = [
            posteriors_of(patch_tiling.cut_patches(image, patches, PATCH_SIZE))[:, :n_classes]
            for image in tqdm(test.images, name)
        ]
        maps = [patch_tiling.heat_maps(own, patches, size, size) for own in posteriors]
        scores = [[patch_tiling.image_scores(own, k) for own in posteriors] for k in (1, patch_tiling.POWER)]
        rows.append([name, *(_mean_ap(of_power, test) for of_power in scores), *places(maps, test, class_names)])
    for pooling, pool in adaptation.POOLINGS.items():
        network = weights.adapted(pooling).network
        maps = max_pooling.multi_scale_maps(network, test.images, adaptation.FACTORS)
        scores = pool(torch.tensor(maps)).numpy()
        rows.append([f"lists of labels, {pooling}", "", _mean_ap(scores, test), *places(maps, test, class_names)])
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
        note=f"{len(patches)} patches an image (the paper about 500), each seen at {PATCH_SIZE} pixels; {len(seen)} "
        f"learnt from, {100 * np.mean(targets == n_classes):.0f} % of them background. mAP is over the area. PxAP is "
        "over images with one object of the largest object's class. The last column counts, among points that hit a "
        f"box of {', '.join(UPRIGHT)}, those in its upper half. Not pre-trained: a quarter-width ConvNet that saw "
        "these patches only.",
    )


def labelled_patches(split: Split, patches: np.ndarray, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Patches (M, S, S, 3) of all images with their labels (M,), background thinned."""
    seen, targets = [], []
    for i, (image, boxes, of_boxes) in enumerate(zip(split.images, split.boxes, split.box_labels, strict=True)):
        labels = patch_tiling.patch_labels(patches, boxes, of_boxes, n_classes)
        kept = patch_tiling.thin_background(labels, n_classes, seed=i)
        seen.append(patch_tiling.cut_patches(image, patches[kept], PATCH_SIZE))
        targets.append(labels[kept])
    return np.concatenate(seen), np.concatenate(targets)


def _transferred(seen: np.ndarray, targets: np.ndarray, n_outputs: int) -> Callable[[np.ndarray], np.ndarray]:
    """Two adaptation layers trained on SqueezeNet's averaged features; patches to posteriors."""
    trunk = nn.Sequential(weights.imagenet().network.features, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    codes = torch.tensor(networks.predict(trunk, seen))
    torch.manual_seed(0)
    layers = nn.Linear(codes.shape[1], 256), nn.ReLU(), nn.Linear(256, n_outputs)
    head = nn.Sequential(nn.BatchNorm1d(codes.shape[1], affine=False), *layers)
    optimiser = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.01)
    labels = torch.tensor(targets)
    for _ in tqdm(range(10), "adaptation layers"):
        for index in torch.randperm(len(codes)).split(64):
            loss = nn.functional.cross_entropy(head(codes[index]), labels[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return _posteriors(nn.Sequential(trunk, head))


def _from_scratch(seen: np.ndarray, targets: np.ndarray, n_outputs: int) -> Callable[[np.ndarray], np.ndarray]:
    """The ConvNet trained on nothing but these patches; patches to posteriors."""
    network = convnet.ConvNet(n_outputs, PATCH_SIZE, 0.25, head="gap", seed=0).to(networks.pick_device())
    training.fit(network, lambda epoch: (seen, targets), 12, augment=jitter.jitter)
    return _posteriors(network)


def _posteriors(network: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    network.eval()
    return lambda images: torch.tensor(networks.predict(network, images)).softmax(1).numpy()


def _mean_ap(scores: Sequence[np.ndarray], test: Split) -> str:
    return f"{100 * metrics.mean_average_precision(np.array(scores), np.where(test.label_sets, 1, -1)):.1f}"


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
