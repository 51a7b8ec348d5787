"""Seconds that `localise` takes for a photograph, stage by stage, after start-up.

    python benchmarks/localise.py [PHOTO ...] [--model squeezenet1_0]

Without photographs it takes those that come inside Python packages.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from wsol_utils.companion import localise, weights
from wsol_utils.datasets import photographs
from wsol_utils.datasets.images import read_image, resize_image
from wsol_utils.display import plots
from wsol_utils.methods import cam, graphcut, networks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photographs", nargs="*", type=Path)
    parser.add_argument("--model", default="squeezenet1_0")
    options = parser.parse_args()
    plots.use_house_style()
    classifier = weights.by_name(options.model)
    with tempfile.TemporaryDirectory() as folder:
        paths = options.photographs or [Path(folder, f"{name}.png") for name in photographs.load(None)]
        if not options.photographs:
            for path, image in zip(paths, photographs.load(None).values(), strict=True):
                Image.fromarray(image).save(path)
        localise.localise(paths[0], classifier)  # the first call pays for the start-up of every library
        stages = defaultdict(list)
        for path in paths:
            for stage, duration in stage_seconds(path, classifier).items():
                stages[stage].append(duration)
    print(f"{len(paths)} photographs, {options.model}, {torch.get_num_threads()} threads; median and largest, seconds")
    for stage, durations in stages.items():
        print(f"{stage:16s} {np.median(durations):6.2f} {max(durations):6.2f}")


def stage_seconds(path: Path, classifier: weights.Classifier) -> dict[str, float]:
    """Time the parts of `localise` one by one, then the whole of it with its drawing."""
    durations = {}

    def timed(stage: str, run: Callable):
        began = time.perf_counter()
        result = run()
        durations[stage] = time.perf_counter() - began
        return result

    network = classifier.network
    seen = timed("read and resize", lambda: resize_image(read_image(path), classifier.image_size))
    best = timed("name", lambda: int(networks.predict(network, seen[None])[0].argmax()))
    salient = timed("saliency", lambda: localise.salience(network, seen[None], best))
    timed("GraphCut", lambda: graphcut.graphcut_masks(seen[None], salient))
    with suppress(ValueError):  # no global pooling, no map
        timed("activation map", lambda: cam.class_activation_map(network, networks.normalise(seen[None]), best))
    found = timed("all of these", lambda: localise.localise(path, classifier))
    timed("draw", lambda: plots.photograph(localise.draw(found)))
    return durations


if __name__ == "__main__":
    main()
