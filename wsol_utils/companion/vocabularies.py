"""Vocabularies of dense SIFT that ship: how they are made, and where they are read."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from wsol_utils.companion import settings
from wsol_utils.companion.store import versions, write_atomically
from wsol_utils.datasets import load
from wsol_utils.methods.encoding import FisherVector
from wsol_utils.methods.fisher import Vocabulary

MADE_OF = {  # data set, images, their size in pixels, Gaussians, dimensions
    "scenes": ("scenes", 1000, 96, 32, 32),
    "voc2012": ("voc2012", 500, 224, 64, 64),
}
SEED = 0
LICENCES = {
    "scenes": "MIT, like the project; learnt from drawn images only",
    "voc2012": "learnt from PASCAL VOC 2012, whose photographs come from flickr and are meant for research",
}


def make(name: str) -> Path:
    """Learn one of the vocabularies of `MADE_OF` and write it with its provenance.

    Raises:
        OSError: the data set is not there, or the file cannot be written.
    """
    data, n_images, size, n_components, n_dimensions = MADE_OF[name]
    images = load(data).split("train", n_images, size).images
    vocabulary = FisherVector(n_components, n_dimensions, random_state=SEED).fit(images).vocabulary_
    path = _path(name)
    write_atomically(path, lambda temporary: save_file(asdict(vocabulary), temporary))
    provenance = {
        "command": f"python -m wsol_utils train vocabulary-{name}",
        "data": f"{data}, {len(images)} images of train, {size} pixels",
        "descriptors": "dense_sift, step 4, bins of 4, 6 and 8 pixels, flat window",
        "gaussians": n_components,
        "dimensions": n_dimensions,
        "seed": SEED,
        "versions": versions(),
        "licence": LICENCES[data],
    }
    write_atomically(path.with_suffix(".json"), lambda file: file.write_text(json.dumps(provenance, indent=1)))
    return path


def shipped(name: str = "scenes") -> Vocabulary:
    """A vocabulary for `dense_sift` with its usual options, the same numbers on every machine.

    Raises:
        ValueError: no vocabulary of that name.
        OSError: the file is damaged.

    Example:
        >>> shipped("voc2012").means.shape
        (64, 64)
    """
    if name not in MADE_OF:
        raise ValueError(f"There is no vocabulary {name!r}: choose from {', '.join(MADE_OF)}.")
    path = _path(name)
    try:
        return Vocabulary(**{part: np.asarray(values) for part, values in load_file(path).items()})
    except (OSError, SafetensorError, TypeError) as error:
        raise OSError(
            f"{path} is damaged: restore it with git, or make it again with `wsol train vocabulary-{name}`."
        ) from error


def _path(name: str) -> Path:
    return settings.weights_folder() / "vocabularies" / f"{name}.safetensors"
