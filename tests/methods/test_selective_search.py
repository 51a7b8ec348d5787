import numpy as np
import pytest

from wsol_utils.datasets import load
from wsol_utils.evaluation.detection_metrics import first_hits, recall_at
from wsol_utils.methods.proposals import grid_boxes, random_boxes
from wsol_utils.methods.selective_search import COLOUR_SPACES, group_regions, hierarchy, selective_search

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def scenes():
    return load("scenes", view="multi").split("val", 6)


@pytest.mark.parametrize("n_boxes", [20, 60])
def test_selective_search_finds_more_than_random_boxes_and_a_grid(scenes, n_boxes):
    makers = {
        "search": lambda image: selective_search(image, n_boxes),
        "random": lambda image: random_boxes(n_boxes, 96, 96, seed=int(image.sum())),
        "grid": lambda image: grid_boxes(n_boxes, 96, 96),
    }
    found = {
        name: recall_at(first_hits([make(image) for image in scenes.images], scenes.boxes), [n_boxes])[0]
        for name, make in makers.items()
    }
    assert found["search"] > max(found["random"], found["grid"]) + 5


def test_every_region_of_a_hierarchy_has_its_box(scenes):
    tree = hierarchy(scenes.images[0], scale=100)
    n = len(tree.merges) + 1
    assert tree.boxes.shape == (2 * n - 1, 4)
    assert tree.boxes[-1].tolist() == [0, 0, 96, 96]
    for n_left in (1, 2, n // 2, n):
        level = tree.level(n_left)
        names = np.unique(level)
        assert len(names) == n_left
        for name in names:
            y, x = np.nonzero(level == name)
            assert tree.boxes[name].tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]


def test_the_most_alike_neighbours_merge_first():
    """Similarities by the formulas of the paper, region by region, at the first merge."""
    start = np.repeat(np.repeat([[0, 1, 2], [3, 4, 5]], 6, axis=0), 8, axis=1)
    colours = RNG.random((6, 3))[start] * 0.8 + 0.1 * RNG.random((12, 24, 3))
    tree = group_regions(start, colours)
    best = []
    for i, j in ((0, 1), (1, 2), (3, 4), (4, 5), (0, 3), (1, 4), (2, 5)):
        histograms = [
            [np.histogram(colours[start == k][:, c], 25, (0, 1))[0] / (start == k).sum() / 3 for c in range(3)]
            for k in (i, j)
        ]
        colour = np.minimum(*map(np.ravel, histograms)).sum()
        sizes, box = [(start == k).sum() for k in (i, j)], np.isin(start, (i, j))
        extent = np.ptp(np.nonzero(box), axis=1) + 1
        best.append((colour + 1 - sum(sizes) / 288 + 1 - (extent.prod() - sum(sizes)) / 288, (i, j)))
    likely = [pair for _, pair in sorted(best, reverse=True)[:3]]  # texture may change the order a little
    assert tuple(tree.merges[0]) in likely


def test_a_square_is_proposed_by_every_colour_space():
    image = np.full((64, 64, 3), 60, np.uint8)
    image[12:40, 20:52] = 200
    for space in COLOUR_SPACES:
        boxes = selective_search(image, scales=(50,), colour_spaces=(space,))
        assert first_hits([boxes], [[[20, 12, 52, 40]]], 0.85)[0] < np.inf
        assert len(np.unique(boxes, axis=0)) == len(boxes)
    assert selective_search(np.zeros((32, 40, 3), np.uint8)).tolist() == [[0, 0, 40, 32]]


def test_errors_name_the_thing_and_the_cure():
    image = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="8x10 pixels is too small for proposals; enlarge it to 16"):
        selective_search(np.zeros((10, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="too small"):
        selective_search(np.zeros((0, 0, 3), np.uint8))
    with pytest.raises(ValueError, match=r"An image is uint8 \(H, W, 3\), not float64"):
        selective_search(image / 255)
    with pytest.raises(ValueError, match="Unknown colour space 'cmyk'; choose one of rgb"):
        hierarchy(image, colour_space="cmyk")
    with pytest.raises(ValueError, match="hierarchy has 1 to 1 regions, not 2"):
        hierarchy(image).level(2)
