"""What an estimator is given, checked, as one table: for training with a target and a split, for scores with a target."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from absentia.data.schema import Schema, Target
from absentia.data.splits import WORDS
from absentia.data.table import SPLIT, Table, open_table
from absentia.data.target import is_known
from absentia.errors import UserError, nearest
from absentia.estimators.answers import answers_table, indicator_names, name_of
from absentia.estimators.together import Block, Together
from absentia.learn.prepare import survey

__all__ = ["Gathered", "gather", "known_answers", "with_answers"]

ID = "id"
TRAIN, VALIDATION = "the training table", "the validation table"
FILE_KINDS = ("image", "audio", "series")  # their cells may be paths


@dataclass(frozen=True)
class Gathered:
    """A training table and what its columns mean.

    name: what the run's settings call it; a path only where the same rows are found by it again.
    schema: about the target it says the column alone.  labels: of answers that came as ones and zeros.
    strict: whether validation rows were given, so that training has to know their answers.
    """

    table: Table
    name: str
    schema: Schema
    labels: list[Any] | None
    strict: bool

    @property
    def column(self) -> str:
        """The target's column."""
        assert self.schema.target is not None
        return self.schema.target.column

    def answers(self) -> list[Any]:
        """The known target cells of the rows whose classes are the model's."""
        seen = survey(self.table, self.schema)
        mine = seen.split == "train" if self.strict else seen.split != "test"
        return [seen.target[i] for i in np.flatnonzero(mine) if is_known(seen.target[i])]


def gather(X: Any, y: Any, target: str | None, validation: Any, schema: Schema, *, several: bool) -> Gathered:
    """The training table. `schema` has the modalities, and id and split where their columns were named.

    Raises `UserError` for columns that are not there, answers that are missing or do not fit, and a split said twice.
    """
    column, y = _column_and_answers(y, target, schema)
    rows, answers = _pair(validation)
    labels = (indicator_names(y) or indicator_names(answers)) if several else None
    blocks = [_block(X, y, column, labels, TRAIN)]
    if validation is not None:
        blocks.append(_block(rows, answers, column, labels, VALIDATION))
    own = _own_split(blocks[0].table, schema, column)
    schema = replace(schema, target=Target(column=column), id=_id(blocks, schema.id), split=own or _free(SPLIT, [*schema.columns, column]))
    for block, name in zip(blocks, (TRAIN, VALIDATION), strict=False):
        schema.check(block.schema.names, name)
    again = isinstance(X, (str, Path)) and y is None and validation is None and own is not None
    return Gathered(
        table=_together(blocks, schema, own),
        name=str(X) if again else f"{blocks[0].table.name} (from Python)",
        schema=schema,
        labels=labels,
        strict=validation is not None,
    )


def with_answers(X: Any, y: Any, schema: Schema, labels: Sequence[Any] | None) -> Table:
    """A table to be scored: `y` beside it where it is given.

    The rows of a split column count only where it marks some as training rows (then scores are for the others).
    """
    table = open_table(X)
    assert schema.target is not None
    answers = None if y is None else answers_table(y, schema.target.column, rows=len(table), labels=labels)
    marked = schema.split in table.columns and "train" in _marks(table, str(schema.split))
    without = () if marked or schema.split is None else (schema.split,)
    return Together([Block(table, answers=answers, without=without)], name=table.name)


def known_answers(table: Table, schema: Schema) -> tuple[npt.NDArray[np.bool_], list[Any]]:
    """Which rows (N,) have a target, and what it is in those; raises `UserError` where none has."""
    seen = survey(table, replace(schema, id=None, split=None))
    known = np.asarray([is_known(cell) for cell in seen.target])
    if not known.any():
        raise UserError(f"no row of {table.name} has a target")
    return known, [cell for cell in seen.target if is_known(cell)]


def _column_and_answers(y: Any, target: str | None, schema: Schema) -> tuple[str, Any]:
    """The target's column, and the answers where they came apart from the table."""
    if y is not None and target is not None:
        raise UserError("the target is given twice, as y and as target; leave one of them away")
    if y is None and target is None:
        raise UserError('what is to be predicted? give target="COLUMN", or y with one answer for each row')
    column = target if target is not None else y if isinstance(y, str) else name_of(y, schema.columns)
    for name in schema.names:
        if column in schema.columns_of(name):
            raise UserError(f"{column!r} is the target and belongs to modality {name!r}; a model must not be shown it")
    return column, None if isinstance(y, str) else y


def _pair(validation: Any) -> tuple[Any, Any]:
    """A validation table and its answers."""
    if not isinstance(validation, tuple):
        return validation, None
    if len(validation) != 2:
        raise UserError(f"validation is a table, or (table, y), not {len(validation)} things")
    return validation[0], validation[1]


def _block(X: Any, y: Any, column: str, labels: Sequence[Any] | None, name: str) -> Block:
    table = open_table(X)
    if table.streaming:
        raise UserError(f"{name} is a stream; training needs its rows in any order: give a table, not a stream")
    if y is not None:
        return Block(table, answers=answers_table(y, column, rows=len(table), labels=labels))
    if column not in table.columns:
        beside = ", or answers of its own: validation=(table, y)" if name == VALIDATION else ""
        raise UserError(f"{name} has no column {column!r} (target); {nearest(column, table.columns)} Give it one{beside}")
    return Block(table)


def _own_split(table: Table, schema: Schema, target: str) -> str | None:
    """The training table's split column."""
    if schema.split is not None:
        if schema.split not in table.columns:
            raise UserError(f"{TRAIN} has no column {schema.split!r} (split); {nearest(schema.split, table.columns)}")
        return schema.split
    return SPLIT if SPLIT in table.columns and SPLIT not in [*schema.columns, target] else None


def _together(blocks: Sequence[Block], schema: Schema, own: str | None) -> Table:
    """One table; its split column tells training rows (some of them will validate) from given validation rows."""
    assert schema.split is not None
    if len(blocks) > 1 or own is None:
        if own is not None and _marks(blocks[0].table, own) & {"val", "test"}:
            raise UserError(
                f"{TRAIN} has rows that its column {own!r} marks for validation or test, and validation is given too; "
                "leave those rows out, or leave validation away"
            )
        words = ("train", "val")
        blocks = [replace(block, marks={schema.split: word}) for block, word in zip(blocks, words, strict=False)]
    files = [c for n, kind in schema.modalities.items() if kind.kind in FILE_KINDS for c in schema.columns_of(n)]
    return Together(blocks, name=TRAIN, files=files)


def _id(blocks: Sequence[Block], asked: str | None) -> str | None:
    return asked or (ID if all(ID in block.schema.names for block in blocks) else None)


def _free(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _marks(table: Table, column: str) -> set[str | None]:
    """Which of train, val and test a split column marks; None stands for any other word."""
    words = {str(word) for rows in table.chunks() for word in rows.column(column).unique().to_pylist()}
    return {WORDS.get(word.lower()) for word in words}
