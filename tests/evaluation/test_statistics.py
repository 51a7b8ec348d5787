"""Bootstrap intervals: coverage, pairing, seeds, and the sentence of every error."""

import numpy as np
import pytest

from wsol_utils.evaluation.statistics import Interval, bootstrap_interval, paired_difference


def test_interval_covers_the_true_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    intervals = [bootstrap_interval(generator.normal(1, 1, 60), seed=i) for i in range(200)]
    covered = sum(i.low <= 1 <= i.high for i in intervals)
    assert 180 <= covered <= 199


def test_interval_of_the_mean_is_near_the_normal_one():
    values = np.random.default_rng(1).normal(5, 2, 400)
    interval = bootstrap_interval(values)
    half_width = 1.96 * values.std() / np.sqrt(400)
    assert interval.mean == values.mean()
    assert interval.low == pytest.approx(values.mean() - half_width, abs=0.03)
    assert interval.high == pytest.approx(values.mean() + half_width, abs=0.03)


def test_same_seed_same_interval_and_confidence_widens():
    values = np.random.default_rng(2).random(50)
    assert bootstrap_interval(values, 7) == bootstrap_interval(values, 7)
    assert bootstrap_interval(values, 7) != bootstrap_interval(values, 8)
    wide, narrow = bootstrap_interval(values, confidence=0.99), bootstrap_interval(values, confidence=0.8)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_seeds_are_averaged_first():
    values = np.random.default_rng(3).random((3, 40))
    assert bootstrap_interval(values) == bootstrap_interval(values.mean(axis=0))
    assert paired_difference(values, values[0]) == bootstrap_interval(values.mean(axis=0) - values[0])


def test_pairing_removes_what_images_have_in_common():
    generator = np.random.default_rng(4)
    difficulty = generator.normal(0, 10, 200)
    a, b = difficulty + 1 + generator.normal(0, 0.1, 200), difficulty
    interval = paired_difference(a, b)
    assert interval.high - interval.low < 0.1
    assert interval.low > 0.9


def test_many_images_stay_in_memory():
    assert bootstrap_interval(np.arange(10_000) % 2).mean == 0.5


def test_interval_prints_without_minus_zero():
    assert str(Interval(-0.01, -0.02, 0.01)) == "0.0 [0.0, 0.0]"


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: bootstrap_interval([1.0]), "two images or more"),
        (lambda: bootstrap_interval(np.zeros((2, 2, 2))), "shape"),
        (lambda: bootstrap_interval(np.zeros((0, 5))), "shape"),
        (lambda: bootstrap_interval([1.0, np.nan]), "NaN"),
        (lambda: paired_difference([1.0, 2.0], [1.0, 2.0, 3.0]), "same images"),
    ],
)
def test_errors_name_the_thing(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
