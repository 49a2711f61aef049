"""Data sets that only come in order: their columns, even if they do not say them, and their raw rows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import datasets
import pyarrow as pa

from absentia.data.memory import table_in_memory
from absentia.errors import UserError

__all__ = ["stream_features", "stream_tables"]

_HEAD = 1000  # rows looked at where a stream does not say its columns


def stream_features(dataset: datasets.IterableDataset, name: str) -> datasets.Features:
    """Columns and types of a stream; raises UserError if it has no rows."""
    if dataset.features is not None:
        return dataset.features
    rows = list(islice(dataset.with_format(None), _HEAD))
    if not rows:
        raise UserError(f"{name} has no rows")
    return table_in_memory(rows).features


def stream_tables(dataset: datasets.IterableDataset, features: datasets.Features, size: int) -> Iterator[pa.Table]:
    """The rows in order, at most `size` at a time; pictures and sounds stay encoded."""
    # Only a source that reads Arrow can hand it out; what makes rows in Python is turned into Arrow here.
    if dataset._ex_iterable.iter_arrow:
        yield from dataset.with_format("arrow").iter(size)
        return
    rows = iter(dataset.with_format(None) if dataset.features is None else dataset.with_format(None).decode(False))
    start = 0
    while block := list(islice(rows, size)):
        yield _as_arrow(block, features, start)
        start += len(block)


def _as_arrow(rows: list[dict[str, Any]], features: datasets.Features, start: int) -> pa.Table:
    columns = {name: [row.get(name) for row in rows] for name in features}
    try:
        return datasets.Dataset.from_dict(columns, features=features).with_format("arrow")[:]
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise UserError(
            f"rows {start} to {start + len(rows) - 1} of the stream do not have the types of its first "
            f"{_HEAD} ({error}); give the IterableDataset its features"
        ) from error
