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
    Validation gets one entity at least, and leaves one for training.
    """
    u = entity_uniform(ids, "split")
    if words is None:
        return _with_validation(np.where(u < TEST, "test", "train"), u, TEST + VALIDATION)
    out = np.asarray([_word(w, i, column) for i, w in enumerate(words)], dtype=np.str_)
    return out if (out == "val").any() else _with_validation(out, u, VALIDATION)


def _with_validation(splits: npt.NDArray[np.str_], u: npt.NDArray[np.float64], below: float) -> npt.NDArray[np.str_]:
    """Training rows whose number is `below` a limit become validation rows."""
    train = splits == "train"
    if not train.any():
        return splits
    chosen = train & (u < max(below, np.nextafter(u[train].min(), 1)))
    if (chosen == train).all():
        chosen &= u < u[train].max()
    return np.where(chosen, "val", splits)


def _word(word: object, row: int, column: str) -> str:
    known = WORDS.get(str(word).strip().lower())
    if known is None:
        raise UserError(f"column {column!r}, row {row}: {word!r} is none of train, val, test")
    return known
