"""PASCAL VOC, invented in small and the real one where it lies."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsol_utils import datasets

REAL = Path(os.environ.get("WSOL_DATA_ROOT") or Path(__file__).parents[3] / "shared" / "data")
PLACE = "VOCdevkit/VOC2012/"


def _object(name, x0, y0, x1, y1, difficult=0):
    box = f"<bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox>"
    return f"<object><name>{name}</name><difficult>{difficult}</difficult>{box}</object>"


def _picture(kind, array, mode=None):
    stream = io.BytesIO()
    picture = Image.fromarray(array)
    if mode == "P":
        picture = picture.convert("P")
        picture.putdata(array.ravel().tolist())
        picture.putpalette([value for grey in range(256) for value in (grey, 0, 255 - grey)])
    picture.save(stream, kind)
    return stream.getvalue()


def _files():
    """Twenty training and three validation images of 100x50 pixels: a large dog left, a small cat right."""
    files = {
        "ImageSets/Main/train.txt": "\n".join(f"t{i:02d}" for i in range(20)) + "\n",
        "ImageSets/Main/val.txt": "v0  1\nv1 -1\nv2\n",
    }
    mask = np.zeros((50, 100), np.uint8)
    mask[:, :60], mask[10:20, 70:80], mask[:, 60] = 12, 8, 255
    dog, cat, hard = _object("dog", 1, 1, 60, 50), _object("cat", 71, 11, 80, 20), _object("dog", 90, 1, 99, 9, 1)
    for name in [*(f"t{i:02d}" for i in range(20)), "v0", "v1", "v2"]:
        objects = {"v1": cat, "v2": hard}.get(name, cat + dog + hard)
        files[f"Annotations/{name}.xml"] = f"<annotation><filename>../x</filename>{objects}</annotation>"
        files[f"JPEGImages/{name}.jpg"] = _picture("JPEG", np.full((50, 100, 3), 99, np.uint8))
        files[f"SegmentationClass/{name}.png"] = _picture("PNG", mask, "P")
    return {PLACE + name: text.encode() if isinstance(text, str) else text for name, text in files.items()}


def _write(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@pytest.fixture(params=["folder", "zip", "tar"])
def root(tmp_path, request):
    if request.param == "folder":
        return _write(tmp_path, _files())
    if request.param == "zip":
        with zipfile.ZipFile(tmp_path / "small.zip", "w") as archive:
            for name, content in _files().items():
                archive.writestr(name, content)
        return tmp_path
    with tarfile.open(tmp_path / "VOCtrainval.tar", "w") as archive:
        archive.add(_write(tmp_path / "packed", _files()) / "VOCdevkit", "VOCdevkit")
    return tmp_path / "VOCtrainval.tar"


def test_data_set(root):
    data = datasets.load("voc2012", root)
    assert data.class_names == ("cat", "dog")
    assert (data.default_size, data.has_boxes, data.has_masks, data.multi_label) == (128, True, True, True)


def test_splits_follow_the_rule(root):
    data = datasets.load("voc2012", root)
    assert data.split("train").names == [f"t{i:02d}" for i in range(20) if i % 10 < 8]
    assert data.split("train_with_boxes").names == ["t08", "t18"]
    assert data.split("val").names == ["t09", "t19"]
    assert data.split("test").names == ["v0", "v1"]


def test_boxes_labels_and_masks(root):
    split = datasets.load("voc2012", root).split("test", image_size=100)
    assert split.labels.tolist() == [1, 0]
    assert split.label_sets.tolist() == [[True, True], [True, False]]
    np.testing.assert_array_equal(split.boxes[0], [[70, 20, 80, 40], [0, 0, 60, 100]])
    assert split.box_labels[0].tolist() == [0, 1]
    np.testing.assert_array_equal(split.boxes_of_label(0), [[0, 0, 60, 100]])
    expected = np.zeros((2, 100, 100), bool)
    expected[0, :, :60] = True
    expected[1, 20:40, 70:80] = True
    np.testing.assert_array_equal(split.masks, expected)


def test_masks_only_where_every_image_has_one(tmp_path):
    files = _files()
    del files[PLACE + "SegmentationClass/v0.png"]
    data = datasets.load("voc2012", _write(tmp_path, files))
    assert not data.has_masks
    assert data.split("test").masks is None
    assert data.split("train").masks is not None


def test_foreign_classes_count_in_alphabetical_order(tmp_path):
    files = {
        name: content.replace(b"<name>cat", b"<name>axe").replace(b"<name>dog", b"<name>zebra")
        for name, content in _files().items()
    }
    mask = np.zeros((50, 100), np.uint8)
    mask[:, :60] = 2
    files |= {name: _picture("PNG", mask) for name in files if name.endswith("png")}
    data = datasets.load("voc2012", _write(tmp_path, files))
    assert data.class_names == ("axe", "zebra")
    assert data.split("test", image_size=100).masks[0].sum() == 6000


def test_other_year_is_not_found(root):
    with pytest.raises(
        FileNotFoundError, match=r"Data set voc2007 is not in .*fetch voc2007`, or download https://thor"
    ):
        datasets.load("voc2007", root)


def test_2007(tmp_path):
    _write(tmp_path, {name.replace("2012", "2007"): content for name, content in _files().items()})
    assert datasets.load("voc2007", tmp_path / "VOCdevkit").name == "voc2007"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("Annotations/v0.xml", b"<annotation>", r"v0\.xml is damaged or not a VOC annotation: remove it or fetch"),
        ("Annotations/v0.xml", b"<!DOCTYPE a><a/>", r"v0\.xml is not a plain VOC annotation: remove it or fetch"),
        ("JPEGImages/v0.jpg", b"\xff\xd8", r"v0\.jpg is not an image that can be read"),
        ("SegmentationClass/v0.png", b"x", r"v0\.png is not an image that can be read"),
        (
            "SegmentationClass/v0.png",
            _picture("PNG", np.zeros((5, 5, 3), np.uint8)),
            r"v0\.png is damaged or cut off: copy or download it again",
        ),
        ("ImageSets/Main/val.txt", b"v2", "Split test of .* has no images: the data set is not whole, fetch it again"),
        ("ImageSets/Main/val.txt", b"w1", r"There is no .*Annotations/w1\.xml: the data set is not whole"),
        ("ImageSets/Main/train.txt", b"", "Split train of .* has no images"),
    ],
)
def test_damaged(tmp_path, name, content, sentence):
    _write(tmp_path, _files() | {PLACE + name: content})
    with pytest.raises(OSError, match=sentence):
        datasets.load("voc2012", tmp_path).split("test")


def test_missing_image(tmp_path):
    files = _files()
    del files[PLACE + "JPEGImages/v0.jpg"]
    with pytest.raises(FileNotFoundError, match=r"There is no .*v0\.jpg: the data set is not whole"):
        datasets.load("voc2012", _write(tmp_path, files)).split("test")


@pytest.mark.skipif(not (REAL / "VOCdevkit-small.zip").exists(), reason="VOC 2012 is not in WSOL_DATA_ROOT")
def test_real_archive():
    data = datasets.load("voc2012", REAL)
    assert len(data.class_names) == 20
    test = data.split("test", n_images=60)
    assert data.has_masks
    inside = [
        mask[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))].any()
        for mask, boxes in zip(test.masks, map(test.boxes_of_label, range(60)), strict=True)
        for x0, y0, x1, y1 in boxes
    ]
    assert np.mean(inside) > 0.95
    assert test.label_sets[np.arange(60), test.labels].all()
