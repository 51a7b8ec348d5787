"""Splits keep their fields together, and data sets check what they are asked for."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsol_utils.datasets.splits import SPLIT_NAMES, DataSet, Split, joined


def make_split(n: int = 5, size: int = 8) -> Split:
    labels = np.arange(n) % 3
    return Split(
        name="val",
        images=np.arange(n, dtype=np.uint8)[:, None, None, None] * np.ones((1, size, size, 3), np.uint8),
        labels=labels,
        label_sets=np.eye(3, dtype=bool)[labels],
        names=[f"val-{i}" for i in range(n)],
        boxes=[np.array([[0, 0, i + 1, 2], [1, 1, 3, 3]], np.float32) for i in range(n)],
        box_labels=[np.array([labels[i], (labels[i] + 1) % 3]) for i in range(n)],
    )


def make_data_set() -> DataSet:
    return DataSet(
        name="toy",
        class_names=("a", "b", "c"),
        default_size=8,
        has_boxes=True,
        has_masks=False,
        multi_label=False,
        fingerprint="toy-1",
        read=lambda name, n_images, size, epoch: make_split(n_images or 5, size),
    )


@given(st.lists(st.integers(0, 4), max_size=8))
def test_subset_keeps_fields_together(indices):
    split = make_split()
    part = split.subset(indices)
    assert len(part) == len(part.names) == len(indices)
    assert part.masks is None
    for j, i in enumerate(indices):
        assert part.names[j] == split.names[i]
        assert part.labels[j] == split.labels[i]
        assert part.images[j].max() == i
        np.testing.assert_array_equal(part.boxes[j], split.boxes[i])


def test_joined_splits_keep_fields_together():
    split = make_split()
    whole = joined([split.subset([3]), split.subset([0, 1])])
    again = split.subset([3, 0, 1])
    assert whole.names == again.names
    np.testing.assert_array_equal(whole.images, again.images)
    np.testing.assert_array_equal(whole.boxes[2], again.boxes[2])
    assert whole.masks is None
    with_masks = replace(split, masks=np.zeros((5, 8, 8), bool))
    assert joined([with_masks, with_masks]).masks.shape == (10, 8, 8)
    assert joined([with_masks, split]).masks is None


def test_subset_by_bool_equals_subset_by_index():
    split = make_split()
    choice = np.array([True, False, False, True, True])
    assert split.subset(choice).names == split.subset([0, 3, 4]).names


def test_subset_refuses_what_is_not_there():
    with pytest.raises(ValueError, match="choose indices from 0 to 4"):
        make_split().subset([5])
    with pytest.raises(ValueError, match=r"shape \(5,\)"):
        make_split().subset(np.array([True, False]))


def test_boxes_of_label():
    split = make_split()
    np.testing.assert_array_equal(split.boxes_of_label(3), [[0, 0, 4, 2]])
    with pytest.raises(ValueError, match="there is no image 5"):
        split.boxes_of_label(5)


def test_boxes_of_label_without_boxes():
    split = make_split()
    bare = Split(split.name, split.images, split.labels, split.label_sets, split.names)
    with pytest.raises(ValueError, match="has no boxes"):
        bare.boxes_of_label(0)


def test_object_masks_are_the_masks_or_else_the_filled_boxes():
    split = make_split()
    wanted = np.zeros((8, 8), bool)
    wanted[:2, :4] = True
    np.testing.assert_array_equal(split.object_masks()[3], wanted)
    split.boxes[0][0] = (7.2, 3.6, 7.4, 5.1)
    assert np.argwhere(split.object_masks()[0]).tolist() == [[3, 7], [4, 7], [5, 7]]
    outlined = replace(split, masks=np.ones((5, 8, 8), bool))
    assert outlined.object_masks() is outlined.masks


def test_fields_of_unequal_length_are_refused():
    split = make_split()
    with pytest.raises(ValueError, match="field labels has 4 entries for 5 images"):
        Split(split.name, split.images, split.labels[:4], split.label_sets, split.names)


def test_data_set_splits():
    data_set = make_data_set()
    for name in SPLIT_NAMES:
        assert len(data_set.split(name, n_images=2)) == 2
    assert data_set.split("val", image_size=16).images.shape == (5, 16, 16, 3)


def test_data_set_refuses_nonsense():
    data_set = make_data_set()
    with pytest.raises(ValueError, match="no split 'trian'; choose one of train, train_with_boxes, val, test"):
        data_set.split("trian")
    for wrong in ({"n_images": 0}, {"image_size": 4}, {"epoch": -1}):
        with pytest.raises(ValueError, match="or more"):
            data_set.split("val", **wrong)
