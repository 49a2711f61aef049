"""How cells of one modality become values: decoded, and where a frozen encoder stands behind, encoded or recalled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from absentia.data.features import CellCache
from absentia.data.kinds import Decoder, Value

__all__ = ["CellReader", "Opened", "Transform"]

Transform = Callable[[list[Value]], list[Value]]
"""Something that replaces decoded values, a few dozen at a time (a frozen encoder: pixels to features)."""

TOGETHER = 32  # cells a transform sees at once


@dataclass(frozen=True)
class Opened:
    """A cell that could be read; `done` where its value needs no transform any more.

    key: where in a cache the value belongs.
    """

    cell: Any
    value: Value
    done: bool
    key: bytes | None = None


@dataclass(frozen=True)
class CellReader:
    """Reads cells in two steps, so that each bad one is met alone and the others are transformed together."""

    decoder: Decoder
    transform: Transform | None = None
    cache: CellCache | None = None

    def open(self, cell: Any) -> Opened:
        """Recall or decode a present cell; raises `BadCell`."""
        if self.cache is None:
            return Opened(cell, self.decoder.decode(cell), done=self.transform is None)
        key = self.cache.key(cell)
        known = self.cache.recall(key)
        if known is not None:
            return Opened(cell, known, done=True)
        return Opened(cell, self.decoder.decode(cell), done=self.transform is None, key=key)

    def finish(self, opened: Sequence[Opened]) -> list[Value]:
        """Their values, in order."""
        raw = [i for i, one in enumerate(opened) if not one.done]
        out = [one.value for one in opened]
        for start in range(0, len(raw), TOGETHER):
            part = raw[start : start + TOGETHER]
            for i, value in zip(part, self._transformed([opened[i] for i in part]), strict=True):
                out[i] = value
        return out

    def _transformed(self, opened: Sequence[Opened]) -> list[Value]:
        assert self.transform is not None
        values = self.transform([one.value for one in opened])
        for one, value in zip(opened, values, strict=True):
            if self.cache is not None:
                self.cache.keep(one.key, one.cell, value)
        return values
