"""Who a row is: an id that survives shuffling, subsetting and copying, and the numbers drawn from it.

Whatever is decided at random about a row (its split, its mask) is a pure function of a key and the row's id,
never of a generator's state: the same entity gets the same answer in any order, any subset and any process.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from absentia.errors import UserError, nearest

__all__ = ["entity_ids", "entity_uniform"]

Floats = npt.NDArray[np.float64]

NULL = b"\x00"
KEY_BYTES, CONTENT_BYTES = 16, 16


def entity_uniform(ids: Sequence[str], *key: object) -> Floats:
    """One number in [0, 1) for each id, float64 (N,): the same for the same id and key, on every machine.

    The key's parts are strings, whole numbers or floats; two keys give independent numbers.
    """
    prefix = blake2b(b"".join(map(_key_part, key)), digest_size=KEY_BYTES).digest()
    digests = b"".join([blake2b(prefix + name, digest_size=8).digest() for name in map(str.encode, ids)])
    bits = np.frombuffer(digests, dtype="<u8") >> np.uint64(11)  # the 53 bits a float64 holds exactly
    return bits.astype(np.float64) * 2.0**-53


def entity_ids(chunk: pa.Table, id_column: str | None, columns: Sequence[str]) -> list[str]:
    """The ids of a chunk's rows (N,): the id column as strings, or a hash of what `columns` hold.

    Without an id column, rows with equal cells are one entity: they share their split and their mask. The
    hash reads the raw storage cells (paths stay paths, encoded bytes stay encoded), so nothing is decoded.
    Raises `UserError` for a column that is not there, an id that is null, or ids that are no plain values.
    """
    if id_column is not None:
        return _named(_column(chunk, id_column), id_column)
    if not columns:
        raise UserError("rows need an id column, or at least one column to tell them apart by")
    cells = [_cells(_column(chunk, name)) for name in columns]
    return [_digest(row) for row in zip(*cells, strict=True)]


def _key_part(part: object) -> bytes:
    """A part of a key with its type and length, so that no two keys run together."""
    if isinstance(part, numbers.Integral):
        text = f"i{int(part)}"
    elif isinstance(part, float):
        text = f"f{float(part).hex()}"
    elif isinstance(part, str):
        text = f"s{part}"
    else:
        raise TypeError(f"a key is made of strings and numbers, not of {type(part).__name__}")
    return _framed(text.encode())


def _framed(content: bytes) -> bytes:
    return len(content).to_bytes(8, "little") + content


def _digest(parts: Sequence[bytes]) -> str:
    return blake2b(b"".join(map(_framed, parts)), digest_size=CONTENT_BYTES).hexdigest()


def _column(chunk: pa.Table, name: str) -> pa.Array:
    if name not in chunk.column_names:
        raise UserError(f"the table has no column {name!r}; {nearest(name, chunk.column_names)}")
    return chunk.column(name).combine_chunks()


def _named(column: pa.Array, name: str) -> list[str]:
    try:
        texts: list[str | None] = pc.cast(column, pa.string()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"id column {name!r} holds {column.type}; ids are texts or numbers") from error
    if column.null_count:
        raise UserError(f"id column {name!r} is null in row {texts.index(None)}; every row needs an id")
    return [text for text in texts if text is not None]


def _cells(column: pa.Array) -> list[bytes]:
    """What each cell holds, as bytes: equal for equal cells, whatever the width of the column's type."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return _cells(column.storage)
    if types.is_dictionary(kind):
        return _cells(column.dictionary_decode())
    if types.is_fixed_size_list(kind):
        return _cells(column.cast(pa.list_(kind.value_type)))
    if types.is_list(kind) or types.is_large_list(kind):
        return _valid(column, _lists(column))
    if types.is_struct(kind):
        return _valid(column, _structs(column))
    return _plain(column)


def _valid(column: pa.Array, contents: list[bytes]) -> list[bytes]:
    absent = column.is_null(nan_is_null=True).to_pylist()
    return [NULL if null else content for content, null in zip(contents, absent, strict=True)]


def _plain(column: pa.Array) -> list[bytes]:
    kind = column.type
    if _is_number(kind):
        return _valid(column, _slices(_numbers(column), np.arange(len(column) + 1), _letter(kind)))
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return [NULL if cell is None else b"b" + cell for cell in column.to_pylist()]
    try:
        texts = pc.cast(column, pa.string()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"rows cannot be told apart by {kind} cells; give them an id column") from error
    return [NULL if cell is None else b"s" + cell.encode() for cell in texts]


def _lists(column: pa.Array) -> list[bytes]:
    offsets = column.offsets.to_numpy()
    inner = column.values.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
    offsets = offsets - offsets[0]
    if not _is_number(inner.type):
        parts = _cells(inner)
        return [b"l" + b"".join(map(_framed, parts[a:b])) for a, b in pairwise(offsets.tolist())]
    rows = _slices(_numbers(inner), offsets, b"l" + _letter(inner.type))
    if not inner.null_count:
        return rows
    nulls = np.asarray(inner.is_null().to_numpy(zero_copy_only=False))
    holes = [nulls[a:b] for a, b in pairwise(offsets.tolist())]
    return [b"h" + h.tobytes() + row if h.any() else row for row, h in zip(rows, holes, strict=True)]


def _structs(column: pa.Array) -> list[bytes]:
    names = [column.type.field(i).name for i in range(column.type.num_fields)]
    fields = {name: _cells(pc.struct_field(column, i)) for i, name in enumerate(names)}
    rows = zip(*(fields[name] for name in sorted(fields)), strict=True)
    heading = b"r" + "\n".join(sorted(fields)).encode()
    return [heading + b"".join(map(_framed, row)) for row in rows]


def _is_number(kind: pa.DataType) -> bool:
    return bool(types.is_integer(kind) or types.is_floating(kind))


def _letter(kind: pa.DataType) -> bytes:
    return b"i" if types.is_integer(kind) else b"f"


def _numbers(column: pa.Array) -> npt.NDArray[Any]:
    """Eight little-endian bytes for each number; nulls are zeros, there is one NaN and one zero."""
    array = np.asarray(pc.fill_null(column, 0).to_numpy(zero_copy_only=False))
    if types.is_integer(column.type):
        return array.astype("<u8" if types.is_unsigned_integer(column.type) else "<i8")
    floats = array.astype("<f8") + 0.0  # -0.0 + 0.0 is 0.0
    floats[np.isnan(floats)] = np.nan
    return floats


def _slices(array: npt.NDArray[Any], offsets: npt.NDArray[Any], heading: bytes) -> list[bytes]:
    content, bounds = array.tobytes(), (offsets * 8).tolist()
    return [heading + content[a:b] for a, b in pairwise(bounds)]
