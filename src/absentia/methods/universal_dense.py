"""The universal model on voxels: a dense network in which an absent contrast is its reconstruction or a template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from absentia.data.batch import Batch
from absentia.data.target import TargetCodec
from absentia.layers.heads import task_loss
from absentia.layers.hyper import HyperHead, HyperNetwork, HyperResidual, affine, film, filmed
from absentia.methods.base import Parts
from absentia.methods.universal_body import Body, Seen
from absentia.methods.universal_options import Generated, UniversalOptions
from absentia.models.dense import DenseBackbone
from absentia.models.dense_head import DenseHead
from absentia.models.dense_imagination import DenseImagination
from absentia.models.imagination import Masks

__all__ = ["Dense"]

USUAL: Generated = "all"  # what is made for the scenario


class Dense(Body):
    """A dense network, read by what each scenario makes."""

    ratio = 0.75  # of the patches are hidden
    imagination: DenseImagination
    backbone: DenseBackbone

    def __init__(self, *, parts: Parts, options: UniversalOptions) -> None:
        super().__init__(parts=parts, options=options)
        space = next(iter(parts.blanks.values()))["voxels"].shape[2:]
        self.imagination = DenseImagination(
            backbone=parts.backbone(),
            names=parts.names,
            space=space,
            fill=options.template,
            look=self.look,
            joint=options.joint,
        )
        if parts.beside:
            self.imagination.take_up(parts.beside)
        self.backbone = parts.backbone(1)
        self.head = cast(DenseHead, parts.head(self.backbone))
        residuals = [HyperResidual(channels=c, narrow=options.narrow) for c in self.backbone.levels]
        self.residuals = nn.ModuleList(residuals if options.makes("residual", USUAL) else [])
        self.extra = (
            HyperHead(channels=self.backbone.width, narrow=options.narrow) if options.makes("head", USUAL) else None
        )
        self.early = HyperNetwork(code=self.code, context=0, hidden=options.hidden, sizes=self._early_sizes())
        sizes = {"head": self.extra.size(parts.codec.target.size)} if self.extra else {}
        self.late = HyperNetwork(code=self.code, context=self.backbone.deep, hidden=options.hidden, sizes=sizes)

    def hidden_losses(self, batch: Batch, masks: Masks, draw: torch.Generator) -> dict[str, Tensor]:
        return self.imagination.losses(batch, masks, self.options.patch, draw)

    def _reads(self) -> Iterator[nn.Parameter]:
        yield from self.imagination.template.parameters()
        if self.options.fill == "reconstruction":
            yield from self.imagination.backbone.parameters()
            yield from self.imagination.say.parameters()

    def complete(self, batch: Batch) -> Tensor:
        """(B, channels, *space): what rows lack as it is said from what they have."""
        lacking = ~batch.presence.all(dim=1)
        some = batch.select(lacking, self.names)
        out = torch.zeros(len(batch), sum(self.backbone.channels), *batch.space, device=batch.presence.device)
        if len(some):
            out[lacking] = self.imagination.imagined(some).float()
        return out

    def laid(self, batch: Batch) -> None:
        """Nothing is made of voxels before they are seen together."""

    def see(self, batch: Batch, made: Tensor | None, scenario: Tensor, laid: None = None) -> Seen:
        """Run rows with what stands in, as the model made for `scenario` bool (B, M)."""
        x = self.imagination.shown(batch, self.imagination.filling(batch).detach() if made is None else made)
        code = self.code_of(scenario, completed=made is not None)
        numbers = self.early(code)
        there = batch.presence if made is None else None  # a template says nothing of a row, a reconstruction does
        deep, features = self.backbone(x, lambda level, number: self._made(level, number, numbers), there)
        scores = self.head(features)
        if self.extra is not None:
            late = self.late(code, deep.flatten(2).mean(dim=2))
            scores = scores + self.extra(features, late["head"])
        return Seen(deep, scores, {}, batch.presence)

    def task(self, seen: Seen, target: Tensor) -> dict[str, Tensor]:
        """The task's loss."""
        return {"task": task_loss(seen.scores, target, self.codec)}

    def grow(self, codec: TargetCodec) -> None:
        """Masks have the regions that they have."""
        self.codec = codec

    def named(self, made: Tensor, absent: Tensor) -> dict[str, Tensor]:
        """Per modality what was made of it (n, C, *space), of the rows that lack it."""
        parts = torch.split(made, list(self.backbone.channels), dim=1)
        return {name: part[absent[:, m]] for m, (name, part) in enumerate(zip(self.names, parts, strict=True))}

    def pairs(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Of complete rows: per modality its voxels and what is said without it, (n, voxels) each."""
        true, out = torch.split(self.imagination.voxels(batch)[0], list(self.backbone.channels), dim=1), {}
        for m, gone in enumerate(torch.eye(len(self.names), dtype=torch.bool, device=batch.presence.device)):
            part = batch.restrict(~gone, self.names)
            out[self.names[m]] = (true[m].flatten(1), self.named(self.complete(part), ~part.presence)[self.names[m]])
        return {name: (one, guess.flatten(1)) for name, (one, guess) in out.items()}

    def _made(self, features: Tensor, level: int, numbers: Mapping[str, Tensor]) -> Tensor:
        """A decoder level with a small convolution beside it, then scaled and shifted, as made for each row."""
        scaled = numbers.get(f"film{level}")
        if not self.residuals:
            return features if scaled is None else film(features, scaled)
        made = cast(HyperResidual, self.residuals[level]).folded(numbers[f"residual{level}"])
        return affine(features, *(made if scaled is None else filmed(*made, scaled)))

    def _early_sizes(self) -> dict[str, int]:
        sizes = {f"residual{i}": cast(HyperResidual, made).size for i, made in enumerate(self.residuals)}
        if self.options.makes("film", USUAL):
            sizes |= {f"film{i}": 2 * channels for i, channels in enumerate(self.backbone.levels)}
        return sizes
