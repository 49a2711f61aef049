"""Splits: a column's word, else a hash of the entity, so that nothing but the id decides."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from absentia.data.splits import SPLITS, assign_splits
from absentia.errors import UserError

IDS = st.lists(st.text(max_size=4), max_size=40)
MANY = [str(i) for i in range(4000)]


def test_shares_without_a_column() -> None:
    found = assign_splits(None, MANY)
    shares = {name: float((found == name).mean()) for name in SPLITS}
    assert shares == {"train": pytest.approx(0.7, abs=0.02), "val": pytest.approx(0.15, abs=0.02),
                      "test": pytest.approx(0.15, abs=0.02)}  # fmt: skip


def test_a_missing_validation_split_is_taken_from_training() -> None:
    words = ["train"] * 3000 + ["test"] * 1000
    found = assign_splits(words, MANY)
    assert (found[3000:] == "test").all()
    assert (found[:3000] == "val").mean() == pytest.approx(0.15, abs=0.02)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["train", "val", "test"], ["train", "val", "test"]),
        (["Training", " VALIDATION ", "eval"], ["train", "val", "test"]),
        (["train", "dev", "testing"], ["train", "val", "test"]),
        (["train", "valid", "train"], ["train", "val", "train"]),
    ],
)
def test_words(words: list[str], wanted: list[str]) -> None:
    assert assign_splits(words, ["a", "b", "c"]).tolist() == wanted


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", None], "column 'part', row 1: None is none of train, val, test"),
        (["train", "trian"], "row 1: 'trian' is none of"),
        ([0, 1], "row 0: 0 is none of"),
    ],
)
def test_words_that_cannot_be(words: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        assign_splits(words, [str(i) for i in range(len(words))], "part")


@given(IDS, st.booleans(), st.randoms())
def test_an_entity_is_on_one_side_in_any_order(ids: list[str], declared: bool, random: Any) -> None:
    if declared and not ids:
        return
    words = ["train"] * len(ids) if declared else None
    found = dict(zip(ids, assign_splits(words, ids).tolist(), strict=True))
    assert assign_splits(words, ids).tolist() == [found[i] for i in ids]
    shuffled = random.sample(ids, len(ids)) + ids[:3]
    words = ["train"] * len(shuffled) if declared else None
    assert assign_splits(words, shuffled).tolist() == [found[i] for i in shuffled]


@given(st.integers(0, 10**6), st.integers(2, 30))
def test_a_few_training_rows_are_enough_for_validation(start: int, count: int) -> None:
    found = assign_splits(["train"] * count, [str(start + i) for i in range(count)])
    assert (found == "val").any() and (found == "train").any()


def test_one_entity_is_for_training() -> None:
    assert assign_splits(["train"] * 3, ["same"] * 3).tolist() == ["train"] * 3
    assert assign_splits(None, []).tolist() == []


def test_longer_words_are_not_cut() -> None:
    found = assign_splits(["train", "validation", "test"], ["a", "b", "c"])
    assert found.tolist() == ["train", "val", "test"] and found.dtype.kind == "U"
