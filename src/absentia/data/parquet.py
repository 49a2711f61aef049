"""Parquet files, a few megabytes at a time: memory depends on the size neither of files nor of row groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from absentia.data.sniff import audio_format, image_format
from absentia.errors import UserError

__all__ = ["parquet_rows", "parquet_schemas", "parquet_tables"]

_ROWS = 1024  # read at once, or fewer when rows are large
_BYTES = 16 << 20
_BUFFER = 1 << 20


def parquet_schemas(paths: Sequence[Path]) -> list[pa.Schema]:
    """The schema of each file; raises UserError for one that is damaged or repeats a column name."""
    schemas = []
    for path in paths:
        with _open(path) as file:
            schema = file.schema_arrow
        for name in schema.names:
            if schema.names.count(name) > 1:
                raise UserError(f"{path}: the column {name!r} is there more than once; give each its own name")
        schemas.append(schema)
    return schemas


def parquet_rows(paths: Sequence[Path]) -> int:
    """How many rows the files hold together, from their footers alone."""
    total = 0
    for path in paths:
        with _open(path) as file:
            total += file.metadata.num_rows
    return total


def parquet_tables(path: Path, schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of one file. Without read-ahead: a row group may hold the whole file."""
    row = 0
    try:
        with _open(path) as file:
            for batch in file.iter_batches(batch_size=_rows_at_once(file.metadata)):
                yield pa.Table.from_batches([batch])
                row += batch.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} is damaged after row {row}: {error}") from error


def _rows_at_once(about: pq.FileMetaData) -> int:
    total = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
    return max(1, min(_ROWS, _BYTES * int(about.num_rows) // max(1, int(total))))


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER)
    except (pa.ArrowInvalid, OSError) as error:
        with path.open("rb") as stream:
            head = stream.read(16)
        if not head:
            raise UserError(f"{path} is empty: a Parquet file has at least a header") from error
        picture = image_format(head) or audio_format(head)
        if picture:
            raise UserError(f"{path} is not a table: it is a {picture} file") from error
        if head.startswith(b"PAR1"):
            raise UserError(f"{path} is not whole: its end is missing or damaged; copy or download it again") from error
        raise UserError(f"{path} is not a Parquet file; if it is a text table, call it .csv") from error
