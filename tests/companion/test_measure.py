import json
from dataclasses import replace

import numpy as np
import pytest

from wsol_utils.companion import chapter, measure, settings
from wsol_utils.companion.measure import Table
from wsol_utils.companion.measurements import boxes as measured_boxes
from wsol_utils.companion.measurements import evaluation as measured_evaluation
from wsol_utils.companion.measurements import fisher as measured_fisher
from wsol_utils.companion.measurements import fisher_and_convnet, fisher_claims
from wsol_utils.companion.measurements import training as measured_training
from wsol_utils.datasets import load
from wsol_utils.evaluation import boxes, claims, pixel_metrics
from wsol_utils.evaluation.statistics import Interval

TABLE = Table("Boxes", "ten images", [0, 1], ["method", "%"], [["CAM", "50.0"]], "No controls.")


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "results_folder", lambda: tmp_path)
    monkeypatch.setitem(measure.MEASUREMENTS, "toy", ("01_toy", "test_toy:make"))
    monkeypatch.setattr(
        measure, "import_module", lambda name: type("Module", (), {"make": staticmethod(lambda: TABLE)})
    )
    return tmp_path


def test_a_measured_table_is_kept_and_shown_with_its_data_and_command(results):
    assert measure.tables_of("01_toy") == []
    made = json.loads(measure.measure("toy").read_text())
    assert made["rows"] == [["CAM", "50.0"]]
    assert {"date", "versions"} < made.keys()
    (shown,) = measure.tables_of("01_toy")
    assert shown.startswith("**Boxes**\n\n| method | % |\n|---|---|\n| CAM | 50.0 |\n\nten images; 2 seeds; measured ")
    assert shown.endswith("by `python -m wsol_utils measure toy`. No controls.")
    assert chapter.on_photographs("01_toy") == [shown]
    assert measure.claims_of("01_toy") == []


def test_errors_name_the_thing_and_the_cure(results):
    with pytest.raises(ValueError, match="no measurement 'boxes': choose from fisher-scenes, fisher-caltech"):
        measure.measure("boxes")
    measure.measure("toy").write_text("{}")
    with pytest.raises(RuntimeError, match=r"toy\.json holds no table: restore it with git, or measure it again"):
        measure.tables_of("01_toy")
    measure.measure("toy").write_text("no json")
    with pytest.raises(RuntimeError, match=r"toy\.json holds no table"):
        measure.claims_of("01_toy")


def test_every_measurement_has_its_function_and_what_ships_can_be_shown():
    for name, (notebook, where) in measure.MEASUREMENTS.items():
        module, function = where.split(":")
        assert callable(getattr(measure.import_module(f"wsol_utils.companion.measurements.{module}"), function)), name
        assert (settings.notebooks_folder() / f"{notebook}.ipynb").exists()
        measure.tables_of(notebook)
    everywhere = {result.id for result in chapter.shipped_claims()}
    assert {result.id for result in measure.claims_of("01_fisher_vectors")} <= everywhere


def test_box_rows_know_a_perfect_map_from_a_wrong_one_and_choose_on_other_images():
    splits = [load("scenes").split(name, 12) for name in ("val", "test")]
    truth = [[split.boxes_of_label(i) for i in range(len(split))] for split in splits]
    perfect = [split.masks.astype(np.float32) for split in splits]
    outside = [1 - masks for masks in perfect]
    found = {"perfect": perfect, "saliency": outside}
    rows, right, _ = measured_boxes.box_rows(found, [split.images for split in splits], truth)
    by_name = {row[0]: row for row in rows}
    assert list(by_name) == ["perfect", "saliency", "centre Gaussian", "saliency + GraphCut", "best constant box"]
    assert by_name["perfect"][1] == by_name["perfect"][2] == "100.0 [100.0, 100.0]"
    assert float(by_name["saliency"][1].split()[0]) < 60
    assert (right["perfect"] == 100).all()
    assert measured_boxes.cam_over_saliency(right["perfect"], right["saliency"], "scenes").verdict == claims.REPRODUCED
    assert measured_boxes.cam_over_saliency(right["saliency"], right["perfect"], "scenes").value < -40
    constant = boxes.best_constant_box(truth[0], 96)
    hits = [boxes.iou(constant, true).max() >= 0.5 for true in truth[1]]
    assert by_name["best constant box"][1].startswith(f"{100 * np.mean(hits):.1f} ")


def test_the_extent_of_gap_is_judged_only_where_both_heads_name_as_well():
    generator = np.random.default_rng(0)
    right, hits = (100.0 * (generator.random(400) < share) for share in (0.5, 0.6))
    better = np.maximum(hits, 100.0 * (generator.random(400) < 0.3))
    heads = {"fc": right, "gap": right, "gmp": right}
    boxes_of = {"CAM, GAP": better, "CAM, GMP": hits}
    cost, extent = measured_boxes._heads_compared(heads, boxes_of, "nothing")
    assert (cost.id, cost.verdict, extent.verdict) == ("C5.2", claims.REPRODUCED, claims.REPRODUCED)
    heads["gmp"] = np.maximum(right, 100.0 * (generator.random(400) < 0.2))
    _, extent = measured_boxes._heads_compared(heads, boxes_of, "nothing")
    assert extent.verdict == claims.NOT_RESOLVABLE
    assert "not within a point" in extent.note


def test_the_table_of_trainings_has_every_arm(tmp_path, monkeypatch):
    monkeypatch.setenv("WSOL_STORE", str(tmp_path))
    scenes = load("scenes")
    small = replace(scenes, default_size=32, read=lambda name, n, size, epoch: scenes.read(name, n or 40, size, epoch))
    monkeypatch.setattr(measured_training, "load", lambda name, n_classes: small)
    monkeypatch.setattr(measured_training, "SEEDS", (0,))
    monkeypatch.setattr(measured_training, "N_EPOCHS", 4)
    table = measured_training.tiny_imagenet()
    assert [row[0] for row in table.rows] == [
        "all jitter", "without crop", "without flip", "without colour", "without occlusion", "no jitter",
        "all jitter, width 0.125", "all jitter, width 0.5", "all jitter, 1 in 4 images", "all jitter, 1 in 2 images",
        "Fisher vectors, SVM",
    ]  # fmt: skip
    assert all(len(row) == len(table.header) for row in table.rows)
    assert len({tuple(row[1:]) for row in table.rows}) > 8, "the arms differ"


def test_the_arms_of_the_fisher_pipeline_differ_in_what_they_name(tmp_path, monkeypatch):
    monkeypatch.setenv("WSOL_STORE", str(tmp_path))
    few = {"train": 60, "train_with_boxes": 20, "val": 20, "test": 30}
    scenes = load("scenes")
    small = replace(scenes, read=lambda name, n, size, epoch: scenes.read(name, few[name], 64, epoch))
    monkeypatch.setattr(measured_fisher, "SEEDS", (0,))
    common = {"n_components": 2, "n_dimensions": 4, "n_descriptors": 2000}
    arms = {
        arm: (common if options.get("kind", "vector") == "vector" else {}) | options
        for arm, options in measured_fisher.ARMS.items()
        if arm in ("K = 4", "only SSR", "x and y appended", "flips and crops", "colour statistics")
    }
    arms["words"] = {"kind": "words", "n_words": 6, "n_descriptors": 2000}
    arms["bands"] = {"kind": "pyramid", "grids": [[1, 1], [3, 1]]}
    network = {"kind": "network", "n_components": [2, 3], "n_dimensions": [4, 3], "n_folds": 2, "windows": [3]}
    arms["network"] = network | {"n_descriptors": 2000}
    arms["rotated"] = network | {"n_descriptors": 2000, "rotated": True}
    runs = measured_fisher._runs(small, arms)
    sizes = {arm: int(run["size"]) for arm, (run,) in runs.items()}
    assert sizes == {
        "K = 4": 2 * 4 * 4, "only SSR": 2 * 2 * 4, "x and y appended": 2 * 2 * (4 + 2), "flips and crops": 2 * 2 * 4,
        "colour statistics": 2 * 2 * 4, "words": 6, "bands": 4 * 2 * 32 * 32, "network": 2 * 3 * 3 + 2 * 2 * 4,
        "rotated": 2 * 3 * 40 + 2 * 2 * 32,
    }  # fmt: skip
    assert all(set(run["right"]) <= {0.0, 100.0} for (run,) in runs.values())
    assert runs["network"][0]["projecting"] > 0
    row = measured_fisher._row("bands", runs["bands"], runs["words"], multi_label=False)
    assert row[0] == "bands"
    assert row[1] == "2048" or int(row[1]) == sizes["bands"]


def test_the_claims_about_fisher_vectors_follow_from_their_arms():
    rng = np.random.default_rng(0)

    def of(share):
        return [{"right": 100.0 * (rng.random(4000) < share), "projecting": np.array(1.0)} for _ in range(3)]

    good = {"two layers": 0.9, fisher_claims.BASE: 0.7, "only SSR": 0.65, "only L2": 0.62, "neither": 0.55}
    good |= {"three bands": 0.7, "x and y appended": 0.7, "flips and crops": 0.75}
    good |= {f"K = {k}": share for k, share in {4: 0.5, 8: 0.57, 16: 0.64, 64: 0.75, 128: 0.8}.items()}
    good |= {f"D = {d}": share for d, share in {8: 0.5, 16: 0.6, 64: 0.75}.items()}
    good |= {"two layers, projection pca": 0.85, "two layers, projection random": 0.8}
    good |= {"two layers, no L2, covariances with common axes": 0.9}
    good |= {"two layers, four sizes of windows": 0.95, "two layers, 8 of the second": 0.6}
    runs = {arm: of(good.get(arm, 0.4)) for arm in measured_fisher.ARMS}
    joint = [run | {"projecting": np.array(9.0)} for run in runs["two layers"]]
    runs["two layers, projection max-margin"] = joint
    placed = {fisher_claims.BASE: of(0.4), "three bands": of(0.6), "x and y appended": of(0.6)}
    results = {r.id: r for r in fisher_claims.judged(runs, placed, "drawn", (0, 1, 2))}
    assert {number: result.verdict for number, result in results.items()} == {
        **{f"C2.{i}": "reproduced" for i in range(5, 11)}, **{f"C3.{i}": "reproduced" for i in range(1, 7)}
    }  # fmt: skip
    assert results["C3.6"].value == pytest.approx(55, abs=2), "over windows at every point"
    assert results["C3.5"].value == pytest.approx(50, abs=2), "over neither"
    runs["two layers, no L2, covariances with common axes"] = of(0.4)
    unneeded = {r.id: r.verdict for r in fisher_claims.judged(runs, placed, "drawn", (0, 1, 2))}
    assert unneeded["C3.5"] == "not resolvable", "the control gains as much"
    runs["two layers"] = of(0.5)
    worse = {r.id: r.verdict for r in fisher_claims.judged(runs, placed, "drawn", (0, 1, 2))}
    assert worse["C3.1"] == worse["C3.2"] == worse["C3.3"] == "not reproduced"
    placed["three bands"] = of(0.4)
    assert {r.id: r.verdict for r in fisher_claims.judged(runs, placed, "drawn", (0, 1, 2))}["C2.9"] == "not resolvable"


def test_beliefs_are_calibrated_and_averaged_on_validation_images():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400)
    good, noise = 2.0 * np.eye(3)[labels] + rng.normal(0, 1, (400, 3)), rng.normal(0, 1, (400, 3))
    for scale in (0.1, 30):
        test, val = fisher_and_convnet.beliefs(scale * good, scale * good, labels)
        np.testing.assert_allclose(np.exp(test).sum(1), 1)
        right, believed = (val.argmax(1) == labels).mean(), np.exp(val.max(1)).mean()
        assert believed == pytest.approx(right, abs=0.05)
    mixed, share = fisher_and_convnet.average((test, val), fisher_and_convnet.beliefs(noise, noise, labels), labels)
    assert (mixed.argmax(1) == labels).mean() > (noise.argmax(1) == labels).mean() + 0.2
    assert share > 0.8, "noise gets little weight"


def test_both_networks_learn_from_the_same_images(tmp_path, monkeypatch):
    monkeypatch.setenv("WSOL_STORE", str(tmp_path))
    monkeypatch.setattr(fisher_and_convnet, "SEEDS", (0, 1))
    monkeypatch.setattr(fisher_and_convnet, "N_IMAGES", (30, 40))
    monkeypatch.setattr(fisher_and_convnet, "N_SEEN", 40)
    scenes = load("scenes")
    small = replace(scenes, default_size=64, read=lambda name, n, size, epoch: scenes.read(name, n or 20, size, epoch))
    table = fisher_and_convnet._table("scenes", small)
    assert [row[0] for row in table.rows] == ["30", "40"]
    assert [result.id for result in table.claims] == ["C3.8", "C3.9"]
    photographs = replace(small, name="photographs")
    first, second = (fisher_and_convnet.draw(photographs, 20, seed) for seed in (0, 1))
    assert set(np.bincount(first.labels)) == {2}, "as many of each class"
    assert not np.array_equal(first.images, second.images)


def test_spreads_tell_the_threshold_from_the_method():
    alike = np.zeros((2, 3, 4, 10), bool)  # seeds, methods, thresholds, images
    alike[:, :, 1] = True
    between, within, everywhere = (values[0] for values in measured_evaluation.spreads(alike, np.arange(4) < 2))
    assert between == 0
    assert within == pytest.approx(100 * np.sqrt(0.5)), "of 0 and 100 %"
    assert everywhere == pytest.approx(50), "of 0, 100, 0 and 0 %"
    unlike = np.zeros((2, 3, 4, 10), bool)
    unlike[:, 1, :, :5] = unlike[:, 2] = True
    between, within, everywhere = measured_evaluation.spreads(unlike, np.arange(4) < 2)
    assert between[0] == pytest.approx(50), "of 0, 50 and 100 %"
    assert np.ptp(between) > 0, "the half that is right varies with the images drawn"
    assert within.max() == everywhere.max() == 0


def test_thresholds_and_methods_are_compared_on_trained_networks(tmp_path, monkeypatch):
    monkeypatch.setenv("WSOL_STORE", str(tmp_path))
    small = {"SEEDS": (0,), "N_TEST": 10, "TRAINING": {"n_images": 32, "n_epochs": 1}}
    for name, value in small.items():
        monkeypatch.setattr(measured_evaluation, name, value)
    table = measured_evaluation.thresholds()
    names = [row[0] for row in table.rows]
    assert names[:2] == ["CAM, GAP", "CAM, GMP"]
    assert names[-2:] == ["centre Gaussian", "spread"]
    assert all(len(row) == len(table.header) for row in table.rows)
    best = [float(row[1].split()[0]) for row in table.rows[:-2]]
    assert table.rows[-1][1].startswith(f"{np.std(best, ddof=1):.1f} "), "over methods, without the centre Gaussian"
    assert table.claims[0].id == "C9.1"


def test_scenes_with_the_object_elsewhere_are_the_same_scenes():
    middle, corner = (measured_evaluation.placed("val", 10, share) for share in (0.0, 1.0))
    np.testing.assert_array_equal(middle.labels, corner.labels)
    for i in range(10):
        (own,), (other,) = middle.boxes_of_label(i), corner.boxes_of_label(i)
        assert (own[:2] + own[2:]) / 2 == pytest.approx([48, 48], abs=4)
        assert own[2:] - own[:2] == pytest.approx(other[2:] - other[:2], abs=3), "the same object, whole"
        assert (np.minimum(other[:2], 96 - other[2:]) < 6).all(), "in a corner"
        untouched = ~(middle.masks[i] | corner.masks[i])
        apart = np.abs(middle.images[i].astype(int) - corner.images[i])[untouched]
        assert np.median(apart) < 8, "but for shadow and grain"


@pytest.fixture
def quickly(monkeypatch):
    monkeypatch.setattr(pixel_metrics, "N_RESAMPLES", 50)
    monkeypatch.setattr(measured_evaluation, "SEEDS", (0,))
    monkeypatch.setattr(measured_evaluation, "N_VAL", 20)
    monkeypatch.setattr(measured_evaluation, "N_TEST", 40)
    return monkeypatch


def test_the_centre_is_strong_on_centred_objects_only(quickly):
    def around_objects(network, split):
        centres = [(own[0, :2] + own[0, 2:]) / 2 - 48 for own in split.boxes]
        return [np.roll(boxes.centre_gaussian(96, 96), np.round(c[::-1]).astype(int), (0, 1)) for c in centres]

    for name, value in {"LENGTHS": (0.35, 0.4), "cams": around_objects, "trained": lambda *given: None}.items():
        quickly.setattr(measured_evaluation, name, value)
    table = measured_evaluation.centre()
    (claim,) = table.claims
    assert claim.verdict == "reproduced"
    assert abs(claim.control_values["CAM minus centre, boxes, in the centre"]) < 5
    assert claim.control_values["CAM minus centre, boxes, in a corner"] == claim.value > 20
    quickly.setattr(measured_evaluation, "cams", lambda network, split: split.masks.astype(float))
    assert measured_evaluation.centre().claims[0].verdict == "not reproduced", "far behind maps that are perfect"


def test_tied_backgrounds_mislead_networks_that_learnt_from_them(quickly):
    def misled_in_a_share(strength, split):
        wrong = np.arange(len(split)) % 20 < 10 * strength
        return np.where(wrong[:, None, None], ~split.masks, split.masks).astype(float)

    fixed = {"cams": misled_in_a_share, "trained": lambda strength, *given: strength}
    for name, value in (fixed | {"_named": lambda *given: Interval(50.0, 45.0, 55.0)}).items():
        quickly.setattr(measured_evaluation, name, value)
    table = measured_evaluation.tied()
    assert [row[0] for row in table.rows] == ["0", "50", "90", "100"]
    assert [row[-1] for row in table.rows] == ["100.0 [100.0, 100.0]"] * 4, "the control knows the object"
    pixels = [float(row[3].split()[0]) for row in table.rows]
    assert pixels[0] == 100 > pixels[1] > pixels[2] > pixels[3]
    assert table.claims[0].verdict == "reproduced"
    quickly.setattr(measured_evaluation, "trained", lambda *given: 0.5)
    assert measured_evaluation.tied().claims[0].verdict != "reproduced", "no fall where all learnt alike"
