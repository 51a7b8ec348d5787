"""How the networks that ship with the project are made: their recipes, and the command that follows them."""

import json
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from wsol_utils.companion import adaptation, settings, vocabularies
from wsol_utils.companion.store import versions, write_atomically
from wsol_utils.companion.weights import FC_WIDTH, WIDTH, halved
from wsol_utils.datasets import load
from wsol_utils.datasets.splits import Split
from wsol_utils.methods.convnet import ConvNet, SharedTrunk
from wsol_utils.methods.jitter import jitter
from wsol_utils.methods.networks import pick_device, predict
from wsol_utils.methods.training import fit


class Cycle(NamedTuple):
    """One training, from the shipped form of the last one's weights: its epochs, `zoom` of the jitter, highest rate."""

    n_epochs: int
    zoom: float = 0.0
    learning_rate: float = 0.05


@dataclass(frozen=True)
class Recipe:
    """ConvNets made together on one trunk, with a head each, shipped in one file.

    dataset: as for `datasets.load`. splits: what they learn from. judged_on: the split whose accuracy is written down;
    it chooses nothing. n_epoch_images: fresh ones of each split in every epoch, or None for all of it.
    cycles: one training after another. label_smoothing: the share of the truth that is spread over all classes.
    """

    dataset: str
    heads: tuple[str, ...]
    splits: tuple[str, ...]
    judged_on: str
    width: float
    cycles: tuple[Cycle, ...]
    n_epoch_images: int | None
    seed: int
    label_smoothing: float
    licence: str

    @property
    def n_epochs(self) -> int:
        return sum(cycle.n_epochs for cycle in self.cycles)


DRAWN = "MIT, like the project; trained on drawn images only"
RESEARCH = "trained on Tiny ImageNet, whose photographs are for non-commercial research and education"
RECIPES = {
    f"scenes-{head}": Recipe("scenes", (head,), ("train",), "val", WIDTH, (Cycle(30),), 3000, seed, 0.0, DRAWN)
    for seed, head in enumerate(("fc", "gap", "gmp"))
}
RECIPES["tiny-imagenet"] = Recipe(
    dataset="tiny-imagenet",
    heads=("fc", "gap", "gmp"),
    splits=("train", "train_with_boxes"),
    judged_on="test",
    width=0.5,
    cycles=(Cycle(45), Cycle(30, zoom=0.5), Cycle(10, learning_rate=0.01)),  # the last sees whole images again
    n_epoch_images=None,
    seed=0,
    label_smoothing=0.1,
    licence=RESEARCH,
)


def make_shipped(name: str) -> Path:
    """Train networks that ship, going on from the last checkpoint after a kill; write them with their provenance.

    Raises:
        ValueError: no recipe of that name.
        OSError: the data set is not there, or a file cannot be written.
    """
    if name == "voc2012":
        return adaptation.make()
    of_words = {f"vocabulary-{of}": of for of in vocabularies.MADE_OF}
    if name in of_words:
        return vocabularies.make(of_words[name])
    if name not in RECIPES:
        names = [*RECIPES, "voc2012", *of_words]
        raise ValueError(f"There is no recipe {name!r}: choose from {', '.join(names)}.")
    recipe = RECIPES[name]
    dataset = load(recipe.dataset)
    n_classes, size = len(dataset.class_names), dataset.default_size
    networks = {
        head: ConvNet(n_classes, size, recipe.width, head=head, seed=recipe.seed, fc_width=FC_WIDTH)
        for head in recipe.heads
    }

    @lru_cache(maxsize=2)
    def draw(epoch: int) -> tuple[np.ndarray, np.ndarray]:
        parts = [dataset.split(split, recipe.n_epoch_images, epoch=epoch) for split in recipe.splits]
        return np.concatenate([part.images for part in parts]), np.concatenate([part.labels for part in parts])

    def epochs(epoch: int) -> tuple[np.ndarray, np.ndarray]:
        return draw(epoch if recipe.n_epoch_images else 0)  # photographs are the same in every epoch

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        for_each_head = labels[:, None].expand(-1, logits.shape[2])
        return nn.functional.cross_entropy(logits, for_each_head, label_smoothing=recipe.label_smoothing)

    together = SharedTrunk(list(networks.values())).to(pick_device())
    for number, cycle in enumerate(recipe.cycles, 1):
        so_far = replace(recipe, cycles=recipe.cycles[:number])
        fit(
            together,
            epochs,
            cycle.n_epochs,
            loss=loss,
            learning_rate=cycle.learning_rate,
            seed=recipe.seed,
            augment=partial(jitter, zoom=cycle.zoom),
            checkpoint=settings.store_folder() / "checkpoints" / f"{name}-{number}.pt",
            recipe=f"{so_far}, fc width {FC_WIDTH}, {dataset.fingerprint}",
        )
        together.load_state_dict(halved(together.state_dict()))
    together.cpu()
    path = settings.weights_folder() / f"{name}.safetensors"
    state = {}
    for head, network in networks.items():
        state |= {f"features.{key}": value for key, value in network.features.state_dict().items()}
        state |= {f"{head}.{key}": value for key, value in network.head.state_dict().items()}
    write_atomically(path, lambda temporary: save_file(halved(state), temporary))
    judged = dataset.split(recipe.judged_on, 2000 if dataset.name == "scenes" else None)
    provenance = {
        "command": f"python -m wsol_utils train {name}",
        "data": f"{recipe.dataset}, {' and '.join(recipe.splits)}: {len(epochs(0)[0])} images an epoch",
        "classes": dataset.class_names,
        "image_size": size,
        "width": recipe.width,
        "fc_width": FC_WIDTH,
        "epochs": recipe.n_epochs,
        "cycles": [cycle._asdict() for cycle in recipe.cycles],
        "seed": recipe.seed,
        "accuracy": {head: round(_accuracy(network, judged), 4) for head, network in networks.items()},
        "judged_on": f"{recipe.judged_on}, {len(judged)} images",
        "versions": versions(),
        "licence": recipe.licence,
    }
    write_atomically(
        path.with_suffix(".json"), lambda temporary: temporary.write_text(json.dumps(provenance, indent=1))
    )
    return path


def _accuracy(network: ConvNet, split: Split) -> float:
    return float((predict(network, split.images).argmax(1) == split.labels).mean())
