"""Pretraining of a fused backbone without labels, for any modalities, from rows in which some are absent.

Each row shows a random part of what it has, so that every pattern is practised. Three questions are asked about it:
what was behind hidden tokens (masked modelling; now and then a whole modality is hidden, and only the others can
tell), what all the tokens were by the [CLS] alone (the gist, so that there is something in the [CLS] to read), and
whether a modality was exchanged with that of another row (matching). With a target there is a fourth. The channels of
the [CLS] are kept from repeating each other (spread; the covariance term of VICReg, https://arxiv.org/abs/2105.04906,
on correlations), else a few directions take all, and what a linear reading could use is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from absentia.data.batch import Batch
from absentia.errors import UserError
from absentia.layers.heads import Head, task_loss
from absentia.layers.hiding import exchanged, hidden_tokens, picked_modality
from absentia.layers.naming import module_key
from absentia.layers.subsets import random_subsets
from absentia.methods.base import Method, Output, Parts, Stage
from absentia.models.encoders.base import Embedder
from absentia.models.fused import FusedOutput, Segment
from absentia.models.puzzles import Puzzle, puzzle_for

__all__ = ["Objectives", "Pretraining"]

SMALLEST = 1e-4  # variance below which a channel says nothing


@dataclass(frozen=True, kw_only=True)
class Objectives:
    """What is asked, and how much each answer counts.

    Args:
        share: of a modality's tokens that is hidden.
        whole: share of the rows of which one modality is hidden altogether.
        keep: share of the rows that show all they have.
        masked: weight of what was hidden.
        gist: weight of what the [CLS] alone tell of all tokens.
        matching: weight of whether a modality was exchanged.
        spread: weight of how much the channels of the [CLS] repeat each other.
        supervised: weight of the target, where there is one.
    """

    share: float = 0.3
    whole: float = 0.2
    keep: float = 0.5
    masked: float = 1.0
    gist: float = 1.0
    matching: float = 1.0
    spread: float = 0.1
    supervised: float = 1.0

    def __post_init__(self) -> None:
        for option in fields(self):
            value, most = getattr(self, option.name), 1 if option.name in ("share", "whole", "keep") else 1000
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
                raise UserError(f"options.{option.name} {value!r}: must be a number from 0 to {most}")


@dataclass(frozen=True)
class _Exam:
    """A batch with its questions.

    inputs: as they are shown, exchanged ones included.  hidden: per modality bool (n_m, T).
    segments: tokens with the hidden ones veiled.  changed: rows with another row's modality, bool (B,).
    whole: rows of which one modality is hidden altogether, bool (B,).
    """

    batch: Batch
    inputs: Mapping[str, Mapping[str, Tensor]]
    hidden: Mapping[str, Tensor]
    segments: Mapping[str, Segment]
    changed: Tensor
    whole: Tensor


class Pretraining(Method):
    """A backbone with a puzzle for each modality."""

    name = "pretraining"
    Options = Objectives

    def __init__(self, *, parts: Parts) -> None:
        super().__init__(parts=parts)
        self.backbone = parts.backbone()
        width = self.backbone.width
        made = {name: puzzle_for(self.backbone.embedder(name), width=width) for name in parts.names}
        self.puzzles = nn.ModuleDict({module_key(name): p for name, p in made.items() if p is not None})
        self.matched = nn.Linear(width, 1)
        self.head: Head | None = None
        if parts.codec.target.column:
            self.head = Head(width=width, names=parts.names, codec=parts.codec, dropout=parts.dropout, votes=False)
        if not self.puzzles and not self.head and len(parts.names) < 2:
            raise UserError("one modality whose encoder is tuned, and no --target: there is nothing to learn from")

    def losses(self, batch: Batch, stage: Stage, draw: torch.Generator) -> dict[str, Tensor]:
        asked: Objectives = self.options
        shown = batch.restrict(random_subsets(batch.presence, asked.keep, draw), self.parts.names)
        exam = self._exam(shown, draw)
        output = self.backbone.transformer(list(exam.segments.values()), len(batch))
        together = {name: output.cls(i) for i, name in enumerate(exam.segments)}
        pooled = self._pooled(exam, together)
        terms = {f"masked {name}": asked.masked * loss for name, loss in self._masked(exam, output).items()}
        terms |= {f"gist {name}": asked.gist * loss for name, loss in self._gist(exam, pooled).items()}
        terms["matching"] = asked.matching * self._matching(exam, pooled)
        if self.training:  # like weight decay no question, and nothing to judge the weights by
            terms["spread"] = asked.spread * _repetition(torch.cat(list(together.values())).float())
        if self.head is not None:
            terms["supervised"] = asked.supervised * self._supervised(exam, together)
        return terms

    def answer(self, batch: Batch) -> Output:
        """Embeddings; scores say more than the prior only where there was a target."""
        seen = self.backbone(batch)
        nothing = self.prior.repeat(len(batch), 1)
        scores = nothing if self.head is None else self.head(seen.together, {}, batch.presence)
        return Output(scores=scores, uncertainty=scores[:, 0], embeddings=seen.together)

    def _exam(self, batch: Batch, draw: torch.Generator) -> _Exam:
        """Of rows with several modalities, some lose one altogether, and half of the others have one exchanged."""
        names, several = self.parts.names, batch.presence.sum(dim=1) > 1
        noise = torch.rand(len(batch), 2, generator=draw).to(several.device)
        picked = picked_modality(batch.presence, draw)
        whole = several & (noise[:, 0] < self.options.whole)
        swapped = several & ~whole & (noise[:, 1] < 0.5)
        changed = torch.zeros_like(swapped)
        inputs, hidden, segments = {}, {}, {}
        for m, name in enumerate(names):
            if name not in batch.inputs:
                continue
            rows = batch.presence[:, m].nonzero()[:, 0]
            mine = picked[rows] == m
            inputs[name], other = exchanged(batch.inputs[name], swapped[rows] & mine, draw)
            changed = changed.index_put((rows,), changed[rows] | other)
            hidden[name], segments[name] = self._veiled(
                name, inputs[name], rows, ~several[rows], whole[rows] & mine, draw
            )
        return _Exam(batch, inputs, hidden, segments, changed, whole)

    def _veiled(
        self, name: str, inputs: Mapping[str, Tensor], rows: Tensor, alone: Tensor, whole: Tensor, draw: torch.Generator
    ) -> tuple[Tensor, Segment]:
        embedder, puzzle = cast(Embedder, self.backbone.embedder(name)), self._puzzle(name)
        if puzzle is None:
            tokens, valid = embedder(**inputs)
            return torch.zeros_like(valid[:, 1:]), Segment(tokens, valid, rows)
        there = puzzle.tokens(inputs)
        hidden = hidden_tokens(there, self.options.share, alone=alone, whole=whole, draw=draw)
        return hidden, Segment(*puzzle.veiled(inputs, hidden, embedder), rows)

    def _puzzle(self, name: str) -> Puzzle | None:
        key = module_key(name)
        return cast(Puzzle, self.puzzles[key]) if key in self.puzzles else None

    def _masked(self, exam: _Exam, output: FusedOutput) -> dict[str, Tensor]:
        """Per modality the mean error about what is hidden, in rows whose modalities belong together."""
        losses = {}
        for i, (name, segment) in enumerate(exam.segments.items()):
            puzzle = self._puzzle(name)
            if puzzle is not None:
                asked = exam.hidden[name] & ~exam.changed[segment.rows, None]
                losses[name] = puzzle.loss(output.tokens(i), exam.inputs[name], asked, self.backbone.embedder(name))
        return losses

    def _gist(self, exam: _Exam, pooled: Tensor) -> dict[str, Tensor]:
        """Per modality the mean error about all its tokens, shown or hidden, from the mean of the row's [CLS] alone."""
        losses = {}
        for name, segment in exam.segments.items():
            puzzle = self._puzzle(name)
            if puzzle is not None:
                asked = segment.valid[:, 1:] & ~exam.changed[segment.rows, None]
                embedder = cast(Embedder, self.backbone.embedder(name))
                losses[name] = puzzle.gist_loss(pooled[segment.rows], exam.inputs[name], asked, embedder)
        return losses

    def _matching(self, exam: _Exam, pooled: Tensor) -> Tensor:
        """Do the modalities of a row belong together? From the mean of its [CLS] outputs."""
        asked = (exam.batch.presence.sum(dim=1) > 1) & ~exam.whole
        said = self.matched(pooled)[:, 0].float()[asked]
        right = (~exam.changed[asked]).to(said.dtype)
        return F.binary_cross_entropy_with_logits(said, right, reduction="sum") / max(1, len(said))

    def _pooled(self, exam: _Exam, together: Mapping[str, Tensor]) -> Tensor:
        """(B, D): the mean of each row's [CLS] outputs."""
        like = next(iter(together.values()))
        total = like.new_zeros(len(exam.batch), self.backbone.width)
        for name, cls in together.items():
            total = total.index_add(0, exam.segments[name].rows, cls)
        return total / exam.batch.presence.sum(dim=1, keepdim=True).clamp(min=1)

    def _supervised(self, exam: _Exam, together: Mapping[str, Tensor]) -> Tensor:
        """The target's loss over rows whose modalities belong together."""
        target = exam.batch.target
        assert self.head is not None and target is not None
        kept = ~exam.changed
        scores = self.head(together, {}, exam.batch.presence)
        return task_loss(scores[kept], target[kept], self.parts.codec) if kept.any() else scores.sum() * 0


def _repetition(cls: Tensor) -> Tensor:
    """Sum of the squared correlations of each channel of (n, D) with the others, the mean over channels."""
    centred = cls - cls.mean(dim=0)
    scaled = centred / (centred.square().mean(dim=0) + SMALLEST).sqrt()
    correlation = scaled.T @ scaled / len(cls)
    return (correlation.square().sum() - correlation.diagonal().square().sum()) / cls.shape[1]
