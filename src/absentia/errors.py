"""The two errors a user meets: something asked for that cannot be, and a cell that cannot be read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["BadCell", "UserError", "nearest"]


class UserError(ValueError):
    """What was asked for cannot be done; the message says where, what, and what to do. Shown without a traceback."""


class BadCell(Exception):
    """One cell that cannot be read; the message is the reason alone (row and column are added by who called)."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A tail for an error message: the nearest known word, or all of them.

    >>> nearest("imgae", ["image", "text"])
    "did you mean 'image'?"
    """
    choices = [str(name) for name in known]
    close = difflib.get_close_matches(str(word), choices, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(choices)}" if choices else "there are none"
