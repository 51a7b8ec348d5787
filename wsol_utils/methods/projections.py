"""How the first layer of a Fisher network learns which few directions of its long vectors to keep (papers, 3.2)."""

from collections.abc import Callable

import numpy as np
import torch
from sklearn.decomposition import PCA

from wsol_utils.methods.linear_svm import LinearSVM

Projection = Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray | None]]
MARGIN_STEPS, MARGIN_DECAY = 300, 1e-4


def class_scores(vectors: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, None]:
    """Weights (C, D) of one-vs-rest linear SVMs on vectors (N, D): the projection is the list of class scores."""
    weights = LinearSVM(C=1.0).fit(vectors, labels).coef_
    return np.concatenate([-weights, weights]) if len(weights) == 1 else weights, None


def max_margin(vectors: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Projection W (C, D) and class vectors v (C, C) learnt together (WSABIE-like; papers, 3.2).

    They minimise the mean over images i of the sum over wrong classes c' of max(0, 1 + (v_c' - v_c(i)) . W x_i), with
    decay, by steps of Adam on W and on v in turn. W begins at the principal axes.
    """
    names, of_class = np.unique(labels, return_inverse=True)
    x, y = torch.tensor(vectors, dtype=torch.float32), torch.tensor(of_class)
    projection = torch.tensor(_axes(vectors, len(names)), dtype=torch.float32, requires_grad=True)
    anchors = torch.randn(
        len(names), len(projection), generator=torch.Generator().manual_seed(seed), requires_grad=True
    )
    steps = [torch.optim.Adam([block], lr=0.03, weight_decay=MARGIN_DECAY) for block in (anchors, projection)]
    for step in range(MARGIN_STEPS):
        optimiser = steps[step // 10 % 2]
        scores = x @ projection.T @ anchors.T
        margins = (1 + scores - scores.gather(1, y[:, None])).clamp(min=0)
        loss = margins.sum(1).mean() - 1  # the class itself adds 1
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return projection.detach().numpy(), anchors.detach().numpy()


def principal_axes(vectors: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, None]:
    """As many principal axes as there are classes, which know nothing of labels: a control."""
    return _axes(vectors, len(np.unique(labels))), None


def random_axes(vectors: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, None]:
    """As many random directions as there are classes: a control."""
    n_axes = len(np.unique(labels))
    return np.random.default_rng(seed).normal(0, vectors.shape[1] ** -0.5, (n_axes, vectors.shape[1])), None


def _axes(vectors: np.ndarray, n_axes: int) -> np.ndarray:
    return PCA(n_axes, svd_solver="randomized", random_state=0).fit(vectors).components_


PROJECTIONS: dict[str, Projection] = {
    "scores": class_scores,
    "max-margin": max_margin,
    "shuffled": class_scores,  # of labels that were shuffled before
    "pca": principal_axes,
    "random": random_axes,
}
WITHOUT_LABELS = ("pca", "random")
