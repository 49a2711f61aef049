"""Mask plans in counts: what PASSION's tables settle, and that the rest is left to chance."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from absentia.cli import main
from absentia.data.absence import MaskPlan
from absentia.data.absence_counted import counts
from absentia.data.absence_protocols import bernoulli, per_modality
from absentia.data.absence_rules import Rule
from absentia.data.schema import pattern_name
from absentia.errors import UserError
from absentia.layers.subsets import all_patterns

CONTRASTS = ("t1", "t1ce", "flair", "t2")
RATES = {"t1": 0.2, "t1ce": 0.4, "flair": 0.6, "t2": 0.8}
SETTLED = {  # of 219 subjects: whole parts of 219 prod p, and 1 at least
    "t1+t1ce+flair+t2": 8,
    "t1+t1ce+t2": 12,
    "t1+t1ce+flair": 33,
    "t1+t1ce": 50,
    "t1+flair+t2": 5,
    "t1+flair": 22,
    "t1+t2": 8,
    "t1": 33,
    "t1ce+flair+t2": 2,
    "t1ce+t2": 3,
    "t1ce+flair": 8,
    "t1ce": 12,
    "flair+t2": 1,
    "flair": 5,
    "t2": 2,
}


def drawn(size: int = 219, seed: int = 0, rule: Rule | None = None, names: tuple[str, ...] = CONTRASTS) -> MaskPlan:
    ids = [f"subject {i}" for i in range(size)]
    rule = rule or per_modality(RATES, names, exact=True)
    return MaskPlan.draw(modalities=names, splits="train", ids=ids, rules={"train": rule}, seed=seed)


def patterns_of(plan: MaskPlan) -> Counter[str]:
    return Counter(pattern_name(plan.modalities, row) for row in plan.keep.tolist())


@pytest.mark.parametrize("seed", range(4))
def test_brats_has_the_counts_of_the_published_tables(seed: int) -> None:
    """204 of 219 are settled; the published 184, 135, 90 and 43 are those and what chance gave to the other 15."""
    found, settled = patterns_of(drawn(seed=seed)), Counter(SETTLED)
    assert settled.total() == 204 and found.total() == 219
    assert all(found[name] >= count for name, count in settled.items())
    known = [sum(n for name, n in SETTLED.items() if contrast in name.split("+")) for contrast in CONTRASTS]
    assert known == [171, 128, 84, 41]
    for have, least, published in zip(drawn(seed=seed).keep.sum(axis=0), known, (184, 135, 90, 43), strict=True):
        assert least <= have <= least + 15 and least <= published <= least + 15
        assert abs(have - published) <= 10


def test_what_is_left_to_chance_is_drawn_by_the_rates() -> None:
    """Over many tables the contrasts of the other 15 come at the rates of independent draws that leave something."""
    extra = np.mean([drawn(seed=seed).keep.sum(axis=0) - [171, 128, 84, 41] for seed in range(60)], axis=0)
    rates = np.asarray(list(RATES.values()))
    expected = 15 * (1 - (rates - rates.prod()) / (1 - rates.prod()))
    assert np.abs(extra - expected).max() < 1.0


def test_every_table_is_another_one_and_the_same_seed_the_same() -> None:
    assert drawn(seed=1).sha256 == drawn(seed=1).sha256 != drawn(seed=2).sha256
    first, second = drawn(seed=1).keep, drawn(seed=2).keep
    assert (first != second).any(axis=1).mean() > 0.5


def test_order_and_copies_of_rows_and_the_order_of_modalities_change_nothing() -> None:
    ids, rule = [f"subject {i}" for i in range(219)], per_modality(RATES, CONTRASTS, exact=True)
    shuffled = [ids[i] for i in np.random.default_rng(0).permutation(219)]
    for given_ids in (shuffled, shuffled + ids[:50]):
        plan = MaskPlan.draw(modalities=CONTRASTS, splits="train", ids=given_ids, rules={"train": rule})
        assert plan.sha256 == drawn().sha256
    turned = drawn(names=CONTRASTS[::-1])
    assert (
        turned.sha256
        == MaskPlan.draw(
            modalities=CONTRASTS,
            splits="train",
            ids=ids,
            rules={"train": per_modality(RATES, CONTRASTS[::-1], exact=True)},
        ).sha256
    )
    assert (turned.keep[:, ::-1] == drawn().keep).all()


def test_the_asked_rates_are_those_of_independent_draws() -> None:
    exact, loose = (per_modality(RATES, CONTRASTS, exact=exact).asked(CONTRASTS) for exact in (True, False))
    assert exact["p_absent"] == pytest.approx(loose["p_absent"])
    assert exact["p_incomplete"] == pytest.approx(1 - 0.8 * 0.6 * 0.4 * 0.2 / (1 - 0.0384))
    assert sum(exact["patterns"].values()) == pytest.approx(1) and len(exact["patterns"]) == 15


def test_equal_rates_in_counts() -> None:
    rule = bernoulli(0.5, CONTRASTS, exact=True)
    assert rule.counted == dict.fromkeys(CONTRASTS, 0.5)
    found = patterns_of(drawn(160, rule=rule))
    assert len(found) == 15 and min(found.values()) >= 10


@settings(max_examples=60)
@given(
    size=st.integers(0, 400),
    rates=st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.8, 0.99, 1.0]), min_size=1, max_size=4),
    seed=st.integers(0, 3),
)
def test_any_rates_leave_something_and_nothing_impossible(size: int, rates: list[float], seed: int) -> None:
    names = CONTRASTS[: len(rates)]
    if all(rate == 1 for rate in rates):
        with pytest.raises(UserError, match="one has to be left"):
            per_modality(dict(zip(names, rates, strict=True)), names, exact=True)
        return
    plan = drawn(size, seed, per_modality(dict(zip(names, rates, strict=True)), names, exact=True), names)
    assert len(plan) == size and plan.keep.any(axis=1).all()
    for m, rate in enumerate(rates):
        assert rate != 0 or plan.keep[:, m].all()
        assert rate != 1 or not plan.keep[:, m].any()


def test_fewer_entities_than_patterns_get_the_expected_ones() -> None:
    patterns = [tuple(row) for row in all_patterns(4).tolist()]
    few = counts(4, list(RATES.values()), patterns)
    named = {pattern_name(CONTRASTS, p): n for p, n in zip(patterns, few, strict=True) if n}
    assert named == {"t1+t1ce": 1, "t1": 1, "t1+t1ce+flair": 1, "t1+flair": 1}
    assert counts(0, [0.5], [(True,)]) == [0]


def test_whole_numbers_are_not_lost_to_rounding() -> None:
    patterns = [tuple(row) for row in all_patterns(4).tolist()]
    found = counts(10_000, list(RATES.values()), patterns)
    assert sum(found) == 10_000 - 384 and max(found) == 2304


def test_many_modalities_have_too_many_patterns() -> None:
    names = tuple(f"m{i}" for i in range(11))
    with pytest.raises(UserError, match="11 modalities have too many patterns to count"):
        drawn(20, rule=bernoulli(0.5, names, exact=True), names=names)


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split = ["train"] * 219 + ["val"] * 50 + ["test"] * 100
    table = {"id": [f"s{i}" for i in range(369)], "split": split}
    table |= {name: [[[float(i)]] for i in range(369)] for name in CONTRASTS}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    words = ["mask", str(tmp_path / "t.parquet"), *(f"--modality={name}=volume" for name in CONTRASTS)]
    rates = [word for name, rate in RATES.items() for word in ("--per-modality", f"{name}={rate}")]
    out = str(tmp_path / "p.parquet")
    assert main([*words, *rates, "--exact", "--seed", "1037", "--parts", "train", "--out", out]) == 0
    assert "p_absent t2" in capsys.readouterr().out
    plan = MaskPlan.load(out)
    assert plan.about["splits"]["train"]["rule"]["counted"] == RATES
    train = np.asarray(plan.splits) == "train"
    assert plan.keep[~train].all()
    found = Counter(pattern_name(CONTRASTS, row) for row in plan.keep[train].tolist())
    assert found.total() == 219 and all(found[name] >= count for name, count in SETTLED.items())
