"""The measurements of detectors, on a few scenes and one training."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torchvision.models import squeezenet1_0

from wsol_utils.companion import weights
from wsol_utils.companion.measurements import detector_tables, detectors
from wsol_utils.datasets import voc
from wsol_utils.evaluation import claims
from wsol_utils.methods import faster_rcnn
from wsol_utils.methods.detection import Detections


@pytest.fixture(autouse=True)
def few(tmp_path, monkeypatch):
    monkeypatch.setenv("WSOL_STORE", str(tmp_path))
    sizes = {"N_TRAIN": 10, "N_TEST": 6, "N_EPOCHS": 1, "BUDGET": 8, "N_LAYERS": 10, "N_LAYER_BOXES": 8}
    for name, value in {**sizes, "SEEDS": (0,)}.items():
        monkeypatch.setattr(detectors, name, value)


def test_every_detector_has_a_row_every_pair_its_difference_and_three_claims_are_judged(monkeypatch):
    shown = ("R-CNN", "Fast R-CNN", "Faster R-CNN", "Faster R-CNN of torchvision", "YOLO")
    monkeypatch.setattr(detectors, "DETECTORS", shown)
    table = detectors.scenes()
    assert [row[0] for row in table.rows] == [*shown, *(f"{a} minus {b}" for a, b in detector_tables.PAIRS)]
    assert all(len(row) == len(table.header) for row in table.rows)
    assert table.rows[0][1].endswith("(1.0)")
    assert table.rows[0][3].endswith("(1.0)")
    assert [result.id for result in table.claims] == ["C8.7", "C8.8", "C8.9"]


def test_the_detector_of_torchvision_has_the_settings_of_ours():
    network = weights.shipped("scenes-gap").network
    ours, theirs = faster_rcnn.FasterRCNN(network, 10), detectors.TorchvisionFasterRCNN(network, 10).detector
    for training in (True, False):
        for proposer in (ours.proposer.train(training), theirs.rpn.train(training)):
            assert (proposer.pre_nms_top_n(), proposer.post_nms_top_n()) == (500, 100)
    for name in ("score_thresh", "nms_thresh", "detections_per_img"):
        assert getattr(theirs.roi_heads, name) == getattr(ours.heads, name)
    for own, other in ((ours.heads, theirs.roi_heads), (ours.proposer, theirs.rpn)):
        for part in ("proposal_matcher", "fg_bg_sampler"):
            assert vars(getattr(own, part)) == vars(getattr(other, part))


def fake_runs(n_right, seconds):
    """Three seeds: each detector finds the first n of 20 objects and takes background for objects in the others."""
    truth = [np.array([[0.0, 0, 20, 20]])] * 20, [np.array([0])] * 20, 1
    runs = []
    for seed in range(3):
        run = {}
        for name, n in n_right.items():
            places = [truth[0][i] if i < n else np.array([[50.0, 50, 70, 70]]) for i in range(20)]
            found = [Detections(box, np.array([0]), np.array([1 - i / 20])) for i, box in enumerate(places)]
            run[name] = {"seconds": np.array([1 + seed, seconds[name], 3.0]), **detector_tables.packed(found)}
        runs.append(run)
    return detector_tables.Comparison(runs, truth, (20, 20))


def test_equal_detectors_share_convolutions_at_no_loss_and_yolo_is_faster_and_finds_fewer():
    names = ("R-CNN", "Fast R-CNN", "Faster R-CNN", "Faster R-CNN of torchvision", "YOLO")
    compared = fake_runs(
        dict(zip(names, (18, 18, 18, 19, 9), strict=True)), dict(zip(names, (50, 5, 4, 4, 2), strict=True))
    )
    of = {result.id: result for result in compared.judged("fake", (0, 1, 2))}
    assert of["C8.7"].verdict == of["C8.8"].verdict == claims.REPRODUCED
    assert of["C8.7"].control_values["times faster without proposals"] == 10
    assert of["C8.8"].control_values["of torchvision minus Fast"] > 0
    assert of["C8.9"].interval.low > 0
    assert "time reproduced, mAP reproduced, background not reproduced" in of["C8.9"].note
    assert of["C8.9"].verdict == claims.NOT_REPRODUCED
    assert of["C8.9"].control_values == {"background of Faster": 10, "background of YOLO": 55}


def test_detectors_far_apart_are_not_equal_and_a_slow_yolo_is_not_faster():
    names = ("R-CNN", "Fast R-CNN", "Faster R-CNN", "Faster R-CNN of torchvision", "YOLO")
    compared = fake_runs(
        dict(zip(names, (20, 12, 4, 4, 4), strict=True)), dict(zip(names, (5, 5, 2, 2, 3), strict=True))
    )
    of = {result.id: result for result in compared.judged("fake", (0, 1, 2))}
    assert [of[number].verdict for number in ("C8.7", "C8.8", "C8.9")] == [claims.NOT_REPRODUCED] * 3
    assert "time not reproduced, mAP not resolvable" in of["C8.9"].note


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
    pairs = ["Fast R-CNN minus R-CNN", "Faster R-CNN minus Fast R-CNN", "Faster R-CNN minus YOLO"]
    assert [row[0] for row in table.rows] == [*detectors.VOC_DETECTORS, *pairs]
    assert all(len(row) == len(table.header) for row in table.rows)
    assert table.rows[0][1].endswith("(1.0)")
    assert table.rows[3][2] == table.rows[3][3].split()[0], "YOLO waits for no proposals"
    assert int(table.rows[1][3].split()[0]) > int(table.rows[1][2]), "Fast R-CNN does"
    assert table.data.startswith("VOC 2012, 10 training and 3 test photographs squashed to 96x96")
    assert "Recall at IoU 0.5 with 8 boxes an image: selective search" in table.note
    assert [result.id for result in table.claims] == ["C8.8", "C8.9"]


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
