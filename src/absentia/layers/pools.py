"""Pools of prompt components, asked by key and query, that grow by some components in each session.

The weighting is that of CODA-Prompt (Smith et al., CVPR 2023) and RebQ (arXiv 2403.11373): component k of a layer
has a key K_k and an attention A_k, a query q weighs it by cos(q * A_k, K_k), and the prompt is the weighted sum of
the components. All layers and all rows are one product; what earlier sessions learned stands still.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from absentia.layers.settled import settle

__all__ = ["ComponentPool", "Selection"]

Selection = Literal["all", "softmax", "top"]
TINY = 1e-12


class _Readied(NamedTuple):
    """Components as a query meets them: attention * key / |key| and attention^2, both (L, K, D), and (L, K, P, D)."""

    toward: Tensor
    scale: Tensor
    components: Tensor


class _Components(nn.Module):
    """One session's components (L, k, P, D), keys (L, k, D) and attentions (L, k, D)."""

    def __init__(self, components: Tensor, keys: Tensor, attention: Tensor) -> None:
        super().__init__()
        self.components = nn.Parameter(components)
        self.keys = nn.Parameter(keys)
        self.attention = nn.Parameter(attention)

    def readied(self) -> _Readied:
        return _Readied(self.attention * F.normalize(self.keys, dim=2), self.attention**2, self.components)


class ComponentPool(nn.Module):
    """Queries (B, D) to prompts (L, B, P, D) for L layers.

    size: components per layer that each session brings.  length: P.  dead: components start at zero, and so stay
    there, as those of RebQ's released code do in every session but the first.
    selection: "all" adds the components up as their cosines say, "softmax" makes the weights sum to one, "top" keeps
    the `top` largest cosines.
    """

    def __init__(
        self,
        *,
        width: int,
        layers: int,
        length: int,
        size: int,
        selection: Selection = "all",
        top: int = 5,
    ) -> None:
        super().__init__()
        self.width, self.layers, self.length, self.size = width, layers, length, size
        self.selection, self.top = selection, top
        self.sessions = nn.ModuleList()
        self._earlier: tuple[tuple[int, ...], _Readied] | None = None
        self.open_session()

    def open_session(self, *, dead: bool = False) -> None:
        """Settle what is there, and add components that are orthogonal to it."""
        settle(self.sessions)
        shapes = {"components": (self.length * self.width,), "keys": (self.width,), "attention": (self.width,)}
        made = {}
        for name, (width,) in shapes.items():
            before = [getattr(session, name).flatten(2) for session in self.sessions]
            known = torch.cat(before, dim=1) if before else torch.zeros(self.layers, 0, width)
            fresh = torch.zeros(self.layers, self.size, width) if dead else _orthonormal(known.cpu(), self.size)
            made[name] = fresh.to(known)
        made["components"] = made["components"].view(self.layers, self.size, self.length, self.width)
        self.sessions.append(_Components(**made))

    def forward(self, query: Tensor) -> Tensor:
        return self.mix(self.weights(query))

    def weights(self, query: Tensor) -> Tensor:
        """(L, B, K): how much each component has a say for each query (B, D)."""
        parts = (_cosines(query, part) for part in self._parts())
        weights = torch.cat(list(parts), dim=2)
        if self.selection == "softmax":
            return weights.softmax(dim=2)
        if self.selection == "top" and self.top < weights.shape[2]:
            least = weights.topk(self.top, dim=2).values[..., -1:]
            return weights.where(weights >= least, 0.0)
        return weights

    def mix(self, weights: Tensor) -> Tensor:
        """(L, B, P, D): the components weighted and added up."""
        parts = self._parts()
        shares = torch.split(weights, [part.components.shape[1] for part in parts], dim=2)
        mixed = [w @ part.components.flatten(2) for w, part in zip(shares, parts, strict=True)]
        mixed_up = torch.stack(mixed).sum(dim=0) if len(mixed) > 1 else mixed[0]
        return mixed_up.view(*mixed_up.shape[:2], self.length, self.width)

    def shares(self, weights: Tensor) -> Tensor:
        """(S,): the mean absolute weight of the components that came with each session."""
        return torch.stack([part.abs().mean() for part in torch.split(weights, self.size, dim=2)])

    def penalty(self) -> Tensor:
        """How far from orthonormal components, keys and attentions are (CODA-Prompt, eq. 6); what settled stays."""
        total = self._live.keys.new_zeros(())
        for name in ("components", "keys", "attention"):
            rows = torch.cat([getattr(session, name).flatten(2) for session in self.sessions], dim=1)
            gram = rows @ rows.transpose(1, 2)
            total = total + ((gram - torch.eye(gram.shape[1]).to(gram)) ** 2).mean()
        return total

    @property
    def _live(self) -> _Components:
        return cast(_Components, self.sessions[-1])

    def _parts(self) -> list[_Readied]:
        """What is settled, readied once, and what learns."""
        live = self._live.readied()
        if len(self.sessions) == 1:
            return [live]
        settled = [cast(_Components, session) for session in self.sessions[:-1]]
        mark = tuple(n for s in settled for n in (s.components._version, s.components.data_ptr()))
        if self._earlier is None or self._earlier[0] != mark:
            with torch.no_grad(), torch.inference_mode(False):
                ready = [session.readied() for session in settled]
                parts = [torch.cat(list(tensors), dim=1) for tensors in zip(*ready, strict=True)]
            self._earlier = (mark, _Readied(*parts))
        return [self._earlier[1], live]


def _cosines(query: Tensor, part: _Readied) -> Tensor:
    """(L, B, K): cos(q * A_k, K_k) without a tensor of the size B x K x D."""
    squared = (query**2) @ part.scale.transpose(1, 2)
    return (query @ part.toward.transpose(1, 2)) / squared.clamp(min=TINY**2).sqrt()


def _orthonormal(known: Tensor, count: int) -> Tensor:
    """(L, count, W): unit vectors, orthogonal to each other and to `known` (L, K, W) as far as there is room."""
    layers, taken, width = known.shape
    drawn = torch.randn(layers, count, width, dtype=torch.float64)
    room = min(count, max(0, width - taken))
    if taken:
        basis = torch.linalg.qr(known.double().transpose(1, 2)).Q  # (L, W, min(K, W))
        drawn[:, :room] -= (drawn[:, :room] @ basis) @ basis.transpose(1, 2)
    if room:
        drawn[:, :room] = torch.linalg.qr(drawn[:, :room].transpose(1, 2)).Q.transpose(1, 2)
    return F.normalize(drawn, dim=2).float()
