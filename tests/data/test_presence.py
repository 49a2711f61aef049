"""Presence comes from nulls alone, in every storage type; empty is present."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from absentia.data.kinds import Image, Kind, Tabular, Text
from absentia.data.presence import count_patterns, natural_presence
from absentia.data.schema import Schema

NAN = float("nan")
COLUMNS = [
    (pa.array([1.0, None, NAN, float("inf")]), [True, False, False, True]),
    (pa.array([1.0, None, NAN], pa.float32()), [True, False, False]),
    (pa.array([1.0, None, NAN], pa.float16()), [True, False, False]),
    (pa.array([0, None]), [True, False]),
    (pa.array([False, None]), [True, False]),
    (pa.array(["", None]), [True, False]),
    (pa.array([b"", None]), [True, False]),
    (pa.array(["", None], pa.large_string()), [True, False]),
    (pa.array([None, None]), [False, False]),
    (pa.array([[], None, [None]]), [True, False, True]),
    (pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), [True, False]),
    (pa.array(["a", None]).dictionary_encode(), [True, False]),
    (pa.array([{"bytes": b"", "path": None}, {"bytes": None, "path": "x"}, {"bytes": None, "path": None}, None]),
     [True, True, False, False]),
    (pa.array([{}, None], pa.struct([])), [False, False]),
]  # fmt: skip


@pytest.mark.parametrize(("column", "wanted"), COLUMNS)
def test_nulls_of_every_type(column: Any, wanted: list[bool]) -> None:
    schema = Schema(modalities={"x": Text()})
    assert natural_presence(pa.table({"x": column}), schema).tolist() == [[there] for there in wanted]
    parts = pa.chunked_array([column.slice(1), column.slice(0, 1)])
    assert natural_presence(pa.table({"x": parts}), schema)[:, 0].tolist() == [*wanted[1:], wanted[0]]
    nothing = natural_presence(pa.table({"x": column.slice(0, 0)}), schema)
    assert nothing.shape == (0, 1) and nothing.dtype == np.bool_


def test_a_group_is_there_where_any_of_its_columns_is() -> None:
    table = pa.table({"a": [1.0, None, NAN, None], "b": ["x", "y", None, None], "photo": [None, b"", None, b"x"]})
    kinds: dict[str, Kind] = {"facts": Tabular(columns=("a", "b")), "photo": Image()}
    found = natural_presence(table, Schema(modalities=kinds))
    assert found.tolist() == [[True, False], [True, True], [False, False], [False, True]]
    turned = Schema(modalities=dict(reversed(kinds.items())))
    assert (natural_presence(table, turned) == found[:, ::-1]).all()


def test_nothing_is_opened() -> None:
    """Files that are not there and bytes that are no picture are present: only reading them tells."""
    table = pa.table({"x": ["/no/such/file.png", "\0", None]})
    assert natural_presence(table, Schema(modalities={"x": Image()}))[:, 0].tolist() == [True, True, False]


def test_patterns_are_counted_the_most_common_first() -> None:
    presence = np.array([[1, 1], [0, 1], [0, 1], [0, 0], [1, 0], [1, 0]], dtype=bool)
    assert list(count_patterns(presence, ["a", "b"]).items()) == [("a", 2), ("b", 2), ("a+b", 1), ("nothing", 1)]
    assert count_patterns(presence[:0], ["a", "b"]) == {}
