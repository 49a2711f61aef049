"""One way to open any table, and its rows as they are stored: by number or in chunks, nothing decoded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from absentia.data.files import file_parts
from absentia.data.folder import folder_parts
from absentia.data.formats import format_of, is_table
from absentia.data.hub import hub_parts
from absentia.data.memory import splits_parts, table_in_memory
from absentia.data.storage import Part, merge_schemas, plain
from absentia.data.stream import stream_features, stream_tables
from absentia.errors import UserError, nearest

__all__ = ["SPLIT", "Table", "open_table"]

SPLIT = "split"
_STEP = 256  # rows read at once, or fewer when they are large
_STEP_BYTES, _CHUNK_BYTES = 16 << 20, 64 << 20
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


class Table:
    """Rows of one or several data sets, in their order; with several splits, a column `split` names them.

    name: for messages.  root: the folder that relative paths in cells start from, or None.
    notes: what a reader of its scores has to know.
    columns: storage type by column name.  class_names: what the whole numbers of a ClassLabel column mean.
    streaming: rows can only be read in order.
    """

    def __init__(
        self, parts: Sequence[Part], *, name: str, root: Path | None = None, notes: Sequence[str] = ()
    ) -> None:
        self.name, self.root, self.notes = name, root, tuple(notes)
        self._parts = [_raw(part) for part in parts]
        self.streaming = any(isinstance(part.dataset, datasets.IterableDataset) for part in parts)
        self._features = [_features(part, name) for part in parts]
        self.class_names = _class_names(self._features, name)
        self._schema = _schema(self._features, name, with_split=any(part.split for part in parts))
        self.columns: dict[str, pa.DataType] = {field.name: field.type for field in self._schema}
        self._step = 16
        first = next(self.chunks(self._step), None)
        if first is None:
            raise UserError(f"{name} has no rows")
        self._step = max(1, min(_STEP, _STEP_BYTES * first.num_rows // max(1, first.nbytes)))

    def __len__(self) -> int:
        """Number of rows; a stream that does not say how long it is gets read once, to count."""
        return self._length

    def __repr__(self) -> str:
        rows = "streamed" if self.streaming else f"{len(self)} rows"
        return f"Table({self.name!r}, {rows}, columns: {', '.join(self.columns)})"

    def take(self, index: npt.NDArray[np.int64]) -> pa.Table:
        """The rows `index` (n,), in that order, repeated where they are; IndexError for a row that is not there."""
        if self.streaming:
            raise UserError(f"{self.name} is streamed: its rows come in order only; open it without streaming")
        index = np.asarray(index, dtype=np.int64)
        if len(index) and not (index.min() >= 0 and index.max() < len(self)):
            raise IndexError(f"{self.name} has the rows 0 to {len(self) - 1}")
        found, where = [self._schema.empty_table()], []
        for number, start in enumerate(self._starts[:-1]):
            mine = np.flatnonzero((index >= start) & (index < self._starts[number + 1]))
            if len(mine):
                found.append(self._plain(self._rows(number, index[mine] - start), self._parts[number].split))
                where.append(mine)
        table = pa.concat_tables(found)
        return table if len(where) < 2 else table.take(np.argsort(np.concatenate(where), kind="stable"))

    def chunks(self, size: int = 1024) -> Iterator[pa.Table]:
        """All rows in order, `size` at a time, or fewer where they are large: one chunk is in memory, never all."""
        return _joined(self._small_chunks(min(size, self._step)), size)

    def _small_chunks(self, size: int) -> Iterator[pa.Table]:
        for part, features in zip(self._parts, self._features, strict=True):
            for table in _part_chunks(part, features, size):
                yield self._plain(table, part.split)

    @cached_property
    def _length(self) -> int:
        if not self.streaming:
            return sum(len(part.dataset) for part in self._parts)
        known = [part.rows for part in self._parts]
        if all(rows is not None for rows in known):
            return sum(rows for rows in known if rows is not None)
        return sum(chunk.num_rows for chunk in self.chunks())

    @cached_property
    def _starts(self) -> list[int]:
        return [*accumulate((len(part.dataset) for part in self._parts), initial=0)]

    def _rows(self, number: int, index: npt.NDArray[np.int64]) -> pa.Table:
        return self._parts[number].dataset[index.tolist()]

    def _plain(self, table: pa.Table, split: str | None) -> pa.Table:
        if split is not None and SPLIT not in table.column_names:
            table = table.append_column(SPLIT, pa.repeat(split, table.num_rows))
        return plain(table, self._schema, self.class_names)


def open_table(source: Any, *, streaming: bool = False) -> Table:
    """Open a table, whatever it is.

    source: the path of a CSV, TSV, Parquet or JSON file; a folder (a saved data set, train/val/test files,
        shards, pictures or sounds); a hub name "owner/name" or "owner/name:config"; a pandas DataFrame; a Dataset,
        DatasetDict or IterableDataset; an Arrow table; or a list of dicts.
    streaming: read in order, for tables larger than memory; what is in memory already stays as it is.

    Raises UserError, with the place and what to do, for everything that cannot be opened or has no rows.
    """
    if isinstance(source, Table):
        return source
    if isinstance(source, (str, Path)):
        try:
            return _open_name(str(source), streaming=streaming)
        except OSError as error:
            raise UserError(f"{source} cannot be read: {error}") from error
    if isinstance(source, (datasets.Dataset, datasets.IterableDataset)):
        return Table([Part(source)], name=type(source).__name__)
    if isinstance(source, (datasets.DatasetDict, datasets.IterableDatasetDict)):
        return Table(splits_parts(source), name=type(source).__name__)
    return Table([Part(table_in_memory(source))], name=type(source).__name__)


def _open_name(source: str, *, streaming: bool) -> Table:
    if not source.strip():
        raise UserError("no table given: expected a path or a hub name")
    path = Path(source).expanduser()
    if path.is_dir():
        parts, root = folder_parts(path, None, streaming=streaming)
        return Table(parts, name=str(path), root=root)
    if path.exists():
        format_of(path)
        return Table(file_parts({None: [path]}, streaming=streaming), name=str(path), root=path.parent)
    name, _, config = source.partition(":")
    if name and Path(name).expanduser().is_dir():
        parts, root = folder_parts(Path(name).expanduser(), config, streaming=streaming)
        return Table(parts, name=source, root=root)
    if is_table(path) or not _HUB_NAME.fullmatch(name):
        raise UserError(_missing(path))
    return Table(hub_parts(name, config or None, streaming=streaming), name=source)


def _missing(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no file {path}: the folder {path.parent} does not exist"
    beside = [entry.name for entry in islice(path.parent.iterdir(), 200)]
    return f"there is no file {path}; {nearest(path.name, beside)}"


def _raw(part: Part) -> Part:
    if isinstance(part.dataset, datasets.IterableDataset):
        return part
    return replace(part, dataset=part.dataset.with_format("arrow"))  # gives rows as they are stored


def _features(part: Part, name: str) -> datasets.Features:
    if isinstance(part.dataset, datasets.IterableDataset):
        return stream_features(part.dataset, name)
    return part.dataset.features


def _class_names(features: Sequence[datasets.Features], name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for column, feature in (item for each in features for item in each.items()):
        names = [str(n) for n in feature.names] if isinstance(feature, datasets.ClassLabel) else None
        if names is not None and found.setdefault(column, names) != names:
            raise UserError(f"{name}: the splits give the classes of {column!r} different names")
    return found


def _schema(features: Sequence[datasets.Features], name: str, *, with_split: bool) -> pa.Schema:
    schema = merge_schemas([each.arrow_schema for each in features], where=name)
    if with_split and SPLIT not in schema.names:
        schema = schema.append(pa.field(SPLIT, pa.string()))
    return schema


def _joined(tables: Iterator[pa.Table], size: int) -> Iterator[pa.Table]:
    """Tables put together until they have `size` rows or are large."""
    waiting: list[pa.Table] = []
    rows = held = 0
    for table in tables:
        while rows + table.num_rows >= size:
            yield pa.concat_tables([*waiting, table.slice(0, size - rows)])
            table, waiting, rows, held = table.slice(size - rows), [], 0, 0
        if table.num_rows:
            waiting.append(table)
            rows, held = rows + table.num_rows, held + table.nbytes
        if held >= _CHUNK_BYTES:
            yield pa.concat_tables(waiting)
            waiting, rows, held = [], 0, 0
    if waiting:
        yield pa.concat_tables(waiting)


def _part_chunks(part: Part, features: datasets.Features, size: int) -> Iterator[pa.Table]:
    if isinstance(part.dataset, datasets.IterableDataset):
        yield from stream_tables(part.dataset, features, size)
        return
    for start in range(0, len(part.dataset), size):
        yield part.dataset[start : start + size]
