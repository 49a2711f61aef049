"""In which order rows, or (row, modality) pairs, enter training: any step can be replayed, for nothing has a state.

SBNet (arXiv 2303.06129) compares orders of the pairs: all shuffled, or half an epoch of faces and then one of voices.
Losses that compare rows of a class with each other wish for some of each in a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from absentia.errors import UserError

__all__ = ["Chance", "Order", "Passes", "Taken", "by_class", "by_pair", "by_row", "unchanging"]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Chance(Protocol):
    """A fresh generator for every key, always the same one."""

    def __call__(self, *key: object) -> np.random.Generator:
        """That of one key, whose last part is the number of a pass."""
        ...


class Taken(NamedTuple):
    """Of one step the rows (n,) by position, and of each what it shows, bool (n, M); None for all that it has."""

    rows: Ints
    shown: Bools | None = None

    def parts(self, count: int) -> list[Taken]:
        """The same in so many parts, one behind the other."""
        rows = np.array_split(self.rows, count)
        return list(map(Taken, rows, [None] * count if self.shown is None else np.array_split(self.shown, count)))


Order = Callable[[int, int], Taken]
"""What a step takes, from its size and number."""


class Passes:
    """An endless run of passes over n places.

    of_pass: the order (n,) of the pass with a number.
    """

    def __init__(self, n: int, of_pass: Callable[[int], Ints]) -> None:
        self.n, self.of_pass = n, lru_cache(maxsize=2)(of_pass)

    @classmethod
    def shuffled(cls, n: int, chance: Chance, *key: object) -> Passes:
        """Each pass in an order of its own."""
        return cls(n, lambda number: chance(*key, number).permutation(n))

    def __call__(self, size: int, step: int) -> Ints:
        """(size,): the places number step * size to (step + 1) * size - 1 of the run."""
        places = np.arange(step * size, (step + 1) * size)
        passes = places // self.n
        out = np.empty(size, dtype=np.int64)
        for number in range(int(passes[0]), int(passes[-1]) + 1):
            mine = passes == number
            out[mine] = self.of_pass(number)[places[mine] % self.n]
        return out


def unchanging(chance: Chance) -> Chance:
    """The first pass again and again."""
    return lambda *key: chance(*key[:-1], 0)


def by_row(rows: int, chance: Chance) -> Order:
    """All rows once in each pass, with all that they have."""
    passes = Passes.shuffled(rows, chance)
    return lambda size, step: Taken(passes(size, step))


def by_pair(presence: Bools, chance: Chance, turns: Sequence[int] | None = None) -> Order:
    """All (row, modality) pairs of presence (N, M) once in each pass; a row shows one modality at a time.

    turns: in which order modalities have their turns, all pairs of one behind those of the other (SBNet's hefhev or
    hevhef); None shuffles all pairs among each other (its random).
    """
    rows, modalities = np.nonzero(presence)
    each = np.eye(presence.shape[1], dtype=np.bool_)
    turn = np.zeros(presence.shape[1], dtype=np.int64)
    if turns is not None:
        turn[list(turns)] = np.arange(len(turns))

    def of_pass(number: int) -> Ints:
        shuffled = chance(number).permutation(len(rows))
        return shuffled[np.argsort(turn[modalities[shuffled]], kind="stable")]

    passes = Passes(len(rows), of_pass)

    def order(size: int, step: int) -> Taken:
        pairs = passes(size, step)
        return Taken(rows[pairs], each[modalities[pairs]])

    return order


def by_class(classes: npt.NDArray[np.generic], each: int, chance: Chance) -> Order:
    """As many classes as fit into a step, no two alike, and `each` rows of every one, beside each other (P x K).

    classes: (N,), that of every row. Classes come in shuffled passes, and so do the rows of each class; what is left
    over at the end of a pass, too little for a whole step, waits for the next one. A class with fewer rows than `each`
    shows some twice. Raises `UserError` where there are fewer classes than a step asks for.
    """
    _, found, counts = np.unique(classes, return_inverse=True, return_counts=True)
    members = np.split(np.argsort(found, kind="stable"), np.cumsum(counts)[:-1])
    of_class = [_different(len(rows), chance, "class", c) for c, rows in enumerate(members)]
    of_classes = _different(len(members), chance, "classes")

    def order(size: int, step: int) -> Taken:
        groups = _groups(size, each, len(members))
        number, chosen = of_classes(groups, step)
        return Taken(np.concatenate([members[c][of_class[c](each, number)[1]] for c in chosen]))

    return order


def _different(n: int, chance: Chance, *key: object) -> Callable[[int, int], tuple[int, Ints]]:
    """From a size and a number: that of the pass, and so many of n places, no two alike as long as n has so many."""
    of_pass = Passes.shuffled(n, chance, *key).of_pass

    def taken(size: int, number: int) -> tuple[int, Ints]:
        turn, place = divmod(number, max(1, n // size))
        return turn, np.resize(of_pass(turn)[place * size : (place + 1) * size], size)

    return taken


def _groups(size: int, each: int, classes: int) -> int:
    groups = size // each
    if not groups:
        raise UserError(f"options.per_class {each}: a step has only {size} rows; say less, or a larger training.batch")
    if groups > classes:
        raise UserError(
            f"options.per_class {each}: a step of {size} rows asks for {groups} classes, and training rows have "
            f"{classes}; say options.per_class {-(-size // classes)}, or training.batch {each * classes}"
        )
    return groups
