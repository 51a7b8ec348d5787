"""Scenes are the same whenever they are drawn, their truth agrees with itself, and colour tells nothing."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from wsol_utils.datasets import scenes
from wsol_utils.datasets.scene_backgrounds import BACKGROUND_NAMES
from wsol_utils.datasets.scene_objects import CLASS_NAMES, sketch
from wsol_utils.datasets.splits import SPLIT_NAMES

views = st.sampled_from(scenes.VIEWS)
few = settings(max_examples=8, deadline=None)


def assert_equal_splits(a, b):
    np.testing.assert_array_equal(a.images, b.images)
    np.testing.assert_array_equal(a.labels, b.labels)
    np.testing.assert_array_equal(a.label_sets, b.label_sets)
    np.testing.assert_array_equal(a.masks, b.masks)
    np.testing.assert_array_equal(a.part_masks, b.part_masks)
    np.testing.assert_array_equal(a.instance_maps, b.instance_maps)
    assert a.names == b.names
    for x, y in zip(a.boxes + a.box_labels, b.boxes + b.box_labels, strict=True):
        np.testing.assert_array_equal(x, y)


@few
@given(views, st.sampled_from(SPLIT_NAMES), st.integers(0, 99), st.integers(1, 8))
def test_images_do_not_depend_on_how_many_are_asked_for(view, name, seed, n_images):
    data_set = scenes.load(view, seed=seed)
    assert_equal_splits(data_set.split(name, n_images), data_set.split(name, 9).subset(range(n_images)))


@few
@given(views, st.integers(0, 99))
def test_truth_agrees_with_itself(view, seed):
    data_set = scenes.load(view, seed=seed)
    split = data_set.split("val", 6)
    n_classes = len(data_set.class_names)
    assert split.images.shape == (6, 96, 96, 3)
    assert split.images.dtype == np.uint8
    assert split.label_sets.shape == (6, n_classes)
    assert split.label_sets[np.arange(6), split.labels].all()
    assert not (split.part_masks & ~split.masks).any()
    for i in range(6):
        assert split.instance_maps[i].max() == len(split.boxes[i]) == len(split.box_labels[i])
        assert split.boxes[i].dtype == np.float32
        assert set(split.box_labels[i]) <= set(np.flatnonzero(split.label_sets[i]))
        for j, (x0, y0, x1, y1) in enumerate(split.boxes[i]):
            rows, columns = np.nonzero(split.instance_maps[i] == j + 1)
            assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x0, y0, x1, y1)
        of_label = 1 + np.flatnonzero(split.box_labels[i] == split.labels[i])
        np.testing.assert_array_equal(split.masks[i], np.isin(split.instance_maps[i], of_label))


@pytest.mark.parametrize("view", scenes.VIEWS)
def test_every_class_occurs_in_each_round(view):
    data_set = scenes.load(view)
    n = len(data_set.class_names)
    assert sorted(data_set.split("test", 2 * n).labels) == sorted([*range(n), *range(n)])


@pytest.mark.parametrize("index", range(len(CLASS_NAMES)))
def test_every_object_shows_its_part(index):
    for seed in range(20):
        scene = scenes.draw_scene(np.random.default_rng(seed), [index])
        part, whole = (scene.part_map == 1).sum(), (scene.instance_map == 1).sum()
        assert whole > 250
        assert 0.015 < part / whole < 0.85
        np.testing.assert_array_equal(scene.classes, [index])


def test_sketches_fill_their_frame():
    for index in range(len(CLASS_NAMES)):
        one = sketch(index, np.random.default_rng(index))
        assert max(one.extent) == pytest.approx(1)
        assert np.abs(one.points).max() <= 0.5 + 1e-9


def test_splits_epochs_seeds_and_views_differ():
    single = scenes.load("single")
    kinds = [single.split(name, 1).images for name in SPLIT_NAMES]
    kinds += [single.split("train", 1, epoch=1).images, scenes.load("single", seed=1).split("train", 1).images]
    assert len({images.tobytes() for images in kinds}) == len(kinds)
    np.testing.assert_array_equal(single.split("test", 1, epoch=3).images, single.split("test", 1).images)


def test_fingerprint_follows_view_options_and_seed():
    sets = [scenes.load(view) for view in scenes.VIEWS]
    sets += [scenes.load(seed=1), scenes.load("tied", strength=0.5), scenes.load("hues", spread=0.5)]
    assert len({data_set.fingerprint for data_set in sets}) == len(sets)
    assert scenes.load("tied", strength=0.9).fingerprint == scenes.load("tied").fingerprint


def test_other_sizes_show_the_same_scene():
    data_set = scenes.load("instances")
    small, large = data_set.split("val", 4), data_set.split("val", 4, image_size=192)
    assert large.images.shape == (4, 192, 192, 3)
    for a, b in zip(small.boxes, large.boxes, strict=True):
        np.testing.assert_allclose(2 * a, b, atol=4)


def test_instances_are_of_one_class_and_multi_of_several():
    instances, multi = (scenes.load(view).split("val", 40) for view in ("instances", "multi"))
    counts = {len(boxes) for boxes in instances.boxes}
    assert counts == {1, 2, 3, 4}
    assert all((labels == label).all() for labels, label in zip(instances.box_labels, instances.labels, strict=True))
    assert (instances.label_sets.sum(axis=1) == 1).all()
    assert multi.label_sets.sum(axis=1).max() >= 3
    assert scenes.load("multi").multi_label


def test_tied_backgrounds(monkeypatch):
    drawn = []
    true_background = scenes.draw_background
    monkeypatch.setattr(
        scenes, "draw_background", lambda name, *rest: drawn.append(name) or true_background(name, *rest)
    )
    labels = scenes.load("tied", strength=1.0).split("train", 20).labels
    assert drawn == [BACKGROUND_NAMES[label] for label in labels]
    drawn.clear()
    labels = scenes.load("tied", strength=0.0).split("train", 60).labels
    assert sum(name == BACKGROUND_NAMES[label] for name, label in zip(drawn, labels, strict=True)) < 20


def spread_of_hues(split):
    lengths = []
    for image, mask in zip(split.images, split.masks, strict=True):
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[mask].astype(float)
        lengths.append(abs((np.exp(2j * np.pi * hsv[:, 0] / 180) * hsv[:, 1]).sum()) / hsv[:, 1].sum())
    return 1 - np.mean(lengths)


def test_hues_spread():
    tight, wide = (scenes.load("hues", spread=spread).split("val", 30) for spread in (0.0, 1.0))
    np.testing.assert_array_equal(tight.masks, wide.masks)
    assert spread_of_hues(tight) < 0.1 < 0.25 < spread_of_hues(wide)


def test_text_is_there_or_not():
    split = scenes.load("text").split("val", 20)
    for label, boxes, mask in zip(split.labels, split.boxes, split.masks, strict=True):
        assert len(boxes) == label
        assert mask.any() == bool(label)


def test_relations_hold():
    split = scenes.load("relation").split("val", 60)
    for label, (subject, reference) in zip(split.labels, split.boxes, strict=True):
        centre = (subject[:2] + subject[2:]) / 2, (reference[:2] + reference[2:]) / 2
        right, down = centre[1] - centre[0]
        relation = scenes.RELATION_NAMES[label]
        assert {"left of": right, "on": down, "under": -down}[relation] > 8


def test_colour_tells_nothing():
    def histograms(images):
        bins = ([0, 1, 2], None, [8, 4, 4], [0, 180, 0, 256, 0, 256])
        return (
            np.stack([cv2.calcHist([cv2.cvtColor(image, cv2.COLOR_RGB2HSV)], *bins).ravel() for image in images]) / 9216
        )

    data_set = scenes.load()
    train, test = data_set.split("train", 500), data_set.split("test", 250)
    classifier = LogisticRegression(C=10, max_iter=300).fit(histograms(train.images), train.labels)
    assert classifier.score(histograms(test.images), test.labels) < 0.2


def test_wrong_requests_get_a_sentence():
    with pytest.raises(ValueError, match="no view 'singel'; choose one of single, multi"):
        scenes.load("singel")
    with pytest.raises(ValueError, match="no split 'dev'; choose one of train"):
        scenes.load().split("dev")
    with pytest.raises(ValueError, match="'single' of scenes has no option 'strength'; it has none"):
        scenes.load(strength=0.5)
    with pytest.raises(ValueError, match="'strength' of scenes is 2; give a number from 0 to 1"):
        scenes.load("tied", strength=2)
    with pytest.raises(ValueError, match="image_size of 32 or more"):
        scenes.load().split("val", 1, image_size=16)
    with pytest.raises(ValueError, match="numbered 0 to 9"):
        scenes.draw_scene(np.random.default_rng(0), [10])
    with pytest.raises(ValueError, match="no background 'moon'; choose one of meadow"):
        scenes.draw_scene(np.random.default_rng(0), [0], background="moon")


def test_all_cores_draw_what_one_draws(monkeypatch):
    one = scenes.load("multi").split("train", 60, epoch=1)
    monkeypatch.setattr(scenes, "LEAST_FOR_ALL_CORES", 50)
    all_cores = scenes.load("multi").split("train", 60, epoch=1)
    np.testing.assert_array_equal(all_cores.images, one.images)
    np.testing.assert_array_equal(all_cores.masks, one.masks)
    np.testing.assert_array_equal(np.concatenate(all_cores.boxes), np.concatenate(one.boxes))
