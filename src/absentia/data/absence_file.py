"""A mask plan as a Parquet file: one row for each entity, and in the metadata how it was made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from absentia.errors import UserError
from absentia.writing import replacing

__all__ = ["read_plan", "write_plan"]

Bools = npt.NDArray[np.bool_]

KEY = b"absentia.mask_plan"
FORMAT = 1
PREFIX = "keep."  # a modality may be called "id"


def write_plan(
    path: Path,
    modalities: Sequence[str],
    splits: Sequence[str],
    ids: Sequence[str],
    keep: Bools,
    about: Mapping[str, Any],
    sha256: str,
) -> None:
    """Write a plan (see `MaskPlan`); a reader sees the whole file or the one that was there before.

    Raises `UserError` where the file cannot be written: a full disk, a folder in its place.
    """
    header = {"format": FORMAT, "modalities": list(modalities), "about": about, "sha256": sha256}
    columns = [pa.array(splits, pa.string()), pa.array(ids, pa.string())]
    columns += [pa.array(np.ascontiguousarray(keep[:, m])) for m in range(len(modalities))]
    schema = _schema(modalities).with_metadata({KEY: json.dumps(header).encode()})
    with replacing(path) as temporary:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_arrays(columns, schema=schema), temporary, compression="zstd")


def read_plan(path: Path) -> tuple[dict[str, Any], str]:
    """The arguments of `MaskPlan` that a file holds, and the hash that it should have."""
    if not path.is_file():
        raise UserError(f"there is no mask plan {path}")
    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} is not a mask plan: not a readable Parquet file") from error
    header = _header(path, table)
    modalities = header["modalities"]
    if not table.schema.equals(_schema(modalities)) or any(column.null_count for column in table.columns):
        raise UserError(f"{path}: the mask plan's columns were changed after it was written; draw it again")
    keep = [table.column(PREFIX + name).to_numpy() for name in modalities]
    parts = {
        "modalities": modalities,
        "splits": table.column("split").to_pylist(),
        "ids": table.column("id").to_pylist(),
        "keep": np.stack(keep, axis=1),
        "about": header["about"],
    }
    return parts, str(header.get("sha256"))


def _header(path: Path, table: pa.Table) -> dict[str, Any]:
    text = (table.schema.metadata or {}).get(KEY)
    if text is None:
        raise UserError(f"{path} is a Parquet file, but not a mask plan; write one with `absentia mask`")
    try:
        header = json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: the mask plan's metadata cannot be read; draw it again") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise UserError(f"{path}: a mask plan of another version of absentia (this one reads format {FORMAT})")
    names, about = header.get("modalities"), header.get("about")
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names) and isinstance(about, dict)):
        raise UserError(f"{path}: the mask plan's metadata is incomplete; draw it again")
    return header


def _schema(modalities: Sequence[str]) -> pa.Schema:
    texts = [pa.field(name, pa.string()) for name in ("split", "id")]
    return pa.schema(texts + [pa.field(PREFIX + name, pa.bool_()) for name in modalities])
