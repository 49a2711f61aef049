"""The target: decided by the data where the user did not say, and turned into what losses and scores take."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from absentia.data.kinds.base import shown
from absentia.data.masks import fitted_masks, looks_like_mask
from absentia.data.schema import Target
from absentia.errors import UserError, nearest

__all__ = ["TargetCodec", "class_names", "is_known"]

FARTHEST = 1e6  # standard deviations; float32 holds what is nearer
LARGEST_LOG = 709.0  # of the largest float
FEW = 50  # whole numbers with at most this many different values are classes
LISTS = (list, tuple, np.ndarray)
UNFIT = (dict, date, time, timedelta)  # cells that are neither classes nor numbers unless the user says so


@dataclass(frozen=True)
class TargetCodec:
    """A fitted target: classes for class and labels, mean and spread of the training rows for a number.

    prior: what is known without any input: class shares (K,), label shares (K,), the mean (1,) in learned units, or
        the share of a mask's voxels in each region (K,).
    """

    target: Target
    prior: tuple[float, ...]
    mean: float = 0.0
    std: float = 1.0

    @classmethod
    def fit(cls, target: Target, cells: Iterable[Any], root: Path | None = None) -> TargetCodec:
        """From the known training cells; those of a mask are tuples, one cell per column, with paths below `root`."""
        if target.kind == "mask":
            fitted, prior = fitted_masks(target, cells, root)
            return cls(target=fitted, prior=prior)
        cells = list(cells)
        if not cells:
            raise UserError(f"target {target.column!r}: no training row has a value")
        if any(isinstance(cell, bytes) and looks_like_mask(cell) for cell in cells):
            raise UserError(f"target {target.column!r} holds pictures or volumes; as a mask it is {target.column}=mask")
        kind = target.kind or _kind_of(target, cells)
        fitted = replace(target, kind=kind)
        return cls._number(fitted, cells) if kind == "number" else cls._classes(fitted, cells)

    @classmethod
    def _classes(cls, target: Target, cells: Sequence[Any]) -> TargetCodec:
        names = [_names(target, c) for c in cells]
        counts: dict[str, int] = {}
        for name in (n for row in names for n in row):
            counts[name] = counts.get(name, 0) + 1
        classes = target.classes or tuple(sorted(counts, key=_natural))
        codec = cls(target=replace(target, classes=classes), prior=())
        encoded = codec.encode(cells)
        if (encoded == encoded[0]).all():
            raise UserError(f"target {target.column!r} is constant: every training row has {shown(cells[0])}")
        prior = np.bincount(encoded, minlength=len(classes)) if target.kind == "class" else encoded.sum(axis=0)
        return replace(codec, prior=tuple((prior / len(cells)).tolist()))

    @classmethod
    def _number(cls, target: Target, cells: Sequence[Any]) -> TargetCodec:
        codec = cls(target=target, prior=(0.0,))
        raw = np.asarray([codec._float(c) for c in cells], dtype=np.float64)
        if raw.min() == raw.max():
            raise UserError(f"target {target.column!r} is constant: every training row has {shown(cells[0])}")
        with np.errstate(over="ignore"):
            mean, std = float(raw.mean()), float(raw.std())
        if not 0 < std < math.inf:
            raise UserError(f"target {target.column!r} has the range {raw.min():g} to {raw.max():g}; bring it to scale")
        return replace(codec, mean=mean, std=std)

    def grown(self, cells: Sequence[Any], *, before: int, classes: Sequence[str] = ()) -> TargetCodec:
        """The codec once these training cells have arrived: their new classes stand behind the known ones.

        before: training rows so far, which the prior goes on counting.  classes: new classes by name, in their
        order; those that no cell has yet included. A number keeps its mean and spread.
        """
        if self.target.kind in ("number", "mask") or not cells:
            return self
        found = {name for cell in cells for name in _names(self.target, cell)}
        known = self.target.classes
        new = [*dict.fromkeys(c for c in classes if c not in known)]
        new += sorted(found - {*known, *new}, key=_natural)
        codec = replace(self, target=replace(self.target, classes=(*known, *new)))
        encoded = codec.encode(cells)
        seen = np.bincount(encoded, minlength=len(known) + len(new)) if encoded.ndim == 1 else encoded.sum(axis=0)
        counted = np.pad(np.asarray(self.prior) * before, (0, len(new))) + seen
        return replace(codec, prior=tuple((counted / (before + len(cells))).tolist()))

    def encode(self, cells: Sequence[Any], *, strict: bool = True) -> npt.NDArray[Any]:
        """Cells as int64 (N,) for a class, float32 (N, K) for labels, float32 (N,) standardised for a number.

        Raises `UserError` for a class or label that is not known; with `strict` off such a label counts as not there.
        """
        if self.target.kind == "number":
            learned = [(self._float(c) - self.mean) / self.std for c in cells]
            return np.clip(np.asarray(learned, dtype=np.float64), -FARTHEST, FARTHEST).astype(np.float32)
        position = {name: i for i, name in enumerate(self.target.classes)}
        heard = strict or self.target.kind == "class"
        rows = [
            [self._position(position, name) for name in _names(self.target, c) if heard or name in position]
            for c in cells
        ]
        if self.target.kind == "class":
            return np.asarray([row[0] for row in rows], dtype=np.int64)
        out = np.zeros((len(cells), len(position)), dtype=np.float32)
        for i, row in enumerate(rows):
            out[i, row] = 1
        return out

    def number(self, learned: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A learned number back in the target's own units, float64."""
        raw = np.asarray(learned, dtype=np.float64) * self.std + self.mean
        return np.exp(np.minimum(raw, LARGEST_LOG)) if self.target.log else raw

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
                f"{nearest(name, self.target.classes)}. Remove its rows, or train with them"
            )
        return position[name]

    def _float(self, cell: Any) -> float:
        try:
            value = float(cell)
        except (TypeError, ValueError, OverflowError):
            raise UserError(f"target {self.target.column!r}: {shown(cell)} is not a number") from None
        if not math.isfinite(value):
            raise UserError(f"target {self.target.column!r}: {shown(cell)} is not a finite number")
        if not self.target.log:
            return value
        if value <= 0:
            raise UserError(f"target {self.target.column!r}: {value} has no logarithm; use {self.target.column}=number")
        return math.log(value)


def is_known(cell: Any) -> bool:
    """Whether a target cell has a value (None and NaN have none, infinity neither)."""
    return math.isfinite(cell) if isinstance(cell, float | np.floating | Decimal) else cell is not None


def class_names(cell: Any) -> list[str]:
    """The class or the labels of a cell as texts; none for an unknown one."""
    if isinstance(cell, LISTS):
        return sorted({_name(c) for c in cell if is_known(c)})
    return [_name(cell)] if is_known(cell) else []


def _names(target: Target, cell: Any) -> list[str]:
    if isinstance(cell, LISTS) != (target.kind == "labels"):
        kind, other = ("a list of labels", "class") if target.kind == "labels" else ("one class", "labels")
        raise UserError(f"target {target.column!r}: {shown(cell)} is not {kind}; say {target.column}={other}")
    return sorted({_name(c) for c in cell if is_known(c)}) if target.kind == "labels" else [_name(cell)]


def _name(cell: Any) -> str:
    """A class as text: 1, 1.0 and "1" are one class."""
    if isinstance(cell, bytes):
        return cell.decode("utf-8", errors="backslashreplace")
    return str(int(cell)) if isinstance(cell, float | np.floating) and cell.is_integer() else str(cell)


def _natural(name: str) -> tuple[int, float, str]:
    """Numbers in their own order before words in theirs."""
    try:
        value = float(name)
    except ValueError:
        value = math.nan
    return (0, value, name) if math.isfinite(value) else (1, 0.0, name)


def _kind_of(target: Target, cells: Iterable[Any]) -> Any:
    cells = list(cells)
    odd = next((c for c in cells if isinstance(c, UNFIT)), None)
    if odd is not None:
        raise UserError(
            f"target {target.column!r} holds {type(odd).__name__} cells such as {shown(odd)}; make it words or numbers"
        )
    if any(isinstance(c, LISTS) for c in cells):
        return "labels"
    if any(isinstance(c, (str, bytes, bool, np.bool_)) for c in cells):
        return "class"
    whole = all(c == int(c) for c in cells)
    return "class" if whole and len(set(cells)) <= FEW else "number"
