"""Text tables: what separates the cells, which type each column has over the whole file, and the rows.

Cells are first read as bytes. An empty cell without quotes is a null; `""` is a text that is there and empty.
A column holds numbers only if every cell of every file says so; words for "no value" (NA, null, ...) count as
nulls in such a column and stay words in a column of text. A number with leading zeros is a code, hence text.
A column with bytes that are not UTF-8 stays binary, so that whoever decodes it can name the bad cell.
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from absentia.data.sniff import open_text, refuse_binary
from absentia.errors import UserError

__all__ = ["csv_schema", "csv_tables"]

_BLOCK = 16 << 20  # bytes read at a time; also the longest row
_HEAD = 1 << 18  # bytes looked at to find the header and the separator
_SEPARATORS = (",", ";", "\t", "|")
_NO_NUMBER = pa.array(["", "na", "n/a", "#n/a", "nan", "-nan", "null", "none", "nil", "-", "?"])
_WHOLE = r"(?:0|[1-9][0-9]{0,17})"
_PATTERNS = {
    "bool": r"^(?i:true|false)$",
    "int": rf"^[+-]?{_WHOLE}$",
    "float": rf"^[+-]?(?:(?:{_WHOLE}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|(?i:inf|infinity))$",
}
_TYPES = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64()}


def csv_schema(paths: Sequence[Path]) -> pa.Schema:
    """The columns of all files, each bool, int64, float64, string or binary, whichever fits all of its cells.

    Raises UserError for a file that is no text table, repeats a column name or has a ragged line.
    """
    guesses: dict[str, _Guess] = {}
    for path in paths:
        for batch in _raw_batches(path):
            for name, cells in zip(batch.schema.names, batch.columns, strict=True):
                guesses.setdefault(name, _Guess()).look(cells)
    return pa.schema([(name, guess.type) for name, guess in guesses.items()])


def csv_tables(path: Path, schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of one file, block by block, its columns in the types of `schema`."""
    for batch in _raw_batches(path):
        names = batch.schema.names
        columns = [_convert(cells, schema.field(name).type) for name, cells in zip(names, batch.columns, strict=True)]
        yield pa.table(columns, names=names)


@dataclass
class _Guess:
    """What a column may still be, after the cells seen so far."""

    utf8: bool = True
    any_value: bool = False
    possible: list[str] = field(default_factory=lambda: list(_PATTERNS))

    def look(self, cells: pa.Array) -> None:
        if not self.utf8 or cells.type != pa.binary():
            return
        try:
            text = cells.cast(pa.string())
        except pa.ArrowInvalid:
            self.utf8 = False
            return
        if self.possible:
            self._narrow(_drop_no_number(text))

    def _narrow(self, values: pa.Array) -> None:
        if len(values):
            self.any_value = True
            self.possible = [name for name in self.possible if _all_match(values, _PATTERNS[name])]

    @property
    def type(self) -> pa.DataType:
        if not self.utf8:
            return pa.binary()
        return _TYPES[self.possible[0]] if self.any_value and self.possible else pa.string()


def _all_match(values: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(values, pattern)).as_py())


def _says_no_number(trimmed: pa.Array) -> pa.Array:
    return pc.is_in(pc.utf8_lower(trimmed), _NO_NUMBER)


def _drop_no_number(text: pa.Array) -> pa.Array:
    trimmed = pc.utf8_trim_whitespace(text.drop_null())
    return trimmed.filter(pc.invert(_says_no_number(trimmed)))


def _convert(cells: pa.Array, dtype: pa.DataType) -> pa.Array:
    if dtype == pa.binary():
        return cells
    text = cells.cast(pa.string())
    if dtype == pa.string():
        return text
    text = pc.utf8_trim_whitespace(text)
    text = pc.if_else(_says_no_number(text), pa.scalar(None, pa.string()), text)
    if dtype == pa.bool_():
        return pc.equal(pc.utf8_lower(text), "true")
    return pc.utf8_ltrim(text, "+").cast(dtype)


@dataclass(frozen=True)
class _Layout:
    """What has to be known of a file before its cells can be read."""

    names: list[str]
    separator: str
    skip: int  # rows up to and including the header
    encoding: str


def _raw_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Every cell as bytes, or null."""
    layout = _layout(path)
    try:
        with open_text(path) as stream, _reader(stream, layout) as reader:
            batch = None
            for batch in reader:
                yield batch
            _check_end(path, layout, batch)
    except pa.ArrowInvalid as error:
        raise _explain(path, layout, str(error)) from error


def _reader(stream: pa.NativeFile, layout: _Layout) -> arrow_csv.CSVStreamingReader:
    read = arrow_csv.ReadOptions(
        use_threads=False,
        block_size=_BLOCK,
        column_names=layout.names,
        skip_rows_after_names=layout.skip,
        encoding=layout.encoding,
    )
    # An empty line is no row, unless there is only one column: then it is a row with an empty cell.
    parse = arrow_csv.ParseOptions(
        delimiter=layout.separator, newlines_in_values=True, ignore_empty_lines=len(layout.names) > 1
    )
    convert = arrow_csv.ConvertOptions(
        column_types=dict.fromkeys(layout.names, pa.binary()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    return arrow_csv.open_csv(stream, read_options=read, parse_options=parse, convert_options=convert)


def _layout(path: Path) -> _Layout:
    with open_text(path) as stream:
        head = stream.read(_HEAD)
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    if encoding == "utf-8":
        refuse_binary(path, head)
    text = head.decode("utf-16" if encoding == "utf-16" else "utf-8-sig", errors="replace")
    if not text.strip():
        raise UserError(f"{path} is empty: a table starts with a line that names its columns")
    separator = "\t" if ".tsv" in path.suffixes else _separator(text)
    for skipped, row in enumerate(_slow_rows(io.StringIO(text, newline=""), separator)):
        if row:
            return _Layout(_names(path, row), separator, skipped + 1, encoding)
    raise UserError(f"{path} has no line that names its columns")


def _names(path: Path, header: Sequence[str]) -> list[str]:
    names = [name.strip() or f"column_{number}" for number, name in enumerate(header, start=1)]
    if any("\ufffd" in name for name in names):
        raise UserError(f"{path}: the names of its columns are not UTF-8 text; save it as 'CSV UTF-8'")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{path}: the column {name!r} is there {names.count(name)} times; give each its own name")
    return names


def _separator(text: str) -> str:
    """The separator that cuts most lines into as many cells as the header has, and into most cells."""
    lines = list(io.StringIO(text, newline=""))
    whole = lines[:-1] if len(text) >= _HEAD // 4 and len(lines) > 1 else lines
    best, best_score = ",", (0.0, 0)
    for separator in _SEPARATORS:
        widths = [len(row) for row in _slow_rows(whole[:200], separator) if row]
        if widths and widths[0] > 1:
            score = (widths.count(widths[0]) / len(widths), widths[0])
            best, best_score = (separator, score) if score > best_score else (best, best_score)
    return best


def _check_end(path: Path, layout: _Layout, last: pa.RecordBatch | None) -> None:
    """A quote that is opened and never closed takes all that follows into one cell, silently: say so."""
    cell = last.column(last.num_columns - 1)[-1].as_py() if last is not None and last.num_rows else None
    if cell is None or b"\n" not in cell:
        return
    tail = b""
    with open_text(path) as stream:
        while block := stream.read(1 << 20):
            tail = (tail + block)[-64:]
    if not tail.replace(b"\0", b"").rstrip(b"\r\n").endswith(b'"'):
        *_, (line, _) = _lines_and_widths(path, layout)
        raise UserError(f"{path}, line {line}: a quote is opened in this row and never closed; close it")


def _explain(path: Path, layout: _Layout, reason: str) -> UserError:
    if "straddling" in reason:
        size = f"{_BLOCK >> 20} MB"
        return UserError(f"{path}: a row is longer than {size}; close the quote that it opens, or use Parquet")
    for line, width in _lines_and_widths(path, layout):
        if width != len(layout.names):
            return UserError(
                f"{path}, line {line}: {width} cells where the header names {len(layout.names)} columns (separated "
                f"by {layout.separator!r}); quote a cell that holds the separator, or add what is missing"
            )
    return UserError(f"{path} cannot be read as a table: {reason}")


def _lines_and_widths(path: Path, layout: _Layout) -> Iterator[tuple[int, int]]:
    """First line and number of cells of each row: a slow second look, once something is known to be wrong."""
    encoding = "utf-16" if layout.encoding == "utf-16" else "utf-8-sig"
    with open_text(path) as stream:
        text = io.TextIOWrapper(io.BufferedReader(stream), encoding=encoding, errors="replace", newline="")
        lines = 0
        for row in _slow_rows(counted := _Counted(text), layout.separator):
            if row:
                yield lines + 1, len(row)
            lines = counted.lines


class _Counted:
    """Lines, and how many of them were taken."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines, self.lines = iter(lines), 0

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.lines += 1
            yield line


def _slow_rows(lines: Iterable[str], separator: str) -> Iterator[list[str]]:
    """Rows as the standard library cuts them, up to a cell that is longer than it takes."""
    with contextlib.suppress(csv.Error):
        yield from csv.reader(lines, delimiter=separator)
