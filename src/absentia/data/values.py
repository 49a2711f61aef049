"""Python values as Arrow columns: what a list of dicts, a data frame or a line of JSON holds in its cells."""

from __future__ import annotations

import json
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from absentia.data.storage import MEDIA
from absentia.errors import UserError

__all__ = ["arrow_column", "python_column", "value_type"]

_LARGEST = 1 << 63


def value_type(values: Sequence[Any], known: pa.DataType) -> pa.DataType:
    """The type that holds plain values (as JSON has them) and a column of type `known`.

    Raises ArrowException or TypeError where there is none.
    """
    found = {type(value) for value in values if value is not None}
    if not found:
        return known
    fresh = _scalar_type(found, values) if found <= {bool, int, float, str} else pa.array(values).type
    if pa.types.is_string(fresh) != pa.types.is_string(known) and _is_scalar(fresh) and _is_scalar(known):
        return pa.string()
    if pa.types.is_boolean(fresh) != pa.types.is_boolean(known) and _is_scalar(fresh) and _is_scalar(known):
        return pa.string()
    schemas = [pa.schema([("x", known)]), pa.schema([("x", fresh)])]
    return pa.unify_schemas(schemas, promote_options="permissive").field("x").type


def arrow_column(values: Sequence[Any], dtype: pa.DataType) -> pa.Array:
    """Plain values in a type that `value_type` found for them."""
    if pa.types.is_null(dtype):
        return pa.nulls(len(values), pa.string())
    if pa.types.is_string(dtype):
        values = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
    return pa.array(values, dtype)


def python_column(name: str, values: Sequence[Any]) -> pa.Array | list[Any]:
    """Any Python values as something that `datasets.Dataset.from_dict` takes.

    None, NaN, NaT and pandas' NA are nulls; paths are text; arrays and pillow images are left to `datasets`.
    """
    cells = [None if _is_missing(v) else str(v) if isinstance(v, PathLike) else v for v in values]
    found = {type(v) for v in cells if v is not None}
    if not found:
        return pa.nulls(len(cells), pa.string())
    if found == {bytes, str}:
        return pa.array([_media(v) for v in cells], MEDIA)
    if len(found) > 1 and str in found and all(issubclass(t, (str, int, float, np.number)) for t in found):
        return pa.array([None if v is None else str(v) for v in cells], pa.string())
    if len(found) > 1 and bool in found and found <= {bool, int, float}:
        raise UserError(f"column {name!r} mixes truth values with numbers; make it one of them")
    return cells


def _media(value: bytes | str | None) -> dict[str, Any] | None:
    if value is None:
        return None
    return {"bytes": value, "path": None} if isinstance(value, bytes) else {"bytes": None, "path": value}


def _is_missing(value: Any) -> bool:
    if value is None or value is pd.NA or value is pd.NaT:
        return True
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def _scalar_type(found: set[type], values: Sequence[Any]) -> pa.DataType:
    if str in found or (bool in found and len(found) > 1):
        return pa.string()
    if bool in found:
        return pa.bool_()
    if float in found:
        return pa.float64()
    fits = all(value is None or -_LARGEST <= value < _LARGEST for value in values)
    return pa.int64() if fits else pa.string()


def _is_scalar(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_string(dtype) or pa.types.is_boolean(dtype) or pa.types.is_primitive(dtype))
