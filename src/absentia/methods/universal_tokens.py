"""The universal model on tokens: a fused transformer in which an absent modality is its [CLS] and a summary of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from absentia.data.batch import Batch
from absentia.data.target import TargetCodec
from absentia.layers.fingerprint import Fingerprint
from absentia.layers.heads import Head, task_loss
from absentia.layers.hyper import HyperHead, HyperNetwork, HyperResidual
from absentia.layers.naming import module_key
from absentia.layers.packing import Packing, Segment
from absentia.methods.base import Parts
from absentia.methods.universal_body import Body, Seen
from absentia.methods.universal_options import Generated, UniversalOptions
from absentia.models.backbone import FusedBackbone, mean_of_tokens
from absentia.models.imagination import Imagination, Masks
from absentia.models.laid import lone_cls

__all__ = ["Tokens"]

USUAL: Generated = "film"  # what is made for the scenario


class Tokens(Body):
    """A fused transformer, read by what each scenario makes."""

    ratio = 0.5  # of the tokens are hidden
    imagination: Imagination
    backbone: FusedBackbone

    def __init__(self, *, parts: Parts, options: UniversalOptions) -> None:
        super().__init__(parts=parts, options=options)
        self.imagination = Imagination(
            backbone=parts.backbone(), names=parts.names, look=self.look, joint=options.joint
        )
        self.backbone = parts.backbone(1)
        width = self.backbone.width
        self.voices = nn.ModuleDict({module_key(name): nn.Linear(width, width) for name in sorted(parts.names)})
        self.head = Head(width=width, names=parts.names, codec=parts.codec, dropout=parts.dropout)
        depth = len(self.backbone.transformer.blocks)
        self.early = HyperNetwork(
            code=self.code,
            context=0,
            hidden=options.hidden,
            sizes={"film": depth * 2 * width} if options.makes("film", USUAL) else {},
        )
        self.residual = (
            HyperResidual(channels=width, narrow=options.narrow) if options.makes("residual", USUAL) else None
        )
        self.extra = HyperHead(channels=width, narrow=options.narrow) if options.makes("head", USUAL) else None
        sizes = {"residual": self.residual.size} if self.residual else {}
        sizes |= {"head": self.extra.size(parts.codec.target.size)} if self.extra else {}
        self._weights = Fingerprint()
        self.late = HyperNetwork(code=self.code, context=width, hidden=options.hidden, sizes=sizes)

    def hidden_losses(self, batch: Batch, masks: Masks, draw: torch.Generator) -> dict[str, Tensor]:
        return self.imagination.losses(batch, masks, draw)

    def _reads(self) -> Iterator[nn.Parameter]:
        if self.options.fill == "reconstruction":
            yield from self.imagination.backbone.parameters()
            yield from self.imagination.speak.parameters()

    def complete(self, batch: Batch) -> Tensor:
        """(B, M, D): summaries of what rows lack, by the others; worth nothing where a row has a modality."""
        lacking = ~batch.presence.all(dim=1)
        some = batch.select(lacking, self.names)
        out = torch.zeros(*batch.presence.shape, self.backbone.width, device=batch.presence.device)
        if len(some):
            out[lacking] = self.imagination.imagined(some)
        return out

    def completed_once(self, batch: Batch) -> Tensor:
        """The same, kept beside the rows: summaries are small, and rows of tokens are shown whole in every step."""
        return batch.recall_own(f"completed {self._weights.of(self.imagination)}", self.complete)

    def laid(self, batch: Batch) -> dict[str, Segment]:
        """What rows have as tokens, embedded once for all that is seen of it."""
        return self.backbone.segments(batch)

    def see(
        self, batch: Batch, made: Tensor | None, scenario: Tensor, laid: Mapping[str, Segment] | None = None
    ) -> Seen:
        """Run rows with what stands in, as the model made for `scenario` bool (B, M).

        laid: the tokens of these rows, or of the same rows when they had more.
        """
        here = self._shown(self.laid(batch) if laid is None else laid, batch.presence)
        parts = [*here.items(), *self._instead(batch.presence, made)]
        packing = self.backbone.transformer.pack([segment for _, segment in parts], len(batch))
        code = self.code_of(scenario, completed=made is not None)
        with self._modulated(packing, self.early(code)):
            output = self.backbone.transformer.run(packing, rows="cls")
        fused = output.packed.new_zeros(len(batch), self.backbone.width)
        for number, (_, segment) in enumerate(parts):
            fused = fused.index_add(0, segment.rows, output.cls(number))
        alone = {name: mean_of_tokens(segment) for name, segment in here.items()}
        features, scores = self._read(fused, code, alone, batch.presence)
        return Seen(features, scores, alone, batch.presence)

    def _shown(self, laid: Mapping[str, Segment], presence: Tensor) -> dict[str, Segment]:
        """The tokens of what is shown alone."""
        out = {}
        for m, name in enumerate(self.names):
            if name in laid and presence[:, m].any():
                tokens, valid, rows = laid[name]
                kept = presence[rows, m]
                out[name] = laid[name] if kept.all() else Segment(tokens[kept], valid[kept], rows[kept])
        return out

    def task(self, seen: Seen, target: Tensor) -> dict[str, Tensor]:
        """The task's loss, and that of each modality's own vote."""
        own = self.head.alone_loss(seen.alone, seen.presence, target)
        return {"task": task_loss(seen.scores, target, self.codec)} | own

    def grow(self, codec: TargetCodec) -> None:
        """Room for more classes; the head itself grows with all heads."""
        self.codec = codec
        if self.extra is not None:
            self.late.grow("head", self.extra.size(codec.target.size))

    def named(self, made: Tensor, absent: Tensor) -> dict[str, Tensor]:
        """Per modality what was made of it (n, D), of the rows that lack it."""
        return {name: made[absent[:, m], m] for m, name in enumerate(self.names)}

    def pairs(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Of complete rows: per modality its true summary and the one imagined without it, (n, D) each."""
        true, out = self.imagination.summaries(batch), {}
        for m, gone in enumerate(torch.eye(len(self.names), dtype=torch.bool, device=true.device)):
            out[self.names[m]] = (true[:, m], self.complete(batch.restrict(~gone, self.names))[:, m])
        return out

    def _read(
        self, fused: Tensor, code: Tensor, alone: Mapping[str, Tensor], presence: Tensor
    ) -> tuple[Tensor, Tensor]:
        made = self.late(code, fused)
        features = self.residual(fused, made["residual"]) if self.residual is not None else fused
        scores = self.head.scored(features, alone, presence)
        return features, scores + self.extra(features, made["head"]) if self.extra is not None else scores

    def _instead(self, presence: Tensor, made: Tensor | None) -> Iterator[tuple[str, Segment]]:
        """For what rows lack its [CLS], and behind it a token of what is imagined of it."""
        alone = lone_cls(self.backbone)
        for m, name in enumerate(self.names):
            rows = (~presence[:, m]).nonzero()[:, 0]
            if len(rows):
                tokens = alone[name].tokens.expand(len(rows), -1, -1)
                if made is not None:
                    said = cast(Tensor, self.voices[module_key(name)](made[rows, m].to(tokens.dtype)))
                    tokens = torch.cat([tokens, said[:, None] + self._type(name)], dim=1)
                yield name, Segment(tokens, tokens.new_ones(tokens.shape[:2], dtype=torch.bool), rows)

    def _type(self, name: str) -> Tensor:
        return cast(Tensor, self.backbone.embedder(name).modality_type)

    @contextmanager
    def _modulated(self, packing: Packing, made: Mapping[str, Tensor]) -> Iterator[None]:
        """Each layer's outputs are scaled and shifted by the numbers of their row."""
        if "film" not in made:
            yield
            return
        blocks = list(self.backbone.transformer.blocks)
        numbers = made["film"].view(len(made["film"]), len(blocks), 2, self.backbone.width)
        hooks = [b.register_forward_hook(partial(_scaled, packing, numbers[:, i])) for i, b in enumerate(blocks)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _scaled(packing: Packing, numbers: Tensor, module: nn.Module, given: Any, x: Tensor) -> Tensor:
    """(N, D), all packed tokens or the [CLS] alone, by the scale and shift of their rows, numbers (B, 2, D)."""
    sample = packing.sample if len(x) == len(packing.sample) else packing.sample[packing.cls]
    scale, shift = (part.index_select(0, sample) for part in numbers.unbind(1))
    return torch.addcmul(shift, x, 1 + scale)
