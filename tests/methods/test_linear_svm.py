"""Linear SVMs against liblinear and scikit-learn's own checks."""

import numpy as np
import pytest
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import estimator_checks_generator

from wsol_utils.methods.linear_svm import LinearSVM, fit_linear

CHECKS = list(estimator_checks_generator(LinearSVM()))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("check", [check for _, check in CHECKS], ids=[check.func.__name__ for _, check in CHECKS])
def test_passes_the_checks_of_scikit_learn(check):
    check(LinearSVM())


def test_fit_linear_takes_c_from_validation_and_never_trains_on_it():
    rng = np.random.default_rng(7)
    centres = rng.normal(0, 3, (3, 5))
    y = np.arange(90) % 3
    x = centres[y] + rng.normal(0, 1, (90, 5))
    classifier = fit_linear(x[:60], y[:60], x[60:], y[60:], Cs=(10, 0.1))
    assert classifier.C == 0.1
    assert classifier.coef_.shape == (3, 5)
    assert classifier.score(x[60:], y[60:]) > 0.9


def test_fit_linear_needs_two_classes():
    with pytest.raises(ValueError, match="all of one class: give some of another"):
        fit_linear(np.eye(3), np.ones(3, int), np.eye(3), np.ones(3, int))


@pytest.mark.parametrize("n_classes", [2, 4])
def test_fit_linear_gives_the_machines_that_liblinear_finds(n_classes):
    rng = np.random.default_rng(8)
    y = np.arange(120) % n_classes
    x = rng.normal(0, 1, (n_classes, 60))[y] + rng.normal(0, 1, (120, 60))
    ours = fit_linear(x[:80], y[:80], x[80:], y[80:], Cs=[0.1])
    theirs = LinearSVC(C=0.1, intercept_scaling=100, max_iter=1_000_000).fit(x[:80], y[:80])
    scores = ours.decision_function(x[80:])
    assert np.corrcoef(scores.ravel(), theirs.decision_function(x[80:]).ravel())[0, 1] > 0.995
    np.testing.assert_array_equal(
        ours.predict(x[80:]), ours.classes_[scores.argmax(1) if n_classes > 2 else (scores > 0) * 1]
    )


@pytest.mark.parametrize("cost", [0.0, -1.0])
def test_a_cost_that_is_not_above_zero_is_refused(cost):
    with pytest.raises(ValueError, match="The 'C' parameter of LinearSVM must be a float in the range"):
        LinearSVM(cost).fit(np.eye(4), [0, 0, 1, 1])
