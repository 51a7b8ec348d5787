"""MaxBoxAcc and MaxBoxAccV2: the share of images whose box is right, at the best threshold on the map.

`mode="clean"` (ours) draws boxes as `box_from_map` does, at the thresholds k/255 of the map's maximum: ends are
exclusive everywhere, holes have no box, a map without a positive value gives the whole image.
`mode="wsolevaluation"` counts exactly as the public code of that name, oddities included; see `wsolevaluation`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsol_utils.evaluation import wsolevaluation
from wsol_utils.evaluation.boxes import checked_boxes, checked_map, iou
from wsol_utils.evaluation.regions import boxes_at_levels, component_boxes, largest_component_box

MODES = ("clean", "wsolevaluation")


@dataclass(frozen=True)
class BoxAccuracy:
    """Box accuracy over images: value in per cent, the curve behind it, and each image's hits for the bootstrap.

    `counts` (n_iou, T) are images right at each IoU and map threshold, `curve` the same in per cent;
    `best_thresholds` (n_iou,) reach the top of each curve (the lowest where several do) and `hits` (n_iou, N) are the
    images right there; `per_image` (N,) in per cent has the mean `value`.
    """

    value: float
    iou_thresholds: tuple[float, ...]
    thresholds: NDArray[np.float64]
    best_thresholds: NDArray[np.float64]
    counts: NDArray[np.int64]
    hits: NDArray[np.bool_]

    @property
    def curve(self) -> NDArray[np.float64]:
        """Accuracy in per cent (n_iou, T)."""
        return 100 * self.counts / self.hits.shape[1]

    @property
    def per_image(self) -> NDArray[np.float64]:
        """Share of IoU thresholds passed by each image (N,), in per cent, at the best map thresholds."""
        return 100 * self.hits.mean(axis=0)


class MaxBoxAcc:
    """Box accuracy of the largest region at IoU 0.5 and the best map threshold (Choe et al. 2020, MaxBoxAcc).

    Call `update(score_map, boxes)` image by image, then `compute()`. The map is (H, W); the true boxes are (k, 4) in
    its frame (exclusive ends; in the mode "wsolevaluation" inclusive, see `wsolevaluation.scale_boxes`). The number of
    thresholds is 255 at most in the clean mode, and 1000 unless told in the other.

    >>> metric = MaxBoxAcc()
    >>> metric.update([[0, 0, 0, 0], [0, 5, 9, 1]], [[1, 1, 3, 2]])
    >>> metric.compute().value
    100.0
    """

    several = False

    def __init__(
        self, mode: str = "clean", n_thresholds: int | None = None, iou_thresholds: Sequence[float] = (0.5,)
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"The mode is 'clean' or 'wsolevaluation', not {mode!r}.")
        self.mode = mode
        self.iou_thresholds = tuple(float(t) for t in iou_thresholds)
        if mode == "wsolevaluation":
            self.thresholds = wsolevaluation.threshold_list(1000 if n_thresholds is None else n_thresholds)
        else:
            n_thresholds = 255 if n_thresholds is None else n_thresholds
            if not 1 <= n_thresholds <= 255:
                raise ValueError(f"The clean mode has 1 to 255 thresholds, not {n_thresholds}.")
            self.thresholds = np.arange(n_thresholds) / n_thresholds
        self._counts = np.zeros((len(self.iou_thresholds), len(self.thresholds)), dtype=np.int64)
        self._packed_hits: list[NDArray[np.uint8]] = []

    def update(self, score_map: ArrayLike, boxes: ArrayLike) -> None:
        """Add one image; raises ValueError for a bad map, a bad box, or an image without a box."""
        truth = checked_boxes(boxes)
        if len(truth) == 0:
            raise ValueError("An image without a true box cannot be scored; leave it out.")
        hits = self._best_iou(score_map, truth) >= np.array(self.iou_thresholds)[:, None]
        self._counts += hits
        self._packed_hits.append(np.packbits(hits, axis=1))

    def compute(self, at: ArrayLike | None = None) -> BoxAccuracy:
        """Return the accuracy over all images so far at the best map threshold for each IoU threshold.

        `at` gives other map thresholds instead, one for each IoU threshold, for instance the best on other images;
        the nearest of the metric's own counts. Raises RuntimeError before the first image.
        """
        if not self._packed_hits:
            raise RuntimeError("No image has been added; call update for every image first.")
        best = self._counts.argmax(axis=1)
        if at is not None:
            best = np.abs(self.thresholds - np.reshape(at, (len(best), 1))).argmin(axis=1)
        bits = np.stack([packed[range(len(best)), best // 8] for packed in self._packed_hits], axis=1)
        hits = (bits >> (7 - best % 8)[:, None] & 1).astype(bool)
        value = float(100 * hits.mean())
        counts = self._counts.copy()
        return BoxAccuracy(value, self.iou_thresholds, self.thresholds, self.thresholds[best], counts, hits)

    def _best_iou(self, score_map: ArrayLike, truth: NDArray[np.float64]) -> NDArray[np.float64]:
        """Largest IoU (T,) of any predicted with any true box at each threshold."""
        if self.mode == "wsolevaluation":
            boxes, starts, which = wsolevaluation.predicted_boxes(score_map, self.thresholds, self.several)
            inclusive = np.array([0, 0, 1, 1])
            best = iou(boxes + inclusive, truth + inclusive).max(axis=1)
        else:
            boxes, starts, which = relative_boxes(score_map, self.thresholds, self.several)
            best = iou(boxes, truth).max(axis=1)
        return np.maximum.reduceat(best, starts)[which]


class MaxBoxAccV2(MaxBoxAcc):
    """Mean of the box accuracies at IoU 0.3, 0.5 and 0.7, each at its own best map threshold; the best region counts.

    As `MaxBoxAcc`, but every region of the map may be the box (Choe et al. 2020, MaxBoxAccV2).

    >>> metric = MaxBoxAccV2()
    >>> metric.update([[9, 9, 9, 0, 1]], [[4, 0, 5, 1]])
    >>> metric.compute().per_image.tolist()
    [100.0]
    """

    several = True

    def __init__(
        self,
        mode: str = "clean",
        n_thresholds: int | None = None,
        iou_thresholds: Sequence[float] = (0.3, 0.5, 0.7),
    ) -> None:
        super().__init__(mode, n_thresholds, iou_thresholds)


def relative_boxes(
    score_map: ArrayLike, relative_thresholds: NDArray[np.float64], several: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return boxes (n, 4) of the distinct masks, where each mask's boxes start, and the mask of each threshold.

    As `box_from_map` for up to 255 ascending shares of the maximum; with `several` the box of every component.

    >>> boxes, starts, which = relative_boxes([[0, 5, 9, 1]], np.array([0.0, 0.3, 0.5]))
    >>> boxes[starts[which]].tolist()
    [[1, 0, 4, 1], [1, 0, 3, 1], [1, 0, 3, 1]]
    """
    values = checked_map(score_map).astype(np.float64)
    height, width = values.shape
    if values.max() <= 0:
        none = np.zeros(len(relative_thresholds), dtype=np.int64)
        return np.array([[0, 0, width, height]]), np.zeros(1, dtype=np.int64), none
    cuts = np.minimum(relative_thresholds * values.max(), np.nextafter(values.max(), 0))
    levels = np.searchsorted(cuts, values.ravel(), side="left").astype(np.uint8)
    rule = component_boxes if several else largest_component_box
    return boxes_at_levels(levels.reshape(height, width), np.arange(len(relative_thresholds)), rule)
