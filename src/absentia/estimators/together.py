"""Several tables as one: rows under each other, with columns put in place of their own or beside them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from absentia.data.storage import is_media, merge_schemas, plain
from absentia.data.table import Table
from absentia.errors import UserError

__all__ = ["Block", "Together"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """Rows of one table.

    answers: a table of one column with as many rows; the column takes the place of one with its name.
    marks: columns that say the same word in every row.  without: columns that are left out.
    spelled: a column that holds the names of its classes, whatever numbers the table has for them.
    """

    table: Table
    answers: Table | None = None
    marks: Mapping[str, str] = field(default_factory=dict)
    without: Collection[str] = ()
    spelled: str | None = None

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def schema(self) -> pa.Schema:
        """Names and storage types of the columns."""
        columns = {name: kind for name, kind in self.table.columns.items() if name not in self.without}
        columns |= {name: pa.string() for name in self.table.class_names if name == self.spelled}
        columns |= self.answers.columns if self.answers else {}
        return pa.schema(list((columns | dict.fromkeys(self.marks, pa.string())).items()))

    @property
    def class_names(self) -> dict[str, list[str]]:
        """What the whole numbers of the table's own columns mean."""
        own = [*self.without, *self.marks, self.spelled, *(self.answers.columns if self.answers else ())]
        return {name: names for name, names in self.table.class_names.items() if name not in own}

    def take(self, index: Ints) -> pa.Table:
        """Rows by number."""
        return self._completed(self.table.take(index), index)

    def chunks(self, size: int) -> Iterator[pa.Table]:
        """All rows in order."""
        start = 0
        for rows in self.table.chunks(size):
            yield self._completed(rows, np.arange(start, start + rows.num_rows))
            start += rows.num_rows

    def _completed(self, rows: pa.Table, index: Ints) -> pa.Table:
        columns = dict(zip(rows.column_names, rows.columns, strict=True))
        if self.spelled in self.table.class_names:
            columns[self.spelled] = pa.array(self.table.class_names[self.spelled]).take(columns[self.spelled])
        if self.answers is not None:
            beside = self.answers.take(index)
            columns |= dict(zip(beside.column_names, beside.columns, strict=True))
        columns |= {name: pa.repeat(word, rows.num_rows) for name, word in self.marks.items()}
        return pa.table({name: columns[name] for name in self.schema.names})


class Together(Table):
    """Blocks under each other, in the columns of all of them; rows are counted on from block to block.

    files: columns whose cells may be paths; they become absolute where the blocks start from different folders.
    """

    def __init__(self, blocks: Sequence[Block], *, name: str, files: Collection[str] = ()) -> None:
        self.blocks, self.name, self.files = _fitting(blocks), name, files
        roots = {block.table.root for block in blocks}
        self.root = roots.pop() if len(roots) == 1 else None
        self.notes = tuple(dict.fromkeys(note for block in blocks for note in block.table.notes))
        self.streaming = any(block.table.streaming for block in blocks)
        self.class_names = _class_names(blocks, name)
        self._schema = merge_schemas([block.schema for block in self.blocks], where=name)
        self.columns: dict[str, pa.DataType] = {column.name: column.type for column in self._schema}

    def __len__(self) -> int:
        return sum(map(len, self.blocks))

    def take(self, index: Ints) -> pa.Table:
        """The rows `index` (n,), in that order."""
        starts = accumulate(map(len, self.blocks), initial=0)
        found, where = [self._schema.empty_table()], [np.zeros(0, dtype=np.int64)]
        for block, (start, end) in zip(self.blocks, pairwise(starts), strict=True):
            mine = np.flatnonzero((index >= start) & (index < end))
            found.append(self._plainly(block, block.take(index[mine] - start)))
            where.append(mine)
        order = np.argsort(np.concatenate(where), kind="stable")
        table = pa.concat_tables(found)
        return table if (np.diff(order) == 1).all() else table.take(order)

    def chunks(self, size: int = 1024) -> Iterator[pa.Table]:
        """All rows in order, at most `size` at a time."""
        for block in self.blocks:
            for rows in block.chunks(size):
                yield self._plainly(block, rows)

    def _plainly(self, block: Block, rows: pa.Table) -> pa.Table:
        rows, root = plain(rows, self._schema, self.class_names), block.table.root
        if root is None or root == self.root:
            return rows
        for name in self.files:
            rows = rows.set_column(rows.column_names.index(name), name, _absolute(rows.column(name), root))
        return rows


def _fitting(blocks: Sequence[Block]) -> list[Block]:
    """The blocks without columns that hold nothing where another block says of what type they are."""
    fitting = list(blocks)
    for place, block in enumerate(blocks):
        others = _types(fitting, place)
        empty = [c.name for c in block.schema if others.get(c.name, {c.type}) != {c.type} and _is_empty(block, c.name)]
        fitting[place] = replace(block, without=[*block.without, *empty])
    return fitting


def _types(blocks: Sequence[Block], but: int) -> dict[str, set[pa.DataType]]:
    """The types of each column in all blocks but one."""
    found: dict[str, set[pa.DataType]] = {}
    for column in (column for place, block in enumerate(blocks) if place != but for column in block.schema):
        found.setdefault(column.name, set()).add(column.type)
    return found


def _is_empty(block: Block, name: str) -> bool:
    return all(rows.column(name).null_count == rows.num_rows for rows in block.chunks(1024))


def _class_names(blocks: Sequence[Block], where: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for column, names in (item for block in blocks for item in block.class_names.items()):
        if found.setdefault(column, names) != names:
            raise UserError(f"{where}: the tables give the classes of {column!r} different names")
    return found


def _absolute(column: pa.ChunkedArray, root: Path) -> pa.ChunkedArray:
    """Paths below `root`; what holds no path stays as it is."""
    if is_media(column.type):
        cells = [c and {**c, "path": c["path"] and str(root / c["path"])} for c in column.to_pylist()]
    elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        cells = [c and str(root / c) for c in column.to_pylist()]
    else:
        return column
    return pa.chunked_array([pa.array(cells, column.type)])
