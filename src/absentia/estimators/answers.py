"""Answers that a Python user hands over as an array: checked, and made a column that goes beside a table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from absentia.data.schema import Target
from absentia.data.table import Table, open_table
from absentia.data.target import TargetCodec
from absentia.errors import UserError

__all__ = ["answers_table", "class_names", "class_values", "indicator_names", "name_of"]


def name_of(y: Any, taken: Collection[str]) -> str:
    """What the column of the answers is called: their own name, else `target` (or the next name that is free)."""
    name = getattr(y, "name", None)
    if isinstance(name, str):
        return name
    name = "target"
    while name in taken:
        name += "_"
    return name


def answers_table(y: Any, name: str, *, rows: int, labels: Sequence[Any] | None = None) -> Table:
    """Answers for `rows` rows as a table with the one column `name`.

    y: array-like (n,); where several `labels` may hold, also (n, K) of ones and zeros for these K labels.
    Raises `UserError` for another length or shape.
    """
    y = _array(y)
    if len(y) != rows:
        raise UserError(f"y has {len(y)} answers for the {rows} rows of the table")
    if labels is not None and np.ndim(y) == 2:
        return open_table(pd.DataFrame({name: _labels_of(y, indicator_names(y, labels))}))
    if np.ndim(y) == 2 and np.shape(y)[1] == 1:
        y = y.iloc[:, 0] if isinstance(y, pd.DataFrame) else y[:, 0]
    if np.ndim(y) != 1:
        raise UserError(f"y has shape {np.shape(y)}, expected one answer for each row; MultimodalLabeler takes several")
    return open_table(pd.DataFrame({name: _column(y)}))


def indicator_names(y: Any, known: Sequence[Any] | None = None) -> list[Any]:
    """What the columns of ones and zeros (n, K) are called: a data frame says it, else they are the `known` labels,
    else 0 to K - 1. No names for answers of any other shape."""
    if isinstance(y, pd.DataFrame):
        return [str(name) for name in y.columns]
    if not hasattr(y, "__array__") or np.ndim(y) != 2:
        return []
    return list(known or range(np.shape(y)[1]))


def class_names(values: Sequence[Any]) -> tuple[str, ...]:
    """What the classes are called that a target column holds as `values`."""
    target = Target(column="", kind="labels")
    return tuple(TargetCodec.fit(target, [[value], []]).target.classes[0] for value in values)


def class_values(names: Sequence[str], kind: str) -> npt.NDArray[Any]:
    """The other way round: names as the values of a column whose dtype is of this `kind` (a letter of numpy)."""
    read: dict[str, Callable[[str], Any]] = {"i": int, "u": int, "f": float, "b": "True".__eq__}
    try:
        return np.asarray([read.get(kind, str)(name) for name in names])
    except ValueError:
        raise UserError(f"the classes {', '.join(names[:3])}, ... are no numbers, as they are said to be") from None


def _array(y: Any) -> Any:
    """A series, a data frame or an array; a list is one axis whatever it holds."""
    if isinstance(y, (pd.Series, pd.DataFrame)):
        return y
    if hasattr(y, "__array__"):
        return np.asarray(y)
    if isinstance(y, (str, bytes, Mapping)) or not (hasattr(y, "__len__") and hasattr(y, "__iter__")):
        raise UserError(f"y is a {type(y).__name__}: give the name of the target's column, or one answer for each row")
    return pd.Series(list(y), dtype=object)


def _column(y: Any) -> pd.Series[Any]:
    """One cell for each row; tuples, sets and arrays of labels become lists."""
    column = pd.Series(y).reset_index(drop=True)
    if column.dtype != object:
        return column
    cells = [list(cell) if isinstance(cell, (tuple, set, frozenset, np.ndarray)) else cell for cell in column]
    return pd.Series(cells, dtype=object)


def _labels_of(y: Any, labels: Sequence[Any]) -> pd.Series[Any]:
    """The labels of each row; None where a one or zero is missing."""
    try:
        held = np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError("y has a column for each label, which may hold ones and zeros alone") from None
    if held.shape[1] != len(labels):
        raise UserError(f"y has {held.shape[1]} columns, and there are {len(labels)} labels")
    if not (np.isnan(held) | (held == 0) | (held == 1)).all():
        raise UserError("y has a column for each label, which may hold ones and zeros alone")
    cells = [None if np.isnan(row).any() else [labels[int(k)] for k in np.flatnonzero(row)] for row in held]
    return pd.Series(cells, dtype=object)
