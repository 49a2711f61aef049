"""Rows whose presence is settled: every present cell has been read once, and batches are made from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from absentia.data.batch import Batch, tensors
from absentia.data.features import CellCache
from absentia.data.kinds import Decoder, Value
from absentia.data.kinds.base import pad
from absentia.data.memo import Memo
from absentia.data.reader import CellReader, Opened, Transform
from absentia.data.remarkable import Remarkable
from absentia.data.schema import Schema
from absentia.data.target import TargetCodec
from absentia.errors import BadCell, UserError

__all__ = ["BadCellRecord", "OnBad", "Rows", "present_cells", "raw_cells"]

OnBad = Literal["error", "absent", "skip"]
Ints = npt.NDArray[np.int64]

BLOCK = 256  # cells taken from the table at once


@dataclass(frozen=True)
class BadCellRecord:
    """A cell that could not be read, and what became of it."""

    row: int
    column: str
    reason: str
    became: str

    def __str__(self) -> str:
        return f"row {self.row}, column {self.column!r}: {self.reason}"


@dataclass
class Rows:
    """N rows of a table.

    take: gives table rows by number, undecoded.  index: the rows' numbers, int64 (N,).  presence: bool (N, M).
    target: encoded targets (N, ...) or None.  keep: bytes of decoded values that may stay in memory; what does not
    fit is decoded again whenever it is asked for.  first: number of row 0 for messages (a chunk of a larger table).
    root: folder of the table.  caches: where what `transforms` make of cells is kept from run to run.
    remarkable: what is worth a note about the cells that were read.
    """

    take: Callable[[Ints], pa.Table]
    schema: Schema
    decoders: Mapping[str, Decoder]
    index: Ints
    presence: npt.NDArray[np.bool_]
    ids: list[str]
    target: npt.NDArray[Any] | None = None
    transforms: Mapping[str, Transform] = field(default_factory=dict)
    caches: Mapping[str, CellCache] = field(default_factory=dict)
    keep: int = 2_000_000_000
    first: int = 0
    root: Path | None = None
    bad: list[BadCellRecord] = field(default_factory=list)
    remarkable: Remarkable = field(default_factory=Remarkable)
    memo: Memo | None = field(init=False, repr=False)
    _values: dict[tuple[str, int], Value] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.memo = Memo(len(self), self.batch, presence=self.presence)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def at_once(self) -> int:
        """Rows that are opened together."""
        return BLOCK

    def label(self, codec: TargetCodec, cells: Sequence[Any]) -> None:
        """Say what the rows' targets are, before they are read."""
        self.target = codec.encode(cells)

    def read(self, on_bad: OnBad, advance: Callable[[int], object] = lambda rows: None) -> Rows:
        """Open every present cell once; what cannot be read follows `on_bad` and is listed in `bad`.

        "error" raises `UserError` at the first block with a bad cell, "absent" makes the cell absent, "skip"
        drops its row. `advance` hears how many rows were read.
        """
        dropped = np.zeros(len(self), dtype=np.bool_)
        for start in range(0, len(self), self.at_once):
            positions = np.arange(start, min(start + self.at_once, len(self)))
            bad = sorted(self._read_all(positions, on_bad), key=lambda b: b[0])
            if bad and on_bad == "error":
                raise UserError(_first_of(bad, self.at_once))
            dropped[[row for row, record in bad if record.became == "skip"]] = True
            self.bad += [record for _, record in bad]
            advance(len(positions))
        return self.where(~dropped) if dropped.any() else self

    def remarks(self) -> list[str]:
        """What a person should know of what was read."""
        return []

    def check_steps(self, size: int) -> None:
        """Raise `UserError` where rows cannot be learned from `size` at a time."""

    def where(self, chosen: npt.NDArray[np.bool_]) -> Rows:
        """Some of the rows (bool (N,)), with what has been read of them."""
        positions = np.flatnonzero(chosen)
        moved = {old: new for new, old in enumerate(positions.tolist())}
        return replace(
            self,
            index=self.index[chosen],
            presence=self.presence[chosen],
            ids=[self.ids[p] for p in positions],
            target=None if self.target is None else self.target[chosen],
            _values={(name, moved[p]): v for (name, p), v in self._values.items() if p in moved},
        )

    def batch(self, positions: Ints, draw: int | None = None) -> Batch:
        """The rows at `positions` (0 to N - 1) as a batch; only their present cells are opened.

        draw: the number of a training step, for rows of which a step sees a part.
        """
        inputs = {}
        for m, name in enumerate(self.schema.names):
            present = positions[self.presence[positions, m]]
            if len(present):
                inputs[name] = tensors(self._collated(name, self._get(name, present)))
        return Batch(
            presence=torch.from_numpy(self.presence[positions]),
            inputs=inputs,
            index=torch.from_numpy(self.index[positions]),
            target=None if self.target is None else torch.from_numpy(self.target[positions]),
            memo=self.memo,
            places=torch.from_numpy(positions),
        )

    def batches(self, size: int) -> Iterator[Batch]:
        """All rows in order."""
        yield from map(self.batch, self.portions(size))

    def portions(self, size: int) -> Iterator[Ints]:
        """All positions in order, as many at once as `size` and their inputs allow."""
        for start in range(0, len(self), size):
            yield np.arange(start, min(start + size, len(self)))

    def _collated(self, name: str, values: list[Value]) -> Value:
        if name in self.transforms:
            features, mask = pad([v["features"] for v in values])
            return {"features": features, "mask": mask}
        return self.decoders[name].collate(values)

    def _get(self, name: str, positions: Ints) -> list[Value]:
        """Values of present cells: from memory, or decoded again (they were readable once)."""
        missing = np.asarray([p for p in positions.tolist() if (name, p) not in self._values], dtype=np.int64)
        again = {p: self._opened_again(name, p, cell) for p, cell in self._cells(name, missing)}
        fresh = dict(zip(again, self._reader(name).finish(list(again.values())), strict=True))
        return [fresh[p] if p in fresh else self._values[name, p] for p in positions.tolist()]

    def _read_all(self, positions: Ints, on_bad: OnBad) -> Iterator[tuple[int, BadCellRecord]]:
        for name in self.schema.names:
            yield from self._read_block(name, positions, on_bad)

    def _open(self, reader: CellReader, name: str, position: int, cell: Any) -> Opened:
        return reader.open(cell)

    def _read_block(self, name: str, positions: Ints, on_bad: OnBad) -> list[tuple[int, BadCellRecord]]:
        m, reader = self.schema.names.index(name), self._reader(name)
        good: dict[int, Opened] = {}
        bad = []
        for position, cell in self._cells(name, positions[self.presence[positions, m]]):
            try:
                good[position] = self._open(reader, name, position, cell)
                self.remarkable.see(name, reader.decoder, cell)
            except BadCell as error:
                bad.append((position, self._record(name, position, error, on_bad)))
                self.presence[position, m] = False
        self._keep(name, good)
        return bad

    def _keep(self, name: str, opened: dict[int, Opened]) -> None:
        if self.keep <= 0 or not opened:
            return
        for position, value in zip(opened, self._reader(name).finish(list(opened.values())), strict=True):
            self.keep -= sum(a.nbytes for a in value.values()) + 300  # the dictionary around it
            self._values[name, position] = value

    def _reader(self, name: str) -> CellReader:
        return CellReader(self.decoders[name], self.transforms.get(name), self.caches.get(name))

    def _opened_again(self, name: str, position: int, cell: Any) -> Opened:
        try:
            return self._reader(name).open(cell)
        except BadCell as error:
            record = self._record(name, position, error, "error")
            raise UserError(f"{record}; it could be read at first, so the table or its files have changed") from None

    def _record(self, name: str, position: int, error: BadCell, became: str) -> BadCellRecord:
        column = error.column or (self.schema.columns_of(name)[0] if name in self.schema.modalities else name)
        return BadCellRecord(self.first + int(self.index[position]), column, error.reason, became)

    def _cells(self, name: str, positions: Ints) -> Iterator[tuple[int, Any]]:
        """Raw cells of present rows, block by block."""
        for start in range(0, len(positions), BLOCK):
            part = positions[start : start + BLOCK]
            yield from zip(part.tolist(), _cells(self.take(self.index[part]), self.schema, name), strict=True)


def present_cells(rows: Rows, name: str) -> Iterator[Any]:
    """The raw cells of one modality in the rows where it is present (for fitting decoders)."""
    m = rows.schema.names.index(name)
    for _, cell in rows._cells(name, np.flatnonzero(rows.presence[:, m])):
        yield cell


def raw_cells(rows: Rows, name: str, position: int) -> Any:
    """The raw cell of one row (a dict by column for a group of columns)."""
    return _cells(rows.take(rows.index[position : position + 1]), rows.schema, name)[0]


def _cells(chunk: pa.Table, schema: Schema, name: str) -> list[Any]:
    columns = schema.columns_of(name)
    grouped = schema.modalities[name].takes_columns
    cells: list[Any] = (chunk.select(list(columns)) if grouped else chunk.column(columns[0])).to_pylist()
    return cells


def _first_of(bad: Sequence[tuple[int, BadCellRecord]], rows: int) -> str:
    more = f" ({len(bad) - 1} more in the next {rows} rows)" if len(bad) > 1 else ""
    return f"{bad[0][1]}{more}; mend the table, or say --on-bad absent or --on-bad skip"
