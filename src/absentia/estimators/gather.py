"""What `fit` is given, checked, as one table with a target and a split."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from absentia.data.schema import Schema, Target
from absentia.data.table import SPLIT, Table, open_table
from absentia.data.target import is_known
from absentia.errors import UserError, nearest
from absentia.estimators.answers import answers_table, indicator_names, name_of
from absentia.estimators.scored import split_words
from absentia.estimators.together import Block, Together
from absentia.learn.prepare import survey

__all__ = ["Gathered", "gather"]

ID = "id"
TRAIN, VALIDATION = "the training table", "the validation table"
FILE_KINDS = ("image", "audio", "series")  # their cells may be paths


@dataclass(frozen=True)
class Gathered:
    """A training table and what its columns mean.

    name: what the run's settings call it; a path only where the same rows are found by it again.
    schema: about the target it says the column alone.  answers: the known target cells that make its classes.
    labels: what the columns of answers are called that came as ones and zeros.
    """

    table: Table
    name: str
    schema: Schema
    answers: list[Any]
    labels: list[Any] | None

    @property
    def column(self) -> str:
        """The target's column."""
        assert self.schema.target is not None
        return self.schema.target.column


def gather(X: Any, y: Any, target: str | None, validation: Any, schema: Schema, *, several: bool) -> Gathered:
    """The training table. `schema` has the modalities, and id and split where their columns were named.

    Raises `UserError` for columns that are not there, answers that are missing or do not fit, and a split said twice.
    """
    column, y = _column_and_answers(y, target, schema)
    rows, answers = _pair(validation)
    labels = indicator_names(y) if several else None
    blocks = [_block(X, y, column, labels, TRAIN)]
    if validation is not None:
        blocks.append(_block(rows, answers, column, labels, VALIDATION))
    own = _own_split(blocks[0].table, schema, column)
    split = own or _free(SPLIT, [*schema.columns, column])
    schema = replace(schema, target=Target(column=column), id=_id(blocks, schema.id), split=split)
    for block, name in zip(blocks, (TRAIN, VALIDATION), strict=False):
        replace(schema, split=None).check(block.schema.names, name)
    again = isinstance(X, (str, Path)) and y is None and validation is None and own is not None
    table, cells = _settled(blocks, schema, own)
    return Gathered(
        table=table,
        name=str(X) if again else f"{blocks[0].table.name} (from Python)",
        schema=schema,
        answers=cells,
        labels=labels,
    )


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
        beside = "; add it, or give validation=(table, y)" if name == VALIDATION else ""
        raise UserError(f"{name} has no column {column!r} (target); {nearest(column, table.columns)}{beside}")
    return Block(table, spelled=column)


def _own_split(table: Table, schema: Schema, target: str) -> str | None:
    """The training table's split column."""
    if schema.split is not None:
        if schema.split not in table.columns:
            raise UserError(f"{TRAIN} has no column {schema.split!r} (split); {nearest(schema.split, table.columns)}")
        return schema.split
    return SPLIT if SPLIT in table.columns and SPLIT not in [*schema.columns, target] else None


def _settled(blocks: Sequence[Block], schema: Schema, own: str | None) -> tuple[Table, list[Any]]:
    """One table with a split, and the answers that make the classes: of given validation rows they are not asked."""
    table = _together(blocks, schema, own)
    seen = survey(table, schema)
    known = np.asarray([is_known(cell) for cell in seen.target])
    mine = known & (seen.split == "train" if len(blocks) > 1 else seen.split != "test")
    if known.any() and not (known & (seen.split == "val")).any():
        raise UserError("no row to validate on has a target; give others as validation")
    return table, [seen.target[i] for i in np.flatnonzero(mine)]


def _together(blocks: Sequence[Block], schema: Schema, own: str | None) -> Table:
    """One table; its split column tells training rows (some of them may validate) from validation rows."""
    assert schema.split is not None
    if len(blocks) > 1 and own is not None and split_words(blocks[0].table, own) & {"val", "test"}:
        raise UserError(
            f"{TRAIN} has rows that its column {own!r} marks for validation or test, and validation is given too; "
            "leave those rows out, or leave validation away"
        )
    if len(blocks) > 1 or own is None:
        words = ("train", "val")
        blocks = [replace(block, marks={schema.split: word}) for block, word in zip(blocks, words, strict=False)]
    files = [c for n, kind in schema.modalities.items() if kind.kind in FILE_KINDS for c in schema.columns_of(n)]
    return Together(blocks, name=TRAIN if len(blocks) == 1 else "training and validation rows", files=files)


def _id(blocks: Sequence[Block], asked: str | None) -> str | None:
    return asked or (ID if all(ID in block.schema.names for block in blocks) else None)


def _free(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += "_"
    return name
