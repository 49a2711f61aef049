"""The file formats of tables: what their names end in, which columns they hold, and their rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import datasets
import pyarrow as pa

from absentia.data.csv import csv_schema, csv_tables
from absentia.data.jsonl import json_schema, json_tables
from absentia.data.parquet import parquet_rows, parquet_schemas, parquet_tables
from absentia.data.sniff import AUDIO_SUFFIXES, IMAGE_SUFFIXES
from absentia.data.storage import merge_schemas, plain
from absentia.errors import UserError, nearest

__all__ = ["SUFFIXES", "format_of", "is_table", "known_rows", "read_features", "read_tables"]

SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
}
_PACKED = (".gz", ".bz2", ".zst")
_READERS = {"csv": csv_tables, "json": json_tables, "parquet": parquet_tables}


def format_of(path: Path) -> str:
    """ "csv", "json" or "parquet", by the file's name; raises UserError for any other."""
    suffix = _suffix(path)
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    if suffix in IMAGE_SUFFIXES + AUDIO_SUFFIXES:
        what = "an image" if suffix in IMAGE_SUFFIXES else "a sound"
        raise UserError(f"{path} is {what}, not a table; give its folder, or the table that names it in a cell")
    if suffix in (".xlsx", ".xls", ".ods"):
        raise UserError(f"{path} is a workbook, not a table; save the sheet as CSV (UTF-8)")
    raise UserError(f"{path}: a table does not end in {suffix!r}; {nearest(suffix, SUFFIXES)}")


def is_table(path: Path) -> bool:
    """Whether the name is that of a table file."""
    return _suffix(path) in SUFFIXES and (path.suffix not in _PACKED or SUFFIXES[_suffix(path)] != "parquet")


def read_features(form: str, paths: Sequence[Path]) -> datasets.Features:
    """Columns and storage types over all files of one format, with the names of classes that they carry."""
    if form == "parquet":
        schemas = parquet_schemas(paths)
    else:
        schemas = [csv_schema(paths) if form == "csv" else json_schema(paths)]
    features = datasets.Features.from_arrow_schema(merge_schemas(schemas, where=_where(paths)))
    for schema in schemas:
        for name, feature in datasets.Features.from_arrow_schema(_without_dictionaries(schema)).items():
            if isinstance(feature, datasets.ClassLabel) and name in features:
                features[name] = feature
    return features


def read_tables(form: str, path: str, schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of one file, block by block, exactly in `schema`."""
    for table in _READERS[form](Path(path), schema):
        yield plain(table, schema, {})


def known_rows(form: str, paths: Sequence[Path]) -> int | None:
    """How many rows the files hold, where that takes no reading."""
    return parquet_rows(paths) if form == "parquet" else None


def _suffix(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _PACKED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _where(paths: Sequence[Path]) -> str:
    return str(paths[0]) if len(paths) == 1 else f"{paths[0].parent} ({len(paths)} files)"


def _without_dictionaries(schema: pa.Schema) -> pa.Schema:
    """Features know no dictionary type; a ClassLabel is stored as a whole number and not concerned."""
    plain_types = [f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in schema]
    return pa.schema(plain_types, metadata=schema.metadata)
