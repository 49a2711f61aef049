"""Scores of an adapted network for every pattern, and how near its features are to those of complete rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from absentia.adaptation.nested import tensors
from absentia.adaptation.practice import given_batches
from absentia.data.schema import pattern_name

if TYPE_CHECKING:
    from absentia.adaptation.network import Adapted

__all__ = ["PatternScore", "Score", "score_patterns"]

Score = Callable[[Any, Any], "float | Tensor"]
"""The network's output and a batch's target to a mean over rows; higher is better."""


@dataclass(frozen=True)
class PatternScore:
    """n: rows that can show the pattern.  cosine: of what the head reads to the same on complete rows."""

    pattern: str
    n: int
    score: float
    cosine: float | None = None


@torch.no_grad()
def score_patterns(
    net: Adapted,
    loader: Iterable[Any],
    score: Score,
    patterns: Tensor,
    *,
    base: bool = False,
    features: str | None = None,
) -> list[PatternScore]:
    """Of each pattern, bool (P, M). base: of the network as it was, absent modalities filled in.

    features: the module whose input is compared by its cosine, such as the head; None compares nothing.
    """
    totals = [_Total() for _ in patterns]
    net.eval()
    for given in given_batches(net, loader):
        full = given.presence.all(dim=1)
        whole = None
        if features and bool(full.all()):
            whole = _read(net, features, True, partial(net.answer, given.arguments, given.presence, base=True))[1]
        for total, pattern in zip(totals, patterns.to(given.presence.device), strict=True):
            able = (given.presence | ~pattern).all(dim=1).nonzero()[:, 0]
            if not len(able):
                continue
            part, shown = given.rows(able), pattern.expand(len(able), -1)
            output, read = _read(net, features, base, partial(net.answer, part.arguments, shown, base=base))
            total.add(len(able), float(score(output, part.target)))
            if whole is not None and read is not None:
                total.near(len(able), float(F.cosine_similarity(whole, read).mean()))
    names = [pattern_name(net.names, row) for row in patterns.tolist()]
    return [total.of(name) for name, total in zip(names, totals, strict=True)]


class _Total:
    """Sums over batches."""

    def __init__(self) -> None:
        self.rows, self.score, self.compared, self.cosine = 0, 0.0, 0, 0.0

    def add(self, rows: int, score: float) -> None:
        self.rows, self.score = self.rows + rows, self.score + rows * score

    def near(self, rows: int, cosine: float) -> None:
        self.compared, self.cosine = self.compared + rows, self.cosine + rows * cosine

    def of(self, name: str) -> PatternScore:
        score = self.score / self.rows if self.rows else float("nan")
        return PatternScore(name, self.rows, score, self.cosine / self.compared if self.compared else None)


def _read(net: Adapted, features: str | None, base: bool, run: Callable[[], Any]) -> tuple[Any, Tensor | None]:
    """An answer, and what the module `features` was given for it, (B, D)."""
    found: list[Tensor] = []
    if features is None:
        return run(), None
    module: nn.Module = (net.network if base else net.twin).get_submodule(features)
    handle = module.register_forward_pre_hook(lambda module, given: found.append(tensors(given)[0].flatten(1)))
    try:
        output = run()
    finally:
        handle.remove()
    return output, found[0] if len(found) == 1 else None
