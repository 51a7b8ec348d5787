"""Tiny ImageNet, invented in small and the real one where it lies."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.models import SqueezeNet1_0_Weights

from wsol_utils import datasets
from wsol_utils.datasets import tiny_imagenet

REAL = Path(os.environ.get("WSOL_DATA_ROOT") or Path(__file__).parents[3] / "shared" / "data")
WNIDS = ["n03", "n01", "n02"]
N_TRAIN = 20


def _jpeg(colour, size=(64, 64), mode="RGB"):
    stream = io.BytesIO()
    Image.new(mode, size, colour).save(stream, "JPEG")
    return stream.getvalue()


def _files():
    files = {
        "wnids.txt": "\n".join(WNIDS),
        "words.txt": "n00\tentity\nn01\tcrane\nn02\tcrane, bird\nn03\tgoldfish, Carassius auratus\n",
    }
    rows = []
    for label, wnid in enumerate(WNIDS):
        for k in range(N_TRAIN):
            files[f"train/{wnid}/images/{wnid}_{k}.JPEG"] = _jpeg((60 * label, 10 * k, 0))
        files[f"train/{wnid}/{wnid}_boxes.txt"] = "\n".join(f"{wnid}_{k}.JPEG\t0\t{k}\t63\t62" for k in range(N_TRAIN))
        for k in range(2):
            files[f"val/images/val_{2 * label + k}.JPEG"] = _jpeg(9, mode="L")
            rows.append(f"val_{2 * label + k}.JPEG\t{wnid}\t5\t6\t5\t9")
    files["val/val_annotations.txt"] = "\n".join(rows)
    return {name: content.encode() if isinstance(content, str) else content for name, content in files.items()}


def _write(root, files):
    for name, content in files.items():
        path = root / "tiny-imagenet-200" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


@pytest.fixture(params=["folder", "zip"])
def root(tmp_path, request):
    if request.param == "folder":
        return _write(tmp_path, _files())
    with zipfile.ZipFile(tmp_path / "tiny-imagenet-200.zip", "w") as archive:
        for name, content in _files().items():
            archive.writestr(f"tiny-imagenet-200/{name}", content)
    return tmp_path


def test_data_set(root):
    data = datasets.load("tiny-imagenet", root)
    assert data.class_names == ("goldfish", "crane (n01)", "crane (n02)")
    assert (data.default_size, data.has_boxes, data.has_masks, data.multi_label) == (64, True, False, False)


def test_splits_follow_the_rule(root):
    data = datasets.load("tiny-imagenet", root)
    names = {name: data.split(name).names for name in ("train", "train_with_boxes", "val", "test")}
    assert {name: len(found) for name, found in names.items()} == {
        "train": 48,
        "train_with_boxes": 6,
        "val": 6,
        "test": 6,
    }
    assert names["train"][:4] == ["n03_0", "n01_0", "n02_0", "n03_1"]
    assert names["train_with_boxes"] == ["n03_16", "n01_16", "n02_16", "n03_17", "n01_17", "n02_17"]
    assert names["val"][-1] == "n02_19"
    assert names["test"] == ["val_0", "val_2", "val_4", "val_1", "val_3", "val_5"]
    assert len(set().union(*names.values())) == 66


def test_split_has_what_it_says(root):
    split = datasets.load("tiny-imagenet", root).split("train", n_images=4)
    assert split.images.shape == (4, 64, 64, 3)
    assert split.labels.tolist() == [0, 1, 2, 0]
    np.testing.assert_array_equal(split.label_sets, np.eye(3, dtype=bool)[[0, 1, 2, 0]])
    np.testing.assert_array_equal(split.boxes[3], [[0, 1, 64, 63]])
    np.testing.assert_array_equal(split.boxes_of_label(3), [[0, 1, 64, 63]])
    assert split.boxes[0].dtype == np.float32
    assert split.masks is None


def test_grey_images_and_one_pixel_boxes(root):
    split = datasets.load("tiny-imagenet", root).split("test")
    assert (split.images == 9).all()
    np.testing.assert_array_equal(split.boxes[0], [[5, 6, 6, 10]])


def test_other_image_size_scales_boxes(root):
    split = datasets.load("tiny-imagenet", root).split("test", image_size=32)
    assert split.images.shape[1:] == (32, 32, 3)
    np.testing.assert_array_equal(split.boxes[0], [[2.5, 3, 3, 5]])


def test_fewer_classes_and_more_images_than_there_are(root):
    data = datasets.load("tiny-imagenet", root, n_classes=2)
    assert data.class_names == ("goldfish", "crane")
    assert data.fingerprint != datasets.load("tiny-imagenet", root).fingerprint
    assert len(data.split("test", n_images=100)) == 4


def test_classes_named_first_come_before_the_others(root):
    last = datasets.load("tiny-imagenet", root).class_names[-1]
    data = datasets.load("tiny-imagenet", root, n_classes=2, first=[last, "no such class"])
    assert data.class_names[0] == last.split(" (")[0]
    assert data.class_names[1] == "goldfish"
    assert set(data.split("test").labels) == {0, 1}


def test_reading_again_gives_the_same(root):
    first, second = (datasets.load("tiny-imagenet", root) for _ in range(2))
    assert first.fingerprint == second.fingerprint
    np.testing.assert_array_equal(first.split("val").images, second.split("val").images)


@pytest.mark.parametrize("n_classes", [0, 1, 4])
def test_wrong_number_of_classes(root, n_classes):
    with pytest.raises(ValueError, match=rf"n_classes is {n_classes}, but .* has 3 classes: give 2 to 3\."):
        datasets.load("tiny-imagenet", root, n_classes=n_classes)


def test_labels_change_the_fingerprint(tmp_path):
    files = _files()
    prints = [datasets.load("tiny-imagenet", _write(tmp_path / "a", files)).fingerprint]
    files["val/val_annotations.txt"] = files["val/val_annotations.txt"].replace(b"\t5\t9", b"\t5\t8")
    prints.append(datasets.load("tiny-imagenet", _write(tmp_path / "b", files)).fingerprint)
    assert prints[0] != prints[1]


def test_missing_data_set(tmp_path, monkeypatch):
    monkeypatch.setenv("WSOL_DATA_ROOT", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError) as caught:
        datasets.load("tiny-imagenet")
    assert str(caught.value) == (
        f"Data set tiny-imagenet is not in {tmp_path / 'none'} (choose another folder by root or WSOL_DATA_ROOT): run "
        "`python -m wsol_utils fetch tiny-imagenet`, or download https://cs231n.stanford.edu/tiny-imagenet-200.zip by "
        f"hand and put it into {tmp_path / 'none'}."
    )


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("train/n03/images/n03_0.JPEG", b"", r"n03_0\.JPEG is empty \(0 bytes\): copy or download it again"),
        (
            "train/n03/images/n03_0.JPEG",
            _jpeg(1, (256, 256))[:-200],
            r"n03_0\.JPEG is damaged or cut off: copy or download it",
        ),
        ("train/n03/images/n03_0.JPEG", b"text", r"n03_0\.JPEG is not an image that can be read"),
        ("train/n03/n03_boxes.txt", b"n03_0.JPEG\t1\t2", r"Line 1 of .*n03_boxes\.txt is damaged: fetch the data set"),
        ("train/n03/n03_boxes.txt", b"n03_0.JPEG 1 2 3 x", r"Line 1 of .*n03_boxes\.txt is damaged"),
        ("train/n03/n03_boxes.txt", b"n03_0.JPEG 1 2 3 4\n" * 2, "Class n03 of .* has 2 training images"),
        ("train/n03/n03_boxes.txt", b"../../x 0 0 1 1\n" * 3, r"There is no .*\.\./x.*: the data set is not whole"),
        ("train/n03/n03_boxes.txt", b"n03_0.JPEG 70 0 99 1\n" * 3, r"A box of .*n03_0\.JPEG is empty or outside"),
        ("val/val_annotations.txt", b"", "Class n03 of .* has no validation images: fetch the data set again"),
    ],
)
def test_damaged(tmp_path, name, content, sentence):
    _write(tmp_path, _files() | {name: content})
    with pytest.raises(OSError, match=sentence):
        datasets.load("tiny-imagenet", tmp_path).split("train", n_images=1)


@pytest.mark.parametrize("name", ["words.txt", "train/n03/n03_boxes.txt", "val/val_annotations.txt"])
def test_incomplete(tmp_path, name):
    files = _files()
    del files[name]
    with pytest.raises(FileNotFoundError, match=rf"There is no .*{name}: the data set is not whole, fetch it again"):
        datasets.load("tiny-imagenet", _write(tmp_path, files))


@pytest.mark.skipif(not (REAL / "tiny-imagenet-200.zip").exists(), reason="Tiny ImageNet is not in WSOL_DATA_ROOT")
def test_real_archive():
    data = datasets.load("tiny-imagenet", REAL, n_classes=5)
    assert len(data.class_names) == 5
    test = data.split("test")
    assert np.bincount(test.labels).min() >= 25
    assert 40 < test.images.mean() < 200
    boxes = np.concatenate(test.boxes)
    assert boxes.min() >= 0
    assert boxes.max() == 64
    assert ((boxes[:, 2:] - boxes[:, :2]) >= 1).all()
    assert not set(data.split("val").names) & set(data.split("train").names)


def test_classes_have_their_index_in_imagenet(root):
    imagenet = ["tench", "crane", "hen", "crane", "goldfish"]
    assert tiny_imagenet.imagenet_indices(imagenet, root) == {"crane (n01)": 1, "crane (n02)": 3, "goldfish": 4}
    with pytest.raises(ValueError, match="ImageNet has no class 'goldfish' at the place of n03: give its own names"):
        tiny_imagenet.imagenet_indices(["goldfish", "crane", "crane"], root)


@pytest.mark.skipif(not list(REAL.glob("tiny-imagenet-200*")), reason="no Tiny ImageNet")
def test_real_classes_have_their_index_in_imagenet():
    names = SqueezeNet1_0_Weights.DEFAULT.meta["categories"]
    indices = tiny_imagenet.imagenet_indices(names, REAL)
    assert set(indices) == set(datasets.load("tiny-imagenet", REAL).class_names)
    assert all(names[index] == name for name, index in indices.items())
    assert indices["Egyptian cat"] == 285
    assert indices["goldfish"] == 1
