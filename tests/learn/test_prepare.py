"""Tables that hardly can be learned from: each gets one sentence, or a note in the report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import tiny

from absentia.data.table import open_table
from absentia.errors import UserError
from absentia.jobs import train_run
from absentia.learn.prepare import prepare
from absentia.learn.row_notes import notes_on_sides

Change = Callable[[dict[str, Any]], dict[str, Any]]
NOTHING = dict.fromkeys(("photo", "words", "height", "colour", "wave"))


def changed(change: Change, split: str = "") -> tiny.Rows:
    """The table with something else in all rows, or in those of one split."""
    return [row | (change(row) if split in ("", row["split"]) else {}) for row in tiny.rows()]


@pytest.mark.parametrize(
    ("content", "target", "sentence"),
    [
        (changed(lambda row: {"kind": "dog"}), "kind", "constant"),
        (changed(lambda row: {"weight": 1.5}), "weight=number", "constant"),
        (changed(lambda row: {"tags": []}), "tags", "constant"),
        (changed(lambda row: {"weight": None}), "weight=number", "no training row has a value"),
        (changed(lambda row: {"weight": -1.0}, "val"), "weight=log", "no logarithm"),
        (changed(lambda row: {"kind": "dog"}, "test"), "kind", "'dog' was never seen in training"),
        (changed(lambda row: {"split": "test"}), "kind", "no row is for training"),
        (changed(lambda row: {"split": "future"}, "test"), "kind", "'future' is none of train, val, test"),
        (changed(lambda row: NOTHING), "kind", "has anything present"),
    ],
)
def test_what_cannot_be_learned_is_one_sentence(content: tiny.Rows, target: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        tiny.prepared(content, target)


@pytest.mark.parametrize("policy", ["absent", "skip"])
@pytest.mark.parametrize("split", ["train", ""])
def test_a_modality_that_cannot_be_read_in_any_training_row_is_one_sentence(policy: Any, split: str) -> None:
    content = changed(lambda row: {"wave": [float("nan")]}, split)
    with pytest.raises(UserError, match=r"bad cells.*no training row is left.*row \d+, column 'wave'"):
        tiny.prepared(content, on_bad=policy)


def test_a_modality_that_no_training_row_has_is_left_out_with_a_word() -> None:
    data = tiny.prepared(changed(lambda row: {"wave": None}, "train"))
    assert data.names == ["photo", "words", "facts"]
    assert any("No training row has 'wave'" in note and "answered without it" in note for note in data.notes)
    data = tiny.prepared(changed(lambda row: {"wave": None}))
    assert "No row has 'wave'; it was left out." in data.notes


def test_a_modality_that_only_rows_without_a_target_have_is_left_out() -> None:
    content = changed(lambda row: {"kind": None} if row["wave"] is not None else {}, "train")
    data = tiny.prepared(content)
    assert data.names == ["photo", "words", "facts"]
    assert any("rows have no target" in note for note in data.notes)


def test_splits_that_are_not_there_are_said(tmp_path: Path) -> None:
    data = tiny.prepared(changed(lambda row: {"split": "train"}))
    assert len(data.rows["val"]) and not len(data.rows["test"])
    assert "There is no test split; the scores are those of the validation rows." in data.notes
    unknown = changed(lambda row: {"weight": None} if row["split"] != "train" else {})
    report = train_run(
        tiny.config(target="weight=number", names=("facts",)), tmp_path / "run", source=tiny.table(unknown)
    )
    assert report["mean"] is None and all(line["score"] is None for line in report["patterns"])
    assert any("no validation rows" in note for note in report["notes"])
    assert any("nothing was scored" in note for note in report["notes"])


def test_what_was_fitted_before_is_not_fitted_again() -> None:
    """A resumed run has the decoders it started with, whatever the table says now."""
    first = tiny.prepared()
    table = open_table(tiny.table(changed(lambda row: {"words": "all new"})))
    again = prepare(table, tiny.schema(), plan=None, on_bad="error", fitted=first.fitted)
    assert again.fitted is first.fitted
    ids = again.rows["train"].batch(np.arange(3)).inputs["words"]["ids"]
    assert ids.shape[1] > 2, "unknown to its vocabulary, so spelled in pieces"


def test_entities_on_both_sides_of_a_split_are_named() -> None:
    content = changed(lambda row: {"id": "twin"} if row["split"] == "test" else {})
    alone = " ".join(tiny.prepared(content).notes)
    assert "are of one entity (column 'id': twin)" in alone and "training rows are of too" not in alone
    known = next(row["id"] for row in content if row["split"] == "train" and row["kind"] is not None)
    both = " ".join(tiny.prepared(changed(lambda row: {"id": known} if row["split"] == "test" else {})).notes)
    assert f"test rows are of entities that training rows are of too (column 'id': {known})" in both
    assert not any("entit" in note for note in tiny.prepared(changed(lambda row: {})).notes)


def test_rows_that_equal_a_training_row_are_counted() -> None:
    split, ids = np.asarray(["train", "train", "val", "test", "test"]), ["a", "b", "c", "a", "b"]
    said = notes_on_sides(split, np.ones(5, dtype=np.bool_), ids, None)
    assert said == ["2 of 2 test rows equal a training row in every modality: their scores are not those of new rows."]
