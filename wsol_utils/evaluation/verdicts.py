"""The verdict rules: what a measurement says about a claim, decided the same way in every notebook.

EQ(t)     the largest absolute error over at least 100 random cases is at most t
SIGN(m)   the interval of the paired difference lies above 0 and its mean is at least m points
EQUIV(d)  the interval of the difference lies inside -d to d
MONO      values rise over the levels (rank correlation at least 0.9) and SIGN(0) holds from first to last
ORDER     SIGN(0) holds for every stated pair
QUAL(n)   a judgement on n items beats its control with p < 0.01

A verdict is one of three strings; a control that failed makes everything but an identity "not resolvable".
"""

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from wsol_utils.evaluation.statistics import Interval

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
NOT_RESOLVABLE = "not resolvable"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, NOT_RESOLVABLE)


def eq(tolerance: float, errors: ArrayLike) -> str:
    """Judge an identity by its errors on random cases; it is never unresolvable, because a failure is a bug.

    Raises ValueError for fewer than 100 cases.

    >>> eq(1e-8, np.zeros(100))
    'reproduced'
    """
    errors = np.asarray(errors, dtype=np.float64).ravel()
    if len(errors) < 100:
        raise ValueError(f"An identity is tested on at least 100 random cases, not {len(errors)}.")
    return REPRODUCED if (np.abs(errors) <= tolerance).all() else NOT_REPRODUCED


def sign(margin: float, difference: Interval, control_passed: bool = True) -> str:
    """Judge a difference with its 95 % interval, ours minus the other, in points.

    Not reproduced when the interval ends below the margin or the mean has the wrong sign.

    >>> sign(2, Interval(3.0, 0.5, 5.5)), sign(2, Interval(1.0, 0.5, 1.5)), sign(2, Interval(1.5, -1.0, 4.0))
    ('reproduced', 'not reproduced', 'not resolvable')
    """
    if not control_passed:
        return NOT_RESOLVABLE
    if difference.low > 0 and difference.mean >= margin:
        return REPRODUCED
    return NOT_REPRODUCED if difference.high < margin or difference.mean < 0 else NOT_RESOLVABLE


def equiv(distance: float, difference: Interval, control_passed: bool = True) -> str:
    """Judge whether two arms are equal up to a distance in points, by the interval of their difference.

    >>> equiv(1, Interval(0.2, -0.3, 0.7)), equiv(1, Interval(3, 2, 4)), equiv(1, Interval(0.5, -0.5, 1.5))
    ('reproduced', 'not reproduced', 'not resolvable')
    """
    if not control_passed:
        return NOT_RESOLVABLE
    if -distance <= difference.low and difference.high <= distance:
        return REPRODUCED
    return NOT_REPRODUCED if difference.low > distance or difference.high < -distance else NOT_RESOLVABLE


def mono(levels: Sequence[Interval], first_to_last: Interval, control_passed: bool = True) -> str:
    """Judge whether values rise over three or more levels; give negative values where the claim is a fall.

    `first_to_last` is the paired difference of the last and the first level. Reproduced at a rank correlation of 0.9
    and SIGN(0) from first to last; otherwise not resolvable when the intervals of all levels overlap; otherwise not
    reproduced at a correlation of 0.5 or below, or when the last level is significantly below the first.
    Raises ValueError for fewer than three levels.

    >>> mono([Interval(v, v - 1, v + 1) for v in (10, 20, 30)], Interval(20, 18, 22))
    'reproduced'
    """
    if len(levels) < 3:
        raise ValueError(f"A trend needs at least three levels, not {len(levels)}.")
    if not control_passed:
        return NOT_RESOLVABLE
    means = [level.mean for level in levels]
    correlation = 0.0 if len(set(means)) == 1 else stats.spearmanr(range(len(means)), means).statistic
    if correlation >= 0.9 - 1e-9 and sign(0, first_to_last) == REPRODUCED:
        return REPRODUCED
    if max(level.low for level in levels) <= min(level.high for level in levels):
        return NOT_RESOLVABLE
    return NOT_REPRODUCED if correlation <= 0.5 + 1e-9 or first_to_last.high < 0 else NOT_RESOLVABLE


def order(differences: Sequence[Interval], control_passed: bool = True) -> str:
    """Judge a stated order by the paired difference of every stated pair, the better minus the worse.

    Not reproduced when one pair is significantly reversed. Raises ValueError without a pair.

    >>> order([Interval(3, 1, 5), Interval(2, 0.5, 3.5)]), order([Interval(3, 1, 5), Interval(-2, -3.5, -0.5)])
    ('reproduced', 'not reproduced')
    """
    if len(differences) == 0:
        raise ValueError("An order needs at least one pair.")
    if not control_passed:
        return NOT_RESOLVABLE
    if all(sign(0, difference) == REPRODUCED for difference in differences):
        return REPRODUCED
    return NOT_REPRODUCED if any(difference.high < 0 for difference in differences) else NOT_RESOLVABLE


def qual(n_items: int, n_right: int, control_share: float, claimed_share: float, control_passed: bool = True) -> str:
    """Judge a blind or automatic judgement on n items against the share right of its control (or chance).

    Reproduced when an exact one-sided binomial test gives p < 0.01; not reproduced when the share right is at or below
    the control's although the test had found `claimed_share`, what the claim would give, with power 0.8.
    Raises ValueError for counts or shares that cannot be.

    >>> qual(10, 8, control_share=0.1, claimed_share=0.5), qual(10, 1, control_share=0.1, claimed_share=0.3)
    ('reproduced', 'not resolvable')
    """
    if not (0 <= n_right <= n_items and n_items > 0 and 0 <= control_share < claimed_share <= 1):
        raise ValueError("A judgement has 0 <= n_right <= n_items and 0 <= control_share < claimed_share <= 1.")
    if not control_passed:
        return NOT_RESOLVABLE
    if stats.binom.sf(n_right - 1, n_items, control_share) < 0.01:
        return REPRODUCED
    least_significant = np.argmax(stats.binom.sf(np.arange(-1, n_items + 1), n_items, control_share) < 0.01)
    power = stats.binom.sf(least_significant - 1, n_items, claimed_share)
    return NOT_REPRODUCED if n_right / n_items <= control_share and power >= 0.8 else NOT_RESOLVABLE


def stated(holds: bool, control_passed: bool = True) -> str:
    """Judge a rule that is stated in words: reproduced if it holds.

    >>> stated(True), stated(True, control_passed=False)
    ('reproduced', 'not resolvable')
    """
    if not control_passed:
        return NOT_RESOLVABLE
    return REPRODUCED if holds else NOT_REPRODUCED


def all_of(verdicts: Iterable[str]) -> str:
    """Judge a claim of several parts that all have to hold: one part not reproduced decides.

    >>> all_of(["reproduced", "not resolvable"])
    'not resolvable'
    """
    return _combined(verdicts, decisive=NOT_REPRODUCED, otherwise=REPRODUCED)


def any_of(verdicts: Iterable[str]) -> str:
    """Judge a claim of alternatives: one part reproduced decides.

    >>> any_of(["reproduced", "not resolvable"])
    'reproduced'
    """
    return _combined(verdicts, decisive=REPRODUCED, otherwise=NOT_REPRODUCED)


def _combined(verdicts: Iterable[str], decisive: str, otherwise: str) -> str:
    parts = list(verdicts)
    if not parts or not set(parts) <= set(VERDICTS):
        raise ValueError(f"Verdicts are one or more of {', '.join(VERDICTS)}, not {parts}.")
    if decisive in parts:
        return decisive
    return NOT_RESOLVABLE if NOT_RESOLVABLE in parts else otherwise


RULES: dict[str, Callable[..., str]] = {
    "EQ": eq,
    "SIGN": sign,
    "EQUIV": equiv,
    "MONO": mono,
    "ORDER": order,
    "QUAL": qual,
}


def verdict(rule: str, *evidence: object, **options: object) -> str:
    """Judge by the name of a rule with its number, such as "SIGN(2)"; the rest goes to the function of that name.

    Raises ValueError for a rule that is not in `RULES`.

    >>> verdict("SIGN(2)", Interval(3.0, 0.5, 5.5))
    'reproduced'
    """
    match = re.fullmatch(r"([A-Z]+)(?:\(([0-9.e+-]+)\))?", rule)
    if match is None or match[1] not in RULES:
        raise ValueError(f"The rule is one of {', '.join(RULES)}, with its number such as SIGN(2), not {rule!r}.")
    numbers = [] if match[2] is None else [int(match[2]) if match[1] == "QUAL" else float(match[2])]
    return RULES[match[1]](*numbers, *evidence, **options)
