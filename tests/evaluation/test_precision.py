"""VOC average precision against the stored runs of public codes, brute force and scikit-learn."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve

from wsol_utils.evaluation.precision import average_precision, mean_average_precision, point_average_precision

EXPECTED = {
    "devkit2012_octave_area": ("area", "file_order"),
    "public_11pt_octave": ("11-point", "file_order"),
    "pyfasterrcnn_area_stable": ("area", "file_order"),
    "pyfasterrcnn_11pt_stable": ("11-point", "file_order"),
    "chainercv_area_stable": ("area", "file_order"),
    "chainercv_11pt_stable": ("11-point", "file_order"),
    "pyfasterrcnn_area_ties_positives_first": ("area", "positives_first"),
    "pyfasterrcnn_area_ties_positives_last": ("area", "positives_last"),
}
SCORED = st.lists(st.tuples(st.integers(0, 8), st.sampled_from([-1, -1, 0, 1])), min_size=1, max_size=30)


@pytest.mark.parametrize("key", EXPECTED)
def test_stored_runs(ap_case_file, key):
    for case in json.loads(ap_case_file.read_text())["cases"]:
        scores = np.array([-math.inf if s is None else s for s in case["scores"]], dtype=np.float64)
        found = average_precision(scores, case["labels"], *EXPECTED[key])
        expected = case["expected"][key]
        if case["n_pos"] == 0 and key.endswith("11pt_stable"):
            assert expected is None  # the Python codes divide by zero here; the devkit's 0 is kept
            assert found == 0
        elif expected is None:
            assert math.isnan(found)
        else:
            assert found == pytest.approx(expected, abs=1e-12), case["name"]


def brute_force(scores, labels, convention):
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    n_positives, hits, curve = labels.count(1), 0, []
    for rank, i in enumerate([i for i in order if labels[i] != 0], start=1):
        hits += labels[i] == 1
        curve.append((hits / n_positives, hits / rank))
    if convention == "11-point":
        return sum(max((p for r, p in curve if r >= t * 0.1), default=0) for t in range(11)) / 11
    steps = sorted({r for r, _ in curve if r > 0})
    return sum(
        (r - previous) * max(p for s, p in curve if s >= r) for previous, r in zip([0, *steps], steps, strict=False)
    )


@given(SCORED, st.sampled_from(["area", "11-point"]))
def test_brute_force(scored, convention):
    scores, labels = [s for s, _ in scored], [y for _, y in scored]
    if 1 in labels:
        assert average_precision(scores, labels, convention) == pytest.approx(brute_force(scores, labels, convention))


@given(SCORED)
def test_ties_bound_the_file_order_and_monotone_scores_do_not_matter(scored):
    scores, labels = np.array([s for s, _ in scored]), [y for _, y in scored]
    if 1 in labels:
        worst, file_order, best = (
            average_precision(scores, labels, ties=ties) for ties in ("positives_last", "file_order", "positives_first")
        )
        assert worst <= file_order + 1e-12
        assert file_order <= best + 1e-12
        assert average_precision(np.exp(scores), labels) == file_order


def test_area_is_the_envelope_of_scikit_learns_curve():
    generator = np.random.default_rng(0)
    for _ in range(20):
        scores, labels = generator.random(50), generator.choice([-1, 1], 50)
        precision, recall, _ = precision_recall_curve(labels == 1, scores)
        envelope = np.maximum.accumulate(precision)
        expected = -np.sum(np.diff(recall) * envelope[:-1])
        assert average_precision(scores, labels) == pytest.approx(expected)


def test_mean_leaves_out_classes_without_a_positive():
    scores = np.array([[0.9, 0.5, 0.1], [0.1, 0.6, 0.2]])
    labels = np.array([[-1, 1, -1], [1, -1, 0]])
    assert mean_average_precision(scores, labels) == pytest.approx((0.5 + 0.5) / 2)


@given(SCORED)
def test_points_that_all_hit_give_the_average_precision(scored):
    scores, labels = [s for s, _ in scored], [y for _, y in scored]
    hit = point_average_precision(scores, labels, [True] * len(scores))
    if 1 in labels:
        assert hit == pytest.approx(average_precision(scores, labels))
        assert point_average_precision(scores, labels, [False] * len(scores)) == 0
    else:
        assert math.isnan(hit)


def test_missed_points_are_false_positives_and_missed_objects():
    assert point_average_precision([3, 2, 1], [1, 1, -1], [False, True, False]) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: average_precision([1, 2], [1]), "one length"),
        (lambda: average_precision([1, 2], [1, 2]), "Labels are"),
        (lambda: average_precision([1, np.nan], [1, -1]), "NaN"),
        (lambda: average_precision([1], [1], "median"), "convention"),
        (lambda: average_precision([1], [1], ties="random"), "Ties"),
        (lambda: mean_average_precision([1, 2], [1, -1]), "images, classes"),
        (lambda: mean_average_precision([[1], [2]], [[-1], [-1]]), "No class"),
        (lambda: point_average_precision([1], [1], [True, False]), "one length"),
        (lambda: point_average_precision([1], [3], [True]), "Labels are"),
    ],
)
def test_errors_name_the_thing(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
