"""The target: decided by the data where the user did not say, and turned into what losses and scores take."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from absentia.data.schema import Target
from absentia.errors import UserError, nearest

__all__ = ["TargetCodec", "is_known"]

FEW = 50  # whole numbers with at most this many different values are classes


@dataclass(frozen=True)
class TargetCodec:
    """A fitted target: classes for class and labels, mean and spread of the training rows for a number.

    prior: what is known without any input: class shares (K,), label shares (K,), or the mean (1,) in learned units.
    """

    target: Target
    prior: tuple[float, ...]
    mean: float = 0.0
    std: float = 1.0

    @classmethod
    def fit(cls, target: Target, cells: Sequence[Any]) -> TargetCodec:
        """From the known training cells."""
        if not cells:
            raise UserError(f"target {target.column!r}: no training row has a value")
        kind = target.kind or _kind_of(cells)
        fitted = replace(target, kind=kind)
        return cls._number(fitted, cells) if kind == "number" else cls._classes(fitted, cells)

    @classmethod
    def _classes(cls, target: Target, cells: Sequence[Any]) -> TargetCodec:
        names = [_names(target, c) for c in cells]
        counts: dict[str, int] = {}
        for name in (n for row in names for n in row):
            counts[name] = counts.get(name, 0) + 1
        classes = target.classes or tuple(sorted(counts, key=_natural))
        if len(classes) < 2 and target.kind == "class":
            raise UserError(f"target {target.column!r} is constant: every training row has {classes[0]!r}")
        codec = cls(target=replace(target, classes=classes), prior=())
        encoded = codec.encode(cells)
        prior = np.bincount(encoded, minlength=len(classes)) if target.kind == "class" else encoded.sum(axis=0)
        return replace(codec, prior=tuple((prior / len(cells)).tolist()))

    @classmethod
    def _number(cls, target: Target, cells: Sequence[Any]) -> TargetCodec:
        raw = cls(target=target, prior=()).encode(cells)
        if raw.std() == 0:
            raise UserError(f"target {target.column!r} is constant: every training row has {cells[0]!r}")
        return cls(target=target, prior=(0.0,), mean=float(raw.mean()), std=float(raw.std()))

    def encode(self, cells: Sequence[Any]) -> npt.NDArray[Any]:
        """Cells as int64 (N,) for a class, float32 (N, K) for labels, float32 (N,) standardised for a number."""
        if self.target.kind == "number":
            return np.asarray([(self._float(c) - self.mean) / self.std for c in cells], dtype=np.float32)
        position = {name: i for i, name in enumerate(self.target.classes)}
        rows = [[self._position(position, name) for name in _names(self.target, c)] for c in cells]
        if self.target.kind == "class":
            return np.asarray([row[0] for row in rows], dtype=np.int64)
        out = np.zeros((len(cells), len(position)), dtype=np.float32)
        for i, row in enumerate(rows):
            out[i, row] = 1
        return out

    def number(self, learned: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A learned number back in the target's own units."""
        raw = learned * self.std + self.mean
        return np.exp(raw) if self.target.log else raw

    def to_json(self) -> dict[str, Any]:
        """What was fitted beside the target itself."""
        return {"prior": list(self.prior), "mean": self.mean, "std": self.std}

    @classmethod
    def from_json(cls, target: Target, state: dict[str, Any]) -> TargetCodec:
        """The codec that `to_json` described."""
        return cls(target=target, prior=tuple(state["prior"]), mean=state["mean"], std=state["std"])

    def _position(self, position: dict[str, int], name: str) -> int:
        if name not in position:
            raise UserError(
                f"target {self.target.column!r}: class {name!r} was never seen in training; "
                f"{nearest(name, self.target.classes[:30])}. Remove its rows, or train with them"
            )
        return position[name]

    def _float(self, cell: Any) -> float:
        try:
            value = float(cell)
        except (TypeError, ValueError):
            raise UserError(f"target {self.target.column!r}: {cell!r} is not a number") from None
        if not self.target.log:
            return value
        if value <= 0:
            raise UserError(f"target {self.target.column!r}: {value} has no logarithm; use {self.target.column}=number")
        return math.log(value)


def is_known(cell: Any) -> bool:
    """Whether a target cell has a value (None and NaN have none, infinity neither)."""
    return cell is not None and not (isinstance(cell, float) and not math.isfinite(cell))


def _names(target: Target, cell: Any) -> list[str]:
    if target.kind == "class":
        return [_name(cell)]
    if not isinstance(cell, (list, tuple, np.ndarray)):
        raise UserError(f"target {target.column!r}: {cell!r} is not a list of labels")
    return sorted({_name(c) for c in cell})


def _name(cell: Any) -> str:
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def _natural(name: str) -> tuple[int, float, str]:
    """Numbers in their own order before words in theirs."""
    try:
        return (0, float(name), name)
    except ValueError:
        return (1, 0.0, name)


def _kind_of(cells: Iterable[Any]) -> Any:
    cells = list(cells)
    if any(isinstance(c, (list, tuple, np.ndarray)) for c in cells):
        return "labels"
    if any(isinstance(c, (str, bool, np.bool_)) for c in cells):
        return "class"
    whole = all(float(c).is_integer() for c in cells)
    return "class" if whole and len(set(cells)) <= FEW else "number"
