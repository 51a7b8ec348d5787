"""Images per second of our training loop and of `predict`, against the plainest PyTorch loops, on the same network.

    python benchmarks/training.py [--images 512] [--width 0.25] [--size 96] [--rounds 3]

Ours and the plain loop take turns; a ratio above one means that ours is faster. On a GPU also the share of the rate at
which the device multiplies large matrices.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from wsol_utils.methods.convnet import ConvNet
from wsol_utils.methods.networks import DEVIATION, MEAN, pick_device, predict
from wsol_utils.methods.training import fit

BATCH_SIZE = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    device = pick_device()
    generator = np.random.default_rng(0)
    n_images = max(1, options.images // BATCH_SIZE) * BATCH_SIZE  # whole batches, since ours leaves out the rest
    images = generator.integers(0, 256, (n_images, options.size, options.size, 3), np.uint8)
    labels = generator.integers(0, 10, n_images)

    def new_network() -> ConvNet:
        return ConvNet(10, options.size, options.width, fc_width=options.width / 2).to(device)

    pairs = {
        "forward": (lambda: predict(ours, images), lambda: plain_forward(plain, images, device)),
        "forward + backward": (
            lambda: fit(ours, lambda _: (images, labels), 1, batch_size=BATCH_SIZE, progress=False),
            lambda: plain_epoch(plain, images, labels, device),
        ),
    }
    print(f"{n_images} images of {options.size} pixels, width {options.width}, {device}, ", end="")
    print(f"{torch.get_num_threads()} threads, median of {options.rounds} rounds")
    for name, (run_ours, run_plain) in pairs.items():
        ours, plain = new_network(), new_network()
        times = [(seconds(run_ours, device), seconds(run_plain, device)) for _ in range(options.rounds + 1)][1:]
        rates = [n_images / statistics.median(column) for column in zip(*times, strict=True)]
        ratio = statistics.median(slow / fast for fast, slow in times)
        print(f"{name:20s} ours {rates[0]:7.0f} images/s, plain {rates[1]:7.0f}, ratio {ratio:.2f}")
    if device.type == "cuda":
        work = flops(new_network(), options.size) * 3 * rates[0]  # backward costs twice the forward
        print(f"share of the measured matrix-product rate: {work / product_rate(device):.1%}")


def plain_forward(network: nn.Module, images: np.ndarray, device: torch.device) -> None:
    network.eval()
    with torch.no_grad():
        for start in range(0, len(images), BATCH_SIZE):
            network(pixels_of(images[start : start + BATCH_SIZE], device)).cpu()


def plain_epoch(network: nn.Module, images: np.ndarray, labels: np.ndarray, device: torch.device) -> None:
    network.train()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    for index in torch.randperm(len(images)).split(BATCH_SIZE):
        targets = torch.from_numpy(labels[index]).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):  # as ours
            loss = nn.functional.cross_entropy(network(pixels_of(images[index], device)), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def pixels_of(images: np.ndarray, device: torch.device) -> torch.Tensor:
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 255
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    return ((pixels - mean) / deviation).to(device)


def seconds(run: Callable[[], object], device: torch.device) -> float:
    began = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def flops(network: nn.Module, size: int) -> int:
    """Floating point operations of one image."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros(1, 3, size, size, device=next(network.parameters()).device))
    return counter.get_total_flops()


def product_rate(device: torch.device, side: int = 8192, n_products: int = 20) -> float:
    """Floating point operations a second of bfloat16 matrix products."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds(lambda: a @ b, device)
    return 2 * side**3 * n_products / seconds(lambda: [a @ b for _ in range(n_products)], device)


if __name__ == "__main__":
    main()
