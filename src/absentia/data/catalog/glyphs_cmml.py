"""`glyphs-cmml`: the characters of `glyphs` in five sessions of five scripts, dealt out by hash.

Class-incremental learning that every machine can repeat. The characters of no class are left for pretraining.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from absentia.data.catalog import glyphs
from absentia.data.catalog.cmml import hash_sessions

__all__ = ["DECLARATION", "build", "classes"]

SESSIONS, SIZE = 5, 5

DECLARATION: dict[str, Any] = glyphs.DECLARATION | {"session": "session"}


def build(*, cache: Path | None = None) -> datasets.Dataset:
    """The rows of `glyphs` with a column `session`, 0 to 4; they come from the cache of `glyphs`."""
    table = glyphs.build(cache=cache).data.table
    session_of = {script: session for session, scripts in enumerate(classes()) for script in scripts}
    sessions = [session_of[script] for script in table["script"].to_pylist()]
    return datasets.Dataset(table.append_column("session", pa.array(sessions, pa.int64())))


def classes() -> list[list[str]]:
    """The scripts that each session brings."""
    return hash_sessions(glyphs.FAMILIES, sessions=SESSIONS, size=SIZE, key="glyphs-cmml")
