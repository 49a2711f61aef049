"""Which session of a stream a row belongs to: by a column, or by its class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from absentia.data.entity import entity_uniform
from absentia.data.target import class_names
from absentia.errors import UserError, nearest

__all__ = ["Sessions", "sessions_by_class", "sessions_by_column"]

Ints = npt.NDArray[np.int64]
SHUFFLED = "shuffled"


@dataclass(frozen=True)
class Sessions:
    """The sessions of a stream.

    number: (N,) the session of each row, -1 for rows of none.
    names: what each session is called.  classes: of each session its classes where they were listed, else empty.
    """

    number: Ints
    names: tuple[str, ...]
    classes: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.names)

    def rows(self, session: int) -> npt.NDArray[np.bool_]:
        """bool (N,): the rows of a session."""
        return np.asarray(self.number == session)


def sessions_by_column(cells: Sequence[Any], column: str) -> Sessions:
    """Every value of a column is a session, numbers in their order before words in theirs; a null is none."""
    values = sorted({cell for cell in cells if cell is not None}, key=_order)
    if not values:
        raise UserError(f"--by {column}: the column has no value, so there is no session")
    place = {value: number for number, value in enumerate(values)}
    number = np.asarray([place.get(cell, -1) for cell in cells], dtype=np.int64)
    return Sessions(number, tuple(map(str, values)), ((),) * len(values))


def sessions_by_class(
    cells: Sequence[Any],
    *,
    train: npt.NDArray[np.bool_],
    count: int | None = None,
    listed: Sequence[Sequence[str]] = (),
    order: str = "sorted",
    seed: int = 0,
) -> Sessions:
    """Each session has classes of its own: the listed ones, or `count` blocks of all that training rows have.

    cells: the target of each row, one class.  train: bool (N,), rows that count when classes are discovered.
    order: "sorted" blocks the classes in their natural order, "shuffled" in one that the seed decides.
    Raises `UserError` for a class that is listed twice or that no row has, and for more sessions than classes.
    """
    names = [class_names(cell) for cell in cells]
    if any(len(row) > 1 for row in names):
        raise UserError("rows with several labels belong to no single class; say --by COLUMN, which session is whose")
    known = list(dict.fromkeys(row[0] for row, t in zip(names, train, strict=True) if t and row))
    blocks = _listed(listed, known) if listed else _blocks(sorted(known, key=_order), count, order, seed)
    place = {name: number for number, block in enumerate(blocks) for name in block}
    number = np.asarray([place.get(row[0], -1) if row else -1 for row in names], dtype=np.int64)
    return Sessions(number, tuple(", ".join(block) for block in blocks), tuple(map(tuple, blocks)))


def _listed(listed: Sequence[Sequence[str]], known: Sequence[str]) -> list[list[str]]:
    blocks = [[str(name).strip() for name in block] for block in listed]
    names = [name for block in blocks for name in block]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"class {name!r} is listed for two sessions")
        if name not in known:
            raise UserError(f"no training row has the class {name!r} of a listed session; {nearest(name, known)}")
    return blocks


def _blocks(classes: list[str], count: int | None, order: str, seed: int) -> list[list[str]]:
    if count is None or not 1 <= count <= len(classes):
        raise UserError(f"--sessions {count}: there are {len(classes)} classes; a session needs at least one")
    if order == SHUFFLED:
        drawn = entity_uniform(classes, "sessions", seed)
        classes = [classes[i] for i in np.argsort(drawn, kind="stable")]
    elif order != "sorted":
        raise UserError(f"--order {order!r}: {nearest(order, ['sorted', SHUFFLED])}")
    return [[str(name) for name in block] for block in np.array_split(np.asarray(classes, dtype=object), count)]


def _order(value: Any) -> tuple[int, float, str]:
    try:
        return (0, float(value), str(value))
    except (TypeError, ValueError):
        return (1, 0.0, str(value))
