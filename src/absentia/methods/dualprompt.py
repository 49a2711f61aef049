"""DualPrompt: general prompts in the first layers, and behind them those of the session that a row seems to be from.

Wang et al., ECCV 2022 (arXiv 2204.04799), eq. 3-6, prefix tuning. In training the session's own expert is used and
its key drawn to the queries; in answering the expert whose key is nearest. A new expert starts as the one before it,
so that opening a session changes no answer. Both kinds of prompts have one length here (paper: 5 and 20).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from absentia.data.batch import Batch
from absentia.data.target import TargetCodec
from absentia.layers.settled import settle
from absentia.methods.prompting import AwareOptions, Prompting, cosines, prompts_at
from absentia.methods.settings import at_least, between, even
from absentia.models.fused import Prompts

__all__ = ["DualPrompt"]

STD = 0.02


@dataclass(frozen=True, kw_only=True)
class Options(AwareOptions):
    """As `AwareOptions`, and

    Args:
        general: first layers that have the general prompts (one less than all at most).
        expert: layers behind them that have the experts' (as many as there are at most).
        length: vectors per layer, half keys, half values.
        pull: how strongly a session's key is drawn to its queries, λ.
    """

    general: int = 2
    expert: int = 3
    length: int = 10
    pull: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("general", self.general, 0)
        at_least("expert", self.expert, 1)
        even("length", self.length)
        between("pull", self.pull, 0, 1e6)


class Expert(nn.Module):
    """The prompts (L, P, D) of a session and its key (D,)."""

    def __init__(self, *, prompts: Tensor, key: Tensor) -> None:
        super().__init__()
        self.prompts, self.key = nn.Parameter(prompts), nn.Parameter(key)


class DualPrompt(Prompting):
    """General prompts that go on learning, experts that stand still after their session."""

    name = "dualprompt"
    Options = Options

    def make_prompts(self) -> None:
        width, length = self.backbone.width, self.options.length
        general = min(self.options.general, self.depth - 1)
        expert = min(self.options.expert, self.depth - general)
        self.general = nn.Parameter(STD * torch.randn(general, length, width)) if general else None
        prompts, key = STD * torch.randn(expert, length, width), torch.randn(width) / width**0.5
        self.experts = nn.ModuleList([Expert(prompts=prompts, key=key)])

    def open_session(self, codec: TargetCodec, taught: Sequence[str] | None = None) -> None:
        super().open_session(codec, taught)
        if self.options.prompts:
            settle(self.experts)
            last = cast(Expert, self.experts[-1])
            self.experts.append(Expert(prompts=last.prompts.clone(), key=last.key.clone()))

    def prompted(self, batch: Batch, *, learning: bool) -> tuple[Prompts, dict[str, Tensor]]:
        near = self._near(batch)
        chosen = torch.full_like(batch.index, len(self.experts) - 1) if learning else near.argmax(dim=1)
        prompts = self._stacked("prompts")[chosen].transpose(0, 1)  # (L, B, P, D)
        if self.general is not None:
            shared = self.general[:, None].expand(-1, len(batch), -1, -1)
            prompts = torch.cat([shared, prompts])
        return prompts_at("attention", prompts), {"pull": self.options.pull * (1 - near[:, -1]).mean()}

    def usage(self, batch: Batch) -> dict[str, Tensor]:
        if not self.options.prompts:
            return {}
        chosen = self._near(batch).argmax(dim=1)
        return {"experts": chosen.bincount(minlength=len(self.experts)) / len(batch)}

    def _near(self, batch: Batch) -> Tensor:
        """(B, S): how near each row's query is to each expert's key."""
        return cosines(self.features(batch), self._stacked("key"))

    def _stacked(self, name: str) -> Tensor:
        return torch.stack([cast(Tensor, getattr(expert, name)) for expert in self.experts])
