"""JSON tables: one object a line, or one array of objects; the types of all columns over the whole file.

A key that an object lacks is a null. Whole numbers and fractions make a column of float64; a column that mixes
text with numbers is text, the numbers written as they stand in the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from absentia.data.sniff import open_text, refuse_binary
from absentia.data.values import arrow_column, value_type
from absentia.errors import UserError

__all__ = ["json_schema", "json_tables"]

Row = dict[str, Any]
_BLOCK = 4 << 20  # bytes of JSON turned into Arrow at a time


def json_schema(paths: Sequence[Path]) -> pa.Schema:
    """The columns of all files with the types that hold every cell of them.

    Raises UserError, with the line, for what is no JSON object and for cells of a column that do not go together.
    """
    types: dict[str, pa.DataType] = {}
    for path in paths:
        for block in _blocks(path):
            for name in _keys(block):
                types[name] = _wider(path, block, name, types.get(name, pa.null()))
    return pa.schema(list(types.items()))


def json_tables(path: Path, schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of one file, block by block, its columns in the types of `schema`."""
    for block in _blocks(path):
        columns = [arrow_column([row.get(f.name) for _, row in block], f.type) for f in schema]
        yield pa.table(columns, schema=schema)


def _keys(block: Iterable[tuple[int, Row]]) -> list[str]:
    return list(dict.fromkeys(key for _, row in block for key in row))


def _wider(path: Path, block: list[tuple[int, Row]], name: str, known: pa.DataType) -> pa.DataType:
    """The type of a column that holds `known` and the cells of one more block."""
    try:
        return value_type([row.get(name) for _, row in block], known)
    except (pa.ArrowException, TypeError):
        pass
    for line, row in block:  # cell by cell, to name the one that does not fit
        try:
            known = value_type([row.get(name)], known)
        except (pa.ArrowException, TypeError) as error:
            raise UserError(
                f"{path}, line {line}, column {name!r}: {_short(row[name])} does not go with the cells "
                f"above it, which are {known}; a column has one type"
            ) from error
    return known


def _blocks(path: Path) -> Iterator[list[tuple[int, Row]]]:
    """Numbered rows of about 4 MB of text."""
    block: list[tuple[int, Row]] = []
    size = 0
    for line, row, length in _rows(path):
        block.append((line, row))
        size += length
        if size >= _BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block


def _rows(path: Path) -> Iterator[tuple[int, Row, int]]:
    """(line number, object, bytes) of each object; an array of objects is read as a whole."""
    with open_text(path) as stream:
        head = stream.read(1 << 12)
    refuse_binary(path, head)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text:
        raise UserError(f"{path} is empty: expected one JSON object a line")
    yield from _array(path) if text.startswith(b"[") else _lines(path)


def _lines(path: Path) -> Iterator[tuple[int, Row, int]]:
    import io

    with open_text(path) as stream:
        for number, line in enumerate(io.BufferedReader(stream), start=1):
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if line.strip():
                yield number, _object(path, number, _parse(path, line, number)), len(line)


def _array(path: Path) -> Iterator[tuple[int, Row, int]]:
    with open_text(path) as stream:
        text = stream.read()
    rows = _parse(path, text.removeprefix(b"\xef\xbb\xbf"), None)
    length = len(text) // max(1, len(rows))
    for number, row in enumerate(rows, start=1):
        yield number, _object(path, number, row), length


def _parse(path: Path, text: bytes, line: int | None) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {line or error.lineno}"
        raise UserError(
            f"{path}, {where}, character {error.colno}: not JSON ({error.msg}); expected one object a line"
        ) from error
    except UnicodeDecodeError as error:
        where = f", line {line}" if line else ""
        raise UserError(f"{path}{where}: JSON is written in UTF-8, byte {error.start} is not; save it again") from error


def _object(path: Path, number: int, value: Any) -> Row:
    if not isinstance(value, dict):
        raise UserError(f"{path}, line {number}: {_short(value)} is not an object with a name for each cell")
    return value


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."
