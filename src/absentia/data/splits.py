"""Which rows train, validate and test: a column's word, or a hash of the row's identity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from absentia.data.entity import entity_uniform
from absentia.errors import UserError

__all__ = ["SPLITS", "assign_splits"]

SPLITS = ("train", "val", "test")
WORDS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val"}
WORDS |= {"test": "test", "testing": "test", "eval": "test"}
VALIDATION, TEST = 0.15, 0.15  # shares taken from rows that say nothing


def assign_splits(words: Sequence[object] | None, ids: Sequence[str], column: str = "split") -> npt.NDArray[np.str_]:
    """One of train, val, test for each row (N,).

    `words` is the split column or None. What is missing is taken from the training rows by a hash of the id, so
    that the same entity is always on the same side: 15 % for validation, and 15 % for test without a column.
    """
    u = entity_uniform(ids, "split")
    if words is None:
        return np.where(u < TEST, "test", np.where(u < TEST + VALIDATION, "val", "train"))
    out = np.asarray([_word(w, i, column) for i, w in enumerate(words)])
    if not (out == "train").any():
        raise UserError(f"column {column!r} marks no row as 'train'")
    if not (out == "val").any():
        out[(out == "train") & (u < VALIDATION)] = "val"
    return out


def _word(word: object, row: int, column: str) -> str:
    known = WORDS.get(str(word).lower())
    if known is None:
        raise UserError(f"column {column!r}, row {row}: {word!r} is none of train, val, test")
    return known
