"""A few drawn images for the detectors, small enough to learn in seconds."""

import numpy as np
import pytest


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
