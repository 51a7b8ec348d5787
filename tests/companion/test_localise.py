import csv
import json
import os
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torchvision
from filelock import FileLock
from PIL import Image

from wsol_utils.companion import localise as localising
from wsol_utils.companion import weights
from wsol_utils.companion.localise import localise, localise_all
from wsol_utils.companion.weights import Classifier
from wsol_utils.datasets.images import read_image
from wsol_utils.methods import saliency
from wsol_utils.methods.networks import normalise


@pytest.fixture(scope="module")
def classifier():
    return weights.shipped("scenes-gap")


@pytest.fixture
def photos(tmp_path):
    """Two photographs with one stem in one folder, one in another, a text that calls itself a photograph, notes."""
    generator = np.random.default_rng(0)
    for name in ("a/cat.jpg", "a/cat.png", "b/cat.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (60, 90, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "a" / "broken.jpg").write_text("not a picture")
    (tmp_path / "a" / "notes.txt").write_text("not asked for")
    return tmp_path


@pytest.fixture
def looked_at(classifier, monkeypatch):
    """Names of the files that `localise` is asked for; it answers the same for each, at once."""
    answer, asked = localise(np.zeros((60, 90, 3), np.uint8), classifier), []

    def answer_at_once(path, network):
        asked.append(path.name)
        read_image(path)
        return answer

    monkeypatch.setattr(localising, "localise", answer_at_once)
    return asked


@pytest.mark.parametrize(("height", "width"), [(300, 200), (1, 1), (12, 4000)])
def test_boxes_lie_in_the_photograph_whatever_its_size(classifier, height, width):
    found = localise(np.random.default_rng(1).integers(0, 255, (height, width, 3), np.uint8), classifier)
    assert found.size == (width, height)
    for x0, y0, x1, y1 in (found.graphcut_box, found.cam_box):
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
    shares = [share for _, share in found.classes]
    assert len(shares) == 5
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) <= 1 + 1e-6


def test_a_photograph_stretched_gives_boxes_stretched(classifier):
    photo = np.random.default_rng(2).integers(0, 255, (96, 96, 3), np.uint8)
    plain, wide = (localise(photo.repeat(factor, axis=1), classifier) for factor in (1, 2))
    assert wide.classes[0][0] == plain.classes[0][0]
    assert np.abs(np.array(wide.cam_box) - np.array(plain.cam_box) * [2, 1, 2, 1]).max() <= 2


def test_a_network_without_global_pooling_has_no_activation_map():
    network = torchvision.models.alexnet().eval()
    found = localise(np.zeros((64, 64, 3), np.uint8), Classifier(network, tuple(map(str, range(1000))), 96, "alexnet"))
    assert found.activation_map is None
    assert found.cam_box is None
    titles = [ax.get_title() for ax in localising.draw(found).axes]
    assert "no global pooling" in titles[3]


@pytest.mark.parametrize("size", [(20, 5000), (5000, 20)])
def test_a_long_photograph_can_be_seen_and_bears_its_name(classifier, size):
    found = localise(np.zeros((*size, 3), np.uint8), classifier)
    figure = localising.draw(found, "a_$100_note_with_a_name_that_is_far_too_long.jpg")
    figure.canvas.draw()
    for ax in figure.axes:
        box = ax.get_window_extent()
        assert min(box.width, box.height) > 10
    assert figure.axes[0].get_title().startswith("a_$100_note_with_…s_far_too_long.jpg\n")
    plt.close(figure)


@pytest.mark.parametrize("name", ["vit", "tiny-imagenet-fc"])
def test_a_network_for_images_of_one_size_looks_once(name):
    if name == "vit":
        network = torchvision.models.VisionTransformer(32, 16, 1, 2, 8, 8, num_classes=5).eval()
    else:
        network = weights.by_name(name).network
    size = network.image_size
    image = np.random.default_rng(3).integers(0, 255, (size, size, 3), np.uint8)
    once = saliency.saliency_map(network, normalise(image[None]), 2)
    np.testing.assert_array_equal(localising.salience(network, image[None], 2), once)
    found = localise(image, Classifier(network, tuple(map(str, range(100))), size, name))
    assert found.activation_map is None


def test_a_file_that_is_gone_stops_no_other(classifier, photos, capsys, looked_at):
    (photos / "b" / "a_link.jpg").symlink_to(photos / "gone.jpg")
    assert len(localise_all([photos / "b"], photos / "out", classifier)) == 1
    said = capsys.readouterr().err
    assert "Skipped: " in said
    assert "a_link.jpg" in said
    assert looked_at == ["cat.jpg"]


def test_what_is_passed_over_in_a_folder_is_counted(classifier, photos, capsys, looked_at):
    (photos / "b" / "sub").mkdir()
    (photos / "b" / "photo.heic").write_text("of a kind that cannot be read")
    (photos / "b" / ".hidden").write_text("")
    localise_all([photos / "b"], photos / "out", classifier)
    assert f"Passed over in {photos / 'b'}: 2 that do not end like a photograph." in capsys.readouterr().err


def test_no_picture_replaces_another_or_a_sheet(classifier, photos, looked_at):
    for name in ("Same.png", "same.jpg", "contact-sheet-1.png"):
        (photos / "c").mkdir(exist_ok=True)
        Image.new("RGB", (20, 20)).save(photos / "c" / name)
    results = localise_all([photos / "c"], photos / "out", classifier)
    assert [entry["picture"] for entry in results] == ["Same.jpg", "photograph-contact-sheet-1.jpg", "same-2.jpg"]
    assert len(list((photos / "out").glob("*.jpg"))) == 4


def test_sheets_and_csv_hold_what_the_json_holds(classifier, photos, looked_at, monkeypatch):
    monkeypatch.setattr(localising, "PER_SHEET", 1)
    output = photos / "out"
    localise_all([photos / "a"], output, classifier)
    assert len(localise_all([photos / "b"], output, classifier)) == 1

    def held():
        with (output / "localised.csv").open() as file:
            rows = [row["file"] for row in csv.DictReader(file)]
        assert rows == [entry["file"] for entry in json.loads((output / "localised.json").read_text())]
        return len(rows), len(list(output.glob("contact-sheet-*.jpg")))

    assert held() == (3, 3)
    (output / "cat.jpg").unlink()
    localise_all([photos / "b"], output, classifier)
    assert held() == (2, 2), "whose picture was deleted is forgotten"


def test_many_sheets_sort_in_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr(localising, "PER_SHEET", 1)
    pictures = [f"{number}.jpg" for number in range(10)]
    for picture in pictures:
        Image.new("RGB", (8, 8)).save(tmp_path / picture)
    localising._write_sheets(tmp_path, [{"picture": picture} for picture in pictures])
    sheets = sorted(path.name for path in tmp_path.glob("contact-sheet-*"))
    assert sheets == [f"contact-sheet-{number:02}.jpg" for number in range(1, 11)]


def test_a_folder_gives_pictures_sheet_csv_and_json(classifier, photos, capsys, looked_at):
    output = photos / "out"
    results = localise_all([photos / "a", photos / "b" / "cat.jpg"], output, classifier)
    assert "Skipped: " in (said := capsys.readouterr().err)
    assert "broken.jpg is not an image" in said
    assert "notes.txt" not in said
    assert [entry["picture"] for entry in results] == ["cat.jpg", "cat-2.jpg", "cat-3.jpg"]
    assert sorted(path.name for path in output.glob("[!.]*")) == [
        "cat-2.jpg", "cat-3.jpg", "cat.jpg", "contact-sheet-1.jpg", "localised.csv", "localised.json",
    ]  # fmt: skip
    with (output / "localised.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [str(photos / name) for name in ("a/cat.jpg", "a/cat.png", "b/cat.jpg")]
    entry = json.loads((output / "localised.json").read_text())[0]
    assert [int(rows[0][f"cam_{corner}"]) for corner in ("x0", "y0", "x1", "y1")] == entry["cam_box"]
    assert rows[0]["class_1"] == entry["classes"][0][0]


def test_what_the_reader_has_is_never_replaced(classifier, photos, looked_at):
    with pytest.raises(OSError, match=r"The output folder .*b holds photographs that were asked for: name another"):
        localise_all([photos / "b"], photos / "b", classifier)
    (photos / "out").mkdir()
    for name in ("cat.jpg", "contact-sheet-of-mine.jpg"):
        (photos / "out" / name).write_text("the reader's own")
    assert [entry["picture"] for entry in localise_all([photos / "b"], photos / "out", classifier)] == ["cat-2.jpg"]
    for name in ("cat.jpg", "contact-sheet-of-mine.jpg"):
        assert (photos / "out" / name).read_text() == "the reader's own"


def test_odd_names_stop_no_other(classifier, photos, looked_at):
    names = ["猫" * 81 + ".jpg", "plain.jpg"]
    names += [os.fsdecode(b"caf\xe9.jpg")] if sys.platform == "linux" else []  # others refuse such a name
    (photos / "odd").mkdir()
    for name in names:
        Image.new("RGB", (20, 20)).save(photos / "odd" / name)
    results = localise_all([photos / "odd"], photos / "out", classifier)
    assert {Path(entry["file"]).name for entry in results} == set(names)
    assert all((photos / "out" / entry["picture"]).exists() for entry in results)
    with (photos / "out" / "localised.csv").open(errors="surrogateescape") as file:
        assert [row["file"] for row in csv.DictReader(file)] == [entry["file"] for entry in results]


def test_columns_keep_their_places_with_fewer_classes(photos):
    few = weights.restricted(weights.shipped("scenes-gap"), ("tulip", "sailboat"))
    (entry,) = localise_all([photos / "b"], photos / "out", few)
    with (photos / "out" / "localised.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert [int(row[f"cam_{corner}"]) for corner in ("x0", "y0", "x1", "y1")] == entry["cam_box"]
    assert row["class_3"] == ""
    assert row["network"] == few.source


def test_a_damaged_picture_is_drawn_again(classifier, photos, looked_at):
    localise_all([photos / "b"], photos / "out", classifier)
    (photos / "out" / "cat.jpg").write_bytes((photos / "out" / "cat.jpg").read_bytes()[:300])
    localise_all([photos / "b"], photos / "out", classifier)
    assert looked_at == ["cat.jpg", "cat.jpg"]
    assert Image.open(photos / "out" / "cat.jpg").load()


def test_a_second_call_goes_on_where_the_first_stopped(classifier, photos, looked_at):
    localise_all([photos / "b"], photos / "out", classifier)
    assert len(localise_all([photos / "a", photos / "b"], photos / "out", classifier)) == 3
    assert looked_at == ["cat.jpg", "broken.jpg", "cat.jpg", "cat.png"]
    Image.new("RGB", (20, 20)).save(photos / "b" / "cat.jpg")
    localise_all([photos / "b"], photos / "out", classifier)
    assert len(looked_at) == 5, "a photograph that changed is looked at again"
    (photos / "b" / "cat.jpg").write_text("broken since")
    localise_all([photos / "b"], photos / "out", classifier)
    left = json.loads((photos / "out" / "localised.json").read_text())
    assert [entry["picture"] for entry in left] == ["cat-2.jpg", "cat-3.jpg"], "what became unreadable is forgotten"


def test_two_runs_do_not_write_to_one_folder(classifier, photos):
    (photos / "out").mkdir()
    with (
        FileLock(photos / "out" / ".lock"),
        pytest.raises(OSError, match=r"Another run is writing to .*out: wait for it"),
    ):
        localise_all([photos / "b"], photos / "out", classifier)


def test_errors_name_the_thing_and_the_cure(classifier, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no .*nowhere: give photographs or folders of them"):
        localise_all([tmp_path / "nowhere"], tmp_path / "out", classifier)
    with pytest.raises(FileNotFoundError, match="holds no photographs"):
        localise_all([tmp_path], tmp_path / "out", classifier)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "localised.json").write_text("{")
    Image.new("RGB", (9, 9)).save(tmp_path / "photo.png")
    for content in ("{", '[{"file": "a"}]', '["a"]'):
        (tmp_path / "out" / "localised.json").write_text(content)
        with pytest.raises(OSError, match=r"localised\.json is damaged: delete it"):
            localise_all([tmp_path], tmp_path / "out", classifier)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file cannot be written \(File exists\): name another output folder"):
        localise_all([tmp_path], tmp_path / "file", classifier)
