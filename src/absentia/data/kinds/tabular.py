"""A group of columns as one modality: numbers, categories and fixed-length vectors, with holes inside."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from absentia.data.kinds.base import Array, Decoder, Kind, Value, check_at_least, moments, shown, standardised
from absentia.errors import BadCell, UserError

__all__ = ["Tabular", "TabularDecoder"]

NULL, OTHER = 0, 1  # category numbers of a hole and of what training never saw
LISTS = (list, tuple, np.ndarray)
NESTED = (*LISTS, dict)
NUMBERS = (Real, np.bool_, Decimal, date, time, timedelta)
TAKES = "tabular takes numbers, categories and lists of equally many numbers"
UNREADABLE = (TypeError, ValueError, OverflowError)  # what is no number, or one beyond any float


@dataclass(frozen=True)
class Tabular(Kind):
    """Columns that belong together; the modality is absent where all of them are null.

    A list column whose rows all have the same length is a vector: as many numbers. Numbers are standardised with
    the training rows; a single null (or NaN) becomes the mean and is marked as a hole. True is 1; dates, times and
    durations are numbers of seconds. Everything else is a category, by how it is written.

    categories: values of a categorical column that are told apart; rarer ones are one.
    """

    categories: int = 256
    kind: ClassVar[str] = "tabular"

    @property
    def takes_columns(self) -> bool:
        return True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("tabular categories", self.categories)

    def fit(self, cells: Iterable[Any], *, root: Path | None = None) -> TabularDecoder:
        rows = list(cells)
        return TabularDecoder(fields=[self._field(c, [r.get(c) for r in rows]) for c in _columns(rows, self)])

    def restore(self, state: dict[str, Any], *, root: Path | None = None) -> TabularDecoder:
        return TabularDecoder(fields=state["fields"])

    def _field(self, column: str, cells: list[Any]) -> dict[str, Any]:
        known = [c for c in cells if not _hole(c)]
        if known and all(isinstance(c, LISTS) for c in known):
            return {"column": column, "type": "vector"} | moments(_vectors(column, known))
        if all(isinstance(c, NUMBERS) for c in known):
            return {"column": column, "type": "number"} | moments(_scalars(known))
        if any(isinstance(c, NESTED) for c in known):
            raise UserError(f"column {column!r} holds nested cells; {TAKES}")
        counts = Counter(_word(c) for c in known)
        common = sorted(counts, key=lambda value: (-counts[value], value))[: self.categories]
        return {"column": column, "type": "category", "values": sorted(common)}


class TabularDecoder(Decoder):
    """Rows (a dict by column) to `{"numbers": float32 (F,), "holes": bool (F,), "categories": int64 (C,)}`."""

    def __init__(self, *, fields: list[dict[str, Any]]) -> None:
        self.fields = fields
        self._numeric = [f for f in fields if f["type"] != "category"]
        self._categorical = [f for f in fields if f["type"] == "category"]
        self._codes = [{v: i for i, v in enumerate(f["values"], start=2)} for f in self._categorical]

    @property
    def numbers(self) -> list[int]:
        """How many numbers each numeric column holds."""
        return [len(f["mean"]) for f in self._numeric]

    @property
    def category_sizes(self) -> list[int]:
        """How many numbers a category of each categorical column can have, hole and other included."""
        return [len(f["values"]) + 2 for f in self._categorical]

    def decode(self, cell: Any) -> Value:
        raw = [number for f in self._numeric for number in _raw(f, cell.get(f["column"]))]
        mean, std = self._scale
        flat = standardised(np.asarray(raw, dtype=np.float64), mean, std)  # of all columns at once: calls cost most
        holes = np.isnan(flat)
        flat[holes] = 0
        codes = [
            _code(f["column"], cell.get(f["column"]), code)
            for f, code in zip(self._categorical, self._codes, strict=True)
        ]
        return {"numbers": flat, "holes": holes, "categories": np.asarray(codes, np.int64)}

    @cached_property
    def _scale(self) -> tuple[Array, Array]:
        """Means and deviations of all numeric columns, one after the other."""
        return tuple(np.asarray([x for f in self._numeric for x in f[key]]) for key in ("mean", "std"))  # type: ignore[return-value]

    def collate(self, values: Sequence[Value]) -> Value:
        return {key: np.stack([v[key] for v in values]) for key in ("numbers", "holes", "categories")}

    def blank(self) -> Value:
        size = sum(self.numbers)
        codes = np.full(len(self._categorical), NULL, dtype=np.int64)
        return {"numbers": np.zeros(size, np.float32), "holes": np.ones(size, np.bool_), "categories": codes}

    def state(self) -> dict[str, Any]:
        return {"fields": self.fields}


def _columns(rows: list[Any], kind: Tabular) -> Sequence[str]:
    return kind.columns or (list(rows[0]) if rows else [])


def _hole(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _word(cell: Any) -> str:
    """A category as text; 3.0 is 3, as whole numbers become floats in a column with nulls."""
    if isinstance(cell, bytes):
        return cell.decode("utf-8", errors="backslashreplace")
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def _code(column: str, cell: Any, codes: dict[str, int]) -> int:
    if isinstance(cell, NESTED):
        raise BadCell(f"holds {shown(cell)}, expected a category", column=column)
    return NULL if _hole(cell) else codes.get(_word(cell), OTHER)


def _number(cell: Any) -> float:
    """Raises one of `UNREADABLE` for what is no number; a null is NaN."""
    if cell is None:
        return math.nan
    if isinstance(cell, datetime):
        return (cell if cell.tzinfo else cell.replace(tzinfo=UTC)).timestamp()
    if isinstance(cell, date):
        return _number(datetime.combine(cell, time()))
    if isinstance(cell, time):
        return 3600 * cell.hour + 60 * cell.minute + cell.second + 1e-6 * cell.microsecond
    return cell.total_seconds() if isinstance(cell, timedelta) else float(cell)


def _scalars(cells: Sequence[Any]) -> Array:
    """Cells as float64 (N, 1), without those that cannot be read."""
    return np.asarray([[x] for cell in cells for x in _readable([cell])], dtype=np.float64).reshape(-1, 1)


def _vectors(column: str, cells: Sequence[Any]) -> Array:
    """List cells as float64 (N, F): those of the usual length."""
    rows = [row for cell in cells if len(row := list(_readable(cell))) == len(cell) > 0]
    if not rows:
        raise UserError(f"column {column!r} holds lists, but none of numbers alone; {TAKES}")
    lengths = Counter(len(row) for row in rows)
    usual = max(lengths, key=lambda length: (lengths[length], length))
    return np.asarray([row for row in rows if len(row) == usual], dtype=np.float64)


def _readable(cells: Iterable[Any]) -> Iterator[float]:
    for cell in cells:
        try:
            yield _number(cell)
        except UNREADABLE:
            continue


def _raw(field: dict[str, Any], cell: Any) -> Sequence[float]:
    """The numbers of a cell, NaN where there is a hole."""
    size = len(field["mean"])
    if _hole(cell):
        return [math.nan] * size
    raw = _numbers(field, cell)
    if len(raw) != size:
        raise BadCell(f"holds {len(raw)} numbers, training had {size}", column=field["column"])
    if any(map(math.isinf, raw)):
        raise BadCell("holds an infinite number", column=field["column"])
    return raw


def _numbers(field: dict[str, Any], cell: Any) -> list[float]:
    wanted = "a list of numbers" if field["type"] == "vector" else "a number"
    if isinstance(cell, LISTS) != (field["type"] == "vector"):
        raise BadCell(f"holds {shown(cell)}, expected {wanted}", column=field["column"])
    try:
        cells = cell if field["type"] == "vector" else [cell]
        return [_number(c) for c in cells]
    except UNREADABLE:
        raise BadCell(f"holds {shown(cell)}, expected {wanted}", column=field["column"]) from None
