"""Chance without a state: every draw is a function of (seed, stage, step), so any step can be replayed."""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["chance", "number_of"]


def number_of(*key: object) -> int:
    """A whole number below 2^63 from a key; the same everywhere."""
    digest = hashlib.blake2b("\x1f".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def chance(*key: object) -> np.random.Generator:
    """A fresh generator of a key."""
    return np.random.default_rng(number_of(*key))
