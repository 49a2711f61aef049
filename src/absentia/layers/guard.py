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

Loss = Callable[[Tensor], Tensor]


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
        self.say: Tensor
        self.temperature: Tensor
        self.patterns = _representatives(modalities) if self.by_count else torch.from_numpy(all_patterns(modalities))

    def says(self, presence: Tensor) -> Tensor:
        """(B,): the say of guesses, from 0 to 1, for rows with this presence, bool (B, M)."""
        return self.say[self._codes(presence)]

    def tempered(self, scores: Tensor, presence: Tensor, prior: Tensor) -> Tensor:
        """Scores (B, K) drawn towards the prior, or away from it, by the temperature of each row's pattern."""
        warmth = self.temperature[self._codes(presence)][:, None].to(scores.dtype)
        return prior + (scores - prior) / warmth

    def decide(
        self, pattern: Tensor, scores: Tensor, prior: Tensor, loss: Loss, *, says: Sequence[float], sharpen: bool
    ) -> float:
        """Choose a pattern's say and temperature, those with the least loss; returns the say.

        pattern: bool (M,).  scores: (S, n, K), of the same rows for each of `says`; of equally good ones the first is
        taken.  sharpen: whether a temperature is chosen too; of fewer than 30 rows none is.
        """
        warmths, losses = zip(*(self._warmth(one, prior, loss, sharpen) for one in scores), strict=True)
        best = int(torch.stack(losses).argmin())
        code = int(self._codes(pattern[None])[0])
        self.say[code], self.temperature[code] = says[best], warmths[best]
        return says[best]

    def _warmth(self, scores: Tensor, prior: Tensor, loss: Loss, sharpen: bool) -> tuple[float, Tensor]:
        """The temperature with the least loss, and this loss."""
        if not sharpen or len(scores) < FEWEST or scores.shape[1] < 2:
            return 1.0, loss(scores)
        losses = torch.stack([loss(prior + (scores - prior) / t) for t in TEMPERATURES.to(scores)])
        best = int(losses.argmin())
        return float(TEMPERATURES[best]), losses[best]

    def _codes(self, presence: Tensor) -> Tensor:
        if self.by_count:
            return (~presence).sum(dim=1)
        return (presence.long() << torch.arange(presence.shape[1], device=presence.device)).sum(dim=1)


def _representatives(modalities: int) -> Tensor:
    """For each number of absent modalities, the pattern that lacks the last ones."""
    return torch.stack([torch.arange(modalities) < count for count in range(1, modalities + 1)])
