"""Raw Arrow storage: what a column of any data set looks like once nothing of it is decoded.

`Part` is one data set that a table is made of; `plain` brings its rows to the few storage types that the rest
of the package knows, and turns every other way of saying "nothing here" into a null.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import datasets
import pyarrow as pa
import pyarrow.compute as pc

from absentia.errors import UserError

__all__ = ["MEDIA", "Part", "is_media", "merge_schemas", "plain", "plain_schema"]

MEDIA = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""How an encoded picture or sound is stored: its bytes, or the path of its file."""

_LEFTOVER_INDEX = re.compile(r"__index_level_\d+__")


@dataclass(frozen=True)
class Part:
    """One data set of a table.

    split: its name, where a table has several.  rows: how many, where a stream knows.
    """

    dataset: datasets.Dataset | datasets.IterableDataset
    split: str | None = None
    rows: int | None = None


def is_media(dtype: pa.DataType) -> bool:
    """True for the storage of an Image or Audio feature: struct<bytes, path>, in either order."""
    return bool(pa.types.is_struct(dtype)) and {field.name for field in dtype} == {"bytes", "path"}


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The storage types of a schema, without what a pandas index left behind."""
    fields = [pa.field(field.name, _plain_type(field.type)) for field in schema]
    return pa.schema([field for field in fields if not _LEFTOVER_INDEX.fullmatch(field.name)])


def merge_schemas(schemas: Sequence[pa.Schema], *, where: str) -> pa.Schema:
    """One schema that holds the columns of all; a column without any value becomes text.

    Raises UserError where two parts hold the same column in types that do not go together.
    """
    try:
        merged = pa.unify_schemas([plain_schema(schema) for schema in schemas], promote_options="permissive")
    except pa.ArrowException as error:
        reason = str(error).removeprefix("Unable to merge: ").rstrip(".")
        raise UserError(f"{where}: its parts do not fit together. {reason}; give both the same type") from error
    empty = pa.types.is_null
    return pa.schema([pa.field(f.name, pa.string() if empty(f.type) else f.type) for f in merged])


def plain(table: pa.Table, schema: pa.Schema, class_names: Mapping[str, Sequence[str]]) -> pa.Table:
    """The rows of `table` in the columns and types of `schema`; a column that is not there is all null."""
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pa.chunked_array([pa.nulls(table.num_rows, field.type)]))
            continue
        column = _to_storage(table[field.name])
        column = column if column.type == field.type else column.cast(field.type)
        columns.append(_absent_as_null(column, is_class=field.name in class_names))
    return pa.table(columns, schema=schema)


def _plain_type(dtype: pa.DataType) -> pa.DataType:
    if isinstance(dtype, pa.BaseExtensionType):
        return _plain_type(dtype.storage_type)
    if pa.types.is_dictionary(dtype):
        return _plain_type(dtype.value_type)
    if is_media(dtype):  # a column without any bytes, or without any path, still has room for them
        fields = [dtype.field(i) for i in range(dtype.num_fields)]
        return pa.struct([MEDIA.field(f.name) if pa.types.is_null(f.type) else f for f in fields])
    if pa.types.is_string_view(dtype):
        return pa.large_string()
    return pa.large_binary() if pa.types.is_binary_view(dtype) else dtype


def _to_storage(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if isinstance(column.type, pa.BaseExtensionType):
        chunks = [chunk.storage for chunk in column.chunks]
        return _to_storage(pa.chunked_array(chunks, type=column.type.storage_type))
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _absent_as_null(column: pa.ChunkedArray, *, is_class: bool) -> pa.ChunkedArray:
    """A NaN, a class below zero, a picture with neither bytes nor path: all of them are nulls."""
    dtype = column.type
    if pa.types.is_floating(dtype):
        absent = pc.is_nan(column)
    elif is_class and pa.types.is_integer(dtype):
        absent = pc.less(column, 0)
    elif is_media(dtype):
        absent = pc.and_(pc.is_null(pc.struct_field(column, "bytes")), pc.is_null(pc.struct_field(column, "path")))
    else:
        return column
    if not pc.any(absent).as_py():
        return column
    return pc.if_else(pc.fill_null(absent, True), pa.scalar(None, dtype), column)
