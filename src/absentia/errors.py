"""The two errors a user meets: something asked for that cannot be, and a cell that cannot be read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

__all__ = ["BadCell", "UserError", "extra", "nearest"]

LISTED = 30  # words of a message that lists what is known


class UserError(ValueError):
    """What was asked for cannot be done; the message says where, what, and what to do. Shown without a traceback."""


class BadCell(Exception):
    """One cell that cannot be read; the message is the reason alone (row and column are added by who called).

    column: which one, where a modality has several; the message names it then.
    """

    def __init__(self, reason: str, *, column: str | None = None) -> None:
        super().__init__(reason if column is None else f"column {column!r} {reason}")
        self.reason, self.column = reason, column


def nearest(word: str, known: Iterable[str]) -> str:
    """A tail for an error message: the nearest known word, or all of them (the first ones of many).

    >>> nearest("imgae", ["image", "text"])
    "did you mean 'image'?"
    """
    choices = [str(name) for name in known]
    close = difflib.get_close_matches(str(word), choices, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    more = ", ..." if len(choices) > LISTED else ""
    return f"known: {', '.join(choices[:LISTED])}{more}" if choices else "there are none"


@contextmanager
def extra(name: str, what: str) -> Iterator[None]:
    """Around the import of an optional library: where it is not there, the error says which extra brings it."""
    try:
        yield
    except ImportError as error:
        raise UserError(f"{what} need {error.name}: pip install 'absentia[{name}]'") from None
