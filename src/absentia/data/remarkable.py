"""What is remarkable about the cells that were read, though each of them is good: counts, and notes for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from absentia.data.kinds import Decoder
from absentia.data.kinds.pretrained import PretrainedDecoder

__all__ = ["Remarkable"]

MANY = 0.2  # share of empty texts that is worth a word


@dataclass
class Remarkable:
    """By modality how many cells were read, how many texts in part (as far as that is sure), how many were empty."""

    read: Counter[str] = field(default_factory=Counter)
    shortened: Counter[str] = field(default_factory=Counter)
    empty: Counter[str] = field(default_factory=Counter)

    def see(self, name: str, decoder: Decoder, cell: Any) -> None:
        """Count a cell that could be read."""
        self.read[name] += 1
        self.shortened[name] += decoder.shortened(cell)
        self.empty[name] += decoder.empty(cell)

    def add(self, more: Remarkable) -> None:
        """Count what others have read."""
        for mine, theirs in ((self.read, more.read), (self.shortened, more.shortened), (self.empty, more.empty)):
            mine.update(theirs)

    def notes(self, decoders: Mapping[str, Decoder]) -> list[str]:
        """A sentence for each modality that there is something to say about."""
        longer = [
            f"{name}: at least {count} texts are longer than the {decoder.places} tokens that encoder "
            f"{decoder.source!r} reads; what comes behind does not count. Split them into rows, or take an encoder "
            "with more places."
            for name, count in self.shortened.items()
            if count and isinstance(decoder := decoders[name], PretrainedDecoder)
        ]
        blank = [
            f"{name}: {count} of {self.read[name]} texts are empty, and an empty text is there. If it means that there "
            "is none, leave these cells empty (null)."
            for name, count in self.empty.items()
            if count and count >= MANY * self.read[name]
        ]
        return longer + blank
