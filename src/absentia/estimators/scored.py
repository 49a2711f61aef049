"""A table whose answers are known, to be scored: with a target that is its own column or came apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from absentia.data.schema import Schema
from absentia.data.splits import WORDS
from absentia.data.table import Table, open_table
from absentia.data.target import is_known
from absentia.errors import UserError
from absentia.estimators.answers import answers_table
from absentia.estimators.together import Block, Together
from absentia.learn.prepare import survey

__all__ = ["known_answers", "split_words", "with_answers"]


def with_answers(X: Any, y: Any, schema: Schema, labels: Sequence[Any] | None) -> Table:
    """A table to be scored: `y` beside it where it is given.

    Its split column stays where it tells test rows from training rows.
    """
    table = open_table(X)
    assert schema.target is not None
    answers = None if y is None else answers_table(y, schema.target.column, rows=len(table), labels=labels)
    split = schema.split if schema.split in table.columns else None
    without = () if split is None or {"train", "test"} <= split_words(table, split) else (split,)
    return Together([Block(table, answers=answers, without=without)], name=table.name)


def known_answers(table: Table, schema: Schema) -> tuple[npt.NDArray[np.bool_], list[Any]]:
    """Which rows (N,) have a target, and what it is in those; raises `UserError` where none has."""
    seen = survey(table, replace(schema, id=None, split=None))
    known = np.asarray([is_known(cell) for cell in seen.target])
    if not known.any():
        raise UserError(f"no row of {table.name} has a target")
    return known, [cell for cell in seen.target if is_known(cell)]


def split_words(table: Table, column: str) -> set[str | None]:
    """Which of train, val and test a split column marks; None stands for any other word."""
    words = {str(word) for rows in table.chunks() for word in rows.column(column).unique().to_pylist()}
    return {WORDS.get(word.lower()) for word in words}
