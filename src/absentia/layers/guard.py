"""What held-out rows decide for each pattern: whether predicting helps, and how sharp answers are."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from absentia.layers.subsets import all_patterns

__all__ = ["Guard"]

MOST = 8  # modalities up to which every pattern is decided for itself
FEWEST = 30  # rows that a temperature is chosen from
TEMPERATURES = 2.0 ** torch.arange(-2, 3.01, 0.25)


class Guard(nn.Module):
    """One decision per pattern, bool (P, M), by code; above eight modalities one per number of absent ones.

    Until something is decided, predicting is on and temperatures are 1.
    """

    def __init__(self, *, modalities: int) -> None:
        super().__init__()
        self.by_count = modalities > MOST
        size = modalities + 1 if self.by_count else 2**modalities
        self.register_buffer("on", torch.ones(size, dtype=torch.bool))
        self.register_buffer("temperature", torch.ones(size))
        self.on: Tensor
        self.temperature: Tensor
        self.patterns = _representatives(modalities) if self.by_count else torch.from_numpy(all_patterns(modalities))

    def helps(self, presence: Tensor) -> Tensor:
        """bool (B,): whether guesses are used for rows with this presence, bool (B, M)."""
        return self.on[self._codes(presence)]

    def tempered(self, scores: Tensor, presence: Tensor, prior: Tensor) -> Tensor:
        """Scores (B, K) drawn towards the prior, or away from it, by the temperature of each row's pattern."""
        warmth = self.temperature[self._codes(presence)][:, None].to(scores.dtype)
        return prior + (scores - prior) / warmth

    def decide(self, pattern: Tensor, *, helps: bool) -> None:
        """Whether guesses are used from now on for a pattern, bool (M,)."""
        self.on[int(self._codes(pattern[None])[0])] = helps

    def sharpen(self, pattern: Tensor, scores: Tensor, prior: Tensor, loss: Callable[[Tensor], Tensor]) -> None:
        """Choose a pattern's temperature, the one with the least loss of scores (n, K); of too few rows none."""
        if len(scores) < FEWEST or scores.shape[1] < 2:
            return
        losses = torch.stack([loss(prior + (scores - prior) / t) for t in TEMPERATURES.to(scores)])
        self.temperature[int(self._codes(pattern[None])[0])] = TEMPERATURES[int(losses.argmin())]

    def _codes(self, presence: Tensor) -> Tensor:
        if self.by_count:
            return (~presence).sum(dim=1)
        return (presence.long() << torch.arange(presence.shape[1], device=presence.device)).sum(dim=1)


def _representatives(modalities: int) -> Tensor:
    """For each number of absent modalities, the pattern that lacks the last ones."""
    return torch.stack([torch.arange(modalities) < count for count in range(1, modalities + 1)])
