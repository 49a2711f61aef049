"""What a frozen network made of rows: computed once for a row and what it shows, and kept beside the rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

if TYPE_CHECKING:
    from absentia.data.batch import Batch

__all__ = ["OWN", "Memo"]

BLOCK = 64  # rows that are computed together, whoever asks for one of them: the same bits in any order of asking
MOST = 2_000_000_000  # bytes that one key may come to, with every row in every pattern
OWN: tuple[bool, ...] = ()  # in place of a pattern: rows as they stand in the table, each with its own

Pattern = tuple[bool, ...]


class Memo:
    """Tensors by key, presence pattern and row, for `rows` rows; it lives and dies with the rows it is about.

    batch: gives rows by their places, as int64 (n,).  presence: what these show, bool (rows, M), if that is known.
    most: what may outgrow so many bytes is not kept at all, so that whether something is kept never depends on what
    was asked before.
    """

    def __init__(
        self,
        rows: int,
        batch: Callable[[npt.NDArray[np.int64]], Batch],
        *,
        presence: npt.NDArray[np.bool_] | None = None,
        most: int = MOST,
    ) -> None:
        self.rows, self.batch, self.presence, self.most = rows, batch, presence, most
        self._kept: dict[tuple[str, Pattern], tuple[Tensor, Tensor]] = {}
        self._too_large: set[str] = set()

    def shows(self, places: Tensor, presence: Tensor) -> bool:
        """Whether the rows at `places` (B,) show all that they have, in bool (B, M)."""
        if self.presence is None:
            return False
        return bool((self.presence[places.cpu().numpy()] == presence.cpu().numpy()).all())

    def recall(
        self, key: str, pattern: Pattern, places: Tensor, make: Callable[[Batch], tuple[Tensor, Tensor]]
    ) -> Tensor | None:
        """(B, ...): what was made of the rows at `places` (B,), long; whole blocks are made where one is missing.

        make: a block's rows to those that it can be made of, bool (n,), and what is made of them. Without gradient.
        None where it is too large to be kept.
        """
        kept = self._kept.get((key, pattern))
        missing = places if kept is None else places[~kept[1][places]]
        for block in [] if key in self._too_large else torch.unique(missing // BLOCK).tolist():
            rows = np.arange(block * BLOCK, min((block + 1) * BLOCK, self.rows))
            with torch.no_grad():
                able, values = make(self.batch(rows).to(places.device))
            if self.rows * max(1, 2 ** len(pattern) - 1) * values[0].nbytes > self.most:
                self._too_large.add(key)
                break
            self._put((key, pattern), torch.from_numpy(rows).to(places.device)[able], values)
        if key in self._too_large:
            return None
        with torch.inference_mode(False):
            return self._kept[key, pattern][0][places]

    def _put(self, key: tuple[str, Pattern], places: Tensor, values: Tensor) -> None:
        with torch.inference_mode(False):  # what is made while answering may be needed for a training step
            if key not in self._kept:
                there = torch.zeros(self.rows, dtype=torch.bool, device=values.device)
                self._kept[key] = (torch.zeros(self.rows, *values.shape[1:]).to(values), there)
            kept, there = self._kept[key]
            kept[places] = values.detach().clone()
            there[places] = True
