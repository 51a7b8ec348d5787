"""The measurements of detectors, on a few scenes and one training."""

import pytest

from wsol_utils.companion.measurements import detectors


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
    assert "C8.5 by SIGN(2)" in table.note
