"""One-vs-rest linear support vector machines, also where vectors are longer than there are images."""

from collections.abc import Sequence

import numpy as np
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import SVC, LinearSVC
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

HARD = 1e6  # cost of an error on the softened Gram matrix


class LinearSVM(LinearSVC):
    """scikit-learn's linear SVMs with squared hinge loss, fitted on the Gram matrix where vectors are long.

    With fewer than half as many numbers as images, liblinear works on the vectors. With more, the scalar products of
    all pairs of images are enough, several times sooner; the offset is then free of decay.

    Args:
        C: cost of training errors.

    Example:
        >>> machine = LinearSVM().fit(np.eye(4), [0, 0, 1, 1])
        >>> machine.predict(np.eye(4)).tolist()
        [0, 0, 1, 1]
    """

    def __init__(self, C: float = 1.0) -> None:
        super().__init__(C=C, dual="auto")

    def fit(self, X: np.ndarray, y: Sequence, gram: np.ndarray | None = None) -> "LinearSVM":
        """Learn from vectors X (N, D) and labels y (N,) of two classes or more; `gram` is X @ X.T if it is known.

        Raises:
            ValueError: y holds one class only, X and y do not fit each other, or C is not above zero.
        """
        self._validate_params()
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(y)
        if len(np.unique(y)) < 2:
            raise ValueError("The training images are all of one class: give some of another.")
        if 2 * X.shape[1] <= len(X):
            return super().fit(X, y)
        gram = X @ X.T if gram is None else gram
        # The squared hinge loss is a hard margin on gram + 1 / 2C.
        softened = gram + np.eye(len(gram), dtype=gram.dtype) / (2 * self.C)
        dual = OneVsRestClassifier(SVC(C=HARD, kernel="precomputed", tol=1e-2)).fit(softened, y)
        self.classes_ = dual.classes_
        self.coef_ = np.concatenate([one.dual_coef_ @ X[one.support_] for one in dual.estimators_])
        self.intercept_ = np.concatenate([one.intercept_ for one in dual.estimators_])
        self.n_iter_ = max(int(one.n_iter_.max()) for one in dual.estimators_)
        return self

    def __sklearn_tags__(self) -> Tags:
        """Tell scikit-learn that vectors must be dense."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        return tags


def fit_linear(
    train_x: np.ndarray,
    train_y: np.ndarray,
    val_x: np.ndarray,
    val_y: np.ndarray,
    Cs: Sequence[float] = (0.01, 0.1, 1, 10, 100),
) -> LinearSVM:
    """Fit one-vs-rest linear SVMs on train for each C and return the ones with the best validation accuracy.

    Of equal ones the smallest C wins; the chosen value is the attribute `C`.

    Args:
        train_x, val_x: encodings (N, D).
        train_y, val_y: their labels (N,), of two classes or more.

    Raises:
        ValueError: train_y holds one class only.
    """
    gram = train_x @ train_x.T
    machines = [LinearSVM(C).fit(train_x, train_y, gram) for C in sorted(Cs)]
    return max(machines, key=lambda machine: machine.score(val_x, val_y))
