"""Reading rows: each present cell is opened once, absent ones never, and bad ones follow the policy."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from absentia.data.batch import Batch
from absentia.data.kinds import Decoder, Kind, Series, Tabular, Text
from absentia.data.kinds.base import pad
from absentia.data.presence import natural_presence
from absentia.data.reader import TOGETHER
from absentia.data.rows import BLOCK, OnBad, Rows, present_cells, raw_cells
from absentia.data.schema import Schema
from absentia.errors import BadCell, UserError

SCHEMA = Schema(modalities={"word": Text(), "facts": Tabular(columns=("a", "b")), "wave": Series()})
LARGE = 10**9


class Opened(Decoder):
    """A decoder that notes what it opens. Cells that say "bad" cannot be read."""

    def __init__(self, name: str) -> None:
        self.name, self.cells = name, Counter[str]()

    def decode(self, cell: Any) -> Any:
        self.cells[repr(cell)] += 1
        if "bad" in repr(cell):
            raise BadCell("is bad", column="b" if self.name == "facts" else None)
        size = len(cell) if self.name == "wave" else 2
        return {"x": np.full(size, zlib.crc32(repr(cell).encode()) % 997, dtype=np.float32)}

    def collate(self, values: Any) -> Any:
        x, mask = pad([v["x"] for v in values])
        return {"x": x, "mask": mask}

    def blank(self) -> Any:
        return {"x": np.zeros(1, dtype=np.float32)}

    def state(self) -> dict[str, Any]:
        return {}


def table(count: int, bad: Mapping[int, str] = {}) -> pa.Table:
    """Rows with holes; `bad` says in which row which column cannot be read."""
    made = [
        {
            "word": None if i % 3 == 0 else f"word {i}",
            "a": None if i % 4 == 0 else i,
            "b": None if i % 4 in (0, 1) else f"b{i}",
            "wave": None if i % 5 == 0 else [float(i)] * (1 + i % 6),
        }
        for i in range(count)
    ]
    for i, column in bad.items():
        made[i][column] = "bad" if column != "wave" else made[i][column]
    kind = {"word": pa.string(), "a": pa.int64(), "b": pa.string(), "wave": pa.list_(pa.float64())}
    return pa.Table.from_pylist(made, schema=pa.schema(kind))


def rows_of(source: pa.Table, index: Any = None, **options: Any) -> Rows:
    index = np.arange(len(source)) if index is None else np.asarray(index)
    return Rows(
        take=source.take,
        schema=SCHEMA,
        decoders={name: Opened(name) for name in SCHEMA.names},
        index=index,
        presence=natural_presence(source, SCHEMA)[index],
        ids=[f"id{i}" for i in index],
        target=index.astype(np.int64) * 2,
        **options,
    )


def opened(rows: Rows) -> dict[str, Counter[str]]:
    return {name: decoder.cells for name, decoder in rows.decoders.items()}  # type: ignore[attr-defined]


def cells_of(source: pa.Table, name: str) -> list[Any]:
    if name == "facts":
        return source.select(["a", "b"]).to_pylist()
    return source[name].to_pylist()


def same(one: Batch, other: Batch) -> None:
    assert torch.equal(one.presence, other.presence) and torch.equal(one.index, other.index)
    assert one.target is not None and other.target is not None and torch.equal(one.target, other.target)
    assert one.inputs.keys() == other.inputs.keys()
    for name, inputs in one.inputs.items():
        assert all(torch.equal(x, other.inputs[name][key]) for key, x in inputs.items())


@pytest.mark.parametrize("keep", [LARGE, 0])
def test_reading_opens_each_present_cell_once_and_absent_ones_never(keep: int) -> None:
    source = table(2 * BLOCK + 30)
    rows = rows_of(source, keep=keep)
    heard: list[int] = []
    assert rows.read("error", heard.append) is rows and not rows.bad
    assert heard == [BLOCK, BLOCK, 30]
    there = natural_presence(source, SCHEMA)
    for m, name in enumerate(SCHEMA.names):
        wanted = Counter(repr(c) for c, t in zip(cells_of(source, name), there[:, m], strict=True) if t)
        assert opened(rows)[name] == wanted


def test_what_is_kept_is_never_opened_again() -> None:
    rows = rows_of(table(40)).read("error")
    before = {name: Counter(cells) for name, cells in opened(rows).items()}
    for _ in range(3):
        list(rows.batches(7))
    assert opened(rows) == before


def test_a_mask_hides_cells_from_reading() -> None:
    source = table(60, {7: "word", 11: "word"})
    rows = rows_of(source)
    rows.presence[:, 0] = False
    assert rows.read("error").batch(np.arange(60)).inputs.keys() == {"facts", "wave"}
    assert not opened(rows)["word"]


@given(
    st.lists(st.integers(0, 39), unique=True, min_size=1, max_size=30),
    st.sampled_from([0, 1, 700, 3000]),
    st.integers(1, 9),
)
def test_the_memory_limit_changes_nothing(index: list[int], keep: int, size: int) -> None:
    source = table(40)
    all_kept, some_kept = (rows_of(source, index, keep=k).read("error") for k in (LARGE, keep))
    for one, other in zip(all_kept.batches(size), some_kept.batches(size), strict=True):
        same(one, other)
    assert len(some_kept._values) <= len(all_kept._values)


@given(st.lists(st.integers(0, 19), min_size=1, max_size=12), st.sampled_from([0, 900, LARGE]))
def test_a_batch_holds_the_asked_rows_in_the_asked_order(positions: list[int], keep: int) -> None:
    rows = rows_of(table(40), range(10, 30), keep=keep).read("error")
    batch = rows.batch(np.asarray(positions))
    assert batch.index.tolist() == [10 + p for p in positions]
    assert batch.target is not None and batch.target.tolist() == [2 * (10 + p) for p in positions]
    for m, name in enumerate(SCHEMA.names):
        there = [p for p in positions if rows.presence[p, m]]
        assert (name in batch.inputs) == bool(there)
        for spot, position in enumerate(there):
            alone = rows.batch(np.asarray([position])).inputs[name]
            real = batch.inputs[name]["mask"][spot]
            assert torch.equal(batch.inputs[name]["x"][spot][real], alone["x"][0])


def test_a_batch_of_no_rows() -> None:
    batch = rows_of(table(5)).batch(np.zeros(0, dtype=np.int64))
    assert len(batch) == 0 and batch.presence.shape == (0, 3) and batch.inputs == {}


BAD = {1: "word", 2: "word", 302: "b", 303: "b", 5: "word"}


def test_an_error_names_the_first_bad_cell_and_counts_the_rest() -> None:
    rows = rows_of(table(320, BAD))
    with pytest.raises(UserError, match=r"row 1, column 'word': is bad .*2 more in the next 256 rows.*--on-bad absent"):
        rows.read("error")
    with pytest.raises(UserError, match=r"row 302, column 'b': is bad \(1 more"):
        rows_of(table(320, BAD), range(200, 320)).read("error")


def test_bad_cells_become_absent() -> None:
    rows = rows_of(table(320, BAD))
    before = rows.presence.copy()
    read = rows.read("absent")
    assert len(read) == 320
    changed = np.argwhere(read.presence != before).tolist()
    assert changed == [[1, 0], [2, 0], [5, 0], [302, 1], [303, 1]]
    assert [(b.row, b.column, b.reason, b.became) for b in read.bad] == [
        *((i, "word", "is bad", "absent") for i in (1, 2, 5)),
        *((i, "b", "is bad", "absent") for i in (302, 303)),
    ]
    before_batch = {name: Counter(cells) for name, cells in opened(rows).items()}
    list(read.batches(50))
    assert opened(read) == before_batch  # a bad cell is not tried again


def test_rows_with_a_bad_cell_are_skipped() -> None:
    source = table(320, BAD)
    read = rows_of(source).read("skip")
    left = [i for i in range(320) if i not in BAD]
    assert read.index.tolist() == left and read.ids == [f"id{i}" for i in left]
    assert read.target is not None and read.target.tolist() == [2 * i for i in left]
    assert [b.row for b in read.bad] == [1, 2, 5, 302, 303] and {b.became for b in read.bad} == {"skip"}
    good = rows_of(source, left).read("error")
    for one, other in zip(read.batches(64), good.batches(64), strict=True):
        same(one, other)


@pytest.mark.parametrize("policy", ["absent", "skip"])
def test_bad_rows_have_the_numbers_of_the_table(policy: OnBad) -> None:
    rows = rows_of(table(320, BAD), [303, 4, 5, 1], first=1000).read(policy)
    assert sorted(b.row for b in rows.bad) == [1001, 1005, 1303]
    assert str(rows.bad[0]).startswith("row 1")


def test_a_cell_that_cannot_be_read_any_more_is_one_error() -> None:
    rows = rows_of(table(40), keep=0).read("error")
    rows.take = table(40, {7: "word"}).take
    with pytest.raises(UserError, match="row 7, column 'word': is bad; it could be read at first"):
        list(rows.batches(10))


@given(st.lists(st.booleans(), min_size=20, max_size=20), st.sampled_from([0, 2000, LARGE]))
def test_some_of_the_rows_are_the_same_rows(chosen: list[bool], keep: int) -> None:
    rows = rows_of(table(40), range(5, 25), keep=keep, first=7, root=Path("/somewhere")).read("error")
    some = rows.where(np.asarray(chosen))
    kept = np.flatnonzero(chosen)
    assert some.index.tolist() == (kept + 5).tolist() and some.ids == [f"id{5 + p}" for p in kept]
    assert (some.first, some.root, some.bad) == (7, rows.root, rows.bad)
    before = {name: Counter(cells) for name, cells in opened(rows).items()}
    if len(kept):
        same(some.batch(np.arange(len(kept))), rows.batch(kept))
    if keep == LARGE:
        assert opened(rows) == before
    some.presence[:] = False
    assert rows.presence.any()  # a copy


def test_rows_without_a_target() -> None:
    rows = rows_of(table(9))
    rows.target = None
    assert rows.batch(np.arange(9)).target is None and rows.where(np.arange(9) > 3).target is None


@pytest.mark.parametrize("keep", [0, LARGE])
def test_a_transform_sees_a_few_values_at_a_time(keep: int) -> None:
    sizes: list[int] = []

    def features(values: list[Any]) -> list[Any]:
        sizes.append(len(values))
        return [{"features": v["x"][None, :1] / 2} for v in values]

    source = table(150)
    plain = rows_of(source).read("error").batch(np.arange(150))
    rows = rows_of(source, transforms={"wave": features}, keep=keep).read("error")
    batch = rows.batch(np.arange(150))
    assert batch.inputs["wave"]["features"].shape == (120, 1, 1) and batch.inputs["wave"]["mask"].all()
    assert torch.equal(batch.inputs["wave"]["features"][:, 0, 0], plain.inputs["wave"]["x"][:, 0] / 2)
    assert torch.equal(batch.inputs["word"]["x"], plain.inputs["word"]["x"])
    assert max(sizes) == TOGETHER and sum(sizes) == 120


def test_raw_cells() -> None:
    source = table(20)
    rows = rows_of(source, range(3, 20))
    assert raw_cells(rows, "word", 1) == "word 4"
    assert raw_cells(rows, "facts", 0) == {"a": 3, "b": "b3"}
    assert list(present_cells(rows, "wave")) == [w for i, w in enumerate(cells_of(source, "wave")) if w and i >= 3]
    assert not any(opened(rows).values())


def test_kinds_of_one_column_get_cells_and_groups_get_dicts() -> None:
    kinds: dict[str, Kind] = {"b": Tabular(), "word": Text()}
    source = table(6)
    rows = Rows(
        take=source.take,
        schema=Schema(modalities=kinds),
        decoders={name: Opened(name) for name in kinds},
        index=np.arange(6),
        presence=natural_presence(source, Schema(modalities=kinds)),
        ids=list("abcdef"),
    )
    assert list(present_cells(rows, "b")) == [{"b": "b2"}, {"b": "b3"}]
    assert list(present_cells(rows, "word")) == ["word 1", "word 2", "word 4", "word 5"]
