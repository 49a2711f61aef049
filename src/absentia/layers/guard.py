"""What held-out rows decide for each pattern: how much of a say guesses have, and how sharp answers are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from absentia.layers.subsets import all_patterns

__all__ = ["SAYS", "Guard"]

MOST = 8  # modalities up to which every pattern is decided for itself
FEWEST = 30  # rows that a temperature is chosen from
SAYS = (0.0, 0.25, 0.5, 1.0)  # from switched off to the say of what is present
TEMPERATURES = 2.0 ** torch.arange(-2, 3.01, 0.25)

OfRows = Callable[[Tensor], Tensor]
"""Scores (n, K) to a number of each row, (n,)."""


class Guard(nn.Module):
    """One decision per pattern, bool (P, M), by code; above eight modalities one per number of absent ones.

    Until something is decided, guesses have a full say and temperatures are 1.
    """

    def __init__(self, *, modalities: int) -> None:
        super().__init__()
        self.by_count = modalities > MOST
        size = modalities + 1 if self.by_count else 2**modalities
        self.register_buffer("say", torch.ones(size))
        self.register_buffer("temperature", torch.ones(size))
        self.register_buffer("unaided", torch.ones(size))
        self.say: Tensor
        self.temperature: Tensor
        self.unaided: Tensor
        self.patterns = _representatives(modalities) if self.by_count else torch.from_numpy(all_patterns(modalities))

    def says(self, presence: Tensor) -> Tensor:
        """(B,): the say of guesses, from 0 to 1, for rows with this presence, bool (B, M)."""
        return self.say[self._codes(presence)]

    def tempered(self, scores: Tensor, presence: Tensor, prior: Tensor, *, unaided: bool = False) -> Tensor:
        """Scores (B, K) drawn towards the prior, or away from it, by the temperature of each row's pattern.

        unaided: whether they are of answers without guesses, which have a temperature of their own.
        """
        temperature = self.unaided if unaided else self.temperature
        warmth = temperature[self._codes(presence)][:, None].to(scores.dtype)
        return prior + (scores - prior) / warmth

    def decide(
        self,
        pattern: Tensor,
        scores: Tensor,
        prior: Tensor,
        lost: OfRows,
        *,
        says: Sequence[float],
        sharpen: bool,
        right: OfRows | None = None,
    ) -> float:
        """Choose a pattern's say and temperature, as `_chosen`; returns the say.

        pattern: bool (M,).  scores: (S, n, K), of the same rows for each of `says`.  sharpen: whether a temperature is
        chosen too; of fewer than 30 rows none is.  right: which rows are answered rightly, where answers are classes.
        """
        warmths = [self._warmth(one, prior, lost, sharpen) for one in scores]
        warmed = [prior + (one - prior) / warmth for one, warmth in zip(scores, warmths, strict=True)]
        rightly = None if right is None else torch.stack([right(one) for one in warmed])
        best = _chosen(torch.stack([lost(one) for one in warmed]), rightly)
        code = int(self._codes(pattern[None])[0])
        self.say[code], self.temperature[code] = says[best], warmths[best]
        return says[best]

    def decide_unaided(self, pattern: Tensor, scores: Tensor, prior: Tensor, lost: OfRows, *, sharpen: bool) -> None:
        """Choose the temperature that a pattern's answers (n, K) have without guesses, as `decide` chooses theirs."""
        self.unaided[int(self._codes(pattern[None])[0])] = self._warmth(scores, prior, lost, sharpen)

    def _warmth(self, scores: Tensor, prior: Tensor, lost: OfRows, sharpen: bool) -> float:
        """The temperature with the least loss."""
        if not sharpen or len(scores) < FEWEST or scores.shape[1] < 2:
            return 1.0
        losses = torch.stack([lost(prior + (scores - prior) / t).mean() for t in TEMPERATURES.to(scores)])
        return float(TEMPERATURES[int(losses.argmin())])

    def _codes(self, presence: Tensor) -> Tensor:
        if self.by_count:
            return (~presence).sum(dim=1)
        return (presence.long() << torch.arange(presence.shape[1], device=presence.device)).sum(dim=1)


def _chosen(losses: Tensor, right: Tensor | None) -> int:
    """The choice with the least mean loss (S, n), among those with no fewer rows right, bool (S, n), than the first.

    It is the first one unless the gain over it, row by row, is more than its standard error.
    """
    mean = losses.mean(dim=1)
    if right is not None:
        rightly = right.sum(dim=1)
        mean = mean.masked_fill(rightly < rightly[0], float("inf"))
    best = int(mean.argmin())
    gain = losses[0] - losses[best]
    sure = len(gain) > 1 and bool(gain.mean() > gain.std() / len(gain) ** 0.5)
    return best if sure else 0


def _representatives(modalities: int) -> Tensor:
    """For each number of absent modalities, the pattern that lacks the last ones."""
    return torch.stack([torch.arange(modalities) < count for count in range(1, modalities + 1)])
