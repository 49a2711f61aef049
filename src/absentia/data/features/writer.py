"""The one file of a folder that a process appends to: one that nobody writes any more, or a new one."""

from __future__ import annotations

import fcntl
import os
import uuid
import weakref
from pathlib import Path

__all__ = ["SUFFIX", "Writer"]

SUFFIX = ".features"


class Writer:
    """A file held by a lock of the system, which ends with the process, however it ends.

    path: the file.  size: its bytes, a whole number of records.  process: whose it is.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.process = path, os.getpid()
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self.close = weakref.finalize(self, os.close, self._file)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.size = os.fstat(self._file).st_size

    @classmethod
    def free(cls, path: Path) -> Writer | None:
        """A writer of a file that is there; None while somebody else writes it, or where it may not be written."""
        try:
            return cls(path)
        except OSError:
            return None

    @classmethod
    def fresh(cls, folder: Path) -> Writer:
        """A writer of a new file; raises `OSError`."""
        return cls(folder / f"{uuid.uuid4().hex}{SUFFIX}")

    def append(self, record: bytes) -> None:
        """Write a record behind the others; raises `OSError`, and part of the record may be there then."""
        rest = memoryview(record)
        while rest:
            rest = rest[os.write(self._file, rest) :]
        self.size += len(record)
