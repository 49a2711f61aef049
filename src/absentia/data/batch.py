"""A batch: which modalities each row has, and the decoded inputs of exactly those."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from absentia.data.kinds import Value
from absentia.data.memo import OWN, Memo

__all__ = ["Batch", "tensors"]


@dataclass
class Batch:
    """B rows of M modalities.

    presence: bool (B, M), modalities in schema order.
    inputs: per modality the tensors of its present rows alone, in row order, each (n_m, ...); a modality that no
        row has is missing from the mapping.
    target: long (B,) for a class, float (B, K) for labels, float (B,) for a number; None where it is not known.
    index: long (B,), row numbers in the table.
    memo, places: what frozen networks made of the rows so far, and where these rows stand in it, long (B,).
    space: the voxels of each row, (D, H, W) or (H, W); empty unless the target is a mask, which is float
        (B, K, *space) then.
    corner: where in its volume each row's part begins, long (B, dims); None where rows are shown whole.
    """

    presence: Tensor
    inputs: dict[str, dict[str, Tensor]]
    index: Tensor
    target: Tensor | None = None
    memo: Memo | None = None
    places: Tensor | None = None
    space: tuple[int, ...] = ()
    corner: Tensor | None = None

    def __len__(self) -> int:
        return len(self.index)

    @property
    def empty(self) -> Tensor:
        """Rows with nothing present: bool (B,)."""
        return ~self.presence.any(dim=1)

    def restrict(self, allowed: Tensor, names: Sequence[str]) -> Batch:
        """The same rows with only `allowed` (bool (M,) or (B, M)) modalities; the others are not there any more."""
        presence = self.presence & allowed
        inputs = {}
        for m, name in enumerate(names):
            kept = presence[self.presence[:, m], m]
            if kept.any():
                inputs[name] = {key: x[kept] for key, x in self.inputs[name].items()}
        return replace(self, presence=presence, inputs=inputs)

    def select(self, rows: Tensor, names: Sequence[str]) -> Batch:
        """Some rows: `rows` is bool (B,); their order stays."""
        inputs = {}
        for m, name in enumerate(names):
            kept = rows[self.presence[:, m]]
            if kept.any():
                inputs[name] = {key: x[kept] for key, x in self.inputs[name].items()}
        return replace(
            self,
            presence=self.presence[rows],
            inputs=inputs,
            index=self.index[rows],
            target=None if self.target is None else self.target[rows],
            places=None if self.places is None else self.places[rows],
            corner=None if self.corner is None else self.corner[rows],
        )

    def recall(self, key: str, make: Callable[[Batch], Tensor], names: Sequence[str]) -> Tensor:
        """(B, ...): what `make` gives for these rows, computed once for each row and presence, without gradient.

        make: a batch to one tensor per row. It may depend on nothing but a row's present inputs and what `key`
        names (frozen weights); what it gave before is taken from the memo.
        """
        if self.memo is None or self.places is None:
            return _quietly(make, self)
        out: Tensor | None = None
        for pattern in torch.unique(self.presence, dim=0):
            mine = (self.presence == pattern).all(dim=1)
            block = partial(_made, make, pattern, names)
            found = self.memo.recall(key, tuple(pattern.tolist()), self.places[mine], block)
            if found is None:
                return _quietly(make, self)
            out = found.new_zeros(len(self), *found.shape[1:]) if out is None else out
            out = out.index_put((mine,), found.to(out.device))
        return self.presence.new_zeros(0, dtype=torch.float32) if out is None else out

    def recall_own(self, key: str, make: Callable[[Batch], Tensor]) -> Tensor:
        """(B, ...): what `make` gives for these rows, as `recall` has it, but kept only of rows as the table has them.

        Each row is made once then, not once for each pattern that it can be shown in. Of rows that show less now than
        they have, nothing is kept.
        """
        if self.memo is None or self.places is None or not self.memo.shows(self.places, self.presence):
            return _quietly(make, self)
        found = self.memo.recall(key, OWN, self.places, lambda block: (_all(block), make(block)))
        return _quietly(make, self) if found is None else found

    def filled(self, blanks: Mapping[str, Mapping[str, Tensor]]) -> Batch:
        """Every modality present: absent inputs become a placeholder (what people do without us).

        `blanks` holds, per modality in schema order, the inputs of one placeholder row, each (1, ...); that of a
        volume is one voxel, which is spread over the space of the rows.
        """
        inputs = {}
        for m, (name, blank) in enumerate(blanks.items()):
            absent = ~self.presence[:, m]
            inputs[name] = _filled(self.inputs.get(name), absent, self._spread(blank))
        return replace(self, presence=torch.ones_like(self.presence), inputs=inputs)

    def _spread(self, blank: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        if not self.space:
            return blank
        one = (slice(None), slice(None), *(slice(1) for _ in self.space))
        return {key: x[one].expand(*x.shape[:2], *self.space) for key, x in blank.items()}

    def to(self, device: torch.device | str) -> Batch:
        """The batch on another device."""
        return replace(
            self,
            presence=self.presence.to(device),
            inputs={m: {k: x.to(device) for k, x in tensors.items()} for m, tensors in self.inputs.items()},
            index=self.index.to(device),
            target=None if self.target is None else self.target.to(device),
            places=None if self.places is None else self.places.to(device),
            corner=None if self.corner is None else self.corner.to(device),
        )


@torch.no_grad()
def _quietly(make: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
    return make(batch)


def _all(batch: Batch) -> Tensor:
    return torch.ones_like(batch.presence[:, 0])


def _made(
    make: Callable[[Batch], Tensor], pattern: Tensor, names: Sequence[str], block: Batch
) -> tuple[Tensor, Tensor]:
    """Which rows of a block have a pattern (M,), bool (n,), and what is made of them when they show just that."""
    able = (block.presence | ~pattern).all(dim=1)
    return able, make(block.select(able, names).restrict(pattern, names))


def tensors(value: Value) -> dict[str, Tensor]:
    """Collated arrays as tensors."""
    return {key: torch.from_numpy(np.ascontiguousarray(array)) for key, array in value.items()}


def _filled(real: Mapping[str, Tensor] | None, absent: Tensor, blank: Mapping[str, Tensor]) -> dict[str, Tensor]:
    count = int(absent.sum())
    copies = {k: x.to(absent.device).expand(count, *x.shape[1:]) for k, x in blank.items()}
    if real is None:
        return copies
    return {key: _woven(real[key], copies[key], absent) for key in real}


def _woven(real: Tensor, blank: Tensor, absent: Tensor) -> Tensor:
    """(n, ...) real and (k, ...) blank rows in the places that `absent` (n + k,) says, padded to one length."""
    tail = [max(r, b) for r, b in zip(real.shape[1:], blank.shape[1:], strict=True)]
    out = real.new_zeros((len(absent), *tail))
    out[~absent] = _widened(real, tail)
    out[absent] = _widened(blank, tail).to(out.dtype)
    return out


def _widened(x: Tensor, tail: Sequence[int]) -> Tensor:
    """(n, ...) filled up with zeros at the end of every further axis, to the lengths of `tail`."""
    short = [wanted - have for wanted, have in zip(tail, x.shape[1:], strict=True)]
    return nn.functional.pad(x, [n for s in reversed(short) for n in (0, s)]) if any(short) else x
