from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests import tiny

from absentia.data.joined import joined
from absentia.data.presence import natural_presence
from absentia.data.table import open_table
from absentia.learn.prepare import rows_of
from absentia.learn.remembered import ID, TARGET, chosen_rows, keep_rows, remembered_rows

IDS = [f"row-{i}" for i in range(60)]
CELLS = [("a", "b", "c")[min(i % 4, 2)] for i in range(60)]


@pytest.mark.parametrize("most", [0, 1, 7, 30, 1000])
def test_rows_are_chosen_evenly_over_the_classes(most: int) -> None:
    chosen = chosen_rows(CELLS, IDS, most)
    counts = Counter(CELLS[i] for i in chosen)
    assert len(chosen) <= most
    if 3 <= most <= 45:
        assert max(counts.values()) - min(counts.values()) <= 1


def test_fewer_rows_are_part_of_more_and_order_does_not_matter() -> None:
    few, many = (set(chosen_rows(CELLS, IDS, most).tolist()) for most in (9, 21))
    assert few < many
    turned = np.random.default_rng(0).permutation(60)
    again = chosen_rows([CELLS[i] for i in turned], [IDS[i] for i in turned], 9)
    assert {IDS[turned[i]] for i in again} == {IDS[i] for i in few}


def test_kept_rows_have_what_was_shown_and_nothing_that_was_hidden(tmp_path: Path) -> None:
    content = tiny.rows()
    plan = tiny.plan_of(content, {i: ["words", "facts"] for i in range(0, 90, 2)})
    data = tiny.prepared(content, plan=plan)
    rows = data.rows["train"]
    positions = np.arange(0, len(rows), 3)
    path = tmp_path / "memory.parquet"
    keep_rows(path, rows, positions, [content[i]["kind"] for i in rows.index])
    table = pq.read_table(path)
    presence = natural_presence(table, data.fitted.schema)
    assert (presence == rows.presence[positions]).all()
    assert table.column(ID).to_pylist() == [rows.ids[p] for p in positions]
    again = rows_of(open_table(table.drop_columns([ID, TARGET])), data.fitted, on_bad="error", presence=presence)
    one, other = again.batch(np.arange(len(again))), rows.batch(positions)
    for name, inputs in other.inputs.items():
        assert all((one.inputs[name][key] == tensor).all() for key, tensor in inputs.items()), name


def test_files_of_several_sessions_share_the_room(tmp_path: Path) -> None:
    data = tiny.prepared()
    rows = data.rows["train"]
    kinds = [tiny.rows()[i]["kind"] for i in rows.index]
    half = len(rows) // 2
    paths = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    for path, positions in zip(paths, (np.arange(half), np.arange(half, len(rows))), strict=True):
        keep_rows(path, rows, positions, kinds)
    table = remembered_rows([*paths, tmp_path / "none.parquet"], 6, tiny.KINDS)
    assert table is not None and Counter(table.column(TARGET).to_pylist()) == dict.fromkeys(tiny.KINDS, 2)
    assert remembered_rows(paths, 0, tiny.KINDS) is None
    assert remembered_rows([tmp_path / "none.parquet"], 6, tiny.KINDS) is None


def test_joined_rows_are_those_of_both(tmp_path: Path) -> None:
    data = tiny.prepared()
    first, second = data.rows["train"], data.rows["val"]
    both = joined(first, second)
    both._values.clear()  # cells are opened again, in both tables
    assert len(both) == len(first) + len(second) and len(set(both.index.tolist())) == len(both)
    order = np.random.default_rng(0).permutation(len(both))
    batch = both.batch(order)
    for row, position in enumerate(order.tolist()):
        part, place = (first, position) if position < len(first) else (second, position - len(first))
        alone = part.batch(np.asarray([place]))
        assert (batch.presence[row] == alone.presence[0]).all()
        assert alone.target is not None and batch.target is not None and batch.target[row] == alone.target[0]
        for m, name in enumerate(data.names):
            if alone.presence[0, m] and name == "facts":
                place_in = int(batch.presence[: row + 1, m].sum()) - 1
                assert (batch.inputs[name]["numbers"][place_in] == alone.inputs[name]["numbers"][0]).all()
