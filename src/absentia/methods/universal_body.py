"""What the universal model is on tokens and on voxels alike: two networks, and the second takes the first one up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar, Self, cast

import torch
from torch import Tensor, nn

from absentia.data.batch import Batch
from absentia.layers.distribution import Look
from absentia.layers.scenarios import Scenario, scenario_named
from absentia.methods.base import Parts
from absentia.methods.universal_options import UniversalOptions
from absentia.models.imagination import Masks

__all__ = ["Body", "Seen"]


@dataclass(frozen=True)
class Seen:
    """What became of rows: features (B, ...) and scores (B, K, ...), and of tokens what each modality says alone."""

    features: Tensor
    scores: Tensor
    alone: Mapping[str, Tensor]
    presence: Tensor


class Body(nn.Module, ABC):
    """The imagination of stage 1, and the model of stage 2 that takes its weights up and is made for each scenario.

    ratio: of what is hidden in stage 1 unless the options say.  code: width of what a scenario becomes.
    """

    ratio: ClassVar[float]
    imagination: nn.Module
    backbone: nn.Module

    def __init__(self, *, parts: Parts, options: UniversalOptions) -> None:
        super().__init__()
        self.names, self.options, self.codec = list(parts.names), options, parts.codec
        self.look: Look | None = None if options.distribution == "none" else options.distribution
        self.code = options.text_width if options.scenario == "text" else options.code
        self.scenario: Scenario = scenario_named(options.scenario, names=parts.names, width=self.code)
        self.completed = nn.Parameter(torch.randn(self.code) / len(parts.names) ** 0.5) if options.marks else None

    def imagine(self, batch: Batch, draw: torch.Generator) -> dict[str, Tensor]:
        """The losses of masked autoencoding, stage 1."""
        options = self.options
        ratio = self.ratio if options.ratio is None else options.ratio
        masks = Masks(ratio=ratio, drop=options.drop, rate=options.rate, whole=options.whole)
        terms = self.hidden_losses(batch, masks, draw)
        if "distribution" in terms:
            terms["distribution"] = options.approximate * terms["distribution"]
        return terms

    @abstractmethod
    def hidden_losses(self, batch: Batch, masks: Masks, draw: torch.Generator) -> dict[str, Tensor]:
        """What the imagination says of hidden parts, against what they are."""

    def twin(self) -> Self:
        """Another network to answer with, its weights its own, beside the same imagination and what is frozen."""
        same = {id(p): p for p in self.parameters() if not p.requires_grad}
        twin = deepcopy(self, same | {id(self.imagination): self.imagination})
        del twin.imagination
        object.__setattr__(twin, "imagination", self.imagination)  # known to it, and none of its modules
        return twin

    @torch.no_grad()
    def follow(self, other: Body, momentum: float) -> None:
        """Keep `momentum` of its own weights and take the rest from those of its twin; nothing else moves them."""
        theirs, buffers = dict(other.named_parameters()), dict(other.named_buffers())
        for name, mine in self.named_parameters():
            if mine is not theirs[name]:
                mine.lerp_(theirs[name], 1 - momentum)
        for name, kept in self.named_buffers():
            kept.copy_(buffers[name])

    def imagining(self) -> Iterator[nn.Parameter]:
        """What stage 1 learns."""
        return self.imagination.parameters()

    def answering(self) -> Iterator[nn.Parameter]:
        """What stage 2 learns; the imagination stands still, its template too, as in M3AE."""
        mine = {id(p) for p in self.imagination.parameters()}
        return (p for p in self.parameters() if id(p) not in mine)

    def unread(self) -> Iterator[nn.Parameter]:
        """What of the imagination no answer reads; frozen parts may be those of the network that answers."""
        read = {id(p) for p in chain(self.answering(), self._reads())}
        return (p for p in self.imagination.parameters() if id(p) not in read)

    @abstractmethod
    def _reads(self) -> Iterator[nn.Parameter]:
        """What of the imagination answers read."""

    def take_up(self) -> None:
        """Begin stage 2 with the weights that stage 1 left; its last layer stays behind."""
        self.backbone.load_state_dict(self.imagination.get_submodule("backbone").state_dict())

    def code_of(self, scenario: Tensor, *, completed: bool) -> Tensor:
        """(B, code): what the model is made for, `scenario` bool (B, M); rows that were completed are marked."""
        code = cast(Tensor, self.scenario(scenario))
        if not completed or self.completed is None:
            return code
        return code + ~scenario.all(dim=1, keepdim=True) * self.completed

    def told(self, presence: Tensor) -> Tensor:
        """The scenario of rows that are completed: what they have, if a mark says the rest, else everything."""
        return torch.ones_like(presence) if self.completed is None else presence

    @abstractmethod
    def complete(self, batch: Batch) -> Tensor:
        """What rows lack, as it is imagined from what they have."""

    def completed_once(self, batch: Batch) -> Tensor:
        """The same of a training step: the imagination stands still, and may have said it of these rows before."""
        return self.complete(batch)

    def filled(self, batch: Batch) -> Tensor | None:
        """What stands in for what rows lack in an answer; None for the template."""
        return self.complete(batch) if self.options.fill == "reconstruction" else None
