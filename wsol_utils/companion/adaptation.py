"""How the adaptation layers that ship are made, on SqueezeNet's features: by VOC's lists of labels, or its boxes."""

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm

from wsol_utils.companion import settings, weights
from wsol_utils.companion.store import versions, write_atomically
from wsol_utils.companion.weights import halved
from wsol_utils.datasets import load
from wsol_utils.datasets.splits import Split, joined
from wsol_utils.evaluation import metrics
from wsol_utils.methods import max_pooling, networks, patch_tiling

IMAGE_SIZE, FACTORS = 224, (0.7, 1.0, 1.4)  # pixels; scales, one an epoch in training and all in testing
TOLERANCE = 8  # pixels by which boxes are widened for points: half a step of the maps
POINTS = f"points in a box widened by {TOLERANCE} pixels, %"
TRAINING = {"n_units": None, "n_epochs": 24, "learning_rate": 1e-3}  # chosen by `measure settings-voc2012`
PATCH_SIZE, PATCH_UNITS = 128, 256  # pixels a patch is seen at; units of the first of its two layers
POOLINGS = {
    "max": lambda maps: maps.amax((2, 3)),
    "log-sum-exp": partial(max_pooling.log_sum_exp, sharpness=1.0),
    "mean": lambda maps: maps.mean((2, 3)),
}


def photographs() -> tuple[Split, Split, tuple[str, ...]]:
    """VOC's training photographs (all but its val), its val as test, which chose nothing, and the class names."""
    dataset = load("voc2012")
    learnt = [dataset.split(name, image_size=IMAGE_SIZE) for name in ("train", "train_with_boxes", "val")]
    return joined(learnt), dataset.split("test", image_size=IMAGE_SIZE), dataset.class_names


@torch.no_grad()
def features(images: np.ndarray, factor: float = 1.0, trunk: nn.Module | None = None) -> torch.Tensor:
    """Last feature maps (N, 512, h, w) of rescaled images, of SqueezeNet unless told, halved to save memory."""
    kept = weights.imagenet().network.features if trunk is None else trunk
    parts = tqdm(np.array_split(images, -(-len(images) // 20)), "features", leave=False)
    return torch.cat([kept(networks.normalise(max_pooling.rescale(part, factor))).half() for part in parts])


def at_scales(images: np.ndarray) -> list[torch.Tensor]:
    """Features of the images at each of `FACTORS`."""
    return [features(images, factor) for factor in FACTORS]


def make() -> Path:
    """Train the layers by each pooling, and by patches; write them with their provenance and their test scores."""
    learnt, test, class_names = photographs()
    label_sets, draws = torch.tensor(learnt.label_sets, dtype=torch.float32), at_scales(learnt.images)
    path = settings.weights_folder() / "adaptation" / "voc2012.safetensors"
    state, scores = {}, {}
    for name, pool in POOLINGS.items():
        head = max_pooling.adapt(draws, label_sets, pool, **TRAINING)
        network = weights.sliding_network(head)
        maps = (max_pooling.multi_scale_maps(network, image[None], FACTORS)[0] for image in test.images)
        scores[name] = _scores(*judge(maps, pool, test))
        state |= {f"{name}.{key}": value for key, value in head.state_dict().items()}
    patches = patches_of(IMAGE_SIZE, IMAGE_SIZE)
    seen, targets = labelled_patches(learnt, patches)
    head = transferred(patch_codes(seen), targets, len(class_names) + 1)
    posteriors = patch_posteriors(weights.patch_network(head), test.images, patches)
    of_images = np.array([patch_tiling.image_scores(own) for own in posteriors])[:, : len(class_names)]
    maps = [patch_tiling.heat_maps(own[:, : len(class_names)], patches, IMAGE_SIZE, IMAGE_SIZE) for own in posteriors]
    points = judge(maps, POOLINGS["max"], test)[1]
    scores["patches"] = _scores(mean_ap(of_images, test.label_sets), points)
    state |= {f"patches.{key}": value for key, value in head.state_dict().items()}
    write_atomically(path, lambda temporary: save_file(halved(state), temporary))
    provenance = {
        "command": "python -m wsol_utils train voc2012",
        "data": f"voc2012, {len(learnt)} photographs of train with their lists of classes; for patches with boxes",
        "network": f"{weights.imagenet().source}, its features",
        "classes": class_names,
        "image_size": IMAGE_SIZE,
        "training": TRAINING,
        "n_units": dict.fromkeys(POOLINGS, TRAINING["n_units"]) | {"patches": PATCH_UNITS},
        "scores": scores,
        "judged_on": f"test, {len(test)} images",
        "versions": versions(),
        "licence": "trained on PASCAL VOC 2012, whose photographs come from flickr and are meant for research",
    }
    write_atomically(path.with_suffix(".json"), lambda file: file.write_text(json.dumps(provenance, indent=1)))
    return path


def _scores(mean_ap: float, points: list[float]) -> dict[str, float]:
    return {"mean_average_precision": round(mean_ap, 1), "points_in_a_box": round(float(np.mean(points)), 1)}


def judge(maps: Iterable[np.ndarray], pool: nn.Module, test: Split) -> tuple[float, list[float]]:
    """Mean average precision in per cent, and for each class of each image 100 if its point lies in a box of it."""
    scores, hits = scores_and_points(maps, pool, test)
    return mean_ap(scores, test.label_sets), hits


def mean_ap(scores: np.ndarray, label_sets: np.ndarray) -> float:
    """Mean average precision over the area, in per cent, of scores (N, C) and label sets (N, C)."""
    return 100 * metrics.mean_average_precision(scores, np.where(label_sets, 1, -1))


def scores_and_points(maps: Iterable[np.ndarray], pool: nn.Module, test: Split) -> tuple[np.ndarray, list[float]]:
    """Pooled scores (N, C), and for each class of each image 100 if its point lies in a box of it."""
    scores, hits = [], []
    for of_image, true, labels in zip(maps, test.boxes, test.box_labels, strict=True):
        scores.append(pool(torch.as_tensor(of_image)[None])[0].numpy())
        hits += [
            100.0 * metrics.point_in_boxes(of_image[k], true[labels == k], tolerance=TOLERANCE)
            for k in np.unique(labels)
        ]
    return np.array(scores), hits


def patches_of(height: int, width: int) -> np.ndarray:
    """Our patches of an image, about a hundred instead of the paper's five hundred, (M, 4)."""
    return patch_tiling.tile_patches(height, width, n_scales=4, overlap=0.5)


def labelled_patches(split: Split, patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Patches (M, S, S, 3) of all images with their labels (M,), background thinned."""
    seen, targets, n_classes = [], [], split.label_sets.shape[1]
    for i, (image, boxes, of_boxes) in enumerate(zip(split.images, split.boxes, split.box_labels, strict=True)):
        labels = patch_tiling.patch_labels(patches, boxes, of_boxes, n_classes)
        kept = patch_tiling.thin_background(labels, n_classes, seed=i)
        seen.append(patch_tiling.cut_patches(image, patches[kept], PATCH_SIZE))
        targets.append(labels[kept])
    return np.concatenate(seen), np.concatenate(targets)


def patch_codes(seen: np.ndarray, trunk: nn.Module | None = None) -> torch.Tensor:
    """Means over positions (M, 512, 1, 1) of the last feature maps of patches (M, S, S, 3)."""
    parts = np.array_split(seen, -(-len(seen) // 300))
    return torch.cat([features(part, trunk=trunk).float().mean((2, 3), keepdim=True) for part in parts])


def transferred(codes: torch.Tensor, targets: np.ndarray, n_outputs: int, seed: int = 0) -> nn.Sequential:
    """Two adaptation layers trained on the codes (M, D, 1, 1) of labelled patches."""
    head = max_pooling.adaptation_layers(codes.shape[1], n_outputs, PATCH_UNITS, seed=seed)
    labels = torch.tensor(targets)
    optimiser = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.01)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(10):
        for index in torch.randperm(len(codes), generator=generator).split(64):
            loss = nn.functional.cross_entropy(head(codes[index]).flatten(1), labels[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return head.eval()


def patch_posteriors(network: nn.Module, images: np.ndarray, patches: np.ndarray) -> list[np.ndarray]:
    """Posteriors (M, C + 1) of the patches of each image, background last."""
    cut = (patch_tiling.cut_patches(image, patches, PATCH_SIZE) for image in tqdm(images, "patches", leave=False))
    return [torch.tensor(networks.predict(network, own)).softmax(1).numpy() for own in cut]
