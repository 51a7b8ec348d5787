"""Detectors compared on the same images, proposals and trunk: R-CNN, Fast and Faster R-CNN, YOLO, HOG templates."""

import time
from functools import partial
from itertools import product

import numpy as np
import torch
from torch import nn
from torchvision.models import detection as torchvision_detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign
from tqdm import tqdm

from wsol_utils.companion import weights
from wsol_utils.companion.measure import Table
from wsol_utils.companion.measurements.detector_tables import HEADER, TORCHVISION, Comparison, packed, unpacked
from wsol_utils.companion.store import Arrays, remember
from wsol_utils.companion.timing import one_thread
from wsol_utils.datasets import load
from wsol_utils.datasets.splits import DataSet, Split, joined
from wsol_utils.evaluation import claims, metrics
from wsol_utils.evaluation.claims import ClaimResult
from wsol_utils.evaluation.statistics import Interval
from wsol_utils.methods import networks, proposals, rcnn, selective_search
from wsol_utils.methods.detection import Detections, NetworkDetector, Trunk
from wsol_utils.methods.fast_rcnn import FastRCNN, as_detections, as_targets
from wsol_utils.methods.faster_rcnn import RATIOS, SIDES, FasterRCNN
from wsol_utils.methods.sliding_detector import HogDetector
from wsol_utils.methods.yolo import YOLO

SEEDS, N_TRAIN, N_TEST, N_EPOCHS, BUDGET = (0, 1, 2), 160, 160, 12, 60
SEARCHING = ("R-CNN", "Fast R-CNN")
DETECTORS = ("HOG template", *SEARCHING, "Faster R-CNN", TORCHVISION, "YOLO")
LAYERS, KINDS = ("pool5", "fc6", "fc7"), ("as shipped", "fine-tuned", "fine-tuned from random weights")
N_PROPOSALS = 100  # of the proposal network, as `FasterRCNN` has it
N_LAYERS, N_LAYER_BOXES, PARTS = 80, 40, ("images", "boxes", "labels", "scores")
VOC_SIZE, VOC_CROP, VOC_EPOCHS, VOC_BUDGET = 160, 96, N_EPOCHS, 80
VOC_CONSTANTS = {"svm_cost": 0.1, "ridge": 1000}  # best of four pairs on 50 of the training photographs
VOC_DETECTORS = (*SEARCHING, "Faster R-CNN", "YOLO")
SCALE = 80.0  # of SqueezeNet's maps; set by hand, from 16 training photographs
TRAINING_SPLITS = ("train", "train_with_boxes", "val")


class TorchvisionFasterRCNN(NetworkDetector):
    """torchvision's own `FasterRCNN` on our trunk, with our anchors, for `NetworkDetector`'s training."""

    def __init__(self, network: nn.Module, n_classes: int, size: int = 96, seed: int = 0) -> None:
        super().__init__()
        self.n_classes, trunk = n_classes, Trunk(network)
        trunk.out_channels = trunk.n_channels
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.detector = torchvision_detection.FasterRCNN(
                trunk,
                None,
                min_size=size,
                max_size=size,
                image_mean=[0.0] * 3,
                image_std=[1.0] * 3,
                rpn_anchor_generator=AnchorGenerator((SIDES,), (RATIOS,)),
                box_roi_pool=MultiScaleRoIAlign(["0"], 5, 2),
                box_head=torchvision_detection.faster_rcnn.TwoMLPHead(trunk.n_channels * 25, 256),
                box_predictor=torchvision_detection.faster_rcnn.FastRCNNPredictor(256, n_classes + 1),
                rpn_batch_size_per_image=64,
                rpn_pre_nms_top_n_train=5 * N_PROPOSALS,
                rpn_pre_nms_top_n_test=5 * N_PROPOSALS,
                rpn_post_nms_top_n_train=N_PROPOSALS,
                rpn_post_nms_top_n_test=N_PROPOSALS,
                box_batch_size_per_image=64,
                box_score_thresh=0.02,
                box_nms_thresh=0.3,
            )

    def losses(self, pixels, boxes, labels, proposals) -> dict[str, torch.Tensor]:
        return self.detector(list(pixels), as_targets(boxes, labels))

    def find(self, pixels, proposals) -> list[Detections]:
        return as_detections(self.detector(list(pixels)))


def scenes() -> Table:
    """Training and testing time and mAP of every detector on scenes of several objects."""
    dataset = load("scenes", view="multi")
    runs = [
        {name: remember(_scenes_run, dataset=dataset, name=name, seed=seed) for name in DETECTORS}
        for seed in tqdm(SEEDS, "seeds")
    ]
    test = dataset.split("test", N_TEST)
    compared = Comparison(runs, (test.boxes, test.box_labels, len(dataset.class_names)), (N_TRAIN, N_TEST))
    data = f"scenes, view multi, {N_TRAIN} training and {N_TEST} test images of 96x96"
    return Table(
        title="Detectors on scenes: one trunk, one set of proposals, three trainings each",
        data=data,
        seeds=SEEDS,
        header=HEADER,
        rows=compared.rows(),
        note="Times are the processor's on one thread, medians over the seeds; the trunk is that of scenes-gap, "
        f"trained on labels. Up to {BUDGET} proposals an image by selective search, whose time counts for R-CNN and "
        f"Fast R-CNN; {N_EPOCHS} epochs for all but R-CNN, which is fine-tuned on 256 regions in each of 6. "
        f"torchvision's Faster R-CNN has the settings of ours, with {N_PROPOSALS} proposals an image, but RoIAlign "
        "for RoI pooling. The last rows are differences in mAP.",
        claims=compared.judged(data, SEEDS),
    )


class PhotographTrunk(nn.Module):
    """SqueezeNet's convolutions, padded so that cell (i, j) is centred on its 16x16 pixels, as `Trunk` wants them.

    Its maps are about a hundred times larger than those of our ConvNets (standard deviation 42 against 0.5); divided by
    `SCALE` they suit heads that start from torch's usual weights.
    """

    stride = 16

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.ZeroPad2d((9, 0, 9, 0)), weights.imagenet().network.features, Divided())


class PhotographRCNN(rcnn.RCNN):
    """R-CNN on SqueezeNet as it is; its 6x6 cells are max-pooled to 2x2, so that all regions fit into memory."""

    def __init__(self, n_classes: int) -> None:
        super().__init__(PhotographTrunk(), n_classes, VOC_CROP)

    def features(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        cells = super().features(image, boxes).reshape(len(boxes), -1, 2, 3, 2, 3)
        return cells.max(axis=(3, 5)).reshape(len(boxes), -1)


class Divided(nn.Module):
    """Maps over `SCALE`."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps / SCALE


def voc() -> Table:
    """Time and mAP of the R-CNN family and YOLO, and recall of proposals, on VOC's photographs."""
    dataset = load("voc2012")
    train, test = _voc_splits(dataset)
    searched = remember(_voc_search, dataset=dataset, size=VOC_SIZE, budget=VOC_BUDGET)
    options = {"size": VOC_SIZE, "budget": VOC_BUDGET, "n_epochs": VOC_EPOCHS}
    run = {
        name: remember(_voc_run, dataset=dataset, name=name, seed=0, **options)
        for name in tqdm(VOC_DETECTORS, "detectors")
    }
    truth = test.boxes, test.box_labels, len(dataset.class_names)
    compared = Comparison([run], truth, (len(train), len(test)))
    ranked = {
        "selective search": _split_up(searched, "test"),
        "uniform grid": [proposals.grid_boxes(VOC_BUDGET, VOC_SIZE, VOC_SIZE)] * len(test),
        "random boxes": [proposals.random_boxes(VOC_BUDGET, VOC_SIZE, VOC_SIZE, seed=i) for i in range(len(test))],
    }
    shares = {k: metrics.recall_at(metrics.first_hits(own, test.boxes), [VOC_BUDGET])[0] for k, own in ranked.items()}
    recall = ", ".join(f"{name} {share:.0f} %" for name, share in shares.items())
    data = f"VOC 2012, {len(train)} training and {len(test)} test photographs squashed to {VOC_SIZE}x{VOC_SIZE}"
    return Table(
        title="Detectors on photographs",
        data=data,
        seeds=(0,),
        header=HEADER,
        rows=compared.rows(),
        note="The trunk is SqueezeNet's, trained on ImageNet and here once more, "
        f"{VOC_EPOCHS} epochs, but not for R-CNN: to save time it is not fine-tuned, sees crops of {VOC_CROP} pixels "
        "and keeps 2x2 cells of their maps; the constants of its SVMs and regressions were chosen on training "
        "photographs. The HOG template is left out for its time. Objects marked difficult are left out, so finding one "
        f"counts as wrong. Times are the processor's on one thread. Recall at IoU 0.5 with {VOC_BUDGET} boxes an "
        f"image: {recall}. The last rows are differences in mAP. C8.7 is not judged: R-CNN is not trained alike.",
        claims=[result for result in compared.judged(data, (0,)) if result.id != "C8.7"],
    )


def _voc_splits(dataset: DataSet) -> tuple[Split, Split]:
    """The photographs to learn from and those to be judged on."""
    train = joined([dataset.split(split, image_size=VOC_SIZE) for split in TRAINING_SPLITS])
    return train, dataset.split("test", image_size=VOC_SIZE)


def _voc_search(dataset: DataSet, size: int, budget: int) -> Arrays:
    """Proposals of selective search for all photographs, with the processor's seconds; searched once for all uses."""
    begun, found = time.process_time(), {}
    for name, split in zip(("train", "test"), _voc_splits(dataset), strict=True):
        own = [selective_search.selective_search(image, budget, scales=(50,)) for image in split.images]
        found |= {name: np.concatenate(own), f"{name} counts": np.array([len(boxes) for boxes in own])}
    return {"seconds": np.array(time.process_time() - begun), **found}


def _split_up(searched: Arrays, name: str) -> list[np.ndarray]:
    """The proposals of each image of a split, from what `_voc_search` keeps."""
    return np.split(searched[name], np.cumsum(searched[f"{name} counts"])[:-1])


def _voc_run(dataset: DataSet, name: str, seed: int, size: int, budget: int, n_epochs: int) -> Arrays:
    """Train one detector on VOC's training photographs and look at the test photographs."""
    makers = {
        "Fast R-CNN": FastRCNN,
        "Faster R-CNN": partial(FasterRCNN, sides=(32, 64, 112)),
        "YOLO": partial(YOLO, n_cells=7, n_units=256),
    }
    (train, test), n_classes = _voc_splits(dataset), len(dataset.class_names)
    searching, given = 0.0, {"train": None, "test": None}
    if name in SEARCHING:
        searched = remember(_voc_search, dataset=dataset, size=size, budget=budget)
        searching, given = float(searched["seconds"]), {split: _split_up(searched, split) for split in given}
    with one_thread():
        begun = time.process_time()
        examples = train.images, train.boxes, train.box_labels, given["train"]
        if name == "R-CNN":
            detector = PhotographRCNN(n_classes).fit(*examples, **VOC_CONSTANTS, seed=seed)
        else:
            detector = makers[name](PhotographTrunk(), n_classes, seed=seed)
            detector.fit(*examples, n_epochs=n_epochs, learning_rate=3e-4, seed=seed, progress=True)
        trained = time.process_time()
        found = detector.detect(test.images, given["test"])
        tested = time.process_time()
    return {"seconds": np.array([trained - begun, tested - trained, searching]), **packed(found)}


def layers() -> Table:
    """mAP of R-CNN on three layers before and after fine-tuning, and after fine-tuning from random weights."""
    dataset = load("scenes", view="multi")
    test = dataset.split("test", N_LAYERS)
    runs = [remember(_layers_run, dataset=dataset, seed=seed) for seed in tqdm(SEEDS, "seeds")]
    found = {
        (kind, layer): [
            unpacked({key: run[f"{kind} {layer} {key}"] for key in PARTS}, len(test)) for run in runs
        ]
        for kind in KINDS
        for layer in LAYERS
    }  # fmt: skip
    truth = test.boxes, test.box_labels, len(dataset.class_names)
    rows = [[kind, *(str(metrics.map_interval(found[kind, layer], *truth)) for layer in LAYERS)] for kind in KINDS]
    before, after, random = KINDS
    for name, tuned, start in (("gain", after, before), ("gain over tuned random weights", after, random)):
        gains = [str(metrics.map_difference(found[tuned, x], found[start, x], *truth)) for x in LAYERS]
        rows.append([name, *gains])
    mixed = found[after, "fc7"] + found[before, "pool5"], found[before, "fc7"] + found[after, "pool5"]
    half = metrics.map_difference(*mixed, *truth)
    interaction = Interval(2 * half.mean, 2 * half.low, 2 * half.high)
    data = f"scenes, view multi, {N_LAYERS} images each to train and test, up to {N_LAYER_BOXES} proposals an image"
    from_random = {
        f"{layer} over tuned random weights": metrics.map_difference(
            found[after, layer], found[random, layer], *truth
        ).mean
        for layer in LAYERS
    }
    verdict = claims.sign(2, interaction)
    note = "gain of fc7 minus gain of pool5"
    return Table(
        title="Which layer gains from fine-tuning",
        data=data,
        seeds=SEEDS,
        header=["mAP of R-CNN", *LAYERS],
        rows=rows,
        note="Network scenes-fc.",
        claims=[ClaimResult("C8.5", interaction.mean, "points", data, SEEDS, verdict, interaction, from_random, note)],
    )


def _layers_run(dataset: DataSet, seed: int) -> Arrays:
    """Detections of R-CNN on each layer of the network as shipped, fine-tuned, and fine-tuned from random weights."""
    train, test = dataset.split("train", N_LAYERS, epoch=seed), dataset.split("test", N_LAYERS)
    given = [
        [selective_search.selective_search(image, N_LAYER_BOXES, scales=(50,)) for image in split.images]
        for split in (train, test)
    ]
    examples, n_classes = (train.images, train.boxes, train.box_labels), len(dataset.class_names)
    start = weights.shipped("scenes-fc").network
    tuned, random = (
        rcnn.fine_tune(network, *examples, given[0], n_classes, n_epochs=6, regions_per_epoch=256, seed=seed)[0]
        for network in (start, networks.untrained(start, seed))
    )
    made = {}
    for (kind, network), layer in product(zip(KINDS, (start, tuned, random), strict=True), LAYERS):
        detector = rcnn.RCNN(network, n_classes, 96, layer).fit(*examples, given[0], seed=seed)
        found = packed(detector.detect(test.images, given[1]))
        made |= {f"{kind} {layer} {key}": value for key, value in found.items()}
    return made


def _scenes_run(dataset: DataSet, name: str, seed: int) -> Arrays:
    """Train one detector on scenes and look at the test images."""
    network = weights.shipped("scenes-gap").network
    train, test = dataset.split("train", N_TRAIN, epoch=seed), dataset.split("test", N_TEST)
    return _run(train, test, network, len(dataset.class_names), name, seed)


def _run(train: Split, test: Split, network: nn.Module, n_classes: int, name: str, seed: int) -> Arrays:
    """Detections of a detector with the processor's seconds of training, testing and searching, on one thread."""
    with one_thread():
        begun = time.process_time()
        given = [[_search(image) for image in split.images] if name in SEARCHING else [] for split in (train, test)]
        searched = time.process_time()
        detector = _trained(name, network, train, given[0], n_classes, seed)
        trained = time.process_time()
        found = detector.detect(test.images, given[1]) if name in SEARCHING else detector.detect(test.images)
        tested = time.process_time()
    return {
        "seconds": np.array([trained - searched, tested - trained, searched - begun]),
        **packed(found),
    }


def _search(image: np.ndarray) -> np.ndarray:
    return selective_search.selective_search(image, BUDGET, scales=(50,))


def _trained(name: str, network: nn.Module, train: Split, given: list[np.ndarray], n_classes: int, seed: int):
    """The detector of a name, trained; `network` gives its convolutions."""
    examples, size = (train.images, train.boxes, train.box_labels), train.images.shape[1]
    if name == "HOG template":
        return HogDetector(n_classes).fit(*examples, seed=seed)
    if name == "R-CNN":
        tuned, _ = rcnn.fine_tune(network, *examples, given, n_classes, n_epochs=6, regions_per_epoch=256, seed=seed)
        return rcnn.RCNN(tuned, n_classes, size).fit(*examples, given, seed=seed)
    makers = {
        "Fast R-CNN": FastRCNN,
        "Faster R-CNN": FasterRCNN,
        TORCHVISION: TorchvisionFasterRCNN,
        "YOLO": YOLO,
    }
    detector = makers[name](network, n_classes, seed=seed)
    detector.fit(*examples, given or None, n_epochs=N_EPOCHS, seed=seed)
    return detector
