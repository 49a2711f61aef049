"""Keep a built table on disk, so that a data set of the catalog is built once: one Parquet file per key.

A file appears whole or not at all (it is written beside its place and renamed), and a file that has been
damaged since is noticed by its checksums and built again.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["cached_table", "default_folder"]

DIGEST = b"absentia.sha256"


def default_folder() -> Path:
    """`$ABSENTIA_CACHE`, else `$HF_DATASETS_CACHE/absentia` where that variable is set, else `~/.cache/absentia`."""
    own, datasets_cache = os.environ.get("ABSENTIA_CACHE"), os.environ.get("HF_DATASETS_CACHE")
    if own:
        return Path(own)
    return Path(datasets_cache) / "absentia" if datasets_cache else Path.home() / ".cache" / "absentia"


def cached_table(key: str, build: Callable[[], pa.Table], *, folder: Path | None = None) -> pa.Table:
    """The table kept under `key`; where there is none, or a damaged one, `build()` makes it and it is kept.

    A folder that cannot be written costs the time to build, and a warning; never the table.
    """
    path = (folder or default_folder()) / f"{key}.parquet"
    table = _read(path)
    if table is None:
        table = build()
        try:
            _write(table, path)
        except OSError as error:
            warnings.warn(f"{path} could not be kept, so it is built again next time: {error}", stacklevel=2)
    return table


def _read(path: Path) -> pa.Table | None:
    try:
        return pq.read_table(path, page_checksum_verification=True, memory_map=False)
    except (OSError, pa.ArrowException):
        return None


def _write(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=".tmp", dir=path.parent)
    os.close(handle)
    try:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
