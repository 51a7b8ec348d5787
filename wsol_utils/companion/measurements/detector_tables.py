"""Measured detectors compared: the rows of their table, the differences between them, claims C8.7 to C8.9."""

from collections.abc import Sequence

import numpy as np

from wsol_utils.companion.store import Arrays
from wsol_utils.evaluation import claims, metrics, statistics
from wsol_utils.evaluation.claims import ClaimResult
from wsol_utils.methods.detection import Detections

SLOW, FAST, FASTER, TORCHVISION = "R-CNN", "Fast R-CNN", "Faster R-CNN", "Faster R-CNN of torchvision"
PAIRS = ((FAST, SLOW), (FASTER, FAST), (TORCHVISION, FAST), (FASTER, "YOLO"))
HEADER = (
    "detector",
    f"training, s (times faster than {SLOW})",
    "ms an image without proposals",
    "with proposals (times faster)",
    "mAP at IoU 0.5 (area)",
    "background among the best, %",
)


class Comparison:
    """Detectors that looked at the same test images, once for each seed.

    Each of `runs` has for each detector what `packed` makes, and "seconds" of training, testing and searching; `truth`
    are boxes, their labels and the number of classes; `sizes` counts training and test images, over which the seconds
    of the search are shared out.
    """

    def __init__(
        self,
        runs: Sequence[dict[str, Arrays]],
        truth: tuple[Sequence[np.ndarray], Sequence[np.ndarray], int],
        sizes: tuple[int, int],
    ) -> None:
        self.truth, self.n_test = truth, sizes[1]
        self.found = {name: [unpacked(run[name], self.n_test) for run in runs] for name in runs[0]}
        seconds = {name: np.array([run[name]["seconds"] for run in runs]) for name in runs[0]}
        share = sizes[0] / sum(sizes)
        self.training = {name: own[:, 0] + share * own[:, 2] for name, own in seconds.items()}
        self.alone = {name: own[:, 1] for name, own in seconds.items()}
        self.testing = {name: own[:, 1] + (1 - share) * own[:, 2] for name, own in seconds.items()}
        self.differences = {
            pair: metrics.map_difference(*(self.found[name] for name in pair), *self.truth)
            for pair in PAIRS
            if self.found.keys() >= set(pair)
        }

    def rows(self) -> list[list[str]]:
        """A row for each detector and one for each pair, their paired difference in mAP; seconds are medians."""
        rows = []
        for name, of_seeds in self.found.items():
            testing, alone = (1000 * np.median(own[name]) / self.n_test for own in (self.testing, self.alone))
            rows.append(
                [
                    name,
                    f"{np.median(self.training[name]):.0f} ({self._times_faster(self.training, name):.1f})",
                    f"{alone:.0f}",
                    f"{testing:.0f} ({self._times_faster(self.testing, name):.1f})",
                    str(metrics.map_interval(of_seeds, *self.truth)),
                    f"{np.mean(self._background(name)):.1f}",
                ]
            )
        for (first, second), difference in self.differences.items():
            rows.append([f"{first} minus {second}", "", "", "", str(difference), ""])
        return rows

    def judged(self, data: str, seeds: Sequence[int]) -> list[ClaimResult]:
        """What these runs say of C8.7 to C8.9; of C8.7 and C8.8 only the part about mAP.

        C8.7's speed-up by the number of proposals and C8.8's equivariance are judged in the notebook.
        """

        def result(number: str, pair: tuple[str, str], verdict: str, note: str, **controls: float) -> ClaimResult:
            difference, named = self.differences[pair], {k.replace("_", " "): v for k, v in controls.items()}
            return ClaimResult(number, difference.mean, "points", data, seeds, verdict, difference, named, note)

        shared, proposing, library, once = PAIRS
        measured = library in self.differences
        of_library = {"of_torchvision_minus_Fast": self.differences[library].mean} if measured else {}
        less_background = statistics.paired_difference(*map(self._background, once))
        parts = {
            "time": claims.stated(bool((self.testing["YOLO"] < self.testing[FASTER]).all())),
            "mAP": claims.order([self.differences[once]]),
            "background": claims.sign(0, less_background),
        }
        return [
            result(
                "C8.7", shared, claims.equiv(2, self.differences[shared]),
                "only mAP, Fast minus R-CNN; the speed-up by the number of proposals is judged apart",
                times_faster_without_proposals=self._times_faster(self.alone, FAST),
                times_faster_in_training=self._times_faster(self.training, FAST),
            ),
            result(
                "C8.8", proposing, claims.equiv(2, self.differences[proposing]),
                "only mAP, Faster minus Fast; equivariance is judged apart",
                times_faster_than_Fast=float(np.median(self.testing[FAST]) / np.median(self.testing[FASTER])),
                **of_library,
            ),
            result(
                "C8.9", once, claims.all_of(parts.values()),
                "mAP, Faster minus YOLO; " + ", ".join(f"{part} {verdict}" for part, verdict in parts.items()),
                background_of_Faster=float(np.mean(self._background(FASTER))),
                background_of_YOLO=float(np.mean(self._background("YOLO"))),
            ),
        ]  # fmt: skip

    def _times_faster(self, seconds: dict[str, np.ndarray], name: str) -> float:
        return float(np.median(seconds[SLOW]) / np.median(seconds[name]))

    def _background(self, name: str) -> list[np.ndarray]:
        return [metrics.background_shares(one, self.truth[0]) for one in self.found[name]]


def packed(found: list[Detections]) -> Arrays:
    """The detections of several images as arrays for the store."""
    parts = {key: np.concatenate([getattr(one, key) for one in found]) for key in Detections._fields}
    return {"images": np.repeat(np.arange(len(found)), [len(one.boxes) for one in found]), **parts}


def unpacked(run: Arrays, n_images: int) -> list[Detections]:
    """The detections of each of n images, from what `packed` gives."""
    parts = [run["images"] == i for i in range(n_images)]
    return [Detections(run["boxes"][part], run["labels"][part], run["scores"][part]) for part in parts]
