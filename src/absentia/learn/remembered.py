"""Training rows of earlier sessions that a method may see again: chosen by class, kept as cells, hidden ones nulled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from absentia.data.entity import entity_uniform
from absentia.data.rows import Rows
from absentia.data.storage import is_media
from absentia.data.target import class_names

__all__ = ["ID", "TARGET", "chosen_rows", "keep_rows", "remembered_rows"]

ID, TARGET = "__id__", "__target__"
Ints = npt.NDArray[np.int64]


def chosen_rows(cells: Sequence[Any], ids: Sequence[str], most: int, classes: Sequence[str] = ()) -> Ints:
    """At most `most` rows, evenly over the classes, in an order that the ids decide.

    A smaller number chooses a part of what a larger one chooses. classes: those that share `most` (None: those of
    the cells), so that each session's rows make room for the others'.
    """
    names = [(class_names(cell) or [""])[0] for cell in cells]
    rank = np.argsort(entity_uniform(ids, "remembered"), kind="stable")
    turn: dict[str, int] = {}
    turns = np.zeros(len(names), dtype=np.int64)
    for row in rank.tolist():
        turns[row] = turn.get(names[row], 0)
        turn[names[row]] = int(turns[row]) + 1
    each = -(-most // max(1, len(set(classes) or set(names))))
    chosen = [row for row in rank.tolist() if turns[row] < each]
    chosen.sort(key=lambda row: int(turns[row]))  # stable: whole turns first, each in the order of the ids
    return np.sort(np.asarray(chosen[:most], dtype=np.int64))


def keep_rows(path: Path, rows: Rows, positions: Ints, cells: Sequence[Any]) -> None:
    """Write some rows as a Parquet file: their modalities' columns (null where absent), id and target.

    cells: the target of every row, as it stands in the table.
    """
    table = rows.take(rows.index[positions])
    columns: dict[str, Any] = {}
    for m, name in enumerate(rows.schema.names):
        hidden = pa.array(~rows.presence[positions, m])
        for column in rows.schema.columns_of(name):
            if column in table.column_names:
                found = _rooted(table.column(column).combine_chunks(), rows.root)
                columns[column] = pa.compute.if_else(hidden, pa.nulls(len(positions), found.type), found)
    columns |= {ID: pa.array([rows.ids[p] for p in positions]), TARGET: pa.array([cells[p] for p in positions])}
    pq.write_table(pa.table(columns), path)


def remembered_rows(files: Sequence[Path], most: int, classes: Sequence[str]) -> pa.Table | None:
    """The rows of all these files, thinned out evenly to `most`; None where there are none."""
    tables = [pq.read_table(path) for path in files if path.exists()]
    tables = [table for table in tables if table.num_rows]
    if not tables or most <= 0:
        return None
    table = pa.concat_tables(tables, promote_options="permissive")
    chosen = chosen_rows(table.column(TARGET).to_pylist(), table.column(ID).to_pylist(), most, classes)
    return table.take(pa.array(chosen))


def _rooted(cells: pa.Array, root: Path | None) -> pa.Array:
    """Cells whose relative paths are told from the file system's own root."""
    if root is None or not (pa.types.is_string(cells.type) or is_media(cells.type)):
        return cells
    if is_media(cells.type):
        paths = [None if p is None else _absolute(p, root) for p in cells.field("path").to_pylist()]
        return pa.StructArray.from_arrays(
            [cells.field("bytes"), pa.array(paths, pa.string())], ["bytes", "path"], mask=cells.is_null()
        )
    there = [c if c is None or not (root / c).is_file() else _absolute(c, root) for c in cells.to_pylist()]
    return pa.array(there, cells.type)


def _absolute(path: str, root: Path) -> str:
    return path if Path(path).is_absolute() or "://" in path else str((root / path).resolve())
