"""Series: several channels over time, any length, as nested lists or .npy files."""

from __future__ import annotations

import io
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from absentia.data.kinds.base import Array, Decoder, Kind, Value, check_at_least, moments, pad, source_of, standardised
from absentia.errors import BadCell, UserError, nearest

__all__ = ["Series", "SeriesDecoder", "SteppedDecoder", "channel_moments", "read_series"]

FEW = 12  # an outer axis this short beside a longer inner one is read as channels
NEARLY = 0.9  # share of the rows that have to agree, so that a few bad ones decide nothing
TOKENS = 32  # a usual series becomes about this many tokens
LAYOUTS = ("auto", "steps-first", "channels-first")
MAGIC = b"\x93NUMPY"
UNREADABLE = (OSError, ValueError, EOFError, OverflowError, MemoryError, SyntaxError, TypeError, tokenize.TokenError)
"""What NumPy raises for lists that hold no numbers and for damaged files."""
Layout = Literal["auto", "steps-first", "channels-first"]


@dataclass(frozen=True)
class Series(Kind):
    """A list of numbers (one channel), a list of lists, or a .npy file as path or bytes.

    layout: which axis is time; "auto" takes the one whose length differs between rows, else the longer one when
        the other has at most 12 entries, else the outer one. max_length: steps kept of a longer series.
    """

    layout: Layout = "auto"
    max_length: int = 1024
    kind: ClassVar[str] = "series"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("series max_length", self.max_length)
        if self.layout not in LAYOUTS:
            raise UserError(f"series layout {self.layout!r}; {nearest(self.layout, LAYOUTS)}")

    def fit(self, cells: Iterable[Any], *, root: Path | None = None) -> SeriesDecoder:
        raw = list(_readable(cells, root))
        flip = self.layout == "channels-first" or (self.layout == "auto" and _channels_first(raw))
        stepped = [_steps_first(a, flip)[: self.max_length] for a in raw]
        channels = _usual([a.shape[1] for a in stepped])[0] if stepped else 1
        usual = [a for a in stepped if a.shape[1] == channels]
        return SeriesDecoder(flip=flip, max_length=self.max_length, root=root, **channel_moments(usual))

    def restore(self, state: dict[str, Any], *, root: Path | None = None) -> SeriesDecoder:
        return SeriesDecoder(**state, root=root)


class SteppedDecoder(Decoder):
    """What series and sounds share: standardised steps `{"steps": float32 (T, C)}`, padded in time."""

    def __init__(self, *, mean: list[float], std: list[float], patch: int) -> None:
        self.mean, self.std, self.patch = mean, std, patch

    @property
    def channels(self) -> int:
        """C."""
        return len(self.mean)

    def standardised(self, steps: Array) -> Value:
        """Steps (T, C) in raw units as a value."""
        return {"steps": standardised(steps, self.mean, self.std)}

    def collate(self, values: Sequence[Value]) -> Value:
        steps, mask = pad([v["steps"] for v in values])
        return {"steps": steps, "mask": mask}

    def blank(self) -> Value:
        return {"steps": np.zeros((self.patch, self.channels), dtype=np.float32)}

    def state(self) -> dict[str, Any]:
        return {"mean": self.mean, "std": self.std, "patch": self.patch}


class SeriesDecoder(SteppedDecoder):
    """Cells to standardised steps (T, C), T from 1 to max_length."""

    def __init__(
        self,
        *,
        flip: bool,
        max_length: int,
        mean: list[float],
        std: list[float],
        patch: int,
        root: Path | None = None,
    ) -> None:
        super().__init__(mean=mean, std=std, patch=patch)
        self.flip, self.max_length, self.root = flip, max_length, root

    def decode(self, cell: Any) -> Value:
        steps = _steps_first(read_series(cell, self.root), self.flip)[: self.max_length]
        if steps.shape[1] != self.channels:
            raise BadCell(f"has {steps.shape[1]} channels, training had {self.channels}")
        if not np.isfinite(steps).all():
            raise BadCell("holds nulls, NaN or infinite numbers")
        return self.standardised(steps)

    def state(self) -> dict[str, Any]:
        return super().state() | {"flip": self.flip, "max_length": self.max_length}


def read_series(cell: Any, root: Path | None) -> Array:
    """The raw numbers of a cell as float64, (T,) for one channel or (outer, inner); raises `BadCell`."""
    if isinstance(cell, list) and len({len(x) if isinstance(x, list) else None for x in cell}) > 1:
        raise BadCell("has inner lists of different lengths")
    try:
        with np.errstate(all="ignore"):  # what does not fit into float64 becomes infinite, and is refused later
            array = np.asarray(cell if isinstance(cell, list) else _npy(cell, root), dtype=np.float64)
    except UNREADABLE as error:
        raise BadCell(f"is not a series of numbers: {error}") from None
    if array.ndim not in (1, 2) or array.size == 0:
        raise BadCell(f"has shape {array.shape}, expected steps x channels with at least one of each")
    return array


def _npy(cell: Any, root: Path | None) -> Array:
    if isinstance(cell, np.ndarray):
        return _real(cell)
    source = source_of(cell, root, "a list of numbers, or a .npy file as bytes or path")
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise BadCell("is not a .npy file")
            file.seek(0)
            return _real(np.load(file, allow_pickle=False))
    except UNREADABLE as error:
        raise BadCell(f"is not a readable .npy file: {error}") from None


def _real(array: Array) -> Array:
    if array.dtype.kind not in "biuf":
        raise BadCell(f"holds {array.dtype}, expected real numbers")
    return array


def _readable(cells: Iterable[Any], root: Path | None) -> Iterator[Array]:
    for cell in cells:
        try:
            array = read_series(cell, root)
        except BadCell:
            continue
        if np.isfinite(array).all():
            yield array


def _steps_first(array: Array, flip: bool) -> Array:
    """(T,) or (outer, inner) as (T, C); a flat series has one channel in any layout."""
    if array.ndim == 1:
        return array[:, None]
    return array.T if flip else array


def _channels_first(arrays: list[Array]) -> bool:
    """Whether the inner axis is time, by what nearly all rows agree on."""
    nested = [a.shape for a in arrays if a.ndim == 2]
    if not nested:
        return False
    outer, outer_share = _usual([shape[0] for shape in nested])
    inner, inner_share = _usual([shape[1] for shape in nested])
    if outer_share >= NEARLY and inner_share >= NEARLY and (outer <= FEW) != (inner <= FEW):
        return outer <= FEW
    return outer_share > inner_share


def _usual(lengths: list[int]) -> tuple[int, float]:
    """The most common length and the share of rows that have it."""
    counts = Counter(lengths)
    usual = max(counts, key=lambda length: (counts[length], length))
    return usual, counts[usual] / len(lengths)


def channel_moments(arrays: Sequence[Array]) -> dict[str, Any]:
    """Mean and standard deviation per channel, and how many steps make a token, from arrays (T_i, C)."""
    if not arrays:
        return {"mean": [0.0], "std": [1.0], "patch": 1}
    longest = int(np.quantile([len(a) for a in arrays], 0.9))
    return moments(np.concatenate(arrays)) | {"patch": max(1, -(-longest // TOKENS))}
