"""What one walk over a table shows of each column: how many cells, how many different ones, and a few to look at.

Exact over the whole table, yet small: a few dozen cells, a few hundred values and eight bytes a row are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from absentia.data.storage import is_media
from absentia.data.table import Table

__all__ = ["MOST", "Profile", "Spread", "is_binary", "is_list", "is_text", "profiles"]

MOST = 256  # different values that are told apart
_CELLS, _HEAD = 64, 32  # cells kept, and bytes of an encoded one


def is_text(dtype: pa.DataType) -> bool:
    """Whether cells are strings."""
    return bool(pa.types.is_string(dtype) or pa.types.is_large_string(dtype))


def is_binary(dtype: pa.DataType) -> bool:
    """Whether cells are bytes."""
    return bool(pa.types.is_binary(dtype) or pa.types.is_large_binary(dtype))


def is_list(dtype: pa.DataType) -> bool:
    """Whether cells are lists of any kind."""
    return bool(pa.types.is_list(dtype) or pa.types.is_large_list(dtype) or pa.types.is_fixed_size_list(dtype))


class Spread:
    """At most `most` items from all over a sequence of unknown length: twice as far apart whenever there are more."""

    def __init__(self, most: int) -> None:
        self.items: list[Any] = []
        self._most, self._apart, self._seen = most, 1, 0

    def add(self, count: int, get: Callable[[npt.NDArray[np.int64]], list[Any]]) -> None:
        """`count` more items, of which `get` gives those at some positions (0 to count - 1)."""
        chosen = np.arange(-self._seen % self._apart, count, self._apart)
        self._seen += count
        self.items += get(chosen) if len(chosen) else []
        while len(self.items) > self._most:
            self.items, self._apart = self.items[::2], 2 * self._apart


@dataclass
class Profile:
    """One column.

    present: cells that are not null.  values: the different ones as they appear, or None when there are more than
    `MOST` or they cannot be compared.  lengths: of lists, at most a few different ones.  span: of whole numbers.
    """

    name: str
    dtype: pa.DataType
    rows: int = 0
    present: int = 0
    values: dict[Any, None] | None = field(default_factory=dict)
    lengths: set[int] = field(default_factory=set)
    span: tuple[int, int] | None = None
    _spread: Spread = field(default_factory=lambda: Spread(_CELLS), repr=False)
    _hashes: list[npt.NDArray[np.uint64]] | None = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        if pa.types.is_nested(self.dtype) or is_binary(self.dtype):
            self.values = self._hashes = None

    @property
    def cells(self) -> list[Any]:
        """Some present cells from all over the table; of encoded ones only the first bytes, or the path."""
        return self._spread.items

    @property
    def unique(self) -> bool:
        """Whether no two present cells are equal."""
        if not self._hashes:
            return False
        return len(np.unique(np.concatenate(self._hashes))) == self.present

    def look(self, column: pa.ChunkedArray) -> None:
        """One more chunk of the column."""
        there = np.flatnonzero(column.is_valid().to_numpy())
        self._spread.add(len(there), lambda chosen: _shortened(column.take(there[chosen])))
        self.rows += len(column)
        self.present += len(column) - column.null_count
        if is_list(self.dtype) and len(self.lengths) < 3:
            self.lengths |= set(pc.unique(pc.list_value_length(column)).drop_null().to_pylist())
        if pa.types.is_integer(self.dtype) and column.null_count < len(column):
            low, high = pc.min_max(column).as_py().values()
            self.span = (low, high) if self.span is None else (min(low, self.span[0]), max(high, self.span[1]))
        if self.values is not None:
            self.values |= dict.fromkeys(pc.unique(column).drop_null().to_pylist())
            self.values = self.values if len(self.values) <= MOST else None
        if self._hashes is not None:
            cells = np.asarray(column.drop_null().to_numpy(zero_copy_only=False))
            self._remember(pd.util.hash_array(cells, categorize=False))

    def _remember(self, hashes: npt.NDArray[np.uint64]) -> None:
        """Once two cells are equal, nothing has to be remembered any more."""
        if self._hashes is not None and len(np.unique(hashes)) == len(hashes):
            self._hashes.append(hashes)
        else:
            self._hashes = None


def profiles(table: Table) -> dict[str, Profile]:
    """The profile of each column, from one walk over the table."""
    found = {name: Profile(name, dtype) for name, dtype in table.columns.items()}
    for chunk in table.chunks(4096):
        for name, profile in found.items():
            profile.look(chunk[name])
    return found


def _shortened(cells: pa.ChunkedArray) -> list[Any]:
    if is_binary(cells.type):
        heads: list[Any] = pc.binary_slice(cells, 0, _HEAD).to_pylist()
        return heads
    if is_media(cells.type):
        content, paths = (pc.struct_field(cells, name) for name in ("bytes", "path"))
        heads = pc.binary_slice(content, 0, _HEAD).to_pylist()
        return [path if head is None else head for head, path in zip(heads, paths.to_pylist(), strict=True)]
    whole: list[Any] = cells.to_pylist()
    return whole
