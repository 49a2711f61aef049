"""Tables in memory: data frames, Arrow tables, lists of dicts, and the splits of `datasets`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa

from absentia.data.storage import Part, plain_schema
from absentia.data.values import python_column
from absentia.errors import UserError

__all__ = ["split_name", "splits_parts", "table_in_memory"]

_SPLITS = {"training": "train", "validation": "val", "valid": "val", "dev": "val", "testing": "test"}


def split_name(name: str) -> str:
    """The table's word for a split: train, val, test, or the name itself.

    >>> split_name("validation")
    'val'
    """
    return _SPLITS.get(name.lower(), name)


def splits_parts(splits: Mapping[Any, datasets.Dataset | datasets.IterableDataset]) -> list[Part]:
    """One part for each split of a DatasetDict; a single one needs no name."""
    if len(splits) == 1:
        return [Part(next(iter(splits.values())))]
    return [Part(dataset, split_name(str(name))) for name, dataset in splits.items()]


def table_in_memory(source: Any) -> datasets.Dataset:
    """A data frame, an Arrow table (or anything that hands out Arrow) or a sequence of dicts as a Dataset."""
    if isinstance(source, pd.DataFrame):
        return _from_columns(_frame_columns(source))
    if hasattr(source, "__arrow_c_stream__"):
        return _from_arrow(pa.table(source))
    if isinstance(source, Sequence) and source and all(isinstance(row, Mapping) for row in source):
        return _from_columns(_row_columns(source))
    if isinstance(source, Sequence) and not source:
        raise UserError("the table has no rows")
    kind = type(source).__name__
    raise UserError(
        f"a {kind} is no table; give a path, a hub name, a DataFrame, a datasets.Dataset, an Arrow table "
        "or a list of dicts"
    )


def _frame_columns(frame: pd.DataFrame) -> dict[str, Any]:
    """Columns by name; an index takes part only where it has a name."""
    named = any(name is not None for name in frame.index.names)
    frame = frame.reset_index() if named else frame
    names = [str(name) for name in frame.columns]
    _refuse_repeated(names, "the data frame")
    return {name: _frame_column(name, frame.iloc[:, i]) for i, name in enumerate(names)}


def _frame_column(name: str, column: pd.Series[Any]) -> Any:
    if column.dtype == object:
        return python_column(name, column.tolist())
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    try:
        array = pa.Array.from_pandas(column)
    except (pa.ArrowException, TypeError) as error:
        raise UserError(f"column {name!r} of type {column.dtype} has no place in a table: {error}") from error
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _row_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(str(key) for row in rows for key in row)
    return {name: python_column(name, [row.get(name) for row in rows]) for name in names}


def _from_columns(columns: Mapping[str, Any]) -> datasets.Dataset:
    try:
        return datasets.Dataset.from_dict(dict(columns))
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        for name, values in columns.items():
            _check_column(name, values)
        raise UserError(f"the table cannot be read: {error}") from error


def _check_column(name: str, values: Any) -> None:
    try:
        datasets.Dataset.from_dict({name: values})
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        kinds = sorted({type(value).__name__ for value in values if value is not None})
        raise UserError(f"column {name!r} holds {' and '.join(kinds)} that do not go together: {error}") from error


def _from_arrow(table: pa.Table) -> datasets.Dataset:
    _refuse_repeated(table.column_names, "the Arrow table")
    schema = plain_schema(table.schema)
    return datasets.Dataset(table.select(schema.names).cast(schema.with_metadata(table.schema.metadata)))


def _refuse_repeated(names: Iterable[str], where: str) -> None:
    names = list(names)
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{where} has the column {name!r} {names.count(name)} times; give each its own name")
