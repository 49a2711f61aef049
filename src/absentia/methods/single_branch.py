"""The single branch: one network with shared weights takes the embedding of any modality.

SBNet (Saeed et al., ICASSP 2023, arXiv 2303.06129) and SRMM (arXiv 2408.07445). A training example is a (row, modality)
pair; an absent modality is a pair that does not exist. So nothing is imputed, and a row is answered from what it has.

Two parts of SBNet are read here so that no row depends on who shares its step: the norm is one of each row, and the
orthogonal projection loss compares a row with class directions. `norm` batch and `metric` orthogonal are as published.

Its baseline with a branch for each modality, FOP (Saeed et al., ICASSP 2022, arXiv 2112.10483), is `branches` each with
`fuse` gated, `together` 1 and `alone` 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate, combinations
from typing import Any, cast

import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from absentia.data.batch import Batch
from absentia.data.target import TargetCodec
from absentia.errors import UserError, nearest
from absentia.layers.class_directions import ClassDirections
from absentia.layers.classifier import Classifier
from absentia.layers.fingerprint import fingerprint
from absentia.layers.gate import GatedFusion
from absentia.layers.heads import row_losses, task_loss, uncertainty_of
from absentia.layers.naming import module_key
from absentia.layers.orders import Chance, Order, by_class, by_pair, by_row, unchanging
from absentia.layers.pair_losses import (
    alike_and_unlike,
    cross_modal_contrast,
    orthogonal_projection,
    supervised_contrast,
)
from absentia.layers.readout import mean_of_present
from absentia.layers.ridge import columns_of
from absentia.layers.shared_trunk import Trunk
from absentia.layers.switching import switched
from absentia.methods.base import Bools, Method, Output, Parts, Stage
from absentia.methods.single_branch_options import SingleBranchOptions
from absentia.models.backbone import mean_of_tokens
from absentia.models.fused import Segment

__all__ = ["SingleBranch"]

ROW_METRICS = ("directions", "centre", "git")
Embeddings = dict[str, Tensor]


class SingleBranch(Method):
    """An adapter for each modality, one trunk and one classifier for all."""

    name = "single-branch"
    Options = SingleBranchOptions

    def __init__(self, *, parts: Parts) -> None:
        super().__init__(parts=parts)
        self.backbone = parts.backbone()
        if self.options.reads == "tokens":
            self.backbone.transformer.requires_grad_(False)  # nothing goes through it
        kind = parts.codec.target.kind
        if self.options.fuse == "surest" and kind == "number":
            raise UserError("options.fuse surest: nothing says how sure a number is; say mean or sum")
        if self.options.per_class is not None and kind != "class":
            raise UserError(f"options.per_class: the target is of kind {kind!r}, so rows have no class; leave it away")
        if self.options.first is not None and self.options.first not in parts.names:
            raise UserError(f"options.first {self.options.first!r}: {nearest(self.options.first, parts.names)}")
        self.wide = self.backbone.width * (2 if self.options.reads == "both" else 1)
        names = sorted(parts.names)  # whatever the order of the schema, the same weights
        width = self.options.width or self.backbone.width
        self.adapters = nn.ModuleDict({module_key(name): self._adapter() for name in names})
        shared = self.options.branches == "one"
        branches = {"shared": names} if shared else {module_key(name): [name] for name in names}
        self.branches = nn.ModuleDict({key: self._trunk(width, mine) for key, mine in branches.items()})
        gated = self.options.fuse == "gated"
        self.gate = GatedFusion(names=names, width=width, batch_norm=self.options.norm == "batch") if gated else None
        self.classifier = Classifier(width=width, codec=parts.codec, settles=False)
        directed = self.options.metric in ROW_METRICS and kind != "number"
        self.directions = ClassDirections(classes=parts.codec.target.size, width=width) if directed else None

    def stages(self) -> Sequence[Stage]:
        """One, whose rows come in the order that is asked for."""
        return [Stage(order=self._order)]

    def losses(self, batch: Batch, stage: Stage, draw: torch.Generator) -> dict[str, Tensor]:
        options, names = self.options, self.parts.names
        shown = batch.restrict(switched(batch.presence, options.switching, options.whole, draw), names)
        shown = shown.select(~shown.empty, names)
        assert shown.target is not None
        units = self._units(shown)
        out = self._alone(units, shown) if options.alone else {}
        if options.pairs:
            out["pairs"] = options.pairs * self._contrast(units, shown.presence)
        return out | (self._together(units, shown) if options.together else {})

    def answer(self, batch: Batch) -> Output:
        units = self._units(batch)
        scores = self._fused(units, batch.presence)
        return Output(scores=scores, uncertainty=scores[:, 0], embeddings=units)

    def open_session(self, codec: TargetCodec, taught: Sequence[str] | None = None) -> None:
        super().open_session(codec, taught)
        if self.directions is not None:
            self.directions.grow(codec.target.size)

    # Embedding

    def _units(self, batch: Batch) -> Embeddings:
        """Per present modality the unit vectors (n_m, D) of its rows."""
        own = self._read(batch) if not self.backbone.frozen else self._recalled(batch)
        adapted = {name: self.adapters[module_key(name)](rows) for name, rows in own.items()}
        if "shared" in self.branches:
            return cast(Embeddings, self.branches["shared"](adapted))
        return {name: self.branches[module_key(name)]({name: rows})[name] for name, rows in adapted.items()}

    def _read(self, batch: Batch) -> Embeddings:
        """(n_m, C), or both readings (n_m, 2 C), at unit variance: what each modality is before it meets any other."""
        segments = self.backbone.segments(batch)
        parts = []
        if self.options.reads != "transformer":
            parts.append({name: mean_of_tokens(segment) for name, segment in segments.items()})
        if self.options.reads != "tokens":
            parts.append(self._transformed(segments))
        width = (self.backbone.width,)
        return {name: torch.cat([F.layer_norm(part[name], width) for part in parts], dim=1) for name in segments}

    def _transformed(self, segments: Mapping[str, Segment]) -> Embeddings:
        """(n_m, C): the [CLS] outputs of one pass in which every (row, modality) pair is a sample of its own."""
        sizes = [len(s.rows) for s in segments.values()]
        lone = [
            Segment(s.tokens, s.valid, first + torch.arange(len(s.rows), device=s.rows.device))
            for s, first in zip(segments.values(), accumulate(sizes, initial=0), strict=False)
        ]
        output = self.backbone.transformer(lone, sum(sizes), rows="cls")
        return {name: output.cls(i) for i, name in enumerate(segments)}

    def _recalled(self, batch: Batch) -> Embeddings:
        """The same of a frozen backbone, made once for each row."""
        kept = batch.recall(f"alone {self.options.reads} {self._weights}", self._stacked, self.parts.names)
        places = enumerate(self.parts.names)
        return {name: kept[batch.presence[:, m], m] for m, name in places if name in batch.inputs}

    def _stacked(self, batch: Batch) -> Tensor:
        """(B, M, C), zeros where there is nothing."""
        out = self.prior.new_zeros(*batch.presence.shape, self.wide)
        for name, rows in self._read(batch).items():
            m = self.parts.names.index(name)
            out[batch.presence[:, m], m] = rows.to(out.dtype)
        return out

    @cached_property
    def _weights(self) -> str:
        return fingerprint(self.backbone)

    # Answering

    def _scores(self, units: Tensor) -> Tensor:
        """(n, K)"""
        return cast(Tensor, self.classifier(self.options.scale * units))

    def _fused(self, units: Embeddings, presence: Tensor) -> Tensor:
        """(B, K)"""
        if self.options.fuse == "surest":
            return self._surest(units, presence)
        return self._scores(self._one(units, presence))

    def _one(self, units: Embeddings, presence: Tensor) -> Tensor:
        """(B, D): a row as one vector. The classifier is linear, so that of a mean or sum says its mean or sum."""
        if self.gate is not None:
            return cast(Tensor, self.gate(units, presence, self.parts.names))
        mean = mean_of_present(units, presence, self.parts.names)
        return mean * presence.sum(dim=1, keepdim=True) if self.options.fuse == "sum" else mean

    def _surest(self, units: Embeddings, presence: Tensor) -> Tensor:
        """(B, K): of each row the scores of the modality with the least entropy; of equally sure ones their mean."""
        scores = self.prior.new_zeros(*presence.shape, len(self.prior))
        unsure = self.prior.new_full(presence.shape, float("inf"))
        for m, name in enumerate(self.parts.names):
            if name in units:
                here, said = presence[:, m], self._scores(units[name]).to(scores.dtype)
                scores[here, m] = said
                unsure[here, m] = uncertainty_of(said, self.parts.codec)
        best = (unsure == unsure.min(dim=1, keepdim=True).values).to(scores.dtype)
        return torch.einsum("bm,bmk->bk", best / best.sum(dim=1, keepdim=True), scores)

    # Learning

    def _alone(self, units: Embeddings, batch: Batch) -> dict[str, Tensor]:
        """What (row, modality) pairs learn by themselves."""
        assert batch.target is not None
        pairs, rows, weight = _laid(units, batch.presence, self.parts.names)
        target = batch.target[rows]
        lost = row_losses(self._scores(pairs), target, self.parts.codec)
        out = {"alone": self.options.alone * (weight * lost).sum()}
        if self._draws:
            out["metric"] = self.options.alone * self._drawn(pairs, target, weight)
        return out

    def _together(self, units: Embeddings, batch: Batch) -> dict[str, Tensor]:
        """What whole rows learn."""
        assert batch.target is not None
        out = {"together": task_loss(self._fused(units, batch.presence), batch.target, self.parts.codec)}
        if self.gate is not None and self._draws:
            rows = F.normalize(self._one(units, batch.presence), dim=1)
            out["fused"] = self._drawn(rows, batch.target, rows.new_full((len(rows),), 1 / len(rows)))
        return {name: self.options.together * term for name, term in out.items()}

    @property
    def _draws(self) -> bool:
        """Whether there are classes to draw together."""
        return self.options.metric != "none" and self.parts.codec.target.kind != "number"

    def _drawn(self, units: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        return cast(Tensor, self.options.alpha * self._metric(units, columns_of(target, self.parts.codec), weight))

    def _metric(self, units: Tensor, marks: Tensor, weight: Tensor) -> Tensor:
        """Of unit vectors (n, D) with their classes (n, K) and weights (n,) the loss that draws a class together."""
        options = self.options
        if self.directions is not None:
            if options.metric == "directions":
                return (weight * self.directions.orthogonal(units, marks, apart=options.apart)).sum()
            drawn = self.directions.git if options.metric == "git" else self.directions.centre
            return (weight * drawn(units, marks)).sum()
        alike, unlike = alike_and_unlike(marks)
        if options.metric == "orthogonal":
            return orthogonal_projection(units, alike, unlike, apart=options.apart)
        return supervised_contrast(units, alike, temperature=options.temperature)

    def _contrast(self, units: Embeddings, presence: Tensor) -> Tensor:
        """The mean over pairs of modalities of their contrast on rows that have both."""
        terms = [self.prior.new_zeros(())]
        for one, other in combinations(sorted(units), 2):
            here, there = (presence[:, self.parts.names.index(name)] for name in (one, other))
            both = here & there
            x, y = units[one][both[here]], units[other][both[there]]
            terms.append(cross_modal_contrast(x, y, temperature=self.options.temperature))
        return torch.stack(terms).sum() / max(1, len(terms) - 1)

    def _order(self, presence: Bools, target: npt.NDArray[Any] | None, chance: Chance) -> Order:
        options, names = self.options, self.parts.names
        chance = chance if options.reshuffle else unchanging(chance)
        if options.order != "rows":
            turns = sorted(names, key=lambda name: (name != options.first, name))
            places = [names.index(name) for name in turns]
            return by_pair(presence, chance, places if options.order == "turns" else None)
        if options.per_class is not None:
            assert target is not None
            return by_class(target, options.per_class, chance)
        return by_row(len(presence), chance)

    # Building

    def _adapter(self) -> nn.Module:
        if self.options.adapter == "none":
            return nn.Identity()
        adapter = nn.Linear(self.wide, self.backbone.width)
        if self.options.reads == "both":
            nn.init.zeros_(adapter.weight[:, self.backbone.width :])  # the transformer joins in as it learns
        return adapter

    def _trunk(self, width: int, names: Sequence[str]) -> Trunk:
        return Trunk(
            inputs=self.wide if self.options.adapter == "none" else self.backbone.width,
            width=width,
            depth=self.options.depth,
            names=names,
            norm=self.options.norm,
            dropout=self.parts.dropout if self.options.dropout is None else self.options.dropout,
        )


def _laid(units: Mapping[str, Tensor], presence: Tensor, names: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
    """All (row, modality) pairs: their vectors (n, D), rows (n,) and weights (n,), by which every row counts alike."""
    there = [(m, name) for m, name in enumerate(names) if name in units]
    rows = torch.cat([presence[:, m].nonzero()[:, 0] for m, _ in there])
    each = 1 / (presence.sum(dim=1) * len(presence))
    return torch.cat([units[name] for _, name in there]), rows, each[rows]
