"""A group of columns as one modality: numbers, categories and fixed-length vectors, with holes inside."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from absentia.data.kinds.base import Array, Decoder, Kind, Value
from absentia.errors import BadCell

__all__ = ["Tabular", "TabularDecoder"]

NULL, OTHER = 0, 1  # category numbers of a hole and of what training never saw


@dataclass(frozen=True)
class Tabular(Kind):
    """Columns that belong together; the modality is absent where all of them are null.

    A list column whose rows all have the same length is a vector: as many numbers. Numbers are standardised with
    the training rows; a single null (or NaN) becomes the mean and is marked as a hole.

    categories: values of a categorical column that are told apart; rarer ones are one.
    """

    categories: int = 256
    kind: ClassVar[str] = "tabular"

    @property
    def takes_columns(self) -> bool:
        return True

    def fit(self, cells: Iterable[Any], *, root: Path | None = None) -> TabularDecoder:
        rows = list(cells)
        return TabularDecoder(fields=[self._field(c, [r.get(c) for r in rows]) for c in _columns(rows, self)])

    def restore(self, state: dict[str, Any], *, root: Path | None = None) -> TabularDecoder:
        return TabularDecoder(fields=state["fields"])

    def _field(self, column: str, cells: list[Any]) -> dict[str, Any]:
        known = [c for c in cells if not _hole(c)]
        if known and all(isinstance(c, (list, tuple, np.ndarray)) for c in known):
            return {"column": column, "type": "vector"} | _moments(_common_length(known))
        if all(isinstance(c, Real) for c in known):
            return {"column": column, "type": "number"} | _moments([[float(c)] for c in known])
        common = Counter(str(c) for c in known).most_common(self.categories)
        return {"column": column, "type": "category", "values": sorted(value for value, _ in common)}


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
        numbers = [_standardised(f, cell.get(f["column"])) for f in self._numeric]
        flat = np.concatenate(numbers) if numbers else np.zeros(0, dtype=np.float32)
        holes = np.isnan(flat)
        codes = [
            NULL if _hole(value := cell.get(f["column"])) else code.get(str(value), OTHER)
            for f, code in zip(self._categorical, self._codes, strict=True)
        ]
        return {"numbers": np.where(holes, 0, flat), "holes": holes, "categories": np.asarray(codes, np.int64)}

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


def _common_length(vectors: list[Any]) -> list[list[float]]:
    length = Counter(len(v) for v in vectors).most_common(1)[0][0]
    return [[math.nan if x is None else float(x) for x in v] for v in vectors if len(v) == length]


def _moments(rows: list[list[float]]) -> dict[str, Any]:
    """Mean and standard deviation per number over what is finite, as JSON."""
    if not rows:
        return {"mean": [0.0], "std": [1.0]}
    x = np.asarray(rows, dtype=np.float64)
    x = np.where(np.isfinite(x), x, np.nan)
    seen = np.maximum((~np.isnan(x)).sum(axis=0), 1)
    mean = np.nansum(x, axis=0) / seen
    std = np.sqrt(np.nansum((x - mean) ** 2, axis=0) / seen)
    return {"mean": mean.tolist(), "std": np.where(std > 1e-12, std, 1.0).tolist()}


def _standardised(field: dict[str, Any], cell: Any) -> Array:
    mean = np.asarray(field["mean"])
    if _hole(cell):
        return np.full(len(mean), np.nan, dtype=np.float32)
    raw = _numbers(field, cell)
    if len(raw) != len(mean):
        raise BadCell(f"column {field['column']!r} holds {len(raw)} numbers, training had {len(mean)}")
    if np.isinf(raw).any():
        raise BadCell(f"column {field['column']!r} holds an infinite number")
    scaled: Array = ((raw - mean) / np.asarray(field["std"])).astype(np.float32)
    return scaled


def _numbers(field: dict[str, Any], cell: Any) -> Array:
    try:
        cells = cell if field["type"] == "vector" else [cell]
        return np.asarray([math.nan if c is None else float(c) for c in cells], dtype=np.float64)
    except (TypeError, ValueError):
        raise BadCell(f"column {field['column']!r} holds {cell!r}, expected a number") from None
