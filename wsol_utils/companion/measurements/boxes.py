"""Boxes, pixels and points of every method on photographs whose truth is known."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from tqdm import tqdm

from wsol_utils.companion import adaptation, weights
from wsol_utils.companion.measure import Table
from wsol_utils.datasets import load
from wsol_utils.datasets.imagenet_classes import voc_groups
from wsol_utils.datasets.splits import Split, joined
from wsol_utils.evaluation import boxes, metrics, statistics
from wsol_utils.methods import cam, graphcut, networks, saliency

IOU_THRESHOLDS = (0.3, 0.5, 0.7)
BLURS, N_TO_CHOOSE = (0.0, 0.01, 0.03, 0.06), 500  # shares of the side, and images on which GraphCut tries them
BOX_HEADER = ["method", "boxes right at IoU 0.5, %", "mean of IoU 0.3, 0.5, 0.7, %", "threshold, % of the maximum"]
ANY_REGION = "In the second column any of a map's regions may be the box (MaxBoxAccV2)."
Truth = Sequence[np.ndarray]  # true boxes of each image
MapOfBatch = Callable[[np.ndarray, np.ndarray], np.ndarray]  # images (B, H, W, 3), classes (B,) to maps (B, H, W)


def tiny_imagenet() -> Table:
    """GT-known boxes on Tiny ImageNet, by the network trained on it, thresholds chosen on its validation images."""
    known = weights.shipped_classes()
    dataset = load("tiny-imagenet", n_classes=len(known), first=known)
    val, test = dataset.split("val"), dataset.split("test")
    nets = {
        head: weights.restricted(weights.shipped(f"tiny-imagenet-{head}"), dataset.class_names)
        for head in weights.HEADS
    }
    gap = nets["gap"].network
    makers = {
        f"CAM, {head.upper()}": lambda images, classes, head=head: cam.class_activation_map(
            nets[head].network, networks.normalise(images), classes
        )
        for head in ("gap", "gmp")
    }
    makers["saliency, GAP"] = lambda images, classes: saliency.ten_crop_saliency(gap, images, classes)
    found = {
        name: [_maps(maker, split.images, split.labels, name) for split in (val, test)]
        for name, maker in makers.items()
    }
    truth = [[split.boxes_of_label(i) for i in range(len(split))] for split in (val, test)]
    rows = box_rows(found, [val.images, test.images], truth)
    right = [f"{head} {100 * np.mean(_answers(nets[head], test) == test.labels):.1f} %" for head in nets]
    return Table(
        title="Boxes on Tiny ImageNet, the class being given",
        data=f"Tiny ImageNet, {len(dataset.class_names)} classes, {len(test)} test images of 64x64",
        seeds=[0],
        header=BOX_HEADER,
        rows=rows,
        note=f"Thresholds, blurs of saliency (of ten crops) and the constant box are the best on {len(val)} validation "
        f"images (GraphCut's blur on {N_TO_CHOOSE} of them). {ANY_REGION} Three heads share one trunk; right answers: "
        f"{', '.join(right)}.",
    )


def voc() -> Table:
    """Boxes, pixels and points on VOC by the ImageNet network, a VOC class standing for its ImageNet classes."""
    dataset, squeezenet = load("voc2012"), weights.imagenet()
    groups = voc_groups()
    grouped = networks.GroupedClasses(squeezenet.network, list(groups.values()))
    position = {dataset.class_names.index(name): i for i, name in enumerate(groups)}
    size = squeezenet.image_size
    others = joined([dataset.split(name, image_size=size) for name in ("train", "train_with_boxes", "val")])
    test = dataset.split("test", image_size=size)
    makers = {
        "CAM": lambda images, classes: _grouped_maps(grouped, images, classes),
        "saliency": lambda images, classes: saliency.ten_crop_saliency(grouped, images, classes),
    }
    single = [_single(split, position) for split in (others, test)]
    truth = [[split.boxes_of_label(i) for i in range(len(split))] for split in single]
    found = {
        name: [_maps(maker, split.images, np.array([position[k] for k in split.labels]), name) for split in single]
        for name, maker in makers.items()
    }
    rows = box_rows(found, [split.images for split in single], truth)
    pairs = [(i, k) for i in range(len(test)) for k in np.flatnonzero(test.label_sets[i]) if k in position]
    shown, asked = test.images[[i for i, _ in pairs]], np.array([position[k] for _, k in pairs])
    of_pairs = {name: _maps(maker, shown, asked, name) for name, maker in makers.items()}
    centre = boxes.centre_gaussian(size, size)
    of_pairs["centre Gaussian"] = [centre] * len(pairs)
    pixel_maps = {name: pair[1] for name, pair in found.items()} | {"centre Gaussian": [centre] * len(single[1])}
    for row in rows:
        row += _pixels_and_points(pixel_maps.get(row[0]), single[1], of_pairs.get(row[0]), test, pairs)
    return Table(
        title="The ImageNet network on VOC 2012, a VOC class standing for its ImageNet classes",
        data=f"VOC 2012, {len(single[1])} of {len(test)} test images for boxes and pixels (one object of the largest "
        f"object's class), {len(pairs)} classes in {len(test)} images for points; images squashed to {size}x{size}",
        seeds=[0],
        header=[*BOX_HEADER, "PxAP, %", adaptation.POINTS],
        rows=rows,
        note=f"Thresholds, blurs of saliency (of ten crops) and the constant box are the best on {len(single[0])} "
        f"other images. Person is no class of ImageNet and is left out. No network was trained on VOC. {ANY_REGION}",
    )


def _single(split: Split, position: dict[int, int]) -> Split:
    """The images with just one object of the class of their largest object, if ImageNet has the class."""
    return split.subset(
        [len(split.boxes_of_label(i)) == 1 and label in position for i, label in enumerate(split.labels.tolist())]
    )


def _grouped_maps(grouped: networks.GroupedClasses, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    maps = grouped.class_maps(networks.normalise(images))[range(len(images)), classes]
    return cam.upsample(maps, images.shape[1:3])


def _maps(maker: MapOfBatch, images: np.ndarray, classes: np.ndarray, name: str) -> np.ndarray:
    parts = np.array_split(np.arange(len(images)), -(-len(images) // 50))
    return np.concatenate([maker(images[part], classes[part]) for part in tqdm(parts, name, leave=False)])


def _answers(classifier: weights.Classifier, split: Split) -> np.ndarray:
    return networks.predict(classifier.network, split.images).argmax(1)


def box_rows(
    found: dict[str, list[np.ndarray]], images: Sequence[np.ndarray], truth: Sequence[Truth]
) -> list[list[str]]:
    """Box accuracies of methods, and controls; maps, images and truth are those that choose, then those that judge.

    Saliency is blurred by what suits a threshold best on the images that choose, and GraphCut by what suits GraphCut.
    """
    size = images[0].shape[1]
    centre = [[boxes.centre_gaussian(size, size)] * len(true) for true in truth]
    rows, fixed = [], {}
    for name, pair in {**found, "centre Gaussian": centre}.items():
        if name.startswith("saliency"):
            blurred = [[_blurred(maps, share) for maps in pair] for share in BLURS]
            cuts = [_cut_right(images[0], maps, truth[0]) for maps, _ in blurred]
            fixed[f"{name} + GraphCut"] = graphcut.graphcut_boxes(images[1], blurred[np.argmax(cuts)][1])
            cuts = [_accuracy(metrics.MaxBoxAcc(), maps, truth[0]).compute().value for maps, _ in blurred]
            pair = blurred[np.argmax(cuts)]
        one, several = (
            [_accuracy(metric(n_thresholds=100), *of) for of in zip(pair, truth, strict=True)]
            for metric in (metrics.MaxBoxAcc, metrics.MaxBoxAccV2)
        )
        tau = one[0].compute().best_thresholds
        hits = [one[1].compute(tau), several[1].compute(several[0].compute().best_thresholds)]
        rows.append([name, *(str(statistics.bootstrap_interval(h.per_image)) for h in hits), f"{100 * tau[0]:.0f}"])
    fixed["best constant box"] = np.repeat(boxes.best_constant_box(truth[0], size)[None], len(images[1]), axis=0)
    for name, predicted in fixed.items():
        hits = [100.0 * metrics.localisation_hits(predicted, truth[1], iou_threshold=t) for t in IOU_THRESHOLDS]
        both = statistics.bootstrap_interval(hits[1]), statistics.bootstrap_interval(np.mean(hits, axis=0))
        rows.append([name, *map(str, both), ""])
    return rows


def _blurred(maps: np.ndarray, share: float) -> np.ndarray:
    """Maps (B, H, W) blurred by a share of their side."""
    return maps if share == 0 else np.array([cv2.GaussianBlur(one, (0, 0), share * maps.shape[1]) for one in maps])


def _cut_right(images: np.ndarray, maps: np.ndarray, truth: Truth) -> float:
    """Share of right GraphCut boxes of the first images."""
    few = slice(N_TO_CHOOSE)
    return metrics.localisation_hits(graphcut.graphcut_boxes(images[few], maps[few]), truth[few]).mean()


def _accuracy(metric: metrics.MaxBoxAcc, maps: Sequence[np.ndarray], truth: Truth) -> metrics.MaxBoxAcc:
    for score_map, true in zip(maps, truth, strict=True):
        metric.update(score_map, true)
    return metric


def _pixels_and_points(
    maps: Sequence[np.ndarray] | None,
    single: Split,
    maps_of_pairs: Sequence[np.ndarray] | None,
    test: Split,
    pairs: list[tuple[int, int]],
) -> list[str]:
    """PxAP over images with masks, and the share of (image, class) pairs whose point lies in a box of the class."""
    if maps is None or maps_of_pairs is None:
        return ["", ""]
    pixels = metrics.PxAP()
    for score_map, mask in zip(maps, single.masks, strict=True):
        pixels.update(score_map, mask)
    hits = [
        100.0 * metrics.point_in_boxes(score_map, test.boxes[i][test.box_labels[i] == k], adaptation.TOLERANCE)
        for score_map, (i, k) in zip(maps_of_pairs, pairs, strict=True)
    ]
    return [str(metrics.pxap_interval(pixels.compute())), str(statistics.bootstrap_interval(hits))]
