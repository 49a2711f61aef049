"""What a frozen network made of rows: computed once for a row and what it shows, and kept beside the rows."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

__all__ = ["Memo"]


class Memo:
    """Tensors by key and row, for `rows` rows; it lives and dies with the rows it is about."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._kept: dict[Hashable, tuple[Tensor, Tensor]] = {}

    def recall(self, key: Hashable, places: Tensor, make: Callable[[Tensor], Tensor]) -> Tensor:
        """(B, ...): what `make` gives for the rows at `places` (B,), computed for those alone that are new.

        make: bool (B,), which rows are wanted, to their tensor (n, ...). Without gradient.
        """
        kept = self._kept.get(key)
        known = torch.zeros_like(places, dtype=torch.bool) if kept is None else kept[1][places]
        if not known.all():
            with torch.no_grad():
                self._put(key, places[~known], make(~known))
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
