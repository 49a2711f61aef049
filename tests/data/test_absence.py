from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from absentia.data.absence import MaskPlan
from absentia.data.absence_check import Check, self_test, strength_seen
from absentia.data.absence_protocols import bernoulli, eta, per_modality
from absentia.data.absence_rules import Rule
from absentia.data.absence_scores import normal_scores
from absentia.errors import UserError

MODALITIES = ("image", "sound", "text")
SIZE = 2000
IDS = [f"row {i}" for i in range(SIZE)]
SPLITS = ["train" if i % 5 < 3 else "val" if i % 5 == 3 else "test" for i in range(SIZE)]
VALUES: dict[str, Any] = {
    "age": np.random.default_rng(1).normal(size=SIZE),
    "level": [("low", "middle", "high")[i % 3] for i in range(SIZE)],
    **{name: np.random.default_rng(m).exponential(size=SIZE) for m, name in enumerate(MODALITIES)},
}
HIDDEN = {name: name for name in MODALITIES}
RULES = {
    "single": Rule(p_absent={"image": 0.5, "sound": 0.3, "text": 0.7}),
    "one remains": Rule(p_absent={"image": 0.5, "sound": 0.8, "text": 0.7}),
    "empty": Rule(p_absent={"image": 0.5, "sound": 0.8, "text": 0.9}, allow_empty=True),
    "incomplete": Rule(p_incomplete=0.7),
    "patterns": Rule(patterns={"image": 1, "sound+text": 2, "text+sound+image": 1}),
    "mar": Rule(mechanism="mar", depends_on="age", p_absent={"image": 0.5, "text": 0.4}, strength=2),
    "mar, a category": Rule(mechanism="mar", depends_on="level", p_incomplete=0.5, strength=-1),
    "mnar": Rule(mechanism="mnar", depends_on=HIDDEN, p_absent={"image": 0.5, "sound": 0.3, "text": 0.6}),
    "mnar, patterns": Rule(mechanism="mnar", depends_on=HIDDEN, patterns={"image": 1, "sound+text": 1}),
}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
mcar_rules = pytest.mark.parametrize("rule", [r for r in RULES.values() if r.mechanism == "mcar"])


CONTRASTS = ("flair", "t1", "t1ce", "t2")


def draw(rule: Rule | None, rows: Any = slice(None), **changes: Any) -> MaskPlan:
    """A plan for some of the rows above, all of them in one split."""
    rows = np.arange(SIZE)[rows]
    values = {name: np.asarray(column)[rows] for name, column in VALUES.items()}
    given_ = {"modalities": MODALITIES, "splits": "all", "ids": [IDS[i] for i in rows], "values": values}
    return MaskPlan.draw(**(given_ | {"rules": {"all": rule} if rule else {}} | changes))


def masks(plan: MaskPlan) -> dict[str, list[bool]]:
    return dict(zip(plan.ids, plan.keep.tolist(), strict=True))


def presence(size: int, seed: int = 0) -> npt.NDArray[np.bool_]:
    return np.random.default_rng(seed).random((size, len(MODALITIES))) < 0.8


# --- a mask depends on the entity, and on nothing around it ----------------------------------------------------------


@every_rule
def test_order_and_copies_change_nothing(rule: Rule) -> None:
    plan = draw(rule)
    shuffled = np.random.default_rng(7).permutation(SIZE)
    assert draw(rule, shuffled).sha256 == plan.sha256
    assert draw(rule, np.concatenate([shuffled, shuffled[:500], [0, 0, 0]])).sha256 == plan.sha256


@mcar_rules
def test_a_subset_is_drawn_as_within_the_whole(rule: Rule) -> None:
    whole = masks(draw(rule))
    for rows in (slice(0, 1), slice(None, None, 7), slice(1500, None)):
        part = masks(draw(rule, rows))
        assert part == {name: whole[name] for name in part}


@every_rule
def test_the_order_of_the_modalities_changes_nothing(rule: Rule) -> None:
    plan = draw(rule)
    turned = draw(rule, modalities=MODALITIES[::-1])
    assert np.array_equal(turned.keep, plan.keep[:, ::-1])
    assert turned.sha256 == plan.sha256 == plan.ordered(("text", "image", "sound")).sha256


def test_masks_stay_the_same_for_ever() -> None:
    """Plans that people share name their seed: another version must not draw other masks from it."""
    plan = draw(eta(0.7, modalities=("image", "text")), modalities=("image", "text"), values={})
    assert plan.sha256 == "4f932c32769cbfd8a2ecc1959c4f403ba1355845cdd198547f6136d60eacf8fe"
    assert draw(RULES["single"], values={}).sha256 == "dd1a59510b9774c8b638f0fce751b6d0069b3f73dbd746607d1acd41572f0e71"


def test_seeds_give_different_plans() -> None:
    one, other = (draw(RULES["incomplete"], seed=seed) for seed in (0, 1))
    assert one.sha256 != other.sha256
    same = (one.keep == other.keep).all(axis=1).mean()
    assert same == pytest.approx(0.3**2 + 6 * (0.7 / 6) ** 2, abs=0.04)  # as independent draws would


def test_more_absence_keeps_what_was_absent() -> None:
    """Two plans of one seed differ by as little as their rates let them: less noise between them."""
    little, much = (draw(Rule(p_incomplete=p)) for p in (0.3, 0.7))
    incomplete = ~little.keep.all(axis=1)
    assert np.array_equal(little.keep[incomplete], much.keep[incomplete])
    little, much = (draw(Rule(p_absent={"image": p})) for p in (0.3, 0.7))
    assert not (much.keep & ~little.keep).any()


def test_splits_have_their_own_rules() -> None:
    rules = {"train": RULES["incomplete"], "test": RULES["mar"]}
    plan = MaskPlan.draw(modalities=MODALITIES, splits=SPLITS, ids=IDS, rules=rules, values=VALUES)
    found = plan.realised()
    assert found["val"]["planned"]["p_incomplete"] == 0 and found["val"]["asked"] is None
    assert found["train"]["asked"]["p_incomplete"] == pytest.approx(0.7)
    assert found["test"]["planned"]["p_absent"]["sound"] == 0
    assert plan.about["splits"]["test"]["rule"]["mechanism"] == "mar" and plan.about["seed"] == 0
    assert [found[split]["entities"] for split in ("train", "val", "test")] == [1200, 400, 400]
    assert (
        plan.sha256
        == MaskPlan.draw(
            modalities=MODALITIES, splits=np.asarray(SPLITS), ids=np.asarray(IDS), rules=rules, values=VALUES
        ).sha256
    )


def test_an_entity_of_two_splits_loses_the_same_in_both() -> None:
    rules = {"train": RULES["incomplete"], "test": RULES["incomplete"]}
    splits = ["train"] * SIZE + ["test"] * SIZE
    plan = MaskPlan.draw(modalities=MODALITIES, splits=splits, ids=IDS + IDS, rules=rules)
    assert len(plan) == 2 * SIZE
    everything = np.ones((SIZE, 3), dtype=bool)
    assert np.array_equal(plan.apply(IDS, everything), plan.apply(IDS, everything, "test"))


def test_where_splits_differ_one_has_to_say_which() -> None:
    splits = ["train"] * SIZE + ["test"] * SIZE
    plan = MaskPlan.draw(modalities=MODALITIES, splits=splits, ids=IDS + IDS, rules={"test": RULES["incomplete"]})
    everything = np.ones((SIZE, 3), dtype=bool)
    assert plan.apply(IDS, everything, "train").all()
    assert not plan.apply(IDS, everything, ["test"] * SIZE).all()
    with pytest.raises(UserError, match="different things in different splits"):
        plan.apply(IDS, everything)


# --- the rates are what was asked ------------------------------------------------------------------------------------


@every_rule
def test_rates_come_out_as_asked(rule: Rule) -> None:
    size = 60_000
    rng = np.random.default_rng(0)
    values = {name: rng.exponential(size=size) for name in ("age", "level", *MODALITIES)}
    values["level"] = np.floor(values["level"])
    ids = [str(i) for i in range(size)]
    plan = MaskPlan.draw(modalities=MODALITIES, splits="all", ids=ids, rules={"all": rule}, values=values)
    near_asked(plan)
    assert rule.allow_empty or plan.keep.any(axis=1).all()


TABLES = {
    "bernoulli": bernoulli(0.5, CONTRASTS),
    "fraction": Rule(p_incomplete=0.7),
    "per_modality": per_modality({"t1": 0.2, "t1ce": 0.4, "flair": 0.6, "t2": 0.8}, CONTRASTS),
}


@pytest.mark.parametrize("protocol", TABLES)
def test_a_stored_missing_table(protocol: str, tmp_path: Path) -> None:
    """Same seed, same table; rates within what chance allows of the asked ones; no subject without anything."""
    ids, rule = [f"subject {i}" for i in range(219)], TABLES[protocol]
    keeps = []
    for seed in (0, 0, *range(1, 9)):
        plan = MaskPlan.draw(modalities=CONTRASTS, splits="train", ids=ids, rules={"train": rule}, seed=seed)
        keeps.append(plan.keep)
        assert plan.keep.any(axis=1).all(), "no empty subject"
    assert (keeps[0] == keeps[1]).all() and (keeps[0] != keeps[2]).any()
    plan.save(tmp_path / "table.parquet")
    assert (MaskPlan.load(tmp_path / "table.parquet").keep == plan.keep).all(), "drawn once and kept"
    asked = rule.asked(CONTRASTS)
    for found in keeps[1:]:
        incomplete = int((~found.all(axis=1)).sum())
        if rule.p_incomplete is not None:
            assert binomtest(incomplete, 219, rule.p_incomplete).pvalue > 1e-5
        for m, name in enumerate(CONTRASTS):
            assert binomtest(int((~found[:, m]).sum()), 219, asked["p_absent"][name]).pvalue > 1e-5
    share = 1 - np.mean(keeps[1:], axis=(0, 1))
    expected = np.asarray([asked["p_absent"][name] for name in CONTRASTS])
    assert (np.abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / (9 * 219))).all(), "over all tables too"


def near_asked(plan: MaskPlan) -> None:
    """Every rate within five standard errors."""
    found = plan.realised()["all"]
    asked, planned = found["asked"], found["planned"]
    rates = [(rate, planned["p_absent"][name]) for name, rate in asked["p_absent"].items()]
    rates += [(share, planned["patterns"].get(name, 0.0)) for name, share in (asked["patterns"] or {}).items()]
    for rate, came in rates:
        assert abs(came - rate) <= 5 * np.sqrt(rate * (1 - rate) / len(plan)) + 1e-9


shares = st.floats(0, 1) | st.sampled_from([0.0, 1.0, 0.5, 0.25, 0.75])


@settings(max_examples=60)
@given(
    rates=st.dictionaries(st.sampled_from("abcd"), shares, min_size=1),
    mechanism=st.sampled_from(["mcar", "mar", "mnar"]),
    strength=st.sampled_from([0.0, 1.0, -3.0, 8.0]),
    allow_empty=st.booleans(),
    levels=st.sampled_from([2, 5, 10_000]),
)
def test_any_rates_are_met_or_refused_with_a_reason(
    rates: dict[str, float], mechanism: Any, strength: float, allow_empty: bool, levels: int
) -> None:
    names = sorted(rates)
    depends: Any = {"mcar": None, "mar": "age", "mnar": {name: name for name in names}}[mechanism]
    rule = Rule(mechanism=mechanism, depends_on=depends, p_absent=rates, strength=strength, allow_empty=allow_empty)
    rng = np.random.default_rng(3)
    values = {name: rng.integers(0, levels, SIZE) for name in (*names, "age")}
    try:
        plan = MaskPlan.draw(modalities=names, splits="all", ids=IDS, rules={"all": rule}, values=values)
    except UserError as error:
        expected = ("leaves", "equally much", "cannot be met")
        assert any(words in str(error) for words in expected) and not allow_empty
    else:
        near_asked(plan)
        assert allow_empty or plan.keep.any(axis=1).all()


def test_rates_that_leave_exactly_one_modality() -> None:
    plan = draw(RULES["one remains"])
    assert (plan.keep.sum(axis=1) == 1).all()
    nearly = draw(Rule(p_absent={"image": 0.5, "sound": 0.8, "text": 0.7 - 1e-7}))
    near_asked(nearly)
    assert (nearly.keep.sum(axis=1) == 1).mean() > 0.99


def test_drawing_again_as_bernoulli_does() -> None:
    """Independent draws, drawn again where nothing is left: shares of patterns are those of that procedure."""
    size, r = 60_000, 0.6
    ids = [str(i) for i in range(size)]
    plan = MaskPlan.draw(modalities=MODALITIES, splits="all", ids=ids, rules={"all": bernoulli(r, MODALITIES)})
    found = plan.realised()["all"]["planned"]["patterns"]
    for name, came in found.items():
        kept = len(name.split("+"))
        assert came == pytest.approx((1 - r) ** kept * r ** (3 - kept) / (1 - r**3), abs=0.01)


def test_one_modality() -> None:
    plan = draw(Rule(p_incomplete=0.4, allow_empty=True), modalities=("image",))
    assert plan.realised()["all"]["planned"]["patterns"].keys() == {"image", "nothing"}
    assert draw(Rule(p_absent={"image": 0.0}), modalities=("image",)).keep.all()


# --- mechanisms ------------------------------------------------------------------------------------------------------


def test_the_self_test_is_good() -> None:
    checks = self_test()
    assert len(checks) > 100 and [check for check in checks if not check.good] == []
    strong = [check for check in checks if check.asked == 1.0 and "strength" in check.what]
    assert len(strong) == 2 * 3 * 3
    assert not Check("a rate", 0.5, 0.52, 0.01).good


@pytest.mark.parametrize("strength", [0.5, -1.0, 2.5])
def test_the_strength_is_what_a_logistic_regression_finds(strength: float) -> None:
    size = 20_000
    ids = [f"{i:05}" for i in range(size)]  # in the order of the plan
    age = np.random.default_rng(0).exponential(size=size)
    rule = Rule(mechanism="mar", depends_on="age", p_absent={"image": 0.4, "text": 0.3}, strength=strength)
    plan = MaskPlan.draw(modalities=MODALITIES, splits="all", ids=ids, rules={"all": rule}, values={"age": age})
    score = normal_scores(age, "age")
    for m in (0, 2):
        assert strength_seen(~plan.keep, score, m) == pytest.approx(strength, abs=0.12)
    assert np.isnan(strength_seen(~plan.keep, score, 1))  # sound is never absent


def test_mar_follows_the_levels_of_a_category() -> None:
    rule = Rule(mechanism="mar", depends_on="level", p_incomplete=0.5, strength=3)
    plan = draw(rule, values={"level": [f"{i % 3} of 2" for i in range(SIZE)]})
    lost = {name: not all(kept) for name, kept in masks(plan).items()}
    rates = [np.mean([lost[IDS[i]] for i in range(level, SIZE, 3)]) for level in range(3)]
    assert rates[0] < 0.05 and 0.2 < rates[1] < 0.8 and rates[2] > 0.95


def test_mnar_hides_the_values_it_depends_on() -> None:
    kept = masks(draw(RULES["mnar"]))
    length = np.asarray(VALUES["text"])
    there = np.asarray([kept[name][2] for name in IDS])
    assert length[~there].mean() > 1.5 * length[there].mean()


def test_unknown_values_lose_at_the_middle_rate_and_are_counted() -> None:
    age = np.where(np.arange(SIZE) % 2, VALUES["age"], np.nan)
    rule = Rule(mechanism="mar", depends_on="age", p_absent={"text": 0.5}, strength=4)
    plan = draw(rule, values={"age": age})
    assert plan.about["splits"]["all"]["unknown"] == {"age": SIZE // 2}
    kept = masks(plan)
    lost = np.asarray([not kept[name][2] for name in IDS])
    assert lost[np.isnan(age)].mean() == pytest.approx(0.5, abs=0.06)
    assert lost[age > 1].mean() > 0.9 and lost[age < -1].mean() < 0.1


def test_a_subset_of_mar_comes_from_the_plan() -> None:
    """Redrawn, "high" means something else in a subset; few masks change, and the plan itself is the answer."""
    whole, part = draw(RULES["mar"]), draw(RULES["mar"], slice(None, None, 2))
    same = np.mean([masks(whole)[name] == kept for name, kept in masks(part).items()])
    assert same > 0.95
    everything = np.ones((SIZE // 2, 3), dtype=bool)
    assert np.array_equal(whole.apply(IDS[::2], everything), whole.apply(IDS, np.ones((SIZE, 3), dtype=bool))[::2])


@pytest.mark.parametrize(
    ("rule", "changes", "message"),
    [
        (RULES["mar"], {"values": None}, "column 'age', which is not given"),
        (RULES["mar"], {"values": {"agee": [1]}}, "did you mean 'agee'"),
        (RULES["mar"], {"values": {"age": [1, 2]}}, "2 values for 2000 rows"),
        (RULES["mar"], {"values": {"age": [1] * SIZE}}, "no two different values"),
        (RULES["mar"], {"values": {"age": [[1]] * SIZE}}, "give a summary"),
        (
            Rule(mechanism="mar", depends_on="age", p_incomplete=1.0, composition={"image": 1, "text": 1}),
            {},
            "every row loses equally much",
        ),
        (
            Rule(mechanism="mar", depends_on="age", p_absent={"image": 0.5, "text": 0.5}),
            {"modalities": ("image", "text")},
            "every row loses equally much",
        ),
        (Rule(mechanism="mnar", depends_on={"image": "image"}, p_incomplete=0.5), {}, "mnar hides 'sound' too"),
        (Rule(mechanism="mnar", depends_on={"imag": "age"}, p_incomplete=0.5), {}, "did you mean 'image'"),
        (RULES["single"], {"modalities": ()}, "needs modalities"),
        (RULES["single"], {"modalities": ("image", "image")}, "different names"),
        (RULES["single"], {"rules": {"trian": RULES["single"]}, "splits": "train"}, "did you mean 'train'"),
        (RULES["single"], {"splits": ["train"]}, "1 splits for 2000 rows"),
    ],
)
def test_what_cannot_be_drawn(rule: Rule, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        draw(rule, **changes)


def test_mnar_needs_no_value_of_what_it_never_hides() -> None:
    rule = Rule(mechanism="mnar", depends_on={"text": "text"}, p_absent={"text": 0.5})
    assert draw(rule).keep[:, :2].all()


def test_rows_of_an_entity_have_to_agree_in_what_decides() -> None:
    ids = ["a", "a", "b", "b"]
    rule = Rule(mechanism="mar", depends_on="age", p_absent={"text": 0.5})
    with pytest.raises(UserError, match="column 'age' differs between rows of entity 'a'"):
        draw(rule, ids=ids, values={"age": [1, 2, 3, 3]})
    nan = float("nan")
    assert len(draw(rule, ids=[*ids, "c", "c"], values={"age": [1, 1, 3, 3, nan, nan]})) == 3


def test_an_empty_table_has_an_empty_plan(tmp_path: Path) -> None:
    for rule in RULES.values():
        plan = MaskPlan.draw(modalities=MODALITIES, splits=[], ids=[], rules={"train": rule})
        assert len(plan) == 0 and plan.realised()["train"]["entities"] == 0
    plan.save(tmp_path / "plan.parquet")
    assert MaskPlan.load(tmp_path / "plan.parquet").sha256 == plan.sha256
    assert plan.apply([], np.zeros((0, 3), dtype=bool)).shape == (0, 3)
    with pytest.raises(UserError, match="unknown modality"):
        MaskPlan.draw(modalities=MODALITIES, splits=[], ids=[], rules={"train": Rule(p_absent={"x": 0.1})})


# --- applying --------------------------------------------------------------------------------------------------------


def test_apply_only_takes_away() -> None:
    plan = MaskPlan(modalities=("a", "b"), splits="all", ids=["x", "y"], keep=np.array([[True, False], [True, True]]))
    before = np.array([[True, True], [False, True], [False, False], [True, True]])
    given_ = before.copy()
    after = plan.apply(["x", "y", "x", "y"], before)
    assert after.tolist() == [[True, False], [False, True], [False, False], [True, True]]
    assert np.array_equal(before, given_)


@settings(max_examples=25)
@given(st.lists(st.integers(0, SIZE - 1), max_size=50))
def test_apply_sees_each_row_alone(rows: list[int]) -> None:
    plan = draw(RULES["incomplete"], slice(0, SIZE))
    natural = presence(SIZE)
    whole = plan.apply(IDS, natural)
    assert np.array_equal(plan.apply([IDS[i] for i in rows], natural[rows]), whole[rows])


def test_apply_names_strangers() -> None:
    plan = draw(RULES["single"])
    ids = [*IDS[:5], "who", "what", "where", "when", "who"]
    with pytest.raises(UserError, match=r"4 of the entities \('who', 'what', 'where', ...\).*another table"):
        plan.apply(ids, np.ones((10, 3), dtype=bool))
    with pytest.raises(UserError, match=r"1 of the entities \('row 0'\): it was drawn for another split"):
        plan.apply(IDS[:1], np.ones((1, 3), dtype=bool), "test")
    with pytest.raises(UserError, match=r"presence has shape \(1, 2\)"):
        plan.apply(IDS[:1], np.ones((1, 2), dtype=bool))
    with pytest.raises(UserError, match="3 splits for 1 rows"):
        plan.apply(IDS[:1], np.ones((1, 3), dtype=bool), ["all"] * 3)


def test_ordered_asks_for_the_same_modalities() -> None:
    plan = draw(RULES["single"])
    with pytest.raises(UserError, match="says nothing about 'imag'; did you mean 'image'"):
        plan.ordered(("imag", "sound", "text"))
    with pytest.raises(UserError, match="also about 'text'"):
        plan.ordered(("image", "sound"))


def test_natural_absence_is_counted_apart() -> None:
    keep = np.array([[True, False], [False, True], [True, True], [True, True]])
    plan = MaskPlan(modalities=("a", "b"), splits=["t", "t", "t", "v"], ids=list("wxyz"), keep=keep)
    natural = np.array([[True, True], [True, False], [True, False], [False, False], [True, True]])
    found = plan.realised(["w", "x", "y", "z", "w"], natural)
    assert found["t"]["entities"] == 3 and found["t"]["rows"] == 4
    assert found["t"]["planned"]["p_absent"] == pytest.approx({"a": 1 / 3, "b": 1 / 3})
    assert found["t"]["natural"] == {
        "p_absent": {"a": 0.0, "b": 0.5}, "p_incomplete": 0.5, "patterns": {"a": 0.5, "a+b": 0.5}
    }  # fmt: skip
    assert found["t"]["together"]["p_absent"] == {"a": 0.25, "b": 1.0}
    assert found["t"]["emptied"] == 1  # x had only what the plan hides
    assert found["v"]["emptied"] == 0 and found["v"]["together"]["patterns"] == {"nothing": 1.0}
    json.dumps(found)


def test_plans_made_elsewhere() -> None:
    keep = np.array([[True, False], [False, True]])
    plan = MaskPlan(modalities=("a", "b"), splits=["t", "s"], ids=["x", "x"], keep=keep, about={"from": "a paper"})
    assert plan.splits == ["s", "t"] and plan.keep.tolist() == [[False, True], [True, False]]
    assert plan.realised()["s"]["asked"] is None
    with pytest.raises(UserError, match="'x' comes twice in split 't'"):
        MaskPlan(modalities=("a", "b"), splits="t", ids=["x", "x"], keep=keep)
    with pytest.raises(UserError, match=r"keep has shape \(2, 2\)"):
        MaskPlan(modalities=("a", "b", "c"), splits="t", ids=["x", "x"], keep=keep)


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def plan() -> MaskPlan:
    return draw(RULES["mar"])


@every_rule
def test_a_file_gives_back_the_plan(rule: Rule, tmp_path: Path) -> None:
    plan, path = draw(rule), tmp_path / "new folder" / "plan.parquet"
    plan.save(path)
    again = MaskPlan.load(path)
    assert again.sha256 == plan.sha256 and again.about == plan.about and again.modalities == plan.modalities
    assert again.ids == plan.ids and again.splits == plan.splits and np.array_equal(again.keep, plan.keep)
    assert again.realised() == plan.realised()
    assert os.listdir(path.parent) == ["plan.parquet"]


def test_a_file_is_a_table_that_anyone_can_read(plan: MaskPlan, tmp_path: Path) -> None:
    plan.save(tmp_path / "plan.parquet")
    table = pq.read_table(tmp_path / "plan.parquet")
    assert table.column_names == ["split", "id", "keep.image", "keep.sound", "keep.text"]
    about = json.loads(table.schema.metadata[b"absentia.mask_plan"])
    assert about["sha256"] == plan.sha256
    rule = about["about"]["splits"]["all"]["rule"]
    assert rule["mechanism"] == "mar" and rule["p_absent"] == {"image": 0.5, "text": 0.4}


def test_the_hash_is_of_the_content(plan: MaskPlan, tmp_path: Path) -> None:
    """Another writer, other pages, other compression: the same plan."""
    path = tmp_path / "plan.parquet"
    plan.save(path)
    table = pq.read_table(path)
    shuffled = table.take(np.random.default_rng(0).permutation(len(plan)))
    pq.write_table(shuffled, path, compression="none", row_group_size=100, use_dictionary=False)
    assert MaskPlan.load(path).sha256 == plan.sha256


def changed(table: pa.Table, header: dict[str, Any], **changes: Any) -> pa.Table:
    return table.replace_schema_metadata({b"absentia.mask_plan": json.dumps(header | changes)})


def test_tampering_is_noticed(plan: MaskPlan, tmp_path: Path) -> None:
    path = tmp_path / "plan.parquet"
    plan.save(path)
    table = pq.read_table(path)
    header = json.loads(table.schema.metadata[b"absentia.mask_plan"])
    flipped = np.asarray(table.column("keep.text")).copy()
    flipped[3] ^= True
    column = table.schema.get_field_index("keep.text")
    holes = pa.array([None] * len(plan), pa.bool_())
    lie = {**header["about"], "seed": 7}
    cases = [
        (table.set_column(column, "keep.text", pa.array(flipped)), "was changed"),
        (table.set_column(column, "keep.text", holes), "columns were changed"),
        (table.drop_columns("keep.text"), "columns were changed"),
        (table.slice(1), "was changed"),
        (changed(table, header, about=lie), "was changed"),
        (changed(table, header, sha256="0" * 64), "was changed"),
        (changed(table, header, format=2), "another version"),
        (changed(table, header, modalities="image"), "incomplete"),
        (changed(table, header, about=None), "incomplete"),
        (table.replace_schema_metadata({b"absentia.mask_plan": b"{"}), "cannot be read"),
        (table.replace_schema_metadata({b"absentia.mask_plan": b"3"}), "another version"),
        (table.replace_schema_metadata({}), "not a mask plan"),
        (pa.concat_tables([table, table.slice(0, 1)]), "comes twice"),
    ]
    for forged, message in cases:
        pq.write_table(forged, path)
        with pytest.raises(UserError, match=message):
            MaskPlan.load(path)


def test_files_that_are_no_plans(tmp_path: Path) -> None:
    text = tmp_path / "plan.csv"
    text.write_text("id,split\n")
    with pytest.raises(UserError, match="not a readable Parquet file"):
        MaskPlan.load(text)
    for missing in (tmp_path / "none.parquet", tmp_path):
        with pytest.raises(UserError, match="there is no mask plan"):
            MaskPlan.load(missing)


def test_a_plan_below_a_file_is_one_sentence(plan: MaskPlan, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"plan.parquet cannot be written"):
        plan.save(tmp_path / "file" / "plan.parquet")
    plan.save(tmp_path / "new" / "folder" / "plan.parquet")
    assert os.listdir(tmp_path / "new" / "folder") == ["plan.parquet"]


def test_a_failed_write_leaves_the_old_file(plan: MaskPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plan.parquet"
    plan.save(path)

    def full(source: object, target: Path, **_: object) -> None:
        Path(target).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(UserError, match=r"plan.parquet cannot be written: no space"):
        draw(RULES["single"]).save(path)
    monkeypatch.undo()
    assert MaskPlan.load(path).sha256 == plan.sha256 and os.listdir(tmp_path) == ["plan.parquet"]
