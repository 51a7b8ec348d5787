"""Boxes, pixels and points of every method on photographs whose truth is known."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from torch import nn
from tqdm import tqdm

from wsol_utils.companion import adaptation, weights
from wsol_utils.companion.measure import Table
from wsol_utils.datasets import load
from wsol_utils.datasets.imagenet_classes import voc_groups
from wsol_utils.datasets.splits import Split, joined
from wsol_utils.datasets.tiny_imagenet import imagenet_indices
from wsol_utils.evaluation import boxes, claims, metrics, statistics
from wsol_utils.evaluation.claims import ClaimResult
from wsol_utils.methods import cam, graphcut, networks, saliency

IOU_THRESHOLDS = (0.3, 0.5, 0.7)
BLURS, N_TO_CHOOSE = (0.0, 0.01, 0.03, 0.06, 0.1), 500  # shares of the side, and images on which GraphCut tries them
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
    squeezenet, indices = weights.imagenet(), imagenet_indices(weights.imagenet().class_names)
    grouped = networks.GroupedClasses(squeezenet.network, [[indices[name]] for name in dataset.class_names])
    makers["CAM, SqueezeNet"] = lambda images, classes: _grouped_maps(
        grouped, _enlarged(images, squeezenet.image_size), classes, images.shape[1:3]
    )
    found = {
        name: [_maps(maker, split.images, split.labels, name) for split in (val, test)]
        for name, maker in makers.items()
    }
    truth = [[split.boxes_of_label(i) for i in range(len(split))] for split in (val, test)]
    rows, hits, _ = box_rows(found, [val.images, test.images], truth)
    right = {head: 100.0 * (_answers(net.network, test.images) == test.labels) for head, net in nets.items()}
    right["SqueezeNet"] = 100.0 * (_answers(grouped, _enlarged(test.images, squeezenet.image_size)) == test.labels)
    data = f"Tiny ImageNet, {len(dataset.class_names)} classes, {len(test)} test images of 64x64"
    return Table(
        title="Boxes on Tiny ImageNet, the class being given",
        data=data,
        seeds=[0],
        header=BOX_HEADER,
        rows=rows,
        note=f"Thresholds, blurs of saliency (of ten crops) and the constant box are the best on {len(val)} validation "
        f"images (GraphCut's blur on {N_TO_CHOOSE} of them). {ANY_REGION} Three heads share one trunk. SqueezeNet was "
        f"trained on ImageNet ({squeezenet.source}) and sees the images enlarged to {squeezenet.image_size} pixels; "
        f"its classes are found by their wnids. Right answers among the {len(dataset.class_names)}: "
        f"{', '.join(f'{name} {of_images.mean():.1f} %' for name, of_images in right.items())}.",
        claims=[*_heads_compared(right, hits, data), cam_over_saliency(hits["CAM, GAP"], hits["saliency, GAP"], data)],
    )


def _heads_compared(right: dict[str, np.ndarray], hits: dict[str, np.ndarray], data: str) -> list[ClaimResult]:
    """C5.2 and C5.5, from right answers and right boxes of the heads, in per cent for each image."""
    lost = statistics.paired_difference(right["fc"], right["gap"])
    ahead = statistics.paired_difference(right["gap"], right["gmp"])
    extent = statistics.paired_difference(hits["CAM, GAP"], hits["CAM, GMP"])
    alike = abs(ahead.mean) <= 1
    note = f"each at its own threshold; {'' if alike else 'not '}within a point of each other in right answers"
    return [
        ClaimResult(
            "C5.2", lost.mean, "points", data, [0], claims.equiv(2, lost), lost,
            note="fully connected layers minus GAP on one trunk; the first half of the claim",
        ),
        ClaimResult(
            "C5.5", extent.mean, "points", data, [0], claims.sign(1, extent, control_passed=alike), extent,
            {"GAP minus GMP in right answers": ahead.mean}, note,
        ),
    ]  # fmt: skip


def cam_over_saliency(cam_hits: np.ndarray, saliency_hits: np.ndarray, data: str) -> ClaimResult:
    """C5.4, from right boxes in per cent for each image, those of saliency blurred as suits it."""
    lead = statistics.paired_difference(cam_hits, saliency_hits)
    note = "boxes at IoU 0.5, over blurred saliency, each at its own threshold"
    return ClaimResult("C5.4", lead.mean, "points", data, [0], claims.sign(2, lead), lead, note=note)


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
        "CAM": lambda images, classes: _grouped_maps(grouped, images, classes, images.shape[1:3]),
        "saliency": lambda images, classes: saliency.ten_crop_saliency(grouped, images, classes),
    }
    single = [_single(split, position) for split in (others, test)]
    truth = [[split.boxes_of_label(i) for i in range(len(split))] for split in single]
    found = {
        name: [_maps(maker, split.images, np.array([position[k] for k in split.labels]), name) for split in single]
        for name, maker in makers.items()
    }
    rows, hits, blurs = box_rows(found, [split.images for split in single], truth)
    pairs = [(i, k) for i in range(len(test)) for k in np.flatnonzero(test.label_sets[i]) if k in position]
    shown, asked = test.images[[i for i, _ in pairs]], np.array([position[k] for _, k in pairs])
    of_pairs = {name: _blurred(_maps(maker, shown, asked, name), blurs[name]) for name, maker in makers.items()}
    centre = boxes.centre_gaussian(size, size)
    of_pairs["centre Gaussian"] = [centre] * len(pairs)
    pixel_maps = {name: _blurred(pair[1], blurs[name]) for name, pair in found.items()} | {
        "centre Gaussian": [centre] * len(single[1])
    }
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
        f"other images. Person is no class of ImageNet and is left out. The network is {squeezenet.source}; none was "
        f"trained on VOC. {ANY_REGION}",
        claims=[cam_over_saliency(hits["CAM"], hits["saliency"], f"VOC 2012, {len(single[1])} test images")],
    )


def _single(split: Split, position: dict[int, int]) -> Split:
    """The images with just one object of the class of their largest object, if ImageNet has the class."""
    return split.subset(
        [len(split.boxes_of_label(i)) == 1 and label in position for i, label in enumerate(split.labels.tolist())]
    )


def _grouped_maps(
    grouped: networks.GroupedClasses, images: np.ndarray, classes: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    maps = grouped.class_maps(networks.normalise(images))[range(len(images)), classes]
    return cam.upsample(maps, size)


def _enlarged(images: np.ndarray, size: int) -> np.ndarray:
    return np.stack([cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC) for image in images])


def _maps(maker: MapOfBatch, images: np.ndarray, classes: np.ndarray, name: str) -> np.ndarray:
    parts = np.array_split(np.arange(len(images)), -(-len(images) // 50))
    return np.concatenate([maker(images[part], classes[part]) for part in tqdm(parts, name, leave=False)])


def _answers(network: nn.Module, images: np.ndarray) -> np.ndarray:
    return networks.predict(network, images).argmax(1)


def box_rows(
    found: dict[str, list[np.ndarray]], images: Sequence[np.ndarray], truth: Sequence[Truth]
) -> tuple[list[list[str]], dict[str, np.ndarray], dict[str, float]]:
    """Box accuracies of methods, and controls; maps, images and truth are those that choose, then those that judge.

    Also returns the right boxes at IoU 0.5 of each method with maps, in per cent for each image, and by how much its
    maps are blurred before the threshold. Saliency is blurred by what suits a threshold best on the images that choose,
    and before GraphCut by what suits GraphCut.
    """
    size = images[0].shape[1]
    centre = [[boxes.centre_gaussian(size, size)] * len(true) for true in truth]
    rows, fixed, right, blurs = [], {}, {}, {}
    for name, pair in {**found, "centre Gaussian": centre}.items():
        blurs[name] = 0.0
        if name.startswith("saliency"):
            blurred = [[_blurred(maps, share) for maps in pair] for share in BLURS]
            cuts = [_cut_right(images[0], maps, truth[0]) for maps, _ in blurred]
            fixed[f"{name} + GraphCut"] = graphcut.graphcut_boxes(images[1], blurred[np.argmax(cuts)][1])
            cuts = [accuracy(metrics.MaxBoxAcc(), maps, truth[0]).compute().value for maps, _ in blurred]
            pair, blurs[name] = blurred[np.argmax(cuts)], BLURS[np.argmax(cuts)]
        one, several = (
            [accuracy(metric(n_thresholds=100), *of) for of in zip(pair, truth, strict=True)]
            for metric in (metrics.MaxBoxAcc, metrics.MaxBoxAccV2)
        )
        tau = one[0].compute().best_thresholds
        hits = [one[1].compute(tau), several[1].compute(several[0].compute().best_thresholds)]
        right[name] = hits[0].per_image
        rows.append([name, *(str(statistics.bootstrap_interval(h.per_image)) for h in hits), f"{100 * tau[0]:.0f}"])
    fixed["best constant box"] = np.repeat(boxes.best_constant_box(truth[0], size)[None], len(images[1]), axis=0)
    for name, predicted in fixed.items():
        hits = [100.0 * metrics.localisation_hits(predicted, truth[1], iou_threshold=t) for t in IOU_THRESHOLDS]
        both = statistics.bootstrap_interval(hits[1]), statistics.bootstrap_interval(np.mean(hits, axis=0))
        rows.append([name, *map(str, both), ""])
    return rows, right, blurs


def _blurred(maps: np.ndarray, share: float) -> np.ndarray:
    """Maps (B, H, W) blurred by a share of their side."""
    return maps if share == 0 else np.array([cv2.GaussianBlur(one, (0, 0), share * maps.shape[1]) for one in maps])


def _cut_right(images: np.ndarray, maps: np.ndarray, truth: Truth) -> float:
    """Share of right GraphCut boxes of the first images."""
    few = slice(N_TO_CHOOSE)
    return metrics.localisation_hits(graphcut.graphcut_boxes(images[few], maps[few]), truth[few]).mean()


def accuracy(metric: metrics.MaxBoxAcc, maps: Sequence[np.ndarray], truth: Truth) -> metrics.MaxBoxAcc:
    """The metric, having seen all maps with their true boxes."""
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
    hits = [
        100.0 * metrics.point_in_boxes(score_map, test.boxes[i][test.box_labels[i] == k], adaptation.TOLERANCE)
        for score_map, (i, k) in zip(maps_of_pairs, pairs, strict=True)
    ]
    return [_pixels(maps, single.masks), str(statistics.bootstrap_interval(hits))]


def _pixels(maps: Sequence[np.ndarray], masks: np.ndarray | None) -> str:
    if masks is None:
        return "not all images have masks"
    pixels = metrics.PxAP()
    for score_map, mask in zip(maps, masks, strict=True):
        pixels.update(score_map, mask)
    return str(metrics.pxap_interval(pixels.compute()))
