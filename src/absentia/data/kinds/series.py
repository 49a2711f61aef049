"""Series: several channels over time, any length, as nested lists or .npy files."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from absentia.data.kinds.base import Array, Decoder, Kind, Value, pad, source_of
from absentia.errors import BadCell, UserError

__all__ = ["Series", "SeriesDecoder", "SteppedDecoder", "channel_moments", "read_series"]

FEW = 12  # an outer axis this short beside a longer inner one is read as channels
TOKENS = 32  # a usual series becomes about this many tokens
Layout = Literal["auto", "steps-first", "channels-first"]


@dataclass(frozen=True)
class Series(Kind):
    """A list of numbers (one channel), a list of lists, or the path of a .npy file.

    layout: which axis is time; "auto" takes the one whose length differs between rows, else the longer one when
        the other has at most 12 entries, else the outer one. max_length: steps kept of a longer series.
    """

    layout: Layout = "auto"
    max_length: int = 1024
    kind: ClassVar[str] = "series"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layout not in ("auto", "steps-first", "channels-first"):
            raise UserError(f"series layout {self.layout!r}: steps-first, channels-first or auto")

    def fit(self, cells: Iterable[Any], *, root: Path | None = None) -> SeriesDecoder:
        raw = list(_readable(cells, root))
        flip = self.layout == "channels-first" or (self.layout == "auto" and _channels_first(raw))
        stepped = [a.T if flip else a for a in raw]
        channels = Counter(a.shape[1] for a in stepped).most_common(1)[0][0] if stepped else 1
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
        return {"steps": ((steps - np.asarray(self.mean)) / np.asarray(self.std)).astype(np.float32)}

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
        raw = read_series(cell, self.root)
        steps = (raw.T if self.flip else raw)[: self.max_length]
        if steps.shape[1] != self.channels:
            raise BadCell(f"has {steps.shape[1]} channels, training had {self.channels}")
        if not np.isfinite(steps).all():
            raise BadCell("holds NaN or infinite numbers")
        return self.standardised(steps)

    def state(self) -> dict[str, Any]:
        return super().state() | {"flip": self.flip, "max_length": self.max_length}


def read_series(cell: Any, root: Path | None) -> Array:
    """The raw numbers of a cell as float64 (outer, inner); a flat list is (T, 1). Raises `BadCell`."""
    try:
        array = np.asarray(cell if isinstance(cell, (list, np.ndarray)) else _npy(cell, root), dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise BadCell(f"is not a series of numbers: {error}") from None
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or array.size == 0:
        raise BadCell(f"has shape {array.shape}, expected steps x channels with at least one of each")
    return array


def _npy(cell: Any, root: Path | None) -> Any:
    source = source_of(cell, root)
    try:
        return np.load(io.BytesIO(source) if isinstance(source, bytes) else source, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadCell(f"is not a readable .npy file: {error}") from None


def _readable(cells: Iterable[Any], root: Path | None) -> Iterator[Array]:
    for cell in cells:
        try:
            array = read_series(cell, root)
        except BadCell:
            continue
        if np.isfinite(array).all():
            yield array


def _channels_first(arrays: list[Array]) -> bool:
    outer = {a.shape[0] for a in arrays}
    inner = {a.shape[1] for a in arrays}
    if len(outer) != 1:
        return False
    if len(inner) != 1:
        return True
    return bool(max(outer) <= FEW < max(inner))


def channel_moments(arrays: Sequence[Array]) -> dict[str, Any]:
    """Mean and standard deviation per channel, and how many steps make a token, from arrays (T_i, C)."""
    if not arrays:
        return {"mean": [0.0], "std": [1.0], "patch": 1}
    steps = np.concatenate(arrays)
    std = steps.std(axis=0)
    longest = int(np.quantile([len(a) for a in arrays], 0.9))
    patch = max(1, -(-longest // TOKENS))
    return {"mean": steps.mean(axis=0).tolist(), "std": np.where(std > 1e-12, std, 1.0).tolist(), "patch": patch}
