"""Text: byte-pair tokens learned from the training texts, so that nothing has to be downloaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from absentia.data.kinds.base import Decoder, Kind, Value, check_at_least, pad
from absentia.errors import BadCell, UserError, nearest

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Text", "TextDecoder", "read_text"]

LONG = 100  # characters looked at for each token that is kept: many more than a token has
POOLS = ("mean", "first", "last")
BYTES = 256  # tokens that any text can be written in
PIECE = 1000  # characters learned from at a time; the time for one word grows with the square of its length
PLAIN = (int, float, Decimal, date, time, timedelta)  # what a table may hold that reads as text


@dataclass(frozen=True)
class Text(Kind):
    """Strings (or UTF-8 bytes). An empty string is a present, empty text.

    max_length: tokens kept of a longer text. vocabulary: number of byte-pair tokens at most.
    pool: how a pretrained encoder's tokens become one vector: mean, first ([CLS]) or last (of a causal model, which
        has read the whole text by then).
    """

    max_length: int = 64
    vocabulary: int = 4096
    pool: str = "mean"
    kind: ClassVar[str] = "text"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("text max_length", self.max_length)
        check_at_least("text vocabulary", self.vocabulary, BYTES)
        if self.pool not in POOLS:
            raise UserError(f"text pool {self.pool!r}: {nearest(str(self.pool), POOLS)}")

    def fit(self, cells: Iterable[Any], *, root: Path | None = None) -> TextDecoder:
        tokenizer = _trained(_pieces(cells, LONG * self.max_length), self.vocabulary)
        return TextDecoder(tokenizer=tokenizer.to_str(), max_length=self.max_length)

    def restore(self, state: dict[str, Any], *, root: Path | None = None) -> TextDecoder:
        return TextDecoder(tokenizer=state["tokenizer"], max_length=state["max_length"])


class TextDecoder(Decoder):
    """Cells to `{"ids": int64 (T,)}`, T from 0 to max_length."""

    def __init__(self, *, tokenizer: str, max_length: int) -> None:
        self._json, self.max_length = tokenizer, max_length

    @cached_property
    def tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        return Tokenizer.from_str(self._json)

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""
        return int(self.tokenizer.get_vocab_size())

    def decode(self, cell: Any) -> Value:
        text = read_text(cell)[: LONG * self.max_length]
        ids = self.tokenizer.encode(text).ids[: self.max_length]
        return {"ids": np.asarray(ids, dtype=np.int64)}

    def empty(self, cell: Any) -> bool:
        return not read_text(cell).strip()

    def collate(self, values: Sequence[Value]) -> Value:
        ids, mask = pad([v["ids"] for v in values])
        return {"ids": ids, "mask": mask}

    def blank(self) -> Value:
        return {"ids": np.zeros(0, dtype=np.int64)}

    def state(self) -> dict[str, Any]:
        return {"tokenizer": self._json, "max_length": self.max_length}


def read_text(cell: Any) -> str:
    """The text of a cell; raises `BadCell` for bytes that are not UTF-8 and for what is no text at all."""
    if isinstance(cell, str):
        return _encodable(cell)
    if isinstance(cell, (bytes, bytearray)):
        try:
            return bytes(cell).decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadCell(f"is not UTF-8 text: byte {error.start} is 0x{cell[error.start]:02x}") from None
    if isinstance(cell, PLAIN):
        return str(cell)
    raise BadCell(f"holds {type(cell).__name__}, expected text")


def _encodable(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise BadCell(f"is not text: character {error.start} is the lone surrogate U+{code:04X}") from None
    return text


def _pieces(cells: Iterable[Any], longest: int) -> Iterator[str]:
    for cell in cells:
        try:
            text = read_text(cell)[:longest]
        except BadCell:
            continue
        yield from (text[i : i + PIECE] for i in range(0, len(text), PIECE))


def _trained(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
