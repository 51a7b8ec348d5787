"""Dense SIFT against OpenCV, Fisher vectors against scikit-image, and how encoding grows; one thread each.

    python benchmarks/fisher.py [--rounds 7]

Ours and the peer take turns in one run; a ratio above one means that ours is faster.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from warnings import simplefilter

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # before NumPy loads

import cv2
import numpy as np
import skimage.data
from skimage.feature import fisher_vector as skimage_fisher_vector
from sklearn.mixture import GaussianMixture

from wsol_utils.methods.encoding import FisherVector
from wsol_utils.methods.fisher import Vocabulary, fisher_vector
from wsol_utils.methods.sift import dense_sift, grid_centres

STEP, BIN_SIZES = 3, (4, 6, 8, 10)
N_DESCRIPTORS, SIZES = 5000, ((64, 64), (80, 256))  # dimensions and Gaussians


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    cv2.setNumThreads(1)
    simplefilter("ignore")  # EM is cut short
    image = cv2.resize(skimage.data.chelsea(), (128, 128), interpolation=cv2.INTER_AREA)
    print(f"one thread, median of {rounds} rounds")
    sift(image, rounds)
    for n_dimensions, n_components in SIZES:
        encode(n_dimensions, n_components, rounds)
    growth(image, rounds)


def sift(image: np.ndarray, rounds: int) -> None:
    grey, peer = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.SIFT_create()
    centres = np.split(grid_centres(image.shape[:2], STEP, BIN_SIZES), len(BIN_SIZES))
    points = [
        cv2.KeyPoint(float(x), float(y), size / 1.5, 0)
        for size, own in zip(BIN_SIZES, centres, strict=True)
        for x, y in own
    ]
    for window in ("flat", "gaussian"):
        ours = partial(dense_sift, image, STEP, BIN_SIZES, window)
        times = median_seconds(rounds, ours, partial(peer.compute, grey, points))
        report(f"SIFT, {window} window, {len(points)} points", "cv2.SIFT", *times)


def encode(n_dimensions: int, n_components: int, rounds: int) -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(0, 1, (N_DESCRIPTORS, n_dimensions)) * rng.uniform(0.5, 2, n_dimensions)
    mixtures = {
        dtype: GaussianMixture(n_components, covariance_type="diag", max_iter=3, random_state=0).fit(data.astype(dtype))
        for dtype in ("float64", "float32")
    }
    double = mixtures["float64"]
    parts = double.weights_, double.means_, double.covariances_
    vocabulary = Vocabulary(np.zeros(n_dimensions), np.eye(n_dimensions), *parts)
    image = rng.normal(0.3, 1, data.shape)
    for own, theirs in (("float64", "float64"), ("float32", "float64"), ("float32", "float32")):
        times = median_seconds(
            rounds,
            partial(fisher_vector, image.astype(own), vocabulary),
            partial(skimage_fisher_vector, image.astype(theirs), mixtures[theirs], improved=True),
        )
        report(f"Fisher vector, D = {n_dimensions}, K = {n_components}, {own}", f"scikit-image in {theirs}", *times)
    exact, single = (fisher_vector(image.astype(dtype), vocabulary, False) for dtype in ("float64", "float32"))
    print(f"  relative error of float32: {np.linalg.norm(single - exact) / np.linalg.norm(exact):.1e}")


def growth(image: np.ndarray, rounds: int) -> None:
    """Seconds for twice and four times as many images, descriptors and Gaussians, as multiples of the first."""
    rng = np.random.default_rng(0)

    def vocabulary(n_components: int) -> Vocabulary:
        shape = n_components, 64
        weights = np.full(n_components, 1 / n_components)
        return Vocabulary(np.zeros(64), np.eye(64), weights, rng.normal(0, 1, shape), rng.uniform(0.5, 2, shape))

    descriptors = rng.normal(0, 1, (20_000, 64)).astype(np.float32)
    encoder = FisherVector(8, 16, progress=False).fit([image])
    runs = {
        "images": lambda n: partial(encoder.transform, [image] * (10 * n)),
        "descriptors": lambda n: partial(fisher_vector, descriptors[: 5000 * n], vocabulary(64)),
        "Gaussians": lambda n: partial(fisher_vector, descriptors[:5000], vocabulary(64 * n)),
    }
    for name, run in runs.items():
        times = median_seconds(rounds, *(run(n) for n in (1, 2, 4)))
        print(f"growth with {name}: 1, 2, 4 times as many take " + ", ".join(f"{t / times[0]:.1f}" for t in times))


def median_seconds(rounds: int, *runs: Callable[[], object]) -> list[float]:
    """Median seconds of each run, all taking turns, after one turn that does not count."""
    times = [[seconds(run) for run in runs] for _ in range(rounds + 1)][1:]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def report(what: str, peer: str, ours: float, theirs: float) -> None:
    print(f"{what}: {1000 * ours:.1f} ms; {peer} {1000 * theirs:.1f} ms; ratio {theirs / ours:.1f}")


if __name__ == "__main__":
    main()
