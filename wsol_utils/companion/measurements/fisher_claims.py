"""The claims about Fisher vectors and the deep Fisher network, judged from the arms of `measurements.fisher`."""

from collections.abc import Sequence

import numpy as np

from wsol_utils.companion.store import Arrays
from wsol_utils.evaluation import claims, statistics
from wsol_utils.evaluation.claims import ClaimResult
from wsol_utils.evaluation.statistics import Interval

BASE = "Fisher vector, K = 32, D = 32"
Runs = dict[str, list[Arrays]]


def judged(runs: Runs, arrangements: Runs, data: str, seeds: Sequence[int]) -> list[ClaimResult]:
    """Claims C2.5 to C2.10 and C3.1 to C3.6 by their rules, from the runs of every arm.

    `arrangements` are runs on the set in which place is the label, the control of C2.9.
    """

    def over(arm: str, other: str = BASE, of: Runs = runs) -> Interval:
        return statistics.paired_difference(*([run["right"] for run in of[name]] for name in (arm, other)))

    def level(arm: str) -> Interval:
        return statistics.bootstrap_interval([run["right"] for run in runs[arm]])

    def result(number: str, difference: Interval, verdict: str, note: str, **controls: float) -> ClaimResult:
        named = {name.replace("_", " "): round(float(value), 2) for name, value in controls.items()}
        return ClaimResult(number, difference.mean, "points", data, seeds, verdict, difference, named, note)

    by_k = [f"K = {k}" if k != 32 else BASE for k in (4, 8, 16, 32, 64, 128)]
    by_d = [f"D = {d}" if d != 32 else BASE for d in (8, 16, 32, 64)]
    words = over(BASE, "2048 words, Hellinger")
    both, singles = (
        over(BASE, "neither"),
        [(BASE, "only SSR"), (BASE, "only L2"), ("only SSR", "neither"), ("only L2", "neither")],
    )
    bands, places = over("three bands"), over("x and y appended", "three bands")
    place_counts = [over(arm, of=arrangements) for arm in ("three bands", "x and y appended")]
    second, equal_size = over("two layers"), over("two layers", "K = 96, as long as two layers")
    margin = over("two layers", "two layers, projection max-margin")
    short = "two layers, 8 of the second"
    stacked = over(short, f"{short}, not stacked")
    before_second = over("two layers", "two layers, no L2, no PCA")
    of_common_axes = over("two layers", "two layers, no L2, covariances with common axes")
    not_needed = claims.sign(0.5, of_common_axes) != claims.REPRODUCED
    sizes = over("two layers, four sizes of windows", "two layers, windows at every point")
    ranks = ["two layers", "two layers, projection pca", "two layers, projection random"]
    shuffled = over("two layers", "two layers, projection learnt from shuffled labels")
    cheaper = np.sum([r["projecting"] for r in runs["two layers, projection max-margin"]]) / np.sum(
        [r["projecting"] for r in runs["two layers"]]
    )
    return [
        result(
            "C2.5", words, claims.sign(2, words), "32 Gaussians against 2,048 words of about equal length",
            over_2048_plain_words=over(BASE, "2048 words").mean, over_256_words=over(BASE, "256 words, Hellinger").mean,
        ),
        result(
            "C2.6", over(by_k[-1], by_k[0]), claims.mono([level(arm) for arm in by_k], over(by_k[-1], by_k[0])),
            "from K = 4 to 128: " + ", ".join(f"{level(arm).mean:.1f}" for arm in by_k),
        ),
        result(
            "C2.7", over(by_d[-1], by_d[0]), claims.mono([level(arm) for arm in by_d], over(by_d[-1], by_d[0])),
            "from D = 8 to 64: " + ", ".join(f"{level(arm).mean:.1f}" for arm in by_d),
            PCA_minus_random_projection=over(BASE, "D = 32 by a random projection").mean,
        ),
        result(
            "C2.8", both, claims.all_of([claims.sign(1, both), claims.order([over(*pair) for pair in singles])]),
            "both minus neither", **{f"{a}_over_{b}".replace(BASE, "both"): over(a, b).mean for a, b in singles},
            SSR_over_L2_on_2048_words=over("2048 words, Hellinger", "2048 words").mean,
        ),
        result(
            "C2.9", bands, claims.all_of(
                claims.equiv(2, difference, all(claims.sign(5, d) == claims.REPRODUCED for d in place_counts))
                for difference in (bands, places)
            ),
            "three bands minus none; the controls are gains where place is the label",
            x_and_y_minus_bands=places.mean, bands_by_place=place_counts[0].mean, x_and_y_by_place=place_counts[1].mean,
        ),
        result("C2.10", over("flips and crops"), claims.sign(1, over("flips and crops")), "four views of each image"),
        result(
            "C3.1", second, claims.all_of([claims.sign(1, second), claims.sign(1, equal_size)]), "over one layer",
            over_one_layer_of_equal_size=equal_size.mean, with_a_random_projection=over(ranks[2]).mean,
        ),
        result(
            "C3.2", margin, claims.all_of([claims.equiv(1, margin), claims.stated(cheaper > 1)]),
            "class scores minus joint training, whose 300 steps were not tuned",
            time_of_joint_training_over_scores=cheaper, PCA=over("two layers", ranks[1]).mean,
        ),
        result(
            "C3.3", over(ranks[0], ranks[2]), claims.order(
                [over(ranks[0], ranks[1]), over(ranks[1], ranks[2])], claims.sign(0, shuffled) == claims.REPRODUCED
            ),
            "class scores minus random", class_scores_minus_PCA=over(ranks[0], ranks[1]).mean,
            PCA_minus_random=over(ranks[1], ranks[2]).mean, class_scores_minus_those_of_shuffled_labels=shuffled.mean,
        ),
        result(
            "C3.4", stacked, claims.sign(0.5, stacked), "both of equal size, by PCA to 8 numbers",
            over_larger_windows_instead=over(short, f"{short}, not stacked, larger windows").mean,
        ),
        result(
            "C3.5", before_second, claims.sign(0.5, before_second, not_needed),
            "both minus neither; control: the same over covariances with common axes (PCA without a cut), without L2",
            without_L2=over("two layers, no L2", "two layers").mean,
            without_PCA=over("two layers, no PCA", "two layers").mean, over_common_axes=of_common_axes.mean,
        ),
        result(
            "C3.6", sizes, claims.sign(0.5, sizes), "over windows of one size at every point, of which there are more",
            over_every_second_point=over("two layers, four sizes of windows", "two layers").mean,
        ),
    ]  # fmt: skip
