"""Columns of a group become numbers, holes and categories, whatever pyarrow hands over."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from absentia.data.kinds import Tabular
from absentia.data.kinds.tabular import NULL, OTHER, TabularDecoder
from absentia.errors import BadCell, UserError

TABLE = pa.table(
    {
        "whole": [1, 2**62, None],
        "large": [1e308, -1e308, None],
        "none": pa.array([None] * 3, pa.float64()),
        "same": [0.1, 0.1, 0.1],
        "money": [Decimal("1.50"), None, Decimal("3")],
        "day": [date(2020, 1, 1), None, date(1900, 1, 1)],
        "moment": pa.array([1, 2 * 10**9, None], pa.timestamp("ns", tz="UTC")),
        "clock": [time(1, 2, 3, 4), None, time(0)],
        "took": pa.array([5, None, 7], pa.duration("ms")),
        "flag": [True, None, False],
        "half": pa.array([1.0, 2.0, None], pa.float16()),
        "word": ["a", None, ""],
        "raw": [b"a", b"\xff", None],
        "vector": [[1.0, None], [2.0, float("nan")], None],
        "fixed": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int8(), 2)),
    }
)
ROWS = TABLE.to_pylist()
KIND = Tabular(columns=tuple(TABLE.column_names))
CELLS = st.one_of(
    st.none(),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.text(max_size=4),
    st.binary(max_size=4),
    st.decimals(),
    st.dates(),
    st.datetimes(timezones=st.none() | st.just(UTC)),
    st.times(),
    st.timedeltas(),
    st.lists(st.none() | st.floats() | st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=1), st.integers(), max_size=1),
)


def types(decoder: TabularDecoder) -> dict[str, str]:
    return {f["column"]: f["type"] for f in decoder.fields}


def number(cells: list[Any], cell: Any) -> float:
    """How far `cell` lies from the mean of a numeric column."""
    decoded = Tabular(columns=("x",)).fit([{"x": c} for c in cells]).decode({"x": cell})
    assert decoded["numbers"].shape == (1,) and not decoded["holes"].any()
    return float(decoded["numbers"][0])


def test_what_arrow_holds_finds_its_type() -> None:
    decoder = KIND.fit(ROWS)
    assert [c for c, t in types(decoder).items() if t == "category"] == ["word", "raw"]
    assert [c for c, t in types(decoder).items() if t == "vector"] == ["vector", "fixed"]
    assert decoder.numbers == [1] * 11 + [2, 2] and decoder.category_sizes == [4, 4]
    for row in ROWS:
        value = decoder.decode(row)
        assert value["numbers"].shape == value["holes"].shape == (15,)
        assert value["numbers"].dtype == np.float32 and np.isfinite(value["numbers"]).all()
        assert value["categories"].dtype == np.int64


def test_holes_are_marked_and_count_as_the_mean() -> None:
    rows = [{"n": 1.0, "v": [1, 2], "c": "x"}, {"n": 3.0, "v": [3, 4], "c": "y"}]
    decoder = Tabular(columns=("n", "v", "c")).fit(rows)
    value = decoder.decode({"n": None, "v": [None, 4.0], "c": None})
    assert value["holes"].tolist() == [True, True, False]
    assert value["numbers"].tolist() == [0.0, 0.0, 1.0] and value["categories"].tolist() == [NULL]
    assert decoder.decode({})["holes"].all()  # a column that the row lacks altogether
    assert decoder.decode({"n": float("nan"), "v": None, "c": float("nan")})["holes"].all()
    assert not decoder.decode({"n": 2, "v": [1, 2], "c": "x"})["holes"].any()


@pytest.mark.parametrize(
    ("cells", "cell", "wanted"),
    [
        ([0, 2], 2, 1.0),
        ([0, 2], True, 0.0),
        ([0, 2], "2", 1.0),
        ([False, True], True, 1.0),
        ([False, True], np.bool_(True), 1.0),
        ([0, 2], np.int8(2), 1.0),
        ([0, 2], np.float32(2), 1.0),
        ([Decimal(0), Decimal("0.2")], Decimal("0.2"), 1.0),
        ([date(2020, 1, 1), date(2020, 1, 3)], date(2020, 1, 2), 0.0),
        ([date(2020, 1, 1), date(2020, 1, 3)], datetime(2020, 1, 3), 1.0),
        ([datetime(2020, 1, 1), datetime(2020, 1, 1, 2)], datetime(2020, 1, 1, 2, tzinfo=UTC), 1.0),
        ([time(0), time(2)], time(1), 0.0),
        ([timedelta(0), timedelta(seconds=2)], timedelta(seconds=2), 1.0),
        ([5, 5], 6, 1.0),
        ([0, 2], 1e300, 1e6),
        ([0, 2], -(2**80), -1e6),
    ],
)
def test_numbers(cells: list[Any], cell: Any, wanted: float) -> None:
    assert number(cells, cell) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ({"n": "tall"}, "column 'n' holds 'tall', expected a number"),
        ({"n": [1.0]}, r"column 'n' holds \[1.0\], expected a number"),
        ({"n": {"a": 1}}, "column 'n' holds {'a': 1}, expected a number"),
        ({"n": float("inf")}, "column 'n' holds an infinite number"),
        ({"n": "-inf"}, "column 'n' holds an infinite number"),
        ({"n": Decimal("1e400")}, "column 'n' holds an infinite number"),
        ({"n": 10**400}, "column 'n' holds 1000.*, expected a number"),
        ({"n": "x" * 10**6}, "column 'n' holds 'xxx.*, expected a number"),
        ({"v": [1.0]}, "column 'v' holds 1 numbers, training had 2"),
        ({"v": []}, "column 'v' holds 0 numbers, training had 2"),
        ({"v": [1.0, 2.0, 3.0]}, "column 'v' holds 3 numbers, training had 2"),
        ({"v": 5.0}, "column 'v' holds 5.0, expected a list of numbers"),
        ({"v": "12"}, "column 'v' holds '12', expected a list of numbers"),
        ({"v": [1.0, "b"]}, "column 'v' holds .*, expected a list of numbers"),
        ({"v": [1.0, float("inf")]}, "column 'v' holds an infinite number"),
        ({"c": ["x"]}, r"column 'c' holds \['x'\], expected a category"),
    ],
)
def test_bad_cells_name_their_column(cell: dict[str, Any], reason: str) -> None:
    decoder = Tabular(columns=("n", "v", "c")).fit([{"n": i, "v": [i, i + 1], "c": "x"} for i in range(3)])
    with pytest.raises(BadCell, match=reason) as caught:
        decoder.decode(cell)
    assert caught.value.column == next(iter(cell)) and len(str(caught.value)) < 200
    assert not caught.value.reason.startswith("column")


@given(st.lists(CELLS, max_size=5), CELLS)
def test_any_cells_fit_or_are_refused(cells: list[Any], cell: Any) -> None:
    kind = Tabular(columns=("x",))
    try:
        decoder = kind.fit([{"x": c} for c in cells])
    except UserError as error:
        assert "'x'" in str(error)
        return
    json.dumps(decoder.state(), allow_nan=False)
    try:
        value = decoder.decode({"x": cell})
    except BadCell as error:
        assert error.column == "x"
        return
    assert np.isfinite(value["numbers"]).all()
    assert all(0 <= c < size for c, size in zip(value["categories"], decoder.category_sizes, strict=True))


@given(st.lists(st.none() | st.floats(allow_nan=False), min_size=1, max_size=6))
def test_no_number_that_was_trained_on_is_bad_but_infinity(cells: list[float | None]) -> None:
    decoder = Tabular(columns=("x",)).fit([{"x": c} for c in cells])
    for cell in cells:
        if cell is None or np.isfinite(cell):
            assert decoder.decode({"x": cell})["holes"].tolist() == [cell is None]


def test_categories() -> None:
    decoder = Tabular(columns=("c",)).fit([{"c": c} for c in ["b", "a", None, "b", "c", ""]])
    assert [decoder.decode({"c": c})["categories"].tolist()[0] for c in ["", "a", "b", "c"]] == [2, 3, 4, 5]
    assert decoder.decode({"c": "never seen"})["categories"].tolist() == [OTHER]
    assert decoder.decode({"c": None})["categories"].tolist() == [NULL]


def test_numbers_as_categories_are_the_same_in_any_type() -> None:
    decoder = Tabular(columns=("c",)).fit([{"c": c} for c in ["1", "2", "x"]])
    codes = {int(decoder.decode({"c": c})["categories"][0]) for c in ("1", 1, 1.0, b"1")}
    assert codes == {2}


def test_rare_categories_are_one_and_ties_do_not_depend_on_the_order() -> None:
    cells = ["a", "b", "c", "d", "a"]
    states = [Tabular(columns=("c",), categories=2).fit([{"c": c} for c in o]).state() for o in (cells, cells[::-1])]
    assert states[0] == states[1] and states[0]["fields"][0]["values"] == ["a", "b"]


def test_vectors_take_the_usual_length() -> None:
    rows = [{"v": [1.0, 2.0]}, {"v": [3.0, 4.0]}, {"v": []}, {"v": [9.0] * 5}, {"v": None}, {"v": [10**400, 1]}]
    decoder = Tabular(columns=("v",)).fit(rows)
    assert decoder.fields[0]["mean"] == [2.0, 3.0]


@pytest.mark.parametrize(
    "cells", [[["red", "blue"]], [[[1.0], [2.0]]], [[]], [{"a": 1}, {"a": 2}], [[1.0], "x"], [[date(2020, 1, 1), "x"]]]
)
def test_columns_that_tabular_cannot_hold(cells: list[Any]) -> None:
    with pytest.raises(UserError, match=r"column 'x' holds .*tabular takes numbers, categories and lists"):
        Tabular(columns=("x",)).fit([{"x": c} for c in cells])


def test_without_declared_columns_the_row_says_them() -> None:
    assert types(Tabular().fit([{"facts": 1.0}, {"facts": None}])) == {"facts": "number"}


def test_a_restored_decoder_is_the_same() -> None:
    decoder = KIND.fit(ROWS)
    again = KIND.restore(json.loads(json.dumps(decoder.state(), allow_nan=False)))
    for row in ROWS:
        first, second = decoder.decode(row), again.decode(row)
        assert all(first[k].tobytes() == second[k].tobytes() for k in first)
    assert again.state() == decoder.state()


def test_a_batch_and_a_blank() -> None:
    decoder = KIND.fit(ROWS)
    batch = decoder.collate([decoder.decode(ROWS[0]), decoder.blank()])
    assert {k: v.shape for k, v in batch.items()} == {"numbers": (2, 15), "holes": (2, 15), "categories": (2, 2)}
    nothing = decoder.decode({})
    assert all((decoder.blank()[k] == nothing[k]).all() for k in nothing)


@pytest.mark.parametrize("column", ["word", "same"])
def test_groups_of_one_type_alone(column: str) -> None:
    decoder = Tabular(columns=(column,)).fit(ROWS)
    batch = decoder.collate([decoder.decode(row) for row in ROWS])
    assert batch["numbers"].shape[1] + batch["categories"].shape[1] == 1
