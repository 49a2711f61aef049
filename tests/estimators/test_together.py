"""Several tables as one, held against pandas."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from absentia.data.table import Table, open_table
from absentia.errors import UserError
from absentia.estimators.together import Block, Together

ONE = pd.DataFrame({"a": [1, 2, 3], "b": ["x", None, "z"], "gone": [0, 0, 0]})
TWO = pd.DataFrame({"b": ["u", "v"], "a": [4.5, None], "c": [True, False]})
Y = pd.DataFrame({"b": ["p", "q", "r"]})


def together() -> Table:
    first = Block(open_table(ONE), answers=open_table(Y), marks={"split": "train"}, without=["gone"])
    return Together([first, Block(open_table(TWO), marks={"split": "val"})], name="both")


EXPECTED = pd.DataFrame(
    {
        "a": [1, 2, 3, 4.5, None],
        "b": ["p", "q", "r", "u", "v"],
        "split": ["train"] * 3 + ["val"] * 2,
        "c": [None, None, None, True, False],
    }
)


@given(st.lists(st.integers(0, 4), max_size=12))
def test_rows_by_number(index: list[int]) -> None:
    found = together().take(np.asarray(index, dtype=np.int64))
    expected = EXPECTED.iloc[index]
    assert found.column_names == list(EXPECTED)
    for name in found.column_names:
        cells = [None if pd.isna(cell) else cell for cell in expected[name]]
        assert found.column(name).to_pylist() == cells


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_chunks_are_the_rows_in_order(size: int) -> None:
    table = together()
    chunks = list(table.chunks(size))
    assert max(chunk.num_rows for chunk in chunks) <= size
    assert pa.concat_tables(chunks) == table.take(np.arange(5))
    assert len(table) == 5 and list(table.columns) == list(EXPECTED)


def test_columns_that_do_not_go_together() -> None:
    with pytest.raises(UserError, match="both"):
        blocks = [Block(open_table(pd.DataFrame({"a": cells}))) for cells in ([[1]], ["x"])]
        Together(blocks, name="both")


@pytest.mark.parametrize("nothing", [None, np.nan])
@pytest.mark.parametrize("cell", [[1.5], b"x", "x", True])
def test_a_column_without_any_value_goes_with_everything(nothing: float | None, cell: object) -> None:
    tables = [pd.DataFrame({"a": [cells] * 2, "b": [1, 2]}) for cells in (nothing, cell, nothing)]
    tables.append(pd.DataFrame({"a": [None, None], "b": [1, 2]}))
    for order in ([0, 1], [1, 0], [0, 1, 2], [1, 0, 3], [0, 3], [3, 0]):
        both = Together([Block(open_table(tables[i])) for i in order], name="both")
        expected = [None if i != 1 else cell for i in order for _ in range(2)]
        assert both.take(np.arange(2 * len(order))).column("a").to_pylist() == expected


def test_class_names_must_agree() -> None:
    def table(names: list[str]) -> Table:
        features = datasets.Features({"a": datasets.ClassLabel(names=names)})
        return open_table(datasets.Dataset.from_dict({"a": [0, 1]}, features=features))

    assert Together([Block(table(["x", "y"]))] * 2, name="both").class_names == {"a": ["x", "y"]}
    with pytest.raises(UserError, match="different names"):
        Together([Block(table(["x", "y"])), Block(table(["y", "x"]))], name="both")
    replaced = Block(table(["y", "x"]), answers=open_table(pd.DataFrame({"a": ["x", "y"]})))
    assert Together([replaced], name="both").class_names == {}
    spelled = Together([Block(table(names), spelled="a") for names in (["x", "y"], ["y", "x"])], name="both")
    assert spelled.class_names == {} and spelled.take(np.arange(4)).column("a").to_pylist() == ["x", "y", "y", "x"]


def test_paths_become_absolute_where_folders_differ(tmp_path: Path) -> None:
    tables = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        pd.DataFrame({"p": ["a.png", None], "t": ["a", "b"]}).to_csv(tmp_path / name / "t.csv", index=False)
        tables.append(open_table(tmp_path / name / "t.csv"))
    both = Together([Block(table) for table in tables], name="both", files=["p"])
    cells = both.take(np.arange(4))
    assert both.root is None
    paths = [str(tmp_path / name / "a.png") for name in ("one", "two")]
    assert cells.column("p").to_pylist() == [paths[0], None, paths[1], None]
    assert cells.column("t").to_pylist() == ["a", "b"] * 2
    same = Together([Block(tables[0])] * 2, name="both", files=["p"])
    assert same.root == tmp_path / "one" and same.take(np.arange(1)).column("p").to_pylist() == ["a.png"]
