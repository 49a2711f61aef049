"""What the prompt methods share: a frozen backbone that is read twice, first for a query, then with prompts.

The query of a row is its representation without prompts, from whatever is present, and is made once for a row. Every
method can be had without its prompts (a linear probe remains), and, where it makes sense, with prompts that say which
modalities are there besides its own.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from absentia.data.batch import Batch
from absentia.layers.pattern_prompts import PatternPrompts
from absentia.methods.base import Output, Parts, Stage
from absentia.methods.continual import Continual, SessionLossOptions
from absentia.models.fused import Prompts

__all__ = ["AwareOptions", "Position", "PromptOptions", "Prompting", "cosines", "prompts_at"]

Position = Literal["input", "attention"]
AWARE_LAYERS, AWARE_LENGTH = 6, 16  # Lee et al. 2023


@dataclass(frozen=True, kw_only=True)
class PromptOptions(SessionLossOptions):
    """As `SessionLossOptions`, and

    Args:
        prompts: false leaves them out.
    """

    prompts: bool = True


@dataclass(frozen=True, kw_only=True)
class AwareOptions(PromptOptions):
    """As `PromptOptions`, and

    Args:
        aware: whether prompts that say which modalities are there join the method's own.
    """

    aware: bool = False


class Prompting(Continual):
    """Frozen backbone, prompts, classifier.

    aware_at: where the prompts that say what is there go, so that they do not meet the method's own.
    """

    freezes = True
    aware_at: ClassVar[Position] = "input"
    Options = PromptOptions

    def __init__(self, *, parts: Parts) -> None:
        super().__init__(parts=parts)
        self.aware: PatternPrompts | None = None
        if self.options.prompts:
            self.make_prompts()
            if getattr(self.options, "aware", False):
                self.aware = self.pattern_prompts(AWARE_LAYERS, AWARE_LENGTH)

    @property
    def blocks_settle(self) -> bool:
        return bool(self.options.among == "session")

    @abstractmethod
    def make_prompts(self) -> None:
        """Create what the prompts are made of; called once, where there are to be prompts."""

    @abstractmethod
    def prompted(self, batch: Batch, *, learning: bool) -> tuple[Prompts, dict[str, Tensor]]:
        """The prompts of these rows, and what is minimised beside the task's loss."""

    def losses(self, batch: Batch, stage: Stage, draw: torch.Generator) -> dict[str, Tensor]:
        if not self.options.prompts:
            return super().losses(batch, stage, draw)
        prompts, terms = self.prompted(batch, learning=True)
        return {"task": self.task(self._scores(batch, prompts), batch)} | terms

    def answer(self, batch: Batch) -> Output:
        if not self.options.prompts:
            return super().answer(batch)
        scores = self._scores(batch, self.prompted(batch, learning=False)[0])
        return Output(scores=scores, uncertainty=scores[:, 0])

    def layers(self, wanted: int) -> int:
        """So many of the first layers, or as many as there are."""
        return min(wanted, self.depth)

    @property
    def depth(self) -> int:
        """Layers of the backbone."""
        return len(self.backbone.transformer.blocks)

    def pattern_prompts(self, layers: int, length: int) -> PatternPrompts:
        """Prompts by presence pattern."""
        width = self.backbone.width
        return PatternPrompts(names=self.parts.names, layers=self.layers(layers), length=length, width=width)

    def _scores(self, batch: Batch, prompts: Prompts) -> Tensor:
        """(B, K)"""
        if self.aware is not None:
            prompts = prompts_at(self.aware_at, self.aware(batch.presence), prompts)
        scores: Tensor = self.classifier(self.read(batch, prompts))
        return scores


def prompts_at(position: Position, prompts: Tensor, others: Prompts | None = None) -> Prompts:
    """Prompts (L, B, P, D) as input tokens, or half of them as keys and half as values, beside others elsewhere."""
    others = others or Prompts()
    if position == "input":
        return Prompts(keys=others.keys, values=others.values, inserted=prompts)
    keys, values = prompts.chunk(2, dim=2)
    return Prompts(keys=keys, values=values, inserted=others.inserted)


def cosines(queries: Tensor, keys: Tensor) -> Tensor:
    """(B, D) and (S, D) to (B, S)."""
    return F.normalize(queries, dim=1) @ F.normalize(keys, dim=1).T
