"""CSV: what is null, what is empty, what is a number, and what is wrong in which line."""

from __future__ import annotations

import csv as stdlib_csv
import gzip
import io
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from absentia.data import csv as our_csv
from absentia.data.table import Table, open_table
from absentia.errors import UserError


def opened(folder: Path, content: str | bytes, name: str = "t.csv") -> Table:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_table(folder / name)


def rows(table: Table) -> list[dict[str, object]]:
    return [row for chunk in table.chunks() for row in chunk.to_pylist()]


def column(folder: Path, *cells: str) -> tuple[pa.DataType, list[object]]:
    """Type and values of a column with these cells, beside a column that is always there."""
    table = opened(folder, "x,y\n" + "".join(f"{cell},z\n" for cell in cells))
    return table.columns["x"], [row["x"] for row in rows(table)]


def test_an_empty_cell_is_absent_and_an_empty_text_is_present(tmp_path: Path) -> None:
    assert column(tmp_path, "a", "", '""') == (pa.string(), ["a", None, ""])


@pytest.mark.parametrize("word", ["None", "NA", "null", "NaN", "N/A", "n/a"])
def test_words_for_nothing_are_nulls_among_numbers_and_words_among_words(tmp_path: Path, word: str) -> None:
    assert column(tmp_path, "1", word, "2") == (pa.int64(), [1, None, 2])
    assert column(tmp_path, "1.5", word, '""') == (pa.float64(), [1.5, None, None])
    assert column(tmp_path, "true", word, "FALSE") == (pa.bool_(), [True, None, False])
    assert column(tmp_path, "one", word) == (pa.string(), ["one", word])


@pytest.mark.parametrize(
    ("cells", "dtype", "values"),
    [
        (["1", "-2", "+3", " 4 "], pa.int64(), [1, -2, 3, 4]),
        (["1", "2.5", ".5", "1.", "1e3", "-inf"], pa.float64(), [1, 2.5, 0.5, 1, 1000, float("-inf")]),
        (["01", "2"], pa.string(), ["01", "2"]),  # a code
        (["12345678901234567890", "1"], pa.string(), ["12345678901234567890", "1"]),  # no int64 holds it
        (["0x1A", "1"], pa.string(), ["0x1A", "1"]),
        (["1", "true"], pa.string(), ["1", "true"]),
        (["yes", "no"], pa.string(), ["yes", "no"]),
        (["NA", "NA"], pa.string(), ["NA", "NA"]),  # no number anywhere
        (["", ""], pa.string(), [None, None]),
        (["2024-01-01"], pa.string(), ["2024-01-01"]),
    ],
)
def test_types(tmp_path: Path, cells: list[str], dtype: pa.DataType, values: list[object]) -> None:
    assert column(tmp_path, *cells) == (dtype, values)


def test_the_last_row_of_many_blocks_decides_the_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(our_csv, "_BLOCK", 1 << 12)
    lines = "".join(f"{i},{i},é\n" for i in range(5000))
    table = opened(tmp_path, f"number,word,text\n{lines}0.5,end,ü\n")
    assert table.columns == {"number": pa.float64(), "word": pa.string(), "text": pa.string()}
    last = rows(table)[-1]
    assert last == {"number": 0.5, "word": "end", "text": "ü"} and len(table) == 5001


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_line_ends_quotes_and_accents(tmp_path: Path, separator: str) -> None:
    lines = [["naïve", "b c", ""], ['say "é"', "two\nlines", " x "], [f"a{separator}b", "Ω", "end"]]
    out = io.StringIO()
    writer = stdlib_csv.writer(out, delimiter=separator, lineterminator="\r\n")
    writer.writerows([["premier é", "second", "third, or last"], *lines])
    table = opened(tmp_path, b"\xef\xbb\xbf" + out.getvalue().encode())
    assert list(table.columns) == ["premier é", "second", "third, or last"]
    assert [list(row.values()) for row in rows(table)] == [[cell or None for cell in line] for line in lines]


def test_tsv_utf16_and_packed_files(tmp_path: Path) -> None:
    assert rows(opened(tmp_path, "a,b\tc\n1\t2\n", "t.tsv")) == [{"a,b": 1, "c": 2}]
    assert rows(opened(tmp_path, "a,b\né,2\n".encode("utf-16"))) == [{"a": "é", "b": 2}]
    assert rows(opened(tmp_path, gzip.compress(b"a,b\n1,2\n"), "t.csv.gz")) == [{"a": 1, "b": 2}]


def test_one_column_without_separator(tmp_path: Path) -> None:
    assert rows(opened(tmp_path, "word\na\n\nb\n")) == [{"word": "a"}, {"word": None}, {"word": "b"}]


def test_unnamed_columns_get_their_number(tmp_path: Path) -> None:
    assert list(opened(tmp_path, ",a,\n0,1,2\n").columns) == ["column_1", "a", "column_3"]


def test_bytes_that_are_no_utf8_leave_the_column_binary_and_the_others_alone(tmp_path: Path) -> None:
    table = opened(tmp_path, b"a,b\ncaf\xe9,1\nok,2\n")
    assert table.columns == {"a": pa.binary(), "b": pa.int64()}
    assert rows(table) == [{"a": b"caf\xe9", "b": 1}, {"a": b"ok", "b": 2}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("a,b\n", "has no rows"),
        ("a,b,a\n1,2,3\n", "column 'a' is there 2 times"),
        ("a,b\n1,2\n3\n", "line 3: 1 cells where the header names 2 columns"),
        ('a,b\n"x\ny",2\n\n1,2,3\n', "line 5: 3 cells"),
        ('a,b\n1,"2\n3,4\n', "line 2: "),
        (b"caf\xe9,b\n1,2\n", "not UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "not a table: it is a PNG file"),
        (b"PK\x03\x04....", "Excel"),
        (b"PAR1....", "Parquet"),
        (b"a,b\n1,\0\n", "bytes that no text has"),
    ],
)
def test_what_is_no_table_is_one_clear_error(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        opened(tmp_path, content)
    assert str(tmp_path / "t.csv") in str(error.value)


def test_a_quote_that_is_never_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(our_csv, "_BLOCK", 1 << 12)
    with pytest.raises(UserError, match="quote"):
        opened(tmp_path, 'a,b\n1,"2\n' + "3,4\n" * 5000)


cells = st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from('\n",;|\t '), max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(table=st.lists(st.tuples(cells, cells, st.just("z")), min_size=1, max_size=5))
@example(table=[("", None, "z")])
@example(table=[(None, "a\nb", "z"), ("", '""', "z")])
def test_any_text_comes_back_as_it_was(tmp_path: Path, table: list[tuple[str | None, ...]]) -> None:
    def written(cell: str | None) -> str:
        return "" if cell is None else '"' + cell.replace('"', '""') + '"'

    text = '"x","y","last"\n' + "".join(",".join(map(written, row)) + "\n" for row in [*table, ("_", "_", "z")])
    read = rows(opened(tmp_path, text))
    assert [tuple(row.values()) for row in read][:-1] == table
