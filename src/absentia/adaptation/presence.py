"""Which modalities the rows of a call have, and the few patterns among them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from absentia.errors import UserError, nearest
from absentia.layers.subsets import all_patterns

__all__ = ["Rows", "parsed", "parsed_all", "presence_from", "rows_of"]

MOST_ALL = 8  # modalities up to which "all" patterns are meant


@dataclass(frozen=True)
class Rows:
    """patterns: bool (U, M), those that occur.  ids: long (B,), which of them each row has."""

    patterns: Tensor
    ids: Tensor

    @property
    def mixed(self) -> bool:
        """Whether there are several."""
        return len(self.patterns) > 1


def rows_of(presence: Tensor) -> Rows:
    """From presence bool (B, M)."""
    if not len(presence):
        return Rows(presence.new_ones(1, presence.shape[1]), presence.new_zeros(0, dtype=torch.long))
    patterns, ids = torch.unique(presence, dim=0, return_inverse=True)
    return Rows(patterns, ids)


def parsed(pattern: str | Collection[str], names: Sequence[str]) -> tuple[bool, ...]:
    """A pattern from "rgb+depth" or {"rgb", "depth"}; raises `UserError` for an unknown modality or none at all."""
    if not isinstance(pattern, Collection):
        raise UserError(f"pattern {pattern!r}: expected names of modalities, such as {names[0]!r} or {set(names)}")
    present = pattern.split("+") if isinstance(pattern, str) else list(pattern)
    for name in present:
        if name not in names:
            raise UserError(f"pattern {pattern!r}: unknown modality {name!r}; {nearest(name, names)}")
    if not present:
        raise UserError("a pattern with nothing present: there is nothing to answer from")
    return tuple(name in present for name in names)


def parsed_all(patterns: str | Sequence[Any], names: Sequence[str]) -> Tensor:
    """bool (P, M), without the full one: "all" of them, or those given.

    Raises `UserError` for "all" of more than 8 modalities.
    """
    if not isinstance(patterns, Collection):
        raise UserError(f"patterns {patterns!r}: expected 'all', or a list such as [{names[0]!r}]")
    if not isinstance(patterns, str):
        rows = list(dict.fromkeys(parsed(p, names) for p in patterns))
        return torch.tensor([row for row in rows if not all(row)], dtype=torch.bool).view(-1, len(names))
    if patterns != "all":
        return parsed_all([patterns], names)
    if len(names) > MOST_ALL:
        count = 2 ** len(names) - 2
        raise UserError(f"{len(names)} modalities have {count:,} patterns; list some, or take kind='compositional'")
    return torch.from_numpy(all_patterns(len(names))[:-1])


def presence_from(given: Any, names: Sequence[str], size: int, device: torch.device) -> Tensor:
    """bool (size, M) from what `present` takes.

    A bool tensor (B, M) or (M,); names of what all rows have ("rgb+depth", {"rgb"}); or a mapping from each name to
    a bool or a bool tensor (B,). Raises `UserError` for anything else.
    """
    if isinstance(given, Mapping):
        for name in given:
            if name not in names:
                raise UserError(f"present: unknown modality {name!r}; {nearest(name, names)}")
        for name in names:
            if name not in given:
                raise UserError(f"present: nothing is said about {name!r}")
        return torch.stack([_column(given[name], name, size, device) for name in names], dim=1)
    if isinstance(given, np.ndarray):
        given = torch.from_numpy(given)
    if isinstance(given, Tensor):
        if given.dtype != torch.bool or given.shape not in ((size, len(names)), (len(names),)):
            raise UserError(
                f"present: expected bool ({size}, {len(names)}), rows by {', '.join(names)}, "
                f"not {str(given.dtype).removeprefix('torch.')} {tuple(given.shape)}"
            )
        return given.to(device).expand(size, len(names))
    return torch.tensor(parsed(given, names), device=device).expand(size, len(names))


def _column(given: Any, name: str, size: int, device: torch.device) -> Tensor:
    """What is said of one modality, bool (size,)."""
    said = torch.as_tensor(given, device=device)
    if said.dtype != torch.bool or said.shape not in ((), (size,)):
        raise UserError(
            f"present: {name!r} is {str(said.dtype).removeprefix('torch.')} {tuple(said.shape)}; "
            f"expected a bool, or bool ({size},)"
        )
    return said.expand(size)
