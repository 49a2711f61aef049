"""Which features belong to a cell: found by the hash of what it holds, kept once they are made."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from absentia.data.features.store import FeatureStore
from absentia.data.kinds.base import Value, source_of
from absentia.data.kinds.pretrained import PretrainedDecoder
from absentia.data.kinds.text import read_text
from absentia.errors import BadCell

__all__ = ["CellCache", "cell_digest"]


class CellCache:
    """The features of one modality's cells; counts how many cells were `found` and how many `computed`."""

    def __init__(self, *, decoder: PretrainedDecoder, store: FeatureStore) -> None:
        self.decoder, self.store = decoder, store
        self.found = self.computed = 0

    def key(self, cell: Any) -> bytes | None:
        """SHA-256 of what a cell holds; None where it cannot be read (why, the decoder says)."""
        return cell_digest(self.decoder.kind, cell, self.decoder.root)

    def recall(self, key: bytes | None) -> Value | None:
        """`{"features": (T, D)}`, or None where they have to be made."""
        features = None if key is None else self.store.recall(key)
        if features is None:
            return None
        self.found += 1
        return {"features": features}

    def keep(self, key: bytes | None, cell: Any, value: Value) -> None:
        """Keep what was made of a cell, unless its file has changed since the key was taken."""
        self.computed += 1
        if key is not None and self.key(cell) == key:
            self.store.keep(key, value["features"])


def cell_digest(kind: str, cell: Any, root: Path | None) -> bytes | None:
    """SHA-256 of a cell's text, its bytes, its file's content, or its samples; None for a cell that has none of it."""
    try:
        if kind == "text":
            return _tagged(b"text", hashlib.sha256(read_text(cell).encode()))
        if isinstance(cell, dict) and cell.get("array") is not None:
            return _samples(cell)
        source = source_of(cell, root)
        if isinstance(source, bytes):
            return _tagged(b"file", hashlib.sha256(source))
        with source.open("rb") as file:
            return _tagged(b"file", hashlib.file_digest(file, "sha256"))
    except (BadCell, OSError):
        return None


def _samples(cell: dict[str, Any]) -> bytes | None:
    try:
        array = np.asarray(cell["array"])
    except (ValueError, TypeError, OverflowError):
        return None
    if array.dtype.hasobject:
        return None
    about = f"{array.dtype.str} {array.shape} {cell.get('sampling_rate')!r} "
    return _tagged(b"samples", hashlib.sha256(about.encode() + array.tobytes()))


def _tagged(tag: bytes, digest: Any) -> bytes:
    """What a text and a file of the same bytes have in common is not their features."""
    return hashlib.sha256(tag + digest.digest()).digest()
