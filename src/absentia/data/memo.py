"""What a frozen network made of rows: computed once for a row and what it shows, and kept beside the rows."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

if TYPE_CHECKING:
    from absentia.data.batch import Batch

__all__ = ["Memo"]

BLOCK = 64  # rows that are computed together, whoever asks for one of them: the same bits in any order of asking


class Memo:
    """Tensors by key and row, for `rows` rows; it lives and dies with the rows it is about.

    batch: gives rows by their places, as int64 (n,).
    """

    def __init__(self, rows: int, batch: Callable[[npt.NDArray[np.int64]], Batch]) -> None:
        self.rows, self.batch = rows, batch
        self._kept: dict[Hashable, tuple[Tensor, Tensor]] = {}

    def recall(self, key: Hashable, places: Tensor, make: Callable[[Batch], tuple[Tensor, Tensor]]) -> Tensor:
        """(B, ...): what was made of the rows at `places` (B,), long; whole blocks are made where one is missing.

        make: a block's rows to those that it can be made of, bool (n,), and what is made of them. Without gradient.
        """
        kept = self._kept.get(key)
        missing = places if kept is None else places[~kept[1][places]]
        for block in torch.unique(missing // BLOCK).tolist():
            rows = np.arange(block * BLOCK, min((block + 1) * BLOCK, self.rows))
            with torch.no_grad():
                able, values = make(self.batch(rows).to(places.device))
            self._put(key, torch.from_numpy(rows).to(places.device)[able], values)
        with torch.inference_mode(False):
            return self._kept[key][0][places]

    def _put(self, key: Hashable, places: Tensor, values: Tensor) -> None:
        with torch.inference_mode(False):  # what is made while answering may be needed for a training step
            if key not in self._kept:
                there = torch.zeros(self.rows, dtype=torch.bool, device=values.device)
                self._kept[key] = (torch.zeros(self.rows, *values.shape[1:]).to(values), there)
            kept, there = self._kept[key]
            kept[places] = values.detach().clone()
            there[places] = True
