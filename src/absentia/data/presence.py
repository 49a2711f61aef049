"""Presence: which modalities the rows of a table have, from nulls alone; no cell is opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from absentia.data.schema import Schema, pattern_name

__all__ = ["count_patterns", "natural_presence"]

Bools = npt.NDArray[np.bool_]


def natural_presence(chunk: pa.Table, schema: Schema) -> Bools:
    """bool (N, M): a modality is present where at least one of its columns is not null."""
    presence = np.zeros((chunk.num_rows, len(schema.names)), dtype=np.bool_)
    for m, name in enumerate(schema.names):
        for column in schema.columns_of(name):
            presence[:, m] |= _there(chunk.column(column))
    return presence


def count_patterns(presence: Bools, names: Sequence[str]) -> dict[str, int]:
    """How many rows have each pattern, the most common first."""
    counts = Counter(pattern_name(names, row) for row in presence.tolist())
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _there(column: pa.ChunkedArray) -> Bools:
    there = pc.invert(pc.is_null(column, nan_is_null=pa.types.is_floating(column.type)))
    if pa.types.is_struct(column.type):
        anything = pc.and_(there, False)
        for i in range(column.type.num_fields):
            anything = pc.or_(anything, pc.is_valid(pc.struct_field(column, i)))
        there = pc.and_(there, pc.fill_null(anything, False))
    return np.asarray(there.to_numpy(zero_copy_only=False) if isinstance(there, pa.Array) else there.to_numpy())
