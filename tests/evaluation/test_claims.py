"""Claims, verdict rules row by row of their table, the table of results and its JSON."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsol_utils.evaluation.claims import (
    RULES_IN_WORDS,
    ClaimResult,
    claim,
    claims,
    claims_table,
    from_json,
    rules_in_words,
    to_json,
)
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

INTERVALS = st.lists(st.floats(-20, 20), min_size=3, max_size=3).map(sorted).map(lambda v: Interval(v[1], v[0], v[2]))


def result(number="C5.4", **changes):
    fields = {
        "value": 3.14159,
        "unit": "points",
        "data": "scenes, 500 images",
        "seeds": (0, 1, 2),
        "verdict": REPRODUCED,
        "interval": Interval(3.14159, 1.2345, 5.0),
    }
    return ClaimResult(number, **(fields | changes))


def test_every_claim_of_the_notebooks_is_there():
    counts = {"C2": 10, "C3": 9, "C4": 14, "C5": 13, "C6": 7, "C7": 10, "C8": 17, "C9": 10}
    expected = [f"{chapter}.{i}" for chapter, n in counts.items() for i in range(1, n + 1)]
    assert list(claims()) == expected
    for entry in claims().values():
        assert entry.notebook in {"01", "02", "03", "04", "05", "06", "07", "09", "10"}
        assert entry.sentence.endswith(".")
        assert entry.control
        assert entry.published


def test_rules_use_known_names_only_and_numbers_name_their_source():
    for entry in claims().values():
        names = re.findall(r"\b([A-Z]{2,})\b(?=\(| |$|,|:)", entry.rule)
        assert set(names) - {"PCA", "SNE"} <= set(RULES), entry.id
        assert names or entry.rule.startswith(("reproduced if", "the sign is reported")), entry.id
        if re.search(r"\d\.\d", entry.published):
            assert re.search(r"talk|notes|story|paper|public page|unconfirmed", entry.published), entry.id


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        (np.full(100, 1e-9), REPRODUCED),
        (np.full(100, -1e-7), NOT_REPRODUCED),
        (np.append(np.zeros(99), np.nan), NOT_REPRODUCED),
        (np.append(np.zeros(99), 1e-8), REPRODUCED),
    ],
)
def test_eq(errors, expected):
    assert eq(1e-8, errors) == expected


@given(INTERVALS, st.floats(0, 10), st.booleans())
def test_sign_follows_its_row(difference, margin, control_passed):
    found = sign(margin, difference, control_passed)
    if not control_passed:
        assert found == NOT_RESOLVABLE
    elif difference.low > 0 and difference.mean >= margin:
        assert found == REPRODUCED
    elif difference.high < margin or difference.mean < 0:
        assert found == NOT_REPRODUCED
    else:
        assert found == NOT_RESOLVABLE


@given(INTERVALS, st.floats(0, 10), st.booleans())
def test_equiv_follows_its_row(difference, distance, control_passed):
    inside = abs(difference.low) <= distance and abs(difference.high) <= distance
    outside = difference.low > distance or difference.high < -distance
    expected = REPRODUCED if inside else NOT_REPRODUCED if outside else NOT_RESOLVABLE
    assert equiv(distance, difference, control_passed) == (expected if control_passed else NOT_RESOLVABLE)


def levels(*means, half_width=0.1):
    return [Interval(m, m - half_width, m + half_width) for m in means]


@pytest.mark.parametrize(
    ("level_list", "first_to_last", "expected"),
    [
        (levels(1, 2, 3, 4), Interval(3, 2, 4), REPRODUCED),
        (levels(1, 2, 4, 3, 5), Interval(4, 3, 5), REPRODUCED),  # rank correlation exactly 0.9
        (levels(4, 3, 2, 1), Interval(-3, -4, -2), NOT_REPRODUCED),
        (levels(1, 3, 2), Interval(1, 0.5, 1.5), NOT_REPRODUCED),  # rank correlation exactly 0.5
        (levels(2, 2, 2.5, 2), Interval(0, -0.1, 0.1), NOT_REPRODUCED),
        (levels(1, 2, 4, 3), Interval(2, 1, 3), NOT_RESOLVABLE),  # 0.8: between
        (levels(1, 2, 3, half_width=5), Interval(2, -1, 5), NOT_RESOLVABLE),
        (levels(3, 2, 1, half_width=5), Interval(-2, -5, 1), NOT_RESOLVABLE),
        (levels(2, 2, 2), Interval(0, -1, 1), NOT_RESOLVABLE),
    ],
)
def test_mono(level_list, first_to_last, expected):
    assert mono(level_list, first_to_last) == expected
    assert mono(level_list, first_to_last, control_passed=False) == NOT_RESOLVABLE


@given(st.lists(INTERVALS, min_size=1, max_size=4))
def test_order_follows_its_row(differences):
    if all(d.low > 0 for d in differences):
        expected = REPRODUCED
    else:
        expected = NOT_REPRODUCED if any(d.high < 0 for d in differences) else NOT_RESOLVABLE
    assert order(differences) == expected
    assert order(differences, control_passed=False) == NOT_RESOLVABLE


@pytest.mark.parametrize(
    ("n_items", "n_right", "expected"),
    [
        (100, 30, REPRODUCED),
        (100, 10, NOT_REPRODUCED),
        (100, 14, NOT_RESOLVABLE),  # above the control, but not significantly
        (5, 0, NOT_RESOLVABLE),  # too few items to say no
        (1, 1, NOT_RESOLVABLE),
    ],
)
def test_qual(n_items, n_right, expected):
    assert qual(n_items, n_right, control_share=0.1, claimed_share=0.3) == expected
    assert qual(n_items, n_right, 0.1, 0.3, control_passed=False) == NOT_RESOLVABLE


def test_parts_combine():
    assert all_of([REPRODUCED, REPRODUCED]) == REPRODUCED
    assert all_of(VERDICTS) == NOT_REPRODUCED
    assert any_of(VERDICTS) == REPRODUCED
    assert any_of([NOT_REPRODUCED, NOT_RESOLVABLE]) == NOT_RESOLVABLE
    assert any_of([NOT_REPRODUCED]) == NOT_REPRODUCED
    assert stated(False) == NOT_REPRODUCED
    assert stated(False, control_passed=False) == NOT_RESOLVABLE


def test_rules_by_name():
    assert verdict("EQ(1e-8)", np.zeros(100)) == REPRODUCED
    assert verdict("SIGN(0.5)", Interval(1, 0.6, 1.4)) == REPRODUCED
    assert verdict("EQUIV(2)", Interval(0, -1, 1), control_passed=False) == NOT_RESOLVABLE
    assert verdict("MONO", levels(1, 2, 3), Interval(2, 1, 3)) == REPRODUCED
    assert verdict("ORDER", [Interval(1, 0.5, 2)]) == REPRODUCED
    assert verdict("QUAL(10)", 9, control_share=0.1, claimed_share=0.5) == REPRODUCED


def test_table_shows_claim_number_interval_and_seeds_in_order():
    table = claims_table([result("C5.10"), result("C5.4", seeds=[7], control_values={"centre | Gaussian": 1.239})])
    lines = table.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| C5.4", "| C5.10"]
    assert "3.1 [1.2, 5.0] points" in lines[2]
    assert "1 seed (protocol: 3)" in lines[2]
    assert r"centre \| Gaussian 1.24" in lines[2]
    assert "unconfirmed" in lines[2]
    assert "**reproduced**" in lines[2]
    assert "3 seeds |" in lines[3]
    assert claim("C5.10").control in lines[3]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"interval": None, "value": 1.2e-13, "unit": ""}, "| 1.2e-13 |"),
        ({"interval": Interval(0.512, 0.5, 0.53), "unit": "cosine"}, "0.512 [0.500, 0.530] cosine"),
        ({"interval": Interval(40.4, 20, 60), "unit": "%"}, "| 40 [20, 60]% |"),
        ({"interval": Interval(5, 5, 5), "value": 5, "unit": "times"}, "| 5 times |"),
        ({"interval": None, "value": 81920, "unit": ""}, "| 81,920 |"),
        ({"interval": Interval(9, 0.4, 17.6), "value": 9}, "9.0 [0.4, 17.6] points"),
    ],
)
def test_table_rounds_to_what_the_interval_carries(changes, shown):
    assert shown in claims_table([result(**changes)])


def test_json_brings_back_what_it_was_given():
    given_results = [
        result(note="über 5 | images\nsecond line", control_values={"random": np.float32(0.5)}, seeds=np.arange(3)),
        result("C2.1", interval=None, value=np.float64(1e-9), seeds=[]),
    ]
    assert from_json(to_json(given_results)) == given_results
    assert to_json(from_json(to_json(given_results))) == to_json(given_results)


def test_only_the_rules_that_judged_are_put_into_words():
    words = rules_in_words([result("C5.4"), result("C7.5")])
    assert "**SIGN(m)**" in words
    assert "**EQUIV(d)**" in words
    assert "**EQ(t)**" not in words


def test_every_rule_can_be_put_into_words():
    assert {rule.split("(")[0] for rule in RULES_IN_WORDS} == set(RULES)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: claim("C1.1"), "no claim 'C1.1'"),
        (lambda: result("C99.1"), "no claim"),
        (lambda: result(verdict="yes"), "verdict on C5.4"),
        (lambda: result(value=float("nan")), "not finite"),
        (lambda: result(interval=Interval(1, float("-inf"), 2)), "not finite"),
        (lambda: from_json("{"), "no claim results"),
        (lambda: from_json("[1]"), "no claim results"),
        (lambda: from_json('[{"id": "C5.4"}]'), "no claim results"),
        (lambda: eq(1e-8, np.zeros(99)), "100 random cases"),
        (lambda: mono(levels(1, 2), Interval(1, 0, 2)), "three levels"),
        (lambda: order([]), "at least one pair"),
        (lambda: qual(10, 11, 0.1, 0.5), "n_right <= n_items"),
        (lambda: qual(10, 5, 0.5, 0.5), "control_share < claimed_share"),
        (lambda: all_of([]), "Verdicts are"),
        (lambda: any_of(["yes"]), "Verdicts are"),
        (lambda: verdict("BEST(2)"), "The rule is one of"),
        (lambda: verdict("SIGN(x)"), "The rule is one of"),
    ],
)
def test_errors_name_the_thing(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
