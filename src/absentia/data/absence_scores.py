"""What absence may depend on: a column's values as scores with mean 0 and standard deviation 1.

Reading a value that is about to be hidden (mnar) happens here and only here: when a plan is drawn, never
later.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from absentia.errors import UserError

__all__ = ["cell_summary", "normal_scores", "ordered_values"]

Floats = npt.NDArray[np.float64]


def ordered_values(values: Any, name: str) -> Floats:
    """A column as numbers whose order is meant, float64 (N,), NaN where it is null.

    Numbers, dates and truth values stand for themselves. Texts are categories in the order of their names, so
    "1 low", "2 middle", "3 high" says the order. Raises `UserError` for anything else (see `cell_summary`).
    """
    column = _array(values, name)
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if types.is_null(column.type):
        return np.full(len(column), np.nan)
    if types.is_string(column.type) or types.is_large_string(column.type):
        return _levels(column)
    if types.is_temporal(column.type):
        column = column.cast(pa.int32() if column.type.bit_width == 32 else pa.int64())
    return _numbers(column, name)


def cell_summary(column: Any, name: str) -> Floats:
    """One number for each cell of a modality, float64 (N,), NaN where it is null; for mnar.

    A text gives its length in characters, encoded bytes their count, a list the mean of its numbers.
    """
    array = _array(column, name)
    if types.is_struct(array.type) and array.type.get_field_index("bytes") >= 0:
        array = pc.struct_field(array, "bytes")
    if types.is_string(array.type) or types.is_large_string(array.type):
        return _numbers(pc.utf8_length(array), name)
    if types.is_binary(array.type) or types.is_large_binary(array.type):
        return _numbers(pc.binary_length(array), name)
    if types.is_nested(array.type):
        return np.asarray([_mean(cell, name) for cell in array.to_pylist()], dtype=np.float64)
    return _numbers(array, name)


def normal_scores(values: Floats, name: str) -> Floats:
    """Rank-normal scores (N,): normal quantiles of the ranks (ties share theirs), mean 0 and deviation 1.

    Ranks make the strength of a dependence mean the same for prices, lengths and categories. Where the
    value is unknown (NaN) the score is 0: such rows lose modalities at the rate of the middle.
    Raises `UserError` where all known values are equal, since nothing can depend on them.
    """
    known = ~np.isnan(values)
    levels, which, counts = np.unique(values[known], return_inverse=True, return_counts=True)
    if len(levels) < 2:
        raise UserError(f"column {name!r} has no two different values; absence cannot depend on it")
    total = counts.sum()
    quantile = NormalDist().inv_cdf
    scores = np.asarray([quantile(p) for p in ((np.cumsum(counts) - counts / 2) / total).tolist()])
    scores -= (scores * counts).sum() / total
    scores /= np.sqrt((scores**2 * counts).sum() / total)
    out = np.zeros(len(values))
    out[known] = scores[which]
    return out


def _array(values: Any, name: str) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks()
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise UserError(f"column {name!r} mixes types of values; absence cannot depend on it") from error


def _levels(column: pa.Array) -> Floats:
    coded = column.dictionary_encode()
    names = coded.dictionary.to_pylist()
    rank = {level: float(i) for i, level in enumerate(sorted(names))}
    ranks = np.asarray([rank[level] for level in names] + [np.nan])
    return np.asarray(ranks[coded.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)])


def _numbers(column: pa.Array, name: str) -> Floats:
    try:
        return np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(
            f"column {name!r} holds {column.type}; absence depends on numbers or categories, "
            "so give a summary of it, such as a length or a mean"
        ) from error


def _mean(cell: Any, name: str) -> float:
    if cell is None:
        return np.nan
    try:
        numbers = np.asarray(cell, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"column {name!r} holds cells without a mean; give a summary of your own") from error
    return float(np.nanmean(numbers)) if np.isfinite(numbers).any() else np.nan
