"""What is in a table: how often each modality is there, in which patterns, in which split, and which cells are bad.

Works chunk by chunk, so the table may be larger than memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from rich.console import RenderableType

from absentia.data.inspect_masks import Grids, inspect_masks
from absentia.data.inspect_target import TargetSummary, TargetTally
from absentia.data.inspect_view import InspectionView
from absentia.data.kinds import Decoder, Value
from absentia.data.presence import count_patterns, natural_presence
from absentia.data.profile import Spread
from absentia.data.remarkable import Remarkable
from absentia.data.schema import Schema
from absentia.data.splits import SPLITS, WORDS
from absentia.data.table import Table
from absentia.errors import BadCell, UserError, nearest

__all__ = ["Inspection", "Unreadable", "inspect"]

Advance = Callable[[int], object]
"""Hears how many rows have been read so far."""

_ROWS = 512  # of a chunk
_CELLS = 32  # held as Python values at once
_SAMPLE = 32  # cells of each column that decoders are fitted on


def _silent(rows: int) -> None:
    return None


@dataclass(frozen=True)
class Unreadable:
    """A cell that is there and cannot be read."""

    row: int
    column: str
    reason: str

    entity: str | None = None

    def __str__(self) -> str:
        whose = f" (of {self.entity})" if self.entity else ""
        return f"row {self.row}, column {self.column!r}: {self.reason}{whose}"


@dataclass
class Inspection:
    """What was found.

    kinds: by modality.  columns: that it is made of.  patterns: rows by pattern ("image+text"), the most common
    first.  splits: the same within each split; empty without a split column.  bad_cells: how many by modality.
    bad: the first of them.  decoded: whether cells were opened at all.
    """

    table: str
    kinds: dict[str, str]
    columns: dict[str, tuple[str, ...]]
    rows: int = 0
    patterns: dict[str, int] = field(default_factory=dict)
    splits: dict[str, dict[str, int]] = field(default_factory=dict)
    target: TargetSummary | None = None
    decoded: bool = True
    bad_cells: dict[str, int] = field(default_factory=dict)
    bad: list[Unreadable] = field(default_factory=list)
    remarkable: Remarkable = field(default_factory=Remarkable)

    @property
    def present(self) -> dict[str, int]:
        """Rows that have each modality."""
        return _present(self.kinds, self.patterns)

    @property
    def present_by_split(self) -> dict[str, dict[str, int]]:
        """The same within each split."""
        return {split: _present(self.kinds, patterns) for split, patterns in self.splits.items()}

    @property
    def notes(self) -> list[str]:
        """What one should know before training."""
        notes = [f"No row has {name}." for name, rows in self.present.items() if not rows]
        by_split = self.present_by_split
        train = next((by_split[word] for word in by_split if WORDS.get(word.lower()) == "train"), {})
        notes += [
            f"No training row has {name}: nothing can be learned from it."
            for name, rows in train.items()
            if not rows and self.present[name]
        ]
        if self.target is not None:
            notes += self.target.notes
        return notes + self.remarkable.notes({})

    def render(self) -> RenderableType:
        """The whole as something that rich prints."""
        return InspectionView(self)


def inspect(
    table: Table, schema: Schema, *, decode: bool = True, listed: int = 100, advance: Advance = _silent
) -> Inspection:
    """Walk over the table, and once more to open every present cell if `decode` is set.

    listed: bad cells that are kept with row and reason; all are counted. Raises UserError for a column not there.
    """
    schema.check(table.columns, table.name)
    if schema.split and schema.split not in table.columns:
        near = nearest(schema.split, table.columns)
        raise UserError(f"{table.name} has no column {schema.split!r} (split); {near}")
    found = Inspection(
        table=table.name,
        kinds={name: kind.kind for name, kind in schema.modalities.items()},
        columns={name: schema.columns_of(name) for name in schema.names},
        decoded=decode,
    )
    samples = {(n, c): Spread(_SAMPLE) for n in schema.names for c in schema.columns_of(n)}
    _survey(found, table, schema, samples)
    grids = None
    if schema.target is not None and schema.target.kind == "mask":
        grids = Grids()
        found.target, bad_masks = inspect_masks(table, schema.target, grids, decode=decode)
        _add(found, listed, ((schema.target.column, Unreadable(*bad)) for bad in bad_masks))
    if decode:
        decoders = _decoders(schema, samples, table)
        _add(found, listed, _unreadable(table, schema, decoders, advance, grids, found.remarkable))
    if grids is not None and schema.target is not None:
        column = schema.target.column
        _add(found, listed, ((column, Unreadable(*bad)) for bad in grids.wrong_masks(schema.target)))
    found.bad = _named(found.bad, table, schema)
    return found


def _named(bad: list[Unreadable], table: Table, schema: Schema) -> list[Unreadable]:
    """Bad cells with whose they are, where a column says that."""
    if schema.id is None or not bad:
        return bad
    ids, start = dict[int, Any](), 0
    for chunk in table.chunks(_ROWS):
        here = [cell.row for cell in bad if start <= cell.row < start + chunk.num_rows]
        ids |= {row: chunk[schema.id][row - start].as_py() for row in here}
        start += chunk.num_rows
    return [cell if ids[cell.row] is None else replace(cell, entity=str(ids[cell.row])) for cell in bad]


def _add(found: Inspection, listed: int, bad: Iterable[tuple[str, Unreadable]]) -> None:
    """Count bad cells, and keep the first ones."""
    for name, cell in bad:
        found.bad += [cell] if len(found.bad) < listed else []
        found.bad_cells[name] = found.bad_cells.get(name, 0) + 1


def _survey(found: Inspection, table: Table, schema: Schema, samples: Mapping[tuple[str, str], Spread]) -> None:
    """Everything that is known without opening a cell, and some cells from all over the table."""
    patterns: Counter[str] = Counter()
    splits: dict[str, Counter[str]] = {}
    counted = schema.target is not None and schema.target.kind != "mask"
    tally = TargetTally(schema.target, table.class_names) if counted and schema.target else None
    for chunk in table.chunks(_ROWS):
        presence = natural_presence(chunk, schema)
        patterns.update(count_patterns(presence, schema.names))
        for word, mine in _rows_by_word(chunk, schema.split):
            splits.setdefault(word, Counter()).update(count_patterns(presence[mine], schema.names))
        if tally is not None:
            tally.add(chunk)
        for (name, column), spread in samples.items():
            there = chunk.filter(chunk[column].is_valid())
            spread.add(there.num_rows, partial(_some_cells, there, schema, name))
        found.rows += chunk.num_rows
    found.patterns = _by_count(patterns)
    found.splits = {word: _by_count(splits[word]) for word in sorted(splits, key=_split_order)}
    found.target = tally.summary() if tally is not None else None


def _rows_by_word(chunk: pa.Table, column: str | None) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """The words of the split column, and which rows of the chunk have each."""
    if column is None:
        return
    words = np.asarray(["no split" if w is None else str(w) for w in chunk[column].to_pylist()])
    for word in dict.fromkeys(words.tolist()):
        yield word, words == word


def _decoders(schema: Schema, samples: Mapping[tuple[str, str], Spread], table: Table) -> dict[str, Decoder]:
    """Decoders fitted on a sample: enough to know what a cell of the modality looks like."""
    decoders = {}
    for name, kind in schema.modalities.items():
        cells = [cell for column in schema.columns_of(name) for cell in samples[name, column].items]
        if cells:
            decoders[name] = kind.fit(cells, root=table.root)
    return decoders


def _unreadable(
    table: Table,
    schema: Schema,
    decoders: Mapping[str, Decoder],
    advance: Advance,
    grids: Grids | None,
    remarkable: Remarkable,
) -> Iterator[tuple[str, Unreadable]]:
    """(modality, cell) for every present cell that its decoder refuses or that lies elsewhere, row by row."""
    start = 0
    for chunk in table.chunks(_ROWS):
        presence = natural_presence(chunk, schema)
        bad = []
        for m, name in enumerate(schema.names):
            column = name if schema.modalities[name].takes_columns else schema.columns_of(name)[0]
            there = np.flatnonzero(presence[:, m])
            place = partial(_place, grids, start, column) if grids else None
            for row, reason in _refused(decoders.get(name), chunk, schema, name, there, place, remarkable):
                bad.append((name, Unreadable(start + row, column, reason)))
        yield from sorted(bad, key=lambda item: item[1].row)
        start += chunk.num_rows
        advance(start)


def _refused(
    decoder: Decoder | None,
    chunk: pa.Table,
    schema: Schema,
    name: str,
    there: npt.NDArray[np.int64],
    place: Callable[[int, Value], None] | None,
    remarkable: Remarkable,
) -> Iterator[tuple[int, str]]:
    """(row of the chunk, reason) of cells that cannot be read."""
    for start in range(0, len(there) if decoder else 0, _CELLS):
        rows = there[start : start + _CELLS]
        for row, cell in zip(rows.tolist(), _some_cells(chunk, schema, name, rows), strict=True):
            try:
                assert decoder is not None
                value = decoder.decode(cell)
                if place:
                    place(row, value)
                remarkable.see(name, decoder, cell)
            except BadCell as error:
                yield row, str(error)


def _place(grids: Grids, start: int, column: str, row: int, value: Value) -> None:
    grids.check(start + row, column, (value["voxels"].shape[1:], value["affine"]))


def _some_cells(chunk: pa.Table, schema: Schema, name: str, rows: npt.NDArray[np.int64]) -> list[Any]:
    """Cells of a modality: values, or dicts by column where it is a group of columns."""
    columns = schema.columns_of(name)
    some = chunk.select(list(columns)).take(rows)
    cells: list[Any] = (some if schema.modalities[name].takes_columns else some[columns[0]]).to_pylist()
    return cells


def _present(names: Mapping[str, str], patterns: Mapping[str, int]) -> dict[str, int]:
    return {name: sum(n for pattern, n in patterns.items() if name in pattern.split("+")) for name in names}


def _split_order(word: str) -> tuple[int, str]:
    known = WORDS.get(word.lower())
    return (SPLITS.index(known) if known else len(SPLITS), word)


def _by_count(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
