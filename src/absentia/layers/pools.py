"""Prompts that are mixed from a pool of components, each row's by its own query; sessions add components.

A query looks at every component through that component's own attention and compares what it sees with its key; the
cosines weigh the components (CODA-Prompt, Smith et al. 2023; RebQ, Zhao et al. 2024, uses the same pools).
All prompted layers and all rows at once, as tensors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from absentia.layers.settled import settle

__all__ = ["SELECTIONS", "ComponentPool", "Components", "Selection"]

Selection = Literal["all", "softmax", "top"]
SELECTIONS = ("all", "softmax", "top")

SMALLEST = 1e-12  # norms are at least this; a component of zeros has weight 0 and gets no gradient
NAMES = ("components", "keys", "attention")


class Components(nn.Module):
    """What one session adds: components (L, k, P, D), keys (L, k, D), attention (L, k, D)."""

    def __init__(self, *, components: Tensor, keys: Tensor, attention: Tensor) -> None:
        super().__init__()
        self.components, self.keys, self.attention = map(nn.Parameter, (components, keys, attention))


class ComponentPool(nn.Module):
    """Queries (B, D) to prompts (L, B, P, D): sum over k of cos(q * A_k, K_k) p_k.

    layers L, length P, width D; size: k, the components that each session adds.
    selection: "all" weighs by the cosines as they are, "softmax" by their softmax, "top" by the `top` largest of them
    with all others at 0.  It is made with its first session open.
    Computed in float32 whatever autocast says. Random numbers come from the global generator.
    """

    def __init__(
        self,
        *,
        layers: int,
        length: int,
        width: int,
        size: int,
        selection: Selection = "all",
        top: int = 5,
    ) -> None:
        super().__init__()
        self.layers, self.length, self.width, self.size = layers, length, width, size
        self.selection, self.top = selection, top
        self.sessions = nn.ModuleList()
        for name in ("mixed", "seen", "squared"):
            self.register_buffer(f"_{name}", None, persistent=False)
        self._mixed: Tensor  # (L, F, P D), the components of the F earlier ones
        self._seen: Tensor  # (L, F, D), their attention times their unit keys
        self._squared: Tensor  # (L, F, D), their attention squared
        self.register_load_state_dict_post_hook(_loaded)  # type: ignore[no-untyped-call]
        self.open_session()

    @property
    def current(self) -> Components:
        """The newest session's components, the only ones that learn."""
        return cast(Components, self.sessions[-1])

    @property
    def sizes(self) -> list[int]:
        """How many components each session added."""
        return [cast(Components, session).keys.shape[1] for session in self.sessions]

    def open_session(self, *, dead: bool = False) -> None:
        """Another session: the components so far stand still, new ones join them.

        They are drawn orthogonal to all earlier ones and to each other, of length 1 (of length 1 alone where there is
        no room). `dead` ones are zeros and can never learn; so are those of RebQ's released code.
        """
        settle(self.sessions)
        self._gather()
        shapes = [(self.length, self.width), (self.width,), (self.width,)]
        made = {name: self._begun(name, shape, dead) for name, shape in zip(NAMES, shapes, strict=True)}
        self.sessions.append(Components(**made))

    def forward(self, queries: Tensor) -> Tensor:
        """Queries (B, D) to prompts (L, B, P, D)."""
        return self.mix(self.weights(queries))

    def weights(self, queries: Tensor) -> Tensor:
        """Queries (B, D) to what each component contributes, (L, B, K); the earliest session's come first."""
        with torch.autocast(queries.device.type, enabled=False):
            cosines = self._cosines(queries.float())
            if self.selection == "softmax":
                return cosines.softmax(dim=-1)
            if self.selection == "top" and self.top < cosines.shape[-1]:
                least = cosines.topk(self.top, dim=-1).values[..., -1:]
                return cosines.where(cosines >= least, 0)
            return cosines

    def mix(self, weights: Tensor) -> Tensor:
        """Contributions (L, B, K) to prompts (L, B, P, D)."""
        with torch.autocast(weights.device.type, enabled=False):
            earlier = self._mixed.shape[1]
            out = torch.bmm(weights[..., earlier:], self.current.components.flatten(2))
            if earlier:
                out = out + torch.bmm(weights[..., :earlier], self._mixed)
            return out.view(*out.shape[:2], self.length, self.width)

    def shares(self, weights: Tensor) -> Tensor:
        """Contributions (L, B, K) to how much those of each session have a say, (S,): their mean absolute value."""
        return torch.stack([part.abs().mean() for part in torch.split(weights, self.sizes, dim=-1)])

    def penalty(self) -> Tensor:
        """How far components, keys and attention are from orthonormal: the mean of (X X^T - I) squared (CODA-Prompt).

        Summed over the three and the layers. Earlier sessions do not move; what is among them alone is a constant
        and left out of the sum.
        """
        with torch.autocast(self.current.keys.device.type, enabled=False):
            return torch.stack([self._overlap(name) for name in NAMES]).sum()

    def _cosines(self, queries: Tensor) -> Tensor:
        """(L, B, K): of q * A_k with K_k. Two products of matrices; (B, K, D) is never made."""
        attention = self.current.attention
        new = _cosine(queries, attention * _unit(self.current.keys), attention.square())
        if not self._seen.shape[1]:
            return new
        return torch.cat([_cosine(queries, self._seen, self._squared), new], dim=-1)

    def _overlap(self, name: str) -> Tensor:
        new: Tensor = getattr(self.current, name).flatten(2)
        old = self._mixed if name == "components" else self._settled(name)
        within = (new @ new.mT - torch.eye(new.shape[1], device=new.device)).square().sum()
        across = (new @ old.mT).square().sum()
        return (within + 2 * across) / (new.shape[1] + old.shape[1]) ** 2

    def _begun(self, name: str, shape: Sequence[int], dead: bool) -> Tensor:
        old = self._settled(name)
        flat = old.new_zeros(self.layers, self.size, math.prod(shape)) if dead else _orthonormal(old, self.size)
        return flat.view(self.layers, self.size, *shape)

    def _settled(self, name: str) -> Tensor:
        """(L, F, X): what the sessions that stand still have under that name, flat."""
        still = [s for s in self.sessions if not any(True for _ in s.parameters())]
        if not still:
            like = next(self.parameters(), torch.empty(0))
            return like.new_empty(self.layers, 0, self.width * (self.length if name == "components" else 1))
        return torch.cat([cast(Tensor, getattr(session, name)).flatten(2) for session in still], dim=1)

    def _gather(self) -> None:
        """Put the sessions that stand still side by side, once, so that no step has to."""
        with torch.no_grad():
            attention = self._settled("attention")
            self._mixed = self._settled("components")
            self._seen = attention * _unit(self._settled("keys"))
            self._squared = attention.square()


def _loaded(pool: ComponentPool, _: object) -> None:
    pool._gather()


def _unit(keys: Tensor) -> Tensor:
    return nn.functional.normalize(keys, dim=-1, eps=SMALLEST)


def _cosine(queries: Tensor, seen: Tensor, squared: Tensor) -> Tensor:
    """Queries (B, D), attention times unit keys (L, K, D), attention squared (L, K, D) to cosines (L, B, K)."""
    length = (queries.square() @ squared.mT).clamp(min=SMALLEST**2).sqrt()
    cosines: Tensor = (queries @ seen.mT) / length
    return cosines


def _orthonormal(old: Tensor, count: int) -> Tensor:
    """(L, count, X) random vectors of length 1, orthogonal to old ones (L, F, X) and each other if there is room."""
    layers, known, length = old.shape
    drawn = _unit(torch.randn(layers, count, length).to(old))
    if known + count > length:
        return drawn
    old = _unit(old)
    inverse = torch.linalg.pinv(old @ old.mT, rtol=1e-6, hermitian=True)
    for _ in range(2):  # what rounding leaves the first time, the second takes away
        drawn = drawn - (drawn @ old.mT) @ inverse @ old
    basis: Tensor = torch.linalg.qr(drawn.mT).Q
    return basis.mT.contiguous()
