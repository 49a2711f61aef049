"""Chance without a state: every draw is a function of (seed, stage, step), so any step can be replayed."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

__all__ = ["number_of", "positions_of_step"]


def number_of(*key: object) -> int:
    """A whole number below 2^63 from a key; the same everywhere."""
    digest = hashlib.blake2b("\x1f".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def positions_of_step(wanted: npt.NDArray[np.int64], size: int, step: int, *key: object) -> npt.NDArray[np.int64]:
    """The rows of one step: the `step`-th `size` rows of an endless run of shuffled passes over `wanted`."""
    n = len(wanted)
    places = np.arange(step * size, (step + 1) * size)
    passes = places // n
    out = np.empty(size, dtype=np.int64)
    for number in range(int(passes[0]), int(passes[-1]) + 1):
        shuffled = np.random.default_rng(number_of(*key, number)).permutation(n)
        out[passes == number] = wanted[shuffled[places[passes == number] % n]]
    return out
