"""Rows of two tables as one: those of a session, and those that are remembered from earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from absentia.data.rows import Rows

__all__ = ["joined"]

Ints = npt.NDArray[np.int64]
Take = Callable[[Ints], pa.Table]


def joined(first: Rows, second: Rows) -> Rows:
    """All rows of both, the first ones first; both have the same schema, decoders and kind of target.

    The second's row numbers go on behind the first's, so that each number still names one row.
    """
    assert first.target is not None and second.target is not None
    offset = int(first.index.max(initial=-1)) + 1
    out = Rows(
        take=partial(_take, first.take, second.take, offset, first.schema.columns),
        schema=first.schema,
        decoders=first.decoders,
        index=np.concatenate([first.index, second.index + offset]),
        presence=np.concatenate([first.presence, second.presence]),
        ids=[*first.ids, *second.ids],
        target=np.concatenate([first.target, second.target]),
        transforms=first.transforms,
        caches=first.caches,
        keep=min(first.keep, second.keep),
        root=first.root,
        bad=[*first.bad, *second.bad],
    )
    moved = {(name, position + len(first)): value for (name, position), value in second._values.items()}
    out._values = first._values | moved
    return out


def _take(first: Take, second: Take, offset: int, columns: Sequence[str], index: Ints) -> pa.Table:
    mine = index < offset
    parts = [(first, np.flatnonzero(mine), 0), (second, np.flatnonzero(~mine), offset)]
    found = [(take(index[where] - shift), where) for take, where, shift in parts if len(where)]
    known = [table.select([c for c in columns if c in table.column_names]) for table, _ in found]
    table = pa.concat_tables(known, promote_options="permissive")  # a column that one lacks is null there
    return table.take(pa.array(np.argsort(np.concatenate([where for _, where in found]), kind="stable")))
