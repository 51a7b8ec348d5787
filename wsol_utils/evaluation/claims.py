"""The papers' claims, what was measured about each, and the tables and JSON made from that.

`claims.toml` holds each claim in our own words with its published value, control, verdict rule and notebook;
`verdicts` holds the rules. Text in, text out: files are the caller's business.
"""

import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import resources

from wsol_utils.evaluation.statistics import Interval
from wsol_utils.evaluation.verdicts import (
    NOT_REPRODUCED,
    NOT_RESOLVABLE,
    REPRODUCED,
    RULES,
    VERDICTS,
    all_of,
    any_of,
    eq,
    equiv,
    mono,
    order,
    qual,
    sign,
    stated,
    verdict,
)

__all__ = [
    "NOT_REPRODUCED",
    "NOT_RESOLVABLE",
    "REPRODUCED",
    "RULES",
    "VERDICTS",
    "Claim",
    "ClaimResult",
    "all_of",
    "any_of",
    "claim",
    "claims",
    "claims_table",
    "eq",
    "equiv",
    "from_json",
    "mono",
    "order",
    "qual",
    "rules_in_words",
    "short_table",
    "sign",
    "stated",
    "to_json",
    "verdict",
]

COLUMNS_IN_WORDS = """\
Intervals in square brackets are 95 % bootstrap intervals over what was judged; they do not cover another training.
The protocol asks for three seeds. *Not resolvable* means that the test cannot decide, for instance because its
control passes too."""
RULES_IN_WORDS = {
    "EQ(t)": "the largest error in at least 100 cases is at most t.",
    "SIGN(m)": "the interval of the difference lies above zero, and its mean is at least m points.",
    "EQUIV(d)": "the interval of the difference lies inside ±d points.",
    "MONO": "the values rise with the level (rank correlation at least 0.9), and the last lies above the first.",
    "ORDER": "each pair of the stated order passes SIGN(0).",
    "QUAL(n)": "n items are judged better than their control, p < 0.01.",
}

N_SEEDS = 3  # of the protocol


@dataclass(frozen=True)
class Claim:
    """One claim of a paper: its number, our words, the published value with its source, control, rule, notebook."""

    id: str
    sentence: str
    published: str
    control: str
    rule: str
    notebook: str


@dataclass(frozen=True)
class ClaimResult:
    """What was measured about a claim.

    `value` (and `interval`, where there is one) is in `unit`; `control_values` names each control with its value;
    `seeds` are those that were averaged. A claim of several parts has one result for each, told apart by `note`.
    Raises ValueError for an unknown claim or verdict and for a value that is not finite.

    >>> result = ClaimResult("C5.4", 3.1, "points", "scenes, 500 images", [0], "reproduced", Interval(3.1, 1.2, 5.0))
    >>> result.seeds
    (0,)
    """

    id: str
    value: float
    unit: str
    data: str
    seeds: Sequence[int]
    verdict: str
    interval: Interval | None = None
    control_values: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        claim(self.id)
        if self.verdict not in VERDICTS:
            raise ValueError(f"The verdict on {self.id} is one of {', '.join(VERDICTS)}, not {self.verdict!r}.")
        ends = [] if self.interval is None else [self.interval.mean, self.interval.low, self.interval.high]
        if not all(math.isfinite(number) for number in [self.value, *ends, *self.control_values.values()]):
            raise ValueError(f"The result of {self.id} holds a value that is not finite; measure it again.")
        plain = {
            "value": float(self.value),
            "seeds": tuple(int(seed) for seed in self.seeds),
            "control_values": {str(name): float(value) for name, value in self.control_values.items()},
        }
        if self.interval is not None:
            plain["interval"] = Interval(*map(float, ends))
        for name, value in plain.items():
            object.__setattr__(self, name, value)


@cache
def claims() -> dict[str, Claim]:
    """Return every claim by its number.

    >>> claims()["C5.6"].rule
    'reproduced if within 3 points of the tuned one'
    """
    text = resources.files("wsol_utils.evaluation").joinpath("claims.toml").read_text(encoding="utf-8")
    return {number: Claim(number, **entry) for number, entry in tomllib.loads(text).items()}


def claim(number: str) -> Claim:
    """Return the claim of a number such as "C5.4"; raises ValueError for an unknown one.

    >>> claim("C5.4").notebook
    '06'
    """
    if number not in claims():
        raise ValueError(f"There is no claim {number!r}; the numbers go from C2.1 to C9.10, see claims.toml.")
    return claims()[number]


def claims_table(results: Sequence[ClaimResult]) -> str:
    """Return a Markdown table of results in the order of the claims' numbers, each beside its claim.

    Results with fewer seeds than the protocol's three say so.

    >>> print(claims_table([]))
    No claim has been measured yet.
    """
    if not results:
        return "No claim has been measured yet."
    rows = [["Claim", "In our words", "Published", "Measured", "Control", "Data", "Seeds", "Rule", "Verdict", "Note"]]
    for result in sorted(results, key=_by_number):
        stated_claim = claim(result.id)
        controls = "; ".join(f"{name} {_number(value)}" for name, value in result.control_values.items())
        rows.append(
            [
                result.id,
                stated_claim.sentence,
                stated_claim.published,
                _measured(result),
                controls or stated_claim.control,
                result.data,
                _seeds(len(result.seeds)),
                stated_claim.rule,
                f"**{result.verdict}**",
                result.note,
            ]
        )
    return _markdown(rows)


def short_table(results: Sequence[ClaimResult]) -> str:
    """Return number, claim, measured value, data and verdict of results as a Markdown table, to be read at a glance.

    >>> print(short_table([ClaimResult("C5.4", 3.1, "points", "scenes", [0], "reproduced")]).splitlines()[0])
    | Claim | In our words | Measured | On | Verdict |
    """
    rows = [["Claim", "In our words", "Measured", "On", "Verdict"]]
    for result in sorted(results, key=_by_number):
        n_seeds = len(result.seeds)
        data = f"{result.data}; {n_seeds} seed{'s' if n_seeds > 1 else ''}"
        rows.append([result.id, claim(result.id).sentence, _measured(result), data, f"**{result.verdict}**"])
    return _markdown(rows)


def to_json(results: Sequence[ClaimResult]) -> str:
    """Return results as JSON text, one object for each.

    >>> from_json(to_json([])) == []
    True
    """
    return json.dumps([asdict(result) for result in results], indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str) -> list[ClaimResult]:
    """Return the results that `to_json` wrote; raises ValueError for other text."""
    try:
        entries = json.loads(text)
        for entry in entries:
            if entry.get("interval") is not None:
                entry["interval"] = Interval(**entry["interval"])
        return [ClaimResult(**entry) for entry in entries]
    except (TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"The text holds no claim results ({error}); write them again with to_json.") from error


def rules_in_words(results: Sequence[ClaimResult]) -> str:
    """Return a Markdown list of the rules that judged these results, and of what their table's columns mean.

    >>> print(rules_in_words([]).splitlines()[0])
    Intervals in square brackets are 95 % bootstrap intervals over what was judged; they do not cover another training.
    """
    stated_rules = " ".join(claim(result.id).rule for result in results)
    names = set(re.findall(r"[A-Z]{2,}", stated_rules))
    used = [f"- **{rule}**: {words}" for rule, words in RULES_IN_WORDS.items() if rule.split("(")[0] in names]
    return "\n".join([COLUMNS_IN_WORDS, "", *used])


def _by_number(result: ClaimResult) -> list[int]:
    return [int(part) for part in result.id[1:].split(".")]


def _markdown(rows: list[list[str]]) -> str:
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(_cell(text) for text in row) + " |" for row in rows)


def _measured(result: ClaimResult) -> str:
    unit = "" if not result.unit else result.unit if result.unit == "%" else f" {result.unit}"
    if result.interval is None or result.interval.high == result.interval.low:
        return f"{_number(result.value)}{unit}"
    width = result.interval.high - result.interval.low
    n_decimals = max(0, 1 - math.floor(math.log10(width)))  # two digits of the width
    n_decimals += any(round(end, n_decimals) == 0 != end for end in (result.interval.low, result.interval.high))
    return f"{result.interval:z.{n_decimals}f}{unit}"


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _seeds(n_seeds: int) -> str:
    counted = f"{n_seeds} seed" if n_seeds == 1 else f"{n_seeds} seeds"
    return counted if n_seeds >= N_SEEDS else f"{counted} (protocol: {N_SEEDS})"


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("|", r"\|")).strip()
