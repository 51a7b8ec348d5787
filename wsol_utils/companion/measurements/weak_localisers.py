"""Small networks that learn drawn scenes from labels, and what boxes and pixels of their maps are worth."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from wsol_utils.companion.measurements.boxes import accuracy
from wsol_utils.companion.store import Arrays, remember
from wsol_utils.datasets import load
from wsol_utils.datasets.splits import DataSet, Split
from wsol_utils.evaluation import boxes, metrics, statistics
from wsol_utils.evaluation.statistics import Interval
from wsol_utils.methods import cam, convnet, networks, training
from wsol_utils.methods.jitter import jitter

WIDTH, TRAINING = 0.125, {"n_images": 1500, "n_epochs": 16}
N_THRESHOLDS = 100
Maps = Sequence[np.ndarray]
Judged = tuple[metrics.BoxAccuracy, metrics.PixelPrecision]


def tied_scenes(strength: float) -> DataSet:
    return load("scenes", view="tied", strength=strength)


def trained(strength: float, head: str, seed: int, trained_on: dict[str, int]) -> convnet.ConvNet:
    """The network of a head that learnt from scenes whose background is tied to the class with that strength."""
    data = tied_scenes(strength)
    arrays = remember(_train, data=data, head=head, seed=seed, **trained_on)
    network = _untrained(data, head)
    network.load_state_dict({key: torch.from_numpy(value) for key, value in arrays.items()})
    return network.eval()


def _train(data: DataSet, head: str, seed: int, n_images: int, n_epochs: int) -> Arrays:
    """The weights of a ConvNet; each seed has its own scenes to learn from."""
    learnt = data.split("train", n_images, epoch=seed)
    network = _untrained(data, head, seed).to(networks.pick_device())
    training.fit(
        network,
        lambda epoch: (learnt.images, learnt.labels),
        n_epochs,
        learning_rate=0.1,
        batch_size=32,
        seed=seed,
        augment=jitter,
    )
    return {key: value.cpu().numpy() for key, value in network.state_dict().items()}


def _untrained(data: DataSet, head: str, seed: int = 0) -> convnet.ConvNet:
    return convnet.ConvNet(len(data.class_names), data.default_size, WIDTH, head=head, seed=seed)


def cams(network: convnet.ConvNet, split: Split) -> np.ndarray:
    """Class activation maps (N, H, W) of the images' labels."""
    return cam.class_activation_map(network, networks.normalise(split.images), split.labels)


def centre_gaussians(split: Split) -> Maps:
    """The same map for each image."""
    return [boxes.centre_gaussian(*split.images.shape[1:3])] * len(split)


def judge(
    make: Callable[[Split], Maps], val: Split, test: Split, metric: type[metrics.MaxBoxAcc] = metrics.MaxBoxAcc
) -> Judged:
    """Boxes of the test images at the thresholds that are best on the validation images, and their pixels."""
    maps, pixels = make(test), metrics.PxAP()
    for score_map, mask in zip(maps, test.masks, strict=True):
        pixels.update(score_map, mask)
    chosen = box_metric(metric, make(val), val).compute().best_thresholds
    return box_metric(metric, maps, test).compute(chosen), pixels.compute()


def box_metric(metric: type[metrics.MaxBoxAcc], maps: Maps, split: Split) -> metrics.MaxBoxAcc:
    return accuracy(metric(n_thresholds=N_THRESHOLDS), maps, [split.boxes_of_label(i) for i in range(len(split))])


def values(judged: Sequence[Judged]) -> tuple[Interval, Interval]:
    """Box accuracy and PxAP, averaged over seeds."""
    of_boxes, of_pixels = zip(*judged, strict=True)
    return statistics.bootstrap_interval([one.per_image for one in of_boxes]), metrics.pxap_interval(of_pixels)


def differences(a: Sequence[Judged], b: Sequence[Judged]) -> tuple[Interval, Interval]:
    """Box accuracy and PxAP of a minus those of b, in points."""
    (boxes_a, pixels_a), (boxes_b, pixels_b) = (zip(*judged, strict=True) for judged in (a, b))
    of_boxes = statistics.paired_difference([one.per_image for one in boxes_a], [one.per_image for one in boxes_b])
    return of_boxes, metrics.pxap_difference(pixels_a, pixels_b)
