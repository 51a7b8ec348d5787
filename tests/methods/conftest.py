"""A watch over networks, and a few drawn images for the detectors, small enough to learn in seconds."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch


def state(network):
    """All of a network that a method could leave changed: modes, hooks, settings, flags, gradients and values."""
    modules = [
        (
            module.training,
            getattr(module, "inplace", None),
            sorted(key for key in vars(module) if key != "_parameters"),
            [len(hooks) for key, hooks in vars(module).items() if key.endswith("hooks")],
        )
        for module in network.modules()
    ]
    parameters = [(parameter.requires_grad, parameter.grad is None) for parameter in network.parameters()]
    return modules, parameters, [value.clone() for value in network.state_dict().values()]


@pytest.fixture
def unchanged():
    """`with unchanged(network):` fails if the block changes anything of the network, also if the block raises."""

    @contextmanager
    def watch(network, mode=torch.no_grad):
        network.train()
        next(network.parameters()).requires_grad_(False)
        modules, parameters, values = state(network)
        try:
            with mode():
                yield network
        finally:
            modules_after, parameters_after, values_after = state(network)
            assert modules_after == modules
            assert parameters_after == parameters
            assert all(torch.equal(before, after) for before, after in zip(values, values_after, strict=True))

    return watch


@pytest.fixture(scope="session")
def squares():
    """Twelve images of 64 pixels with one bright square (class 0) and, in two of three, a dark one (class 1)."""
    generator = np.random.default_rng(0)
    images, boxes, labels = generator.integers(90, 130, (12, 64, 64, 3), np.uint8), [], []
    for i, image in enumerate(images):
        own = []
        for label, left in enumerate((2, 34) if i % 3 else (2,)):
            side = generator.integers(16, 28)
            x, y = left + generator.integers(0, 29 - side), generator.integers(0, 64 - side)
            image[y : y + side, x : x + side] = 20 if label else 230
            own.append([x, y, x + side, y + side])
        boxes.append(np.array(own, np.float32))
        labels.append(np.arange(len(own)))
    return images, boxes, labels
