"""The measurements of detectors, on a few scenes and one training."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torchvision.models import squeezenet1_0

from wsol_utils.companion import weights
from wsol_utils.companion.measurements import detectors
from wsol_utils.datasets import voc


@pytest.fixture(autouse=True)
def few(tmp_path, monkeypatch):
    monkeypatch.setenv("WSOL_STORE", str(tmp_path))
    sizes = {"N_TRAIN": 10, "N_TEST": 6, "N_EPOCHS": 1, "BUDGET": 8, "N_LAYERS": 10, "N_LAYER_BOXES": 8}
    for name, value in {**sizes, "SEEDS": (0,)}.items():
        monkeypatch.setattr(detectors, name, value)


def test_every_detector_has_a_row_and_every_pair_its_difference(monkeypatch):
    shown = ("R-CNN", "Fast R-CNN", "Faster R-CNN", "Faster R-CNN, torchvision's", "YOLO")
    monkeypatch.setattr(detectors, "DETECTORS", shown)
    table = detectors.scenes()
    assert [row[0] for row in table.rows] == [*shown, *(f"{a} minus {b}" for a, b in detectors.PAIRS)]
    assert all(len(row) == len(table.header) for row in table.rows)
    assert table.rows[0][1].endswith("(1.0)")
    assert table.rows[0][3].endswith("(1.0)")


def test_every_layer_is_judged_before_and_after_fine_tuning():
    table = detectors.layers()
    assert [row[0] for row in table.rows] == [*detectors.KINDS, "gain", "gain over tuned random weights"]
    assert all(len(row) == len(table.header) for row in table.rows)
    assert [result.id for result in table.claims] == ["C8.5"]


@pytest.fixture
def tiny_voc(tmp_path, monkeypatch):
    """Ten training and three test photographs of 100x75 pixels, a box and a wheel each; the network is untrained."""
    root, rng = tmp_path / "VOCdevkit" / "VOC2012", np.random.default_rng(0)
    for folder in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    names = {"train": [f"t{i}" for i in range(10)], "val": ["v0", "v1", "v2"]}
    for split, own in names.items():
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(own))
        for name in own:
            picture = Image.fromarray(rng.integers(90, 110, (75, 100, 3), dtype=np.uint8))
            objects, draw = "", ImageDraw.Draw(picture)
            for kind, left, top in (("box", rng.integers(0, 20), 20), ("wheel", rng.integers(50, 60), 30)):
                shape = (left, top, left + 39, top + 34)
                (draw.rectangle if kind == "box" else draw.ellipse)(shape, fill=(220, 40, 40))
                corners = zip(("xmin", "ymin", "xmax", "ymax"), np.add(shape, 1), strict=True)
                box = "".join(f"<{corner}>{value}</{corner}>" for corner, value in corners)
                objects += f"<object><name>{kind}</name><difficult>0</difficult><bndbox>{box}</bndbox></object>"
            picture.save(root / "JPEGImages" / f"{name}.jpg")
            (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")
    torch.manual_seed(0)
    network = weights.Classifier(squeezenet1_0(weights=None).eval(), (), 227, "random")
    monkeypatch.setattr(weights, "imagenet", lambda: network)
    monkeypatch.setattr(detectors, "load", lambda name: voc.load_2012(tmp_path))
    for name, value in {"VOC_SIZE": 96, "VOC_EPOCHS": 1, "VOC_BUDGET": 8}.items():
        monkeypatch.setattr(detectors, name, value)


def test_photographs_have_a_row_for_each_detector_and_the_recall_of_proposals(tiny_voc):
    table = detectors.voc()
    pairs = ["Faster R-CNN minus Fast R-CNN", "Faster R-CNN minus YOLO"]
    assert [row[0] for row in table.rows] == [*detectors.VOC_DETECTORS, *pairs]
    assert all(len(row) == len(table.header) for row in table.rows)
    assert table.rows[0][1].endswith("(1.0)")
    assert table.rows[2][2] == table.rows[2][3].split()[0], "YOLO waits for no proposals"
    assert int(table.rows[0][3].split()[0]) > int(table.rows[0][2]), "Fast R-CNN does"
    assert table.data.startswith("VOC 2012, 10 training and 3 test photographs squashed to 96x96")
    assert "Recall at IoU 0.5 with 8 boxes an image: selective search" in table.note


def test_the_cells_of_the_trunk_for_photographs_are_centred_on_their_pixels(tiny_voc):
    trunk = detectors.PhotographTrunk().double()
    for module in trunk.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.constant_(module.weight, 1e-2)
    pixels = torch.rand(1, 3, 480, 480, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    maps = trunk.features(pixels.requires_grad_())
    assert maps.shape[2:] == (30, 30)
    maps[0, :, 15, 15].sum().backward()
    rows, columns = torch.nonzero(pixels.grad.abs().sum((0, 1)), as_tuple=True)
    centre = [(float(own.min()) + float(own.max())) / 2 for own in (rows, columns)]
    assert centre == pytest.approx([15 * 16 + 7.5] * 2, abs=4)
