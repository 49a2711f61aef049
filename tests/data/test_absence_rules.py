from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from absentia.data.absence_protocols import bernoulli, eta, per_modality
from absentia.data.absence_rules import Rule, parse_pattern
from absentia.data.absence_scores import cell_summary, normal_scores, ordered_values
from absentia.errors import UserError

MODALITIES = ("image", "sound", "text")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "exactly one of p_absent, p_incomplete, patterns, counted; got none"),
        ({"p_incomplete": 0.5, "patterns": {"image": 1}}, "got p_incomplete and patterns"),
        ({"p_absent": {"image": 1.2}}, "p_absent of 'image' is 1.2"),
        ({"p_absent": {"image": -0.1}}, "between 0 and 1"),
        ({"p_incomplete": float("nan")}, "p_incomplete is nan"),
        ({"patterns": {"image": -1}}, "weight of 'image' is -1"),
        ({"patterns": {"image": float("inf")}}, "weight of 'image' is inf"),
        ({"patterns": {"image": 0, "text": 0}}, "no weight above 0"),
        ({"patterns": {}}, "no weight above 0"),
        ({"patterns": {"image": 1}, "composition": {"image": 1}}, "needs p_incomplete beside it"),
        ({"p_incomplete": 0.5, "mechanism": "mchar"}, "did you mean 'mcar'"),
        ({"p_incomplete": 0.5, "depends_on": "age"}, "mcar depends on nothing"),
        ({"p_incomplete": 0.5, "mechanism": "mar"}, "mar needs depends_on"),
        ({"p_incomplete": 0.5, "mechanism": "mar", "depends_on": {"text": "age"}}, "mar needs depends_on"),
        ({"p_incomplete": 0.5, "mechanism": "mnar", "depends_on": "age"}, "mnar needs depends_on"),
        ({"p_incomplete": 0.5, "strength": float("nan")}, "strength is nan"),
        ({"p_incomplete": 0.5, "strength": -21}, "between -20 and 20"),
        ({"counted": {"image": 1.5}}, "the rate of 'image' is 1.5"),
        ({"counted": {"image": 0.5}, "mechanism": "mar", "depends_on": "age"}, "a rule in counts is mcar"),
        ({"counted": {"image": 0.5}, "allow_empty": True}, "a rule in counts is mcar and leaves every row something"),
    ],
)
def test_rules_that_make_no_sense(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Rule(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"p_absent": {"imgae": 0.5}}, "unknown modality 'imgae'; did you mean 'image'"),
        ({"patterns": {"image+txt": 1}}, "pattern 'image\\+txt': unknown modality 'txt'; did you mean 'text'"),
        ({"patterns": {"image+image": 1}}, "names a modality twice"),
        ({"patterns": {"nothing": 1}}, "leaves rows with nothing"),
        ({"p_incomplete": 0.5, "composition": {"text+sound+image": 1}}, "is complete"),
        ({"counted": {"imgae": 0.5}}, "unknown modality 'imgae'; did you mean 'image'"),
        ({"counted": dict.fromkeys(MODALITIES, 1.0)}, "one has to be left"),
        ({"p_absent": dict.fromkeys(MODALITIES, 0.7)}, "leaves 0.9 modalities to an average row"),
    ],
)
def test_rules_that_do_not_fit_the_modalities(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Rule(**fields).asked(MODALITIES)


def test_one_modality_can_only_be_lost_with_allow_empty() -> None:
    for fields in ({"p_absent": {"image": 0.1}}, {"p_incomplete": 0.1}):
        with pytest.raises(UserError, match="allow_empty"):
            Rule(**fields).asked(("image",))
        asked = Rule(**fields, allow_empty=True).asked(("image",))
        assert asked["p_absent"] == {"image": pytest.approx(0.1)}
    assert Rule(p_incomplete=0.0).asked(("image",))["patterns"] == {"image": 1.0}


def test_too_many_modalities_to_draw_every_pattern_evenly() -> None:
    names = [f"m{i}" for i in range(11)]
    with pytest.raises(UserError, match="give a composition"):
        Rule(p_incomplete=0.5).asked(names)
    assert Rule(p_incomplete=0.5, composition={"m3": 1}).asked(names)["p_absent"]["m4"] == 0.5


def test_incomplete_rows_are_spread_evenly_by_default() -> None:
    asked = Rule(p_incomplete=0.6).asked(MODALITIES)
    assert len(asked["patterns"]) == 7 and "nothing" not in asked["patterns"]
    assert asked["patterns"]["image+sound+text"] == pytest.approx(0.4)
    assert asked["patterns"]["sound"] == pytest.approx(0.1)
    assert asked["p_absent"] == pytest.approx(dict.fromkeys(MODALITIES, 0.3))
    assert "nothing" in Rule(p_incomplete=0.6, allow_empty=True).asked(MODALITIES)["patterns"]


@pytest.mark.parametrize(
    ("absent", "p_absent"),
    [
        ("both", {"text": 0.35, "image": 0.35}),
        ("text", {"text": 0.7, "image": 0.0}),
        ("image", {"text": 0.0, "image": 0.7}),
    ],
)
def test_the_missing_ratio_of_the_literature(absent: str, p_absent: dict[str, float]) -> None:
    asked = eta(0.7, absent=absent, modalities=("text", "image")).asked(("text", "image"))
    assert asked["p_absent"] == pytest.approx(p_absent)
    assert asked["p_incomplete"] == pytest.approx(0.7)


def test_the_missing_ratio_knows_its_modalities() -> None:
    with pytest.raises(UserError, match="did you mean 'text'"):
        eta(0.7, absent="txt", modalities=("text", "image"))


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.999, 1.0])
def test_bernoulli_asks_for_what_drawing_again_leaves(rate: float) -> None:
    names = ("a", "b", "c")
    asked = bernoulli(rate, names).asked(names)["p_absent"]
    expected = 2 / 3 if rate == 1 else (rate - rate**3) / (1 - rate**3)
    assert asked == pytest.approx(dict.fromkeys(names, expected))
    with pytest.raises(UserError, match="between 0 and 1"):
        bernoulli(1.1, names)


def test_rates_of_each_modality_are_what_drawing_again_leaves() -> None:
    names = ("t1", "t1ce", "flair", "t2")
    rates = dict(zip(names, (0.2, 0.4, 0.6, 0.8), strict=True))
    assert per_modality(dict.fromkeys(names, 0.3), names).p_absent == pytest.approx(bernoulli(0.3, names).p_absent)
    drawn = np.random.default_rng(0).random((200_000, 4)) >= list(rates.values())
    kept = drawn[drawn.any(axis=1)]
    found = per_modality(rates, names).p_absent
    assert found is not None and list(found.values()) == pytest.approx((~kept).mean(axis=0), abs=5e-3)
    assert per_modality({"t1": 0.5}, names).p_absent == {"t1": 0.5, "t1ce": 0, "flair": 0, "t2": 0}
    for wrong, message in (({"t3": 0.1}, "unknown modality 't3'"), ({"t1": 2}, "between 0 and 1")):
        with pytest.raises(UserError, match=message):
            per_modality(wrong, names)
    with pytest.raises(UserError, match="one has to be left"):
        per_modality(dict.fromkeys(names, 1.0), names)


def test_patterns_are_named_in_any_order() -> None:
    assert parse_pattern("text + image", MODALITIES) == (True, False, True)
    assert parse_pattern("nothing", MODALITIES) == (False, False, False)
    twice = Rule(patterns={"text+image": 1, "image+text": 1, "sound": 2}).asked(MODALITIES)
    assert twice["patterns"] == {"image+text": 0.5, "sound": 0.5}


def test_a_rule_is_plain_json_without_what_is_not_set() -> None:
    assert Rule(p_incomplete=0.5).to_json() == {"mechanism": "mcar", "p_incomplete": 0.5, "allow_empty": False}
    rule = Rule(mechanism="mar", depends_on="age", strength=2, patterns={"image": 1, "image+text": 1})
    assert Rule(**rule.to_json()) == rule


def test_a_rule_says_which_columns_it_reads() -> None:
    assert Rule(p_incomplete=0.5).columns() == ()
    assert Rule(p_incomplete=0.5, mechanism="mar", depends_on="age").columns() == ("age",)
    both = {"image": "size", "text": "size", "sound": "length"}
    assert Rule(p_incomplete=0.5, mechanism="mnar", depends_on=both).columns() == ("size", "length")


# --- scores --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ([3, 1, None], [3, 1, np.nan]),
        (np.asarray([0.5, np.nan]), [0.5, np.nan]),
        ([True, False, None], [1, 0, np.nan]),
        (pa.array(["b", "a", None, "b"]), [1, 0, np.nan, 1]),
        (pa.array(["b", "a"]).dictionary_encode(), [1, 0]),
        (pa.chunked_array([["z"], ["a"]]), [1, 0]),
        (np.asarray(["2020-01-02", "2020-01-01"], dtype="datetime64[D]"), [18263, 18262]),
        (pa.array([5, 7], pa.timestamp("ms")), [5, 7]),
        (pa.array([5, 7], pa.duration("s")), [5, 7]),
        (pa.nulls(2), [np.nan, np.nan]),
        ([], []),
    ],
)
def test_columns_become_ordered_numbers(column: Any, expected: list[float]) -> None:
    np.testing.assert_array_equal(ordered_values(column, "c"), expected)


@pytest.mark.parametrize("column", [[[1, 2]], [b"x"], [{"a": 1}]])
def test_columns_without_an_order_are_refused(column: Any) -> None:
    with pytest.raises(UserError, match=r"'c' holds .* give a summary"):
        ordered_values(column, "c")


def test_columns_of_mixed_types_are_refused() -> None:
    with pytest.raises(UserError, match="mixes types"):
        ordered_values(["a", 1], "c")


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (["abc", "", None, "ü"], [3, 0, np.nan, 1]),
        ([b"abc", None], [3, np.nan]),
        ([[1, 2, 6], [], None, [None, 4.0]], [3, np.nan, np.nan, 4]),
        ([[[1, 2], [3, 6]], None], [3, np.nan]),
        ([{"bytes": b"ab", "path": None}, {"bytes": None, "path": "x"}], [2, np.nan]),
        ([1.5, None], [1.5, np.nan]),
    ],
)
def test_a_cell_is_summarised_by_a_number(column: Any, expected: list[float]) -> None:
    np.testing.assert_array_equal(cell_summary(pa.array(column), "c"), expected)


def test_a_cell_without_a_summary_is_refused() -> None:
    with pytest.raises(UserError, match="cells without a mean"):
        cell_summary(pa.array([["a"]]), "c")


def test_scores_are_normal_ranks() -> None:
    rng = np.random.default_rng(0)
    values = np.exp(3 * rng.normal(size=20_001))
    scores = normal_scores(values, "c")
    assert scores.mean() == pytest.approx(0, abs=1e-12) and scores.std() == pytest.approx(1, abs=1e-12)
    assert np.array_equal(np.argsort(scores), np.argsort(values))
    assert np.quantile(scores, 0.975) == pytest.approx(1.96, abs=0.01)
    assert np.array_equal(normal_scores(np.log(values), "c"), scores)  # ranks are all that counts


def test_scores_of_levels_and_of_unknown_values() -> None:
    scores = normal_scores(np.asarray([1.0, 0.0, 1.0, np.nan, 0.0]), "c")
    np.testing.assert_allclose(scores, [1, -1, 1, 0, -1])
    for constant in ([2.0, 2.0, np.nan], [np.nan], []):
        with pytest.raises(UserError, match="no two different values"):
            normal_scores(np.asarray(constant), "c")
