from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from absentia.data.entity import entity_ids, entity_uniform
from absentia.errors import UserError


def test_uniform_is_a_function_of_key_and_id_alone() -> None:
    ids = ["a", "b", "ü", "", "a"]
    whole = entity_uniform(ids, "mask", 3)
    assert whole.dtype == np.float64 and whole[0] == whole[4]
    assert [entity_uniform([name], "mask", 3)[0] for name in ids] == whole.tolist()
    assert entity_uniform(ids[::-1], "mask", np.int64(3)).tolist() == whole[::-1].tolist()
    assert entity_uniform([], "mask").shape == (0,)


def test_uniform_stays_the_same_for_ever() -> None:
    assert entity_uniform(["U+0041", "row 7"], "split", 0, 0.5).tolist() == [0.26908744378019034, 0.22618824091186862]


def test_keys_do_not_run_together() -> None:
    keys = [("a", "b"), ("ab",), ("a", "b", ""), ("", "a", "b"), (1,), ("1",), (1.0,), ()]
    assert len({float(entity_uniform(["x"], *key)[0]) for key in keys}) == len(keys)
    with pytest.raises(TypeError, match="strings and numbers"):
        entity_uniform(["x"], None)


def test_uniform_is_uniform_and_keys_are_independent() -> None:
    ids = [str(i) for i in range(50_000)]
    one, other = entity_uniform(ids, "one"), entity_uniform(ids, "other")
    counts = np.histogram(one, bins=100, range=(0, 1))[0]
    assert counts.sum() == len(ids)  # all in [0, 1]
    assert ((counts - 500) ** 2 / 500).sum() < 150  # chi-square with 99 degrees of freedom: 99.9 % are below 149
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.02


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=20))
def test_uniform_lies_below_one(ids: list[str]) -> None:
    drawn = entity_uniform(ids, "any", 1)
    assert ((drawn >= 0) & (drawn < 1)).all()


@pytest.mark.parametrize(
    ("column", "ids"),
    [
        (pa.array(["x", "y"]), ["x", "y"]),
        (pa.array([7, 12], pa.int16()), ["7", "12"]),
        (pa.array([7.0, 12.5]), ["7", "12.5"]),  # an integer column that went through pandas keeps its ids
        (pa.array(["x", "y"]).dictionary_encode(), ["x", "y"]),
        (pa.array([True, False]), ["true", "false"]),
    ],
)
def test_ids_come_from_the_id_column(column: pa.Array, ids: list[str]) -> None:
    assert entity_ids(pa.table({"key": column}), "key", []) == ids


def test_id_columns_that_cannot_be() -> None:
    table = pa.table({"key": ["x", None], "list": [[1], [2]]})
    with pytest.raises(UserError, match="null in row 1"):
        entity_ids(table, "key", [])
    with pytest.raises(UserError, match="ids are texts or numbers"):
        entity_ids(table, "list", [])
    with pytest.raises(UserError, match="did you mean 'key'"):
        entity_ids(table, "keys", [])
    with pytest.raises(UserError, match="no column 'lst'"):
        entity_ids(table, None, ["lst"])
    with pytest.raises(UserError, match="at least one column"):
        entity_ids(table, None, [])


IMAGE = {"bytes": b"x", "path": None}
COLUMNS = {
    "whole": pa.array([1, 2, None, 1]),
    "number": pa.array([1.5, float("nan"), -0.0, 1.5]),
    "text": pa.array(["x", "", None, "x"]),
    "bytes": pa.array([b"x", b"", None, b"x"]),
    "flag": pa.array([True, None, False, True]),
    "day": pa.array([1, 2, None, 1], pa.date32()),
    "list": pa.array([[1.0, None], [], None, [1.0, None]]),
    "pair": pa.array([[1, 2], [3, 4], None, [1, 2]], pa.list_(pa.int16(), 2)),
    "nested": pa.array([[["a"], [None]], None, [[]], [["a"], [None]]]),
    "image": pa.array([IMAGE, {"bytes": None, "path": "x"}, None, IMAGE]),
    "level": pa.array(["x", "y", None, "x"]).dictionary_encode(),
    "nothing": pa.nulls(4),
}


@pytest.mark.parametrize("name", [name for name in COLUMNS if name != "nothing"])
def test_content_tells_cells_apart(name: str) -> None:
    ids = entity_ids(pa.table(COLUMNS), None, [name])
    assert len(set(ids)) == 3 and ids[0] == ids[3]


def test_content_does_not_depend_on_the_chunk() -> None:
    table = pa.table(COLUMNS)
    whole = entity_ids(table, None, table.column_names)
    assert whole[0] == whole[3]
    assert [entity_ids(table.slice(i, 1), None, table.column_names)[0] for i in range(4)] == whole
    assert entity_ids(table.take([2, 0]), None, table.column_names) == [whole[2], whole[0]]
    assert entity_ids(pa.concat_tables([table.slice(3), table]), None, table.column_names) == [whole[3], *whole]
    assert entity_ids(table.slice(0, 0), None, table.column_names) == []


def test_content_does_not_depend_on_the_width_of_the_type() -> None:
    plain = pa.table({"n": pa.array([1, 2], pa.int64()), "t": pa.array(["a", None])})
    other = pa.table({"n": pa.array([1, 2], pa.uint8()), "t": pa.array(["a", None], pa.large_string())})
    assert entity_ids(plain, None, ["n", "t"]) == entity_ids(other, None, ["n", "t"])
    lists = [pa.array([[1, 2], [3, 4]], kind) for kind in (pa.list_(pa.int64()), pa.list_(pa.int8(), 2))]
    one, other_list = (entity_ids(pa.table({"l": column}), None, ["l"]) for column in lists)
    assert one == other_list


def test_content_keeps_columns_and_cells_apart() -> None:
    table = pa.table({"a": ["x", "", "xy"], "b": ["y", "xy", ""]})
    assert len(set(entity_ids(table, None, ["a", "b"]))) == 3
    lists = pa.table({"l": [["ab"], ["a", "b"], []], "m": [[], [], ["ab"]]})
    assert len(set(entity_ids(lists, None, ["l", "m"]))) == 3


def test_content_of_unusual_types_is_refused_kindly() -> None:
    table = pa.table({"m": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8()))})
    with pytest.raises(UserError, match="give them an id column"):
        entity_ids(table, None, ["m"])
