import numpy as np
import pytest
import torch

from wsol_utils.companion import adaptation
from wsol_utils.companion.measurements import evidence
from wsol_utils.companion.measurements import patches as measured_patches
from wsol_utils.companion.measurements import pooling as measured_pooling
from wsol_utils.datasets import load
from wsol_utils.evaluation import detection_metrics
from wsol_utils.methods import patch_tiling


def test_patches_with_labels_show_their_object():
    split = load("scenes", view="multi").split("val", 6, image_size=128)
    patches = patch_tiling.tile_patches(128, 128, 3, 0.5)
    seen, targets = adaptation.labelled_patches(split, patches)
    assert len(seen) == len(targets)
    assert set(targets[targets < 10].tolist()) <= set(np.concatenate(split.box_labels).tolist())
    assert 0.05 < (targets == 10).mean() < 0.95


def test_points_and_upper_halves_by_hand():
    split = load("scenes", view="multi").split("test", 5, image_size=96)
    maps = np.zeros((5, 10, 96, 96), np.float32)
    for i in range(5):
        for box, label in zip(split.boxes[i], split.box_labels[i], strict=True):
            maps[i, label, int(box[1]) + 1, int((box[0] + box[2]) / 2)] = 1
    found = measured_patches.places(maps, split, ["cat"] * 10)
    assert set(found.hits) == set(found.upper) == {100.0}
    assert np.isnan(measured_patches.places(maps, split, ["car"] * 10).upper).all()
    mean_ap, hits = adaptation.judge(maps, adaptation.POOLINGS["max"], split)
    assert mean_ap == pytest.approx(100)
    assert set(hits) == {100.0}


def test_the_power_is_chosen_on_photographs_that_are_not_judged(monkeypatch):
    generator = np.random.default_rng(0)
    splits = [load("scenes", view="multi").split(name, 40, image_size=64) for name in ("val", "test")]
    monkeypatch.setattr(measured_patches, "N_TO_CHOOSE", 40)
    monkeypatch.setattr(adaptation, "photographs", lambda: (*splits, None))
    runs = []
    for _ in range(2):  # objects have one high patch, others many of middle height
        drawn = [generator.uniform(0, 0.5, (40, 9, 11)) for _ in splits]
        for posteriors, split in zip(drawn, splits, strict=True):
            posteriors[:, 0, :-1] += 0.3 * split.label_sets
        runs.append(dict(zip(("choosing", "test"), drawn, strict=True)))
    result = measured_patches._powers(runs, splits[1], "scenes")
    means = {
        power: np.mean(
            [adaptation.mean_ap(measured_patches.scores_of(run["test"], power)["scores"], labels) for run in runs]
        )
        for labels in [splits[1].label_sets]
        for power in measured_patches.POWERS
    }
    best = float(result.note.split("power ")[1].split()[0])
    other = 1 if "plain sum" in result.note else np.inf
    assert result.value == pytest.approx(means[best] - means[other])
    assert result.control_values[f"power {best:g} on 40 others"] == max(list(result.control_values.values())[1:-1])


def test_poolings_are_chosen_without_the_test_photographs(tmp_path, monkeypatch):
    monkeypatch.setenv("WSOL_STORE", str(tmp_path))
    scenes = load("scenes", view="multi")
    learnt, test = (scenes.split(name, n, image_size=64) for name, n in (("train", 45), ("test", 12)))
    monkeypatch.setattr(adaptation, "photographs", lambda: (learnt, test, scenes.class_names))
    monkeypatch.setattr(
        adaptation, "at_scales", lambda images: [torch.tensor(images).permute(0, 3, 1, 2)[:, :, ::8, ::8]]
    )
    monkeypatch.setattr(adaptation, "FACTORS", (1.0,))
    monkeypatch.setattr(adaptation, "IMAGE_SIZE", 64)
    monkeypatch.setitem(adaptation.TRAINING, "n_epochs", 1)
    monkeypatch.setattr(evidence, "load", lambda name: scenes)
    monkeypatch.setattr(evidence, "SEEDS", (0,))
    monkeypatch.setattr(detection_metrics, "N_RESAMPLES", 100)
    monkeypatch.setattr(evidence, "SHARPNESSES", (0.3, 3))
    monkeypatch.setattr(evidence, "SHARES", (0, 0.2))
    monkeypatch.setattr(evidence, "ALPHAS", (0, 1))
    for cached in ("learnt_from", "seen_in_test"):
        monkeypatch.setattr(measured_pooling, cached, getattr(measured_pooling, cached).__wrapped__)
    table = evidence.voc()
    rows = {row[0]: row[1:] for row in table.rows}
    assert list(rows)[:7] == [
        "mean", "log-sum-exp, r = 0.3", "log-sum-exp, r = 3", "max", "highest + 1 lowest", "highest 20 %",
        "highest 20 % + 1 lowest 20 %",
    ]  # fmt: skip
    assert all(len(row) == len(table.header) for row in table.rows)
    with_evidence = [name for name in rows if "lowest" in name]
    assert len(with_evidence) == 3, "the other k- at the best k+"
    tested = {name for name, row in rows.items() if row[1]}
    assert {"mean", "max"} < tested
    for of_kind in (list(rows)[1:3], with_evidence):
        (best,) = tested & set(of_kind)
        assert float(rows[best][0]) == max(float(rows[name][0]) for name in of_kind)
        assert "" in rows[best][3:], "not held against itself"
    assert [result.id for result in table.claims] == ["C9.9", "C9.9"]
    shown = table.header[4].split("”")[0].strip("“")
    over = float(rows["mean"][3].split()[0])
    assert over == pytest.approx(float(rows[shown][1].split()[0]) - float(rows["mean"][1].split()[0]), abs=0.11)
    monkeypatch.setattr(adaptation, "photographs", lambda: (learnt, learnt, scenes.class_names))
    monkeypatch.setenv("WSOL_STORE", str(tmp_path / "again"))
    assert [row[:2] for row in evidence.voc().rows] == [row[:2] for row in table.rows], "whatever the test images"


def test_evidence_and_soft_maxima_are_judged_by_what_they_are_held_against(monkeypatch):
    monkeypatch.setattr(detection_metrics, "N_RESAMPLES", 200)
    rng = np.random.default_rng(0)
    label_sets = rng.random((150, 3)) < 0.4
    parts = {"soft": "lse", "evidence": "with", "same without": "without", "best without": "without"}

    def run(noise):
        scores = label_sets + rng.normal(0, noise, label_sets.shape)
        return {"scores": scores, "points": 100.0 * rng.integers(2, size=200)}

    def judged(noise):
        tested = {name: [run(size)] for name, size in noise.items()}
        gains = {
            (one, other): evidence.map_difference(tested[one], tested[other], label_sets)
            for one, other in (
                ("lse", "mean"),
                ("lse", "max"),
                *(("with", other) for other in noise if other != "with"),
            )
        }
        precision = {name: adaptation.mean_ap(of_arm["scores"], label_sets) for name, (of_arm,) in tested.items()}
        soft, against = evidence.judged(tested, gains, parts, "drawn")
        assert against.value == pytest.approx(precision["with"] - precision["without"])
        assert soft.value == pytest.approx(precision["lse"] - max(precision["mean"], precision["max"]))
        return soft.verdict, against.verdict

    good = {"mean": 1.0, "max": 0.9, "lse": 0.4, "with": 0.4, "without": 1.0}
    assert judged(good) == ("reproduced", "reproduced")
    assert judged(good | {"max": 0.2, "without": 0.2}) == ("not reproduced", "not reproduced")
