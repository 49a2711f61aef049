"""Distribution approximation: reconstructions of what is absent are to look like what others truly have.

Where a row lacks a modality there is nothing to compare its reconstruction with. But other rows have it, and the
reconstructions of all rows that lack it should be spread as those are (arXiv 2406.01987 names such a mechanism; its
formula is not readable to us, so these three are ours): by Gaussian moments, by sorted one-dimensional projections
(sliced Wasserstein), or by an adversary. Compared are features, alone (marginal) and beside those of an available
modality at the same place (joint), which also says what goes with what. Of two modalities that no training row has
together only the marginals can be matched.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from itertools import permutations
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from absentia.layers.naming import module_key, places_by_name

__all__ = ["LOOKS", "Adversary", "Distribution", "Judge", "Look", "Moments", "Sliced", "unseen_pairs"]

Look = Literal["moments", "sliced", "adversarial"]
LOOKS: tuple[str, ...] = get_args(Look)
LEAST = 1e-3  # variance that counts as none, of standardised features
MOST = 8  # modalities up to which pairs are compared
SEED = 2406_01987  # of the fixed rotation that lets diagonal moments see pairs


class Judge(nn.Module, ABC):
    """Remembers what real features (n, F) are like, and says how far made ones are from that; 0 before it saw any."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self.seen: Tensor

    def see(self, real: Tensor) -> None:
        """Take note of real features; only in training, and never with gradient."""
        if self.training and len(real):
            self._note(real.detach().float())
            self.seen += len(real)

    def forward(self, made: Tensor, draw: torch.Generator) -> Tensor:
        """The distance, a number; 0 without anything made, or anything to compare it with."""
        if len(made) < 2 or not bool(self.seen):
            return made.sum() * 0
        return self._distance(made.float(), draw)

    @abstractmethod
    def _note(self, real: Tensor) -> None: ...

    @abstractmethod
    def _distance(self, made: Tensor, draw: torch.Generator) -> Tensor: ...


class Moments(Judge):
    """The Kullback-Leibler divergence of Gaussians with a diagonal covariance, the mean over dimensions.

    ½ [log(σ² / s²) + (s² + (m - μ)²) / σ² - 1], with μ and σ² of real features as moving means.
    turn: whether features are rotated first by a fixed random matrix, so that variances say how dimensions go together.
    """

    def __init__(self, *, width: int, momentum: float = 0.95, turn: bool = False) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("square", torch.zeros(width))
        self.register_buffer("weight", torch.zeros(()))
        self.register_buffer("turned", _rotation(width) if turn else None, persistent=False)
        self.mean: Tensor
        self.square: Tensor
        self.weight: Tensor
        self.turned: Tensor | None

    def _note(self, real: Tensor) -> None:
        real = self._turn(real)
        step = 1 - self.momentum
        self.mean.lerp_(real.mean(dim=0), step)
        self.square.lerp_(real.square().mean(dim=0), step)
        self.weight.lerp_(torch.ones_like(self.weight), step)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance (F,) of what was seen."""
        mean = self.mean / self.weight.clamp(min=1e-12)
        return mean, (self.square / self.weight.clamp(min=1e-12) - mean.square()).clamp(min=LEAST)

    def _distance(self, made: Tensor, draw: torch.Generator) -> Tensor:
        made, (mean, variance) = self._turn(made), self.moments()
        own = made.var(dim=0, correction=0).clamp(min=LEAST)
        away = (own + (made.mean(dim=0) - mean).square()) / variance
        return 0.5 * (torch.log(variance / own) + away - 1).mean()

    def _turn(self, features: Tensor) -> Tensor:
        return features if self.turned is None else features @ self.turned


class _Queued(Judge):
    """Keeps the last real features."""

    def __init__(self, *, width: int, queue: int) -> None:
        super().__init__()
        self.register_buffer("queue", torch.zeros(queue, width))
        self.queue: Tensor

    def _note(self, real: Tensor) -> None:
        size = len(self.queue)
        real = real[-size:]
        places = (int(self.seen) + torch.arange(len(real), device=real.device)) % size
        self.queue.index_copy_(0, places, real)

    def _kept(self) -> Tensor:
        return self.queue[: min(int(self.seen), len(self.queue))]


class Sliced(_Queued):
    """Sliced Wasserstein: the mean distance of sorted projections on random directions, in the features' own units."""

    def __init__(self, *, width: int, queue: int = 512, directions: int = 64) -> None:
        super().__init__(width=width, queue=queue)
        self.directions = directions

    def _distance(self, made: Tensor, draw: torch.Generator) -> Tensor:
        direction = torch.randn(self.queue.shape[1], self.directions, generator=draw).to(made)
        direction = direction / direction.norm(dim=0)
        real, own = (self._kept().to(made) @ direction).sort(dim=0).values, (made @ direction).sort(dim=0).values
        place = (torch.arange(len(own), device=made.device) + 0.5) / len(own) * len(real) - 0.5
        low = place.floor().clamp(0, len(real) - 1).long()
        high = (low + 1).clamp(max=len(real) - 1)
        between = (place - low).clamp(0, 1)[:, None]
        return cast(Tensor, (own - torch.lerp(real[low], real[high], between)).abs().mean())


class Adversary(_Queued):
    """A discriminator of features with the hinge loss; what is made gets its gradient reversed, in the same step."""

    def __init__(self, *, width: int, queue: int = 512, hidden: int = 64) -> None:
        super().__init__(width=width, queue=queue)
        self.tell = nn.Sequential(
            nn.Linear(width, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, hidden), nn.LeakyReLU(0.2)
        )
        self.say = nn.Linear(hidden, 1)

    def _distance(self, made: Tensor, draw: torch.Generator) -> Tensor:
        told_real = self.say(self.tell(self._kept().to(made)))
        told_made = self.say(self.tell(_reversed(made)))
        return F.relu(1 - told_real).mean() + F.relu(1 + told_made).mean()


class Distribution(nn.Module):
    """A judge for each modality, and for each directed pair of modalities that a joint comparison knows.

    names: the modalities in schema order.  width: F.  look: what judges.  joint: whether pairs are compared too, which
    are so many above 8 modalities that only the marginals are.
    """

    def __init__(self, *, names: Sequence[str], width: int, look: Look = "moments", joint: bool = True) -> None:
        super().__init__()
        self.names = list(names)
        ordered = sorted(names)  # whatever the order of the schema, the same weights
        self.alone = nn.ModuleDict({module_key(name): _judge(look, width, False) for name in ordered})
        pairs = [_pair(m, n) for m, n in permutations(ordered, 2)] if joint and len(ordered) <= MOST else []
        self.beside = nn.ModuleDict({key: _judge(look, 2 * width, True) for key in pairs})

    def forward(self, made: Tensor, real: Tensor, available: Tensor, draw: torch.Generator) -> Tensor:
        """The mean distance over all that could be judged; real features are taken note of first.

        made, real: (B, M, P, F), of P places of each row; real ones count where available (B, M), made ones elsewhere.
        In float32 whatever autocast says: moving means of halves would stand still.
        """
        with torch.autocast(made.device.type, enabled=False):
            return self._judged(made, real, available.movedim(1, 0), draw)

    def _judged(self, made: Tensor, real: Tensor, there: Tensor, draw: torch.Generator) -> Tensor:
        real = real.detach()
        terms: list[Tensor] = []
        order = places_by_name(self.names)
        for m in order:
            judge = cast(Judge, self.alone[module_key(self.names[m])])
            judge.see(real[there[m], m].flatten(0, 1))
            terms.append(judge(made[~there[m], m].flatten(0, 1), draw))
            terms += [self._beside(m, n, made, real, there, draw) for n in order if n != m and self.beside]
        return torch.stack(terms).sum() / max(1, len(terms))

    def _beside(self, m: int, n: int, made: Tensor, real: Tensor, there: Tensor, draw: torch.Generator) -> Tensor:
        judge = cast(Judge, self.beside[_pair(self.names[m], self.names[n])])
        both, only = there[m] & there[n], ~there[m] & there[n]
        judge.see(torch.cat([real[both, m], real[both, n]], dim=-1).flatten(0, 1))
        return cast(Tensor, judge(torch.cat([made[only, m], real[only, n]], dim=-1).flatten(0, 1), draw))


def unseen_pairs(presence: Any, names: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs of modalities that no row has together, from presence bool (N, M)."""
    together = presence.astype(int).T @ presence.astype(int)
    count = len(names)
    return [(names[m], names[n]) for m in range(count) for n in range(m + 1, count) if not together[m, n]]


def _judge(look: Look, width: int, pair: bool) -> Judge:
    if look == "moments":
        return Moments(width=width, turn=pair)
    return Sliced(width=width) if look == "sliced" else Adversary(width=width)


def _pair(one: str, other: str) -> str:
    return f"{module_key(one)}|{module_key(other)}"


@lru_cache
def _rotation(width: int) -> Tensor:
    draw = torch.Generator().manual_seed(SEED)
    return cast(Tensor, torch.linalg.qr(torch.randn(width, width, generator=draw)).Q)


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return -grads[0]


def _reversed(x: Tensor) -> Tensor:
    return cast(Tensor, _Reverse.apply(x))  # type: ignore[no-untyped-call]
