"""What the target column holds, counted chunk by chunk."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from absentia.data.profile import is_list, is_text
from absentia.data.schema import Target
from absentia.data.target import FEW

__all__ = ["TargetSummary", "TargetTally"]

_MOST = 10_000  # different values that are counted


@dataclass(frozen=True)
class TargetSummary:
    """kind: "class", "labels", "number" or "other".  known, unknown: rows with and without a value.

    classes: rows by class or label, the most common first.  low, high, mean, std: of a number.
    """

    column: str
    kind: str
    known: int
    unknown: int
    classes: dict[str, int] = field(default_factory=dict)
    low: float = math.nan
    high: float = math.nan
    mean: float = math.nan
    std: float = math.nan

    @property
    def notes(self) -> list[str]:
        """What stands in the way of learning it."""
        if not self.known:
            return [f"No row has a target: column {self.column!r} is empty."]
        if self.kind == "mask":
            return []
        if (self.kind == "class" and len(self.classes) == 1) or self.low == self.high:
            return [f"The target {self.column!r} is constant: there is nothing to learn."]
        rare = [name for name, rows in self.classes.items() if rows < 5]
        named = ", ".join(rare[:5]) + (" ..." if len(rare) > 5 else "")
        return [f"{len(rare)} classes of {self.column!r} have fewer than 5 rows: {named}."] if rare else []


class TargetTally:
    """Counts the cells of the target; `class_names` are those of ClassLabel columns."""

    def __init__(self, target: Target, class_names: Mapping[str, Sequence[str]]) -> None:
        self._target, self._names = target, class_names.get(target.column)
        self._counts: Counter[object] = Counter()
        self._known = self._unknown = 0
        self._many = self._listed = self._words = self._other = False
        self._sums = np.zeros(2)
        self._ends = (math.inf, -math.inf)

    def add(self, chunk: pa.Table) -> None:
        """One more chunk of the table."""
        column = chunk[self._target.column]
        if pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_finite(column), column, pa.scalar(None, column.type))
        self._unknown += column.null_count
        self._known += len(column) - column.null_count
        there = column.drop_null()
        if is_list(column.type):
            self._listed, there = True, pc.list_flatten(there)
        self._words = self._words or is_text(there.type) or pa.types.is_boolean(there.type) or self._names is not None
        self._other = pa.types.is_nested(there.type) or not (self._words or _is_number(there.type))
        if not self._other:
            self._count(there)
            self._measure(there)

    def summary(self) -> TargetSummary:
        """All that was counted."""
        kind = self._kind()
        about = {"column": self._target.column, "kind": kind, "known": self._known, "unknown": self._unknown}
        if kind == "number" and self._known and self._ends[0] <= self._ends[1]:
            mean = float(self._sums[0] / self._known)
            std = math.sqrt(max(0.0, float(self._sums[1] / self._known) - mean**2))
            return TargetSummary(**about, low=self._ends[0], high=self._ends[1], mean=mean, std=std)  # type: ignore[arg-type]
        counts = sorted(self._counts.items(), key=lambda item: (-item[1], str(item[0])))
        classes = {} if kind in ("number", "other") else {self._name(value): rows for value, rows in counts}
        return TargetSummary(**about, classes=classes)  # type: ignore[arg-type]

    def _kind(self) -> str:
        if self._other:
            return "other"
        if self._target.kind is not None:
            return self._target.kind
        if self._listed:
            return "labels"
        whole = not self._many and all(float(v).is_integer() for v in self._counts if isinstance(v, (int, float)))
        return "class" if self._words or (whole and len(self._counts) <= FEW) else "number"

    def _count(self, there: pa.ChunkedArray) -> None:
        if not self._many:
            self._counts.update({item["values"]: item["counts"] for item in pc.value_counts(there).to_pylist()})
            self._many = len(self._counts) > _MOST

    def _measure(self, there: pa.ChunkedArray) -> None:
        if _is_number(there.type) and len(there):
            values = there.cast(pa.float64(), safe=False).to_numpy()
            self._sums += (values.sum(), (values**2).sum())
            self._ends = (min(self._ends[0], float(values.min())), max(self._ends[1], float(values.max())))

    def _name(self, value: object) -> str:
        if self._names is not None and isinstance(value, int) and value < len(self._names):
            return self._names[value]
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _is_number(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_integer(dtype) or pa.types.is_floating(dtype))
