"""The reader's own folder of classes."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsol_utils import datasets

REAL = Path(os.environ.get("WSOL_DATA_ROOT") or Path(__file__).parents[3] / "shared" / "data")
SPLITS = ("train", "train_with_boxes", "val", "test")
XML = (
    "<annotation>{}</annotation>",
    "<object><name>{}</name><bndbox><xmin>11</xmin><ymin>1</ymin><xmax>20</xmax><ymax>10</ymax></bndbox></object>",
)


def _annotate(path, *names):
    path.with_suffix(".xml").write_text(XML[0].format("".join(XML[1].format(name) for name in names)))


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "pets"
    for name, colour in (("dog", "red"), ("cat", "blue")):
        (root / name).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (40, 20), colour).save(root / name / f"{i}.png")
        (root / name / "notes.txt").touch()
        (root / name / ".hidden.png").touch()
    return root


def test_data_set(root):
    data = datasets.load("folder", root)
    assert data.class_names == ("cat", "dog")
    assert (data.has_boxes, data.has_masks, data.multi_label, data.default_size) == (False, False, False, 128)


def test_splits_follow_the_rule(root):
    data = datasets.load("folder", root)
    names = {name: data.split(name).names for name in SPLITS}
    assert names["train"][:3] == ["cat/0.png", "dog/0.png", "cat/1.png"]
    assert names["train_with_boxes"] == ["cat/6.png", "dog/6.png"]
    assert names["val"] == ["cat/7.png", "dog/7.png"]
    assert names["test"] == ["cat/8.png", "dog/8.png", "cat/9.png", "dog/9.png"]
    assert len(names["train"]) == 12


def test_no_boxes_without_annotations(root):
    split = datasets.load("folder", root).split("test", image_size=16)
    assert split.boxes is None
    assert split.labels.tolist() == [0, 1, 0, 1]
    assert split.images[0, 0, 0].tolist() == [0, 0, 255]
    assert split.label_sets.tolist() == [[True, False], [False, True]] * 2


def test_boxes_from_annotations(root):
    for path in root.rglob("[0-9].png"):
        _annotate(path, path.parent.name, "tree")
    data = datasets.load("folder", root)
    assert data.has_boxes
    split = data.split("test", image_size=80)
    np.testing.assert_array_equal(split.boxes[1], [[20, 0, 40, 40]])
    assert split.box_labels[1].tolist() == [1]


def test_objects_of_another_name_count_if_there_are_no_others(root):
    for path in root.rglob("[0-9].png"):
        _annotate(path, "pet", "pet")
    assert datasets.load("folder", root).split("val").boxes[0].shape == (2, 4)


def test_boxes_of_the_training_images_are_not_needed(root):
    for path in root.rglob("[6-9].png"):
        _annotate(path, "pet")
    data = datasets.load("folder", root)
    assert data.has_boxes
    assert data.split("train").boxes is None


def test_missing_annotations_are_named(root):
    for path in root.rglob("[6-8].png"):
        _annotate(path, "pet")
    with pytest.warns(UserWarning, match=r"Boxes are left out: 2 of 8 images .* the first is cat/9\.png\."):
        assert not datasets.load("folder", root).has_boxes


def test_unreadable_files_are_named_and_skipped(root):
    (root / "dog" / "8.png").write_bytes(b"")
    data = datasets.load("folder", root)
    with pytest.warns(UserWarning, match=r"Image skipped: .*8\.png is empty \(0 bytes\)"):
        split = data.split("test")
    assert split.names == ["cat/8.png", "cat/9.png", "dog/9.png"]
    assert len(split.images) == 3
    with pytest.warns(UserWarning, match="Image skipped"):
        assert data.split("test", n_images=2).names == ["cat/8.png", "cat/9.png"]


@pytest.mark.filterwarnings("ignore:Image skipped")
def test_no_readable_image(root):
    for path in root.rglob("7.png"):
        path.write_bytes(b"")
    with pytest.raises(OSError, match=r"No image of split val in .* can be read"):
        datasets.load("folder", root).split("val")


def test_zip_with_an_outer_folder(root):
    with zipfile.ZipFile(root.parent / "pets.zip", "w") as archive:
        for path in root.rglob("*"):
            archive.write(path, Path("outer", path.relative_to(root.parent)))
        archive.writestr("__MACOSX/cat/x.png", b"")
    data = datasets.load("folder", root.parent / "pets.zip")
    assert data.class_names == ("cat", "dog")
    assert data.split("val").names == ["cat/7.png", "dog/7.png"]
    assert datasets.load("folder", root.parent).class_names == ("cat", "dog")


def test_errors(root, tmp_path):
    with pytest.raises(ValueError, match="Data set folder needs root"):
        datasets.load("folder")
    with pytest.raises(FileNotFoundError, match="There is no folder no/such: give a folder that holds"):
        datasets.load("folder", "no/such")
    with pytest.raises(OSError, match="has 0 sub-folders with images, not two or more: make one for each class"):
        datasets.load("folder", root / "dog")
    for i in range(6):
        (root / "cat" / f"{i}.png").unlink()
    with pytest.raises(OSError, match=r"Class cat in .*pets has only 4 images: add some, 10 are needed"):
        datasets.load("folder", root)


def test_fingerprint_follows_files_and_boxes(root):
    prints = [datasets.load("folder", root).fingerprint]
    Image.new("RGB", (90, 90)).save(root / "dog" / "3.png")
    prints.append(datasets.load("folder", root).fingerprint)
    _annotate(root / "dog" / "3.png", "pet")
    prints.append(datasets.load("folder", root).fingerprint)
    assert len(set(prints)) == 3


@pytest.mark.skipif(not (REAL / "caltech-20.zip").exists(), reason="Caltech-20 is not in WSOL_DATA_ROOT")
def test_real_archive():
    data = datasets.load("folder", REAL / "caltech-20.zip")
    assert len(data.class_names) == 20
    assert data.split("val", n_images=40, image_size=64).labels.tolist() == [*range(20)] * 2
