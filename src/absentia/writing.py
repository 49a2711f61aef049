"""Files that are written whole or not at all, and never in the place of the table that is read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from absentia.errors import UserError

__all__ = ["replacing", "spared"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when all went well; a full disk is a `UserError`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):  # as where a file stands in the place of a folder
            temporary.unlink()


def spared(out: str | Path | None, table: Any) -> None:
    """Raise `UserError` where what is written would take the place of the table that is read."""
    if out is None or not isinstance(table, str | Path):
        return
    if Path(out).is_file() and Path(table).is_file() and Path(out).samefile(table):
        raise UserError(f"{out} is the table itself, and would be overwritten; write to another file")
