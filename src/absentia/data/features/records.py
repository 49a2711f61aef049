"""Features as records in a file that only grows: key, shape and checksums, so that a torn or damaged one is seen."""

from __future__ import annotations

import hashlib
import mmap
import struct
import zlib
from dataclasses import dataclass, field

import numpy as np

from absentia.data.kinds.base import Array

__all__ = ["Place", "Scan", "packed", "scan", "sound"]

MAGIC = b"\x89absent\n"
HEAD = struct.Struct("<8s32s32s8sQQ")  # magic, key, SHA-256 of the record, dtype, rows, columns
CHECK = struct.Struct("<I")  # CRC-32 of the head, so that lengths can be trusted before anything is read by them
ALIGN = 64  # bytes that heads and features start at multiples of
START = 128  # where a record's features begin
DTYPES = ("<f2", "<f4", "<f8")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record's features are: from `start`, (rows, columns) of `dtype`; `digest` is the record's SHA-256."""

    start: int
    rows: int
    columns: int
    dtype: str
    digest: bytes

    @property
    def bytes(self) -> int:
        """Size of the features."""
        return self.rows * self.columns * np.dtype(self.dtype).itemsize

    @property
    def end(self) -> int:
        """Where the features end."""
        return self.start + self.bytes


@dataclass
class Scan:
    """Keys and places in a file, in order; how many heads are damaged; where the last whole record ends."""

    places: list[tuple[bytes, Place]] = field(default_factory=list)
    damaged: int = 0
    end: int = 0


def packed(key: bytes, features: Array, at: int) -> tuple[bytes, Place]:
    """A record of features (T, D) for the end of a file that holds `at` bytes; raises `ValueError` for others."""
    if features.ndim != 2 or features.dtype.str not in DTYPES:
        raise ValueError(f"features are of shape {features.shape} and type {features.dtype}")
    content, (rows, columns), dtype = features.tobytes(), features.shape, features.dtype.str
    digest = _digest(key, dtype, rows, columns, content)
    head = HEAD.pack(MAGIC, key, digest, dtype.encode(), rows, columns)
    head = (head + CHECK.pack(zlib.crc32(head))).ljust(START, b"\0")
    place = Place(start=at + START, rows=rows, columns=columns, dtype=dtype, digest=digest)
    return head + content + bytes(-len(content) % ALIGN), place


def scan(content: mmap.mmap) -> Scan:
    """What the heads of a file say; the features themselves are not looked at."""
    found, at = Scan(), 0
    while 0 <= at <= len(content) - START:
        head = _head(content, at)
        if head is None:
            found.damaged += 1
            at = content.find(MAGIC, at + 1)
            continue
        if head[1].end > len(content):
            break
        found.places.append(head)
        at = found.end = head[1].end + -head[1].bytes % ALIGN
    return found


def sound(content: mmap.mmap, key: bytes, place: Place) -> Array | None:
    """The features at a place, mapped and read-only; None where they are not what was written under `key`."""
    view = memoryview(content)[place.start : place.end]
    if _digest(key, place.dtype, place.rows, place.columns, view) != place.digest:
        return None
    return np.frombuffer(view, place.dtype).reshape(place.rows, place.columns)


def _head(content: mmap.mmap, at: int) -> tuple[bytes, Place] | None:
    head = content[at : at + HEAD.size]
    (check,) = CHECK.unpack_from(content, at + HEAD.size)
    magic, key, digest, dtype, rows, columns = HEAD.unpack(head)
    if magic != MAGIC or check != zlib.crc32(head):
        return None
    kind = dtype.rstrip(b"\0").decode()
    return key, Place(start=at + START, rows=rows, columns=columns, dtype=kind, digest=digest)


def _digest(key: bytes, dtype: str, rows: int, columns: int, content: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(key + f"{dtype} {rows} {columns} ".encode())
    digest.update(content)
    return digest.digest()
