"""Opening anything as a table: the same rows from every source, raw, and one clear error for what is no table."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from absentia.data import files
from absentia.data import table as table_room
from absentia.data.table import Table, open_table
from absentia.errors import UserError

ROWS = [
    {"id": "a", "text": "one", "year": 1990.0, "n": 3, "vector": [1.0, 2.0]},
    {"id": "b", "text": "", "year": None, "n": None, "vector": None},
    {"id": "ç", "text": None, "year": -1.5, "n": 5, "vector": [3.0, 4.0]},
]
FEATURES = datasets.Features(
    {
        "id": datasets.Value("string"),
        "text": datasets.Value("string"),
        "year": datasets.Value("float64"),
        "n": datasets.Value("int64"),
        "vector": datasets.List(datasets.Value("float64")),
    }
)


def rows(table: Table, size: int = 1024) -> list[dict[str, Any]]:
    return [row for chunk in table.chunks(size) for row in chunk.to_pylist()]


def dataset() -> datasets.Dataset:
    return datasets.Dataset.from_list(ROWS, features=FEATURES)


def parquet(folder: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "t.parquet", row_group_size=2)
    return folder / "t.parquet"


def json_lines(folder: Path) -> Path:
    (folder / "t.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    return folder / "t.jsonl"


def json_array(folder: Path) -> Path:
    (folder / "t.json").write_text(json.dumps(ROWS, indent=1))
    return folder / "t.json"


def saved(folder: Path) -> Path:
    dataset().save_to_disk(str(folder / "saved"))
    return folder / "saved"


def frame(_: Path) -> pd.DataFrame:
    data = pd.DataFrame(ROWS, index=[7, 7, 2])
    return data.astype({"n": "Int64"})


SOURCES: dict[str, Callable[[Path], Any]] = {
    "parquet": parquet,
    "jsonl": json_lines,
    "json": json_array,
    "saved": saved,
    "frame": frame,
    "dataset": lambda _: dataset(),
    "arrow": lambda _: pa.Table.from_pylist(ROWS),
    "list": lambda _: ROWS,
    "iterable": lambda _: dataset().to_iterable_dataset(),
    "generator": lambda _: datasets.IterableDataset.from_generator(lambda: iter(ROWS)),
    "generator with features": lambda _: datasets.IterableDataset.from_generator(lambda: iter(ROWS), features=FEATURES),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("streaming", [False, True])
def test_the_same_rows_from_every_source(tmp_path: Path, source: str, streaming: bool) -> None:
    table = open_table(SOURCES[source](tmp_path), streaming=streaming)
    assert rows(table) == ROWS
    assert rows(table, 2) == ROWS  # again, and in other chunks
    assert len(table) == 3
    wide = {"text": pa.large_string(), "id": pa.large_string()} if source == "frame" else {}
    assert table.columns == {**{f.name: f.type for f in FEATURES.arrow_schema}, **wide}


@pytest.mark.parametrize("source", [s for s in SOURCES if "generator" not in s and s != "iterable"])
def test_rows_by_number(tmp_path: Path, source: str) -> None:
    table = open_table(SOURCES[source](tmp_path))
    index = np.array([2, 0, 0, 1])
    assert table.take(index).to_pylist() == [ROWS[i] for i in index]
    empty = table.take(np.array([], dtype=np.int64))
    assert empty.num_rows == 0 and dict(zip(empty.schema.names, empty.schema.types, strict=True)) == table.columns
    for outside in (-1, 3):
        with pytest.raises(IndexError):
            table.take(np.array([outside]))


def test_a_stream_has_no_rows_by_number(tmp_path: Path) -> None:
    table = open_table(parquet(tmp_path), streaming=True)
    assert table.streaming
    with pytest.raises(UserError, match="without streaming"):
        table.take(np.array([0]))


@pytest.mark.parametrize("source", [parquet, json_lines])
def test_a_large_file_goes_through_the_cache(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    source: Callable[[Path], Path],
) -> None:
    monkeypatch.setattr(files, "SMALL", 0)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    path = source(tmp_path)
    for _ in range(2):
        table = open_table(path)
        assert rows(table) == ROWS and table.take(np.array([2, 1])).to_pylist() == [ROWS[2], ROWS[1]]
    assert len(list((tmp_path / "cache").rglob("*.arrow"))) == 1  # written once
    assert capfd.readouterr() == ("", "") and not datasets.are_progress_bars_disabled()


def test_a_changed_file_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SMALL", 0)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    path = tmp_path / "t.csv"
    for content in ("a,b\n1,2\n", "a,b\n3,4\n5,6\n"):
        path.write_text(content)
        assert rows(open_table(path))[0]["a"] == int(content[4])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    size=st.integers(1, 50),
    index=st.lists(st.integers(0, 10_000), max_size=20),
)
def test_chunks_and_rows_of_any_number_of_parts(sizes: list[int], size: int, index: list[int]) -> None:
    numbers = iter(range(sum(sizes)))
    parts = {
        f"s{i}": datasets.Dataset.from_dict({"n": [next(numbers) for _ in range(rows)]}) for i, rows in enumerate(sizes)
    }
    table = open_table(datasets.DatasetDict(parts))
    lengths = [chunk.num_rows for chunk in table.chunks(size)]
    assert sum(lengths) == len(table) == sum(sizes) and set(lengths[:-1]) <= {size}
    assert [row["n"] for row in rows(table, size)] == list(range(sum(sizes)))
    chosen = [i % len(table) for i in index]
    assert table.take(np.array(chosen, dtype=np.int64)).column("n").to_pylist() == chosen


def test_chunks_of_large_rows_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_room, "_STEP_BYTES", 1 << 16)
    monkeypatch.setattr(table_room, "_CHUNK_BYTES", 1 << 18)
    pq.write_table(pa.table({"x": [bytes(10_000)] * 500}), tmp_path / "t.parquet", use_dictionary=False)
    for streaming in (False, True):
        chunks = list(open_table(tmp_path / "t.parquet", streaming=streaming).chunks(400))
        assert sum(chunk.num_rows for chunk in chunks) == 500
        assert max(chunk.nbytes for chunk in chunks) < (1 << 18) + (1 << 16) * 2


def test_streaming_holds_a_small_part_of_a_file_with_one_row_group(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(64 << 20)
    data = pa.table({"x": [noise[i : i + 4096] for i in range(0, len(noise), 4096)]})
    pq.write_table(data, tmp_path / "t.parquet", compression="none", use_dictionary=False)
    del data
    before = pa.total_allocated_bytes()
    table = open_table(tmp_path / "t.parquet", streaming=True)
    assert max(pa.total_allocated_bytes() - before for _ in table.chunks()) < len(noise) / 2


def test_root_is_the_folder_of_the_file(tmp_path: Path) -> None:
    assert open_table(parquet(tmp_path)).root == tmp_path
    assert open_table(str(parquet(tmp_path))).root == tmp_path
    assert open_table(ROWS).root is None


# ------------------------------------------------------------------------------------------ what a null is


def test_every_way_of_saying_nothing_is_a_null() -> None:
    data = pd.DataFrame(
        {
            "number": [1.0, np.nan],
            "object": pd.Series(["x", np.nan], dtype=object),
            "missing": pd.Series([pd.NA, None], dtype=object),
            "time": [pd.Timestamp(2020, 1, 1), pd.NaT],
            "category": pd.Categorical(["a", None]),
            "flag": pd.Series([True, None], dtype=object),
        }
    )
    nothing = rows(open_table(data))[1]
    assert set(nothing) == set(data.columns) and all(value is None for value in nothing.values())
    assert rows(open_table([{"x": 1.0}, {"x": math.nan}, {}])) == [{"x": 1.0}, {"x": None}, {"x": None}]
    assert rows(open_table(pa.table({"x": pa.array([1.0, math.nan])})))[1] == {"x": None}


def test_a_class_below_zero_is_a_null() -> None:
    features = datasets.Features({"label": datasets.ClassLabel(names=["cat", "dog"])})
    table = open_table(datasets.Dataset.from_dict({"label": [1, -1, 0]}, features=features))
    assert [row["label"] for row in rows(table)] == [1, None, 0]
    assert table.class_names == {"label": ["cat", "dog"]}


@pytest.mark.parametrize("stream", [False, True])
def test_pictures_stay_encoded_and_absent_ones_are_null(stream: bool) -> None:
    picture = Image.new("RGB", (3, 2))
    features = datasets.Features({"image": datasets.Image()})
    source = datasets.Dataset.from_dict({"image": [picture, None]}, features=features)
    table = open_table(source.to_iterable_dataset() if stream else source)
    first, second = rows(table)
    assert first["image"]["bytes"].startswith(b"\x89PNG") and second["image"] is None


def test_a_picture_without_bytes_and_path_is_a_null() -> None:
    cells = [{"bytes": b"x", "path": None}, {"bytes": None, "path": "p"}, {"bytes": None, "path": None}, None]
    storage = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = open_table(pa.table({"image": pa.array(cells, storage)}))
    assert [row["image"] for row in rows(table)] == [*cells[:2], None, None]


def test_a_generator_of_pictures() -> None:
    def generate() -> Any:
        yield {"image": None, "x": 1}
        yield {"image": Image.new("RGB", (3, 2)), "x": None}

    features = datasets.Features({"image": datasets.Image(), "x": datasets.Value("int64")})
    for stated in (None, features):
        table = open_table(datasets.IterableDataset.from_generator(generate, features=stated))
        assert [row["x"] for row in rows(table, 1)] == [1, None]
        assert rows(table)[1]["image"]["bytes"].startswith(b"\x89PNG")


def test_storage_types_stay_plain() -> None:
    features = datasets.Features({"grid": datasets.Array2D((2, 2), "float32")})
    grid = open_table(datasets.Dataset.from_dict({"grid": [np.eye(2), np.ones((2, 2))]}, features=features))
    assert grid.columns["grid"] == pa.list_(pa.list_(pa.float32()))
    assert grid.take(np.array([0])).to_pylist() == [{"grid": [[1, 0], [0, 1]]}]
    words = pa.table({"w": pa.array(["a", None]).dictionary_encode(), "e": pa.nulls(2)})
    assert open_table(words).columns == {"w": pa.string(), "e": pa.string()}


def test_categories_and_leftover_index_of_a_parquet_file(tmp_path: Path) -> None:
    data = pd.DataFrame({"c": pd.Categorical(["a", None])}, index=[5, 3])
    data.to_parquet(tmp_path / "t.parquet")
    for streaming in (False, True):
        assert rows(open_table(tmp_path / "t.parquet", streaming=streaming)) == [{"c": "a"}, {"c": None}]


def test_a_frame_keeps_a_named_index_and_any_column_name() -> None:
    data = pd.DataFrame({3: [1, 2]}, index=pd.Index(["a", "b"], name="key"))
    assert rows(open_table(data)) == [{"key": "a", "3": 1}, {"key": "b", "3": 2}]


def test_arrays_paths_and_bytes_in_cells() -> None:
    cells = [{"s": np.ones((2, 3)), "p": Path("a/b.png"), "m": b"x"}, {"s": None, "p": None, "m": "c.png"}]
    table = open_table(pd.DataFrame(cells))
    assert rows(table) == rows(open_table(cells))
    first, second = rows(table)
    assert first["s"] == [[1.0] * 3] * 2 and first["p"] == "a/b.png" and second["s"] is None
    assert (first["m"], second["m"]) == ({"bytes": b"x", "path": None}, {"bytes": None, "path": "c.png"})


# -------------------------------------------------------------------------------------------------- splits


def test_splits_are_put_together_and_named() -> None:
    parts = {"validation": dataset(), "train": dataset(), "test": dataset()}
    table = open_table(datasets.DatasetDict(parts))
    assert [row["split"] for row in rows(table)] == ["val"] * 3 + ["train"] * 3 + ["test"] * 3
    index = np.array([8, 0, 4, 1, 8])
    taken = table.take(index).to_pylist()
    assert [row["split"] for row in taken] == ["test", "val", "train", "val", "test"]
    assert [row["id"] for row in taken] == [ROWS[i % 3]["id"] for i in index]


def test_one_split_needs_no_column() -> None:
    assert "split" not in open_table(datasets.DatasetDict({"train": dataset()})).columns


def test_streamed_splits() -> None:
    parts = {name: dataset().to_iterable_dataset() for name in ("train", "dev")}
    table = open_table(datasets.IterableDatasetDict(parts))
    assert [row["split"] for row in rows(table)] == ["train"] * 3 + ["val"] * 3 and len(table) == 6


def test_splits_with_other_columns_and_types() -> None:
    train = datasets.Dataset.from_dict({"x": [1], "y": ["a"]})
    test = datasets.Dataset.from_dict({"x": [0.5]})
    assert rows(open_table(datasets.DatasetDict({"train": train, "test": test}))) == [
        {"x": 1.0, "y": "a", "split": "train"},
        {"x": 0.5, "y": None, "split": "test"},
    ]
    words = datasets.Dataset.from_dict({"x": ["a"]})
    with pytest.raises(UserError, match="x has incompatible types"):
        open_table(datasets.DatasetDict({"train": train, "test": words}))


# -------------------------------------------------------------------------------------------------- errors


def test_what_is_not_there(tmp_path: Path) -> None:
    parquet(tmp_path)
    with pytest.raises(UserError, match=r"did you mean 't\.parquet'"):
        open_table(tmp_path / "t.parket")
    with pytest.raises(UserError, match=r"the folder .* does not exist"):
        open_table(tmp_path / "no" / "t.csv")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.parquet", b"", "is empty"),
        ("t.parquet", b"a,b\n1,2\n", "call it .csv"),
        ("t.parquet", b"\x89PNG\r\n\x1a\n", "PNG"),
        ("t.png", b"\x89PNG\r\n\x1a\n", "is an image, not a table"),
        ("t.flac", b"fLaC", "is a sound, not a table"),
        ("t.xlsx", b"PK\x03\x04", "save the sheet as CSV"),
        ("t.csb", b"a,b\n", r"did you mean '\.csv'"),
        ("t.csv.gz", b"\x1f\x8b broken", "cannot be read"),
        ("t.jsonl", b"", "is empty"),
        ("t.jsonl", b'{"a": 1}\n{"a": 2\n', "line 2, character"),
        ("t.jsonl", b'{"a": 1}\n\n[2]\n', "line 3: .* not an object"),
        ("t.jsonl", b'{"a": 1}\n{"a": [1]}\n', r"line 2, column 'a': \[1\] does not go with"),
        ("t.jsonl", b'{"a": "\xe9"}\n', "line 1: JSON is written in UTF-8"),
        ("t.jsonl", b"\x89PNG\r\n\x1a\n", "PNG"),
        ("t.json", b"[]", "has no rows"),
    ],
)
def test_what_is_no_table(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        open_table(tmp_path / name)
    assert name in str(error.value)


def test_a_truncated_parquet_file(tmp_path: Path) -> None:
    whole = parquet(tmp_path).read_bytes()
    (tmp_path / "t.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="is not whole"):
        open_table(tmp_path / "t.parquet")


@pytest.mark.parametrize(("streaming", "small"), [(False, 1 << 30), (False, 0), (True, 0)])
def test_a_parquet_file_damaged_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streaming: bool, small: int
) -> None:
    monkeypatch.setattr(files, "SMALL", small)
    path = tmp_path / "t.parquet"
    noise = np.random.default_rng(0).bytes(400_000)
    data = pa.table({"x": [noise[i : i + 100] for i in range(0, 400_000, 100)]})
    pq.write_table(data, path, row_group_size=500, use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[200_000:260_000] = b"\xff" * 60_000
    path.write_bytes(content)
    with pytest.raises(UserError, match="is damaged after row"):
        list(open_table(path, streaming=streaming).chunks())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "no rows"),
        (pd.DataFrame({"a": []}), "has no rows"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "column 'a' 2 times"),
        (pa.table([[1], [2]], names=["a", "a"]), "column 'a' 2 times"),
        ([{"a": 1}, {"a": [1]}], "column 'a' holds int and list"),
        ([{"a": True}, {"a": 2.5}], "'a' mixes truth values with numbers"),
        (datasets.IterableDataset.from_generator(lambda: iter(())), "has no rows"),
        (3, "a int is no table"),
        ({"a": [1]}, "a dict is no table"),
    ],
)
def test_what_is_no_table_in_memory(source: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_table(source)


def test_a_stream_that_changes_its_types() -> None:
    def generate() -> Any:
        yield from ({"x": i} for i in range(1000))
        yield {"x": "word"}

    with pytest.raises(UserError, match=r"rows \d+ to 1000 of the stream"):
        list(open_table(datasets.IterableDataset.from_generator(generate)).chunks(900))


def test_mixed_json_scalars_are_text_as_they_stand(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"a": 1, "b": 1, "c": null}\n{"a": "x", "b": 2.5}\n{"a": true, "b": null}\n')
    table = open_table(tmp_path / "t.jsonl")
    assert table.columns == {"a": pa.string(), "b": pa.float64(), "c": pa.string()}
    assert rows(table) == [
        {"a": "1", "b": 1.0, "c": None},
        {"a": "x", "b": 2.5, "c": None},
        {"a": "true", "b": None, "c": None},
    ]


def test_a_hub_name_that_nobody_answers_for() -> None:
    with pytest.raises(UserError, match="check the name, and the network"):
        open_table("nobody/nothing")
    with pytest.raises(UserError, match="check the name, and the network"):
        open_table("nobody/nothing:some_config")
