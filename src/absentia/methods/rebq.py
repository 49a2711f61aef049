"""RebQ, "Reconstruct before Query" (arXiv 2403.11373): prompts by modality from pools that grow with the sessions.

A frozen backbone is asked three times:

1. the query of a present modality is its frozen [CLS] output;
2. behind memory prompts, the [CLS] output of an absent modality becomes its reconstructed query;
3. behind key and value prefixes that all queries fetch from their pools, the row is answered.

Absent tokens are not there: an absent modality contributes its [CLS] and nothing else. With `absent="placeholder"`
this is the released code instead, which feeds an empty text and a blank picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from absentia.data.batch import Batch
from absentia.data.target import TargetCodec
from absentia.errors import UserError
from absentia.layers.classifier import Classifier, session_loss
from absentia.layers.fingerprint import fingerprint
from absentia.layers.naming import module_key
from absentia.layers.pools import ComponentPool, Selection
from absentia.layers.subsets import hidden_parts
from absentia.methods.base import Bools, Method, Output, Parts, Stage
from absentia.methods.settings import at_least, one_of
from absentia.models.fused import Prompts
from absentia.models.laid import Laid, embedded, only_cls

__all__ = ["RebQ", "RebQOptions"]


@dataclass(frozen=True, kw_only=True)
class RebQOptions:
    """RebQ's settings; the defaults are the paper's where it says so.

    Args:
        variant: intended starts the components of every session anew; released leaves those of later sessions at
            zero, where the released code does, so that they never learn.
        components: per pool and layer, for each session (the paper: 128 in all).
        length: of a prompt; half of a prefix are keys, half are values.
        layers: so many layers are prompted, from the first; none takes two thirds of them.
        alpha: weight of the reconstruction loss.
        absent: nothing leaves absent tokens out, placeholder feeds blank inputs.
        reads: the classifier reads the mean over all modalities' [CLS] outputs, or that of the first (the paper: text).
        several: hides a random part of a row's modalities for the reconstruction loss, not exactly one.
        orthogonal: weight of CODA-Prompt's orthogonality penalty.
        selection: all components by their cosines, a softmax over these, or the top ones.
        top: how many components "top" keeps.
        prompts: false leaves the prompts out, and is a linear probe of the frozen backbone.
    """

    variant: Literal["intended", "released"] = "intended"
    components: int = 12
    length: int = 8
    layers: int | None = None
    alpha: float = 0.01
    absent: Literal["nothing", "placeholder"] = "nothing"
    reads: Literal["mean", "first"] = "mean"
    several: bool = False
    orthogonal: float = 0.0
    selection: Selection = "all"
    top: int = 5
    prompts: bool = True

    def __post_init__(self) -> None:
        one_of("variant", self.variant, ("intended", "released"))
        one_of("absent", self.absent, ("nothing", "placeholder"))
        one_of("reads", self.reads, ("mean", "first"))
        one_of("selection", self.selection, ("all", "softmax", "top"))
        for name in ("components", "length", "top"):
            at_least(name, getattr(self, name), 1)
        if self.length % 2:
            raise UserError(f"options.length {self.length}: keys and values share it, so it must be even")


class _Asked(NamedTuple):
    """Rows of a batch for the memory-prompted pass: which (n,), what they show (n, M), their queries (n, M, D)."""

    rows: Tensor
    presence: Tensor
    queries: Tensor


class RebQ(Method):
    """Pools of prompt components on a frozen backbone; an absent modality's query is reconstructed before it asks."""

    name = "rebq"
    settles = True
    Options = RebQOptions

    def __init__(self, *, parts: Parts) -> None:
        super().__init__(parts=parts)
        self.backbone = parts.backbone().freeze()
        depth, width = len(self.backbone.transformer.blocks), self.backbone.width
        self.prompted = self.options.layers or -(-2 * depth // 3)
        if self.prompted > depth:
            raise UserError(f"options.layers {self.prompted}: the backbone has {depth} layers")
        self.memory = self._pool(width)
        self.pools = nn.ModuleDict({module_key(name): self._pool(width) for name in parts.names})
        self.classifier = Classifier(width=width, codec=parts.codec)
        self.feeds = self.options.absent == "placeholder"

    def losses(self, batch: Batch, stage: Stage, draw: torch.Generator) -> dict[str, Tensor]:
        assert batch.target is not None
        if not self.options.prompts:
            return {"task": self._task(self._plain(batch), batch)}
        laid, instead = self._laid(batch)
        queries = self._queries(batch)
        rows, hidden = self._with_one_hidden(batch, draw)
        asked = self._asked(batch, queries, rows, hidden)
        outputs = self._recalled(laid, instead, asked)
        fetched = self._with_reconstructed(queries, batch.presence, outputs)
        out = {"task": self._task(self._answered(laid, instead, batch.presence, fetched), batch)}
        if len(rows):
            first = int(len(asked.rows) - len(rows))
            whole = self._whole(laid, instead, batch, queries, rows)
            lost = batch.presence[rows] & ~hidden
            out["reconstruction"] = self.options.alpha * _mean_squares(outputs[first:], whole, lost)
        if self.options.orthogonal:
            out["orthogonal"] = self.options.orthogonal * sum(p.penalty() for p in self._all_pools())
        return out

    def answer(self, batch: Batch) -> Output:
        if not self.options.prompts:
            scores = self.classifier(self._plain(batch))
            return Output(scores=scores, uncertainty=scores[:, 0])
        laid, instead = self._laid(batch)
        queries = self._queries(batch)
        nobody = torch.zeros(0, dtype=torch.long, device=queries.device)
        asked = self._asked(batch, queries, nobody, batch.presence[:0])
        fetched = self._with_reconstructed(queries, batch.presence, self._recalled(laid, instead, asked))
        features = self._answered(laid, instead, batch.presence, fetched)
        scores = self.classifier(features)
        absent = {name: fetched[~batch.presence[:, m], m] for m, name in enumerate(self.parts.names)}
        return Output(scores=scores, uncertainty=scores[:, 0], embeddings={"row": features}, reconstructed=absent)

    def open_session(self, codec: TargetCodec, taught: Sequence[str] | None = None) -> None:
        super().open_session(codec, taught)
        for pool in self._all_pools():
            pool.open_session(dead=self.options.variant == "released")

    def remarks(self, presence: Bools) -> list[str]:
        if not self.options.prompts or (presence.sum(axis=1) > 1).any():
            return []
        return ["No training row has two modalities, so there was no target to learn reconstruction from."]

    @torch.no_grad()
    def reconstructions(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        if not self.options.prompts or len(self.parts.names) < 2:
            return {}
        full = batch.select(batch.presence.all(dim=1), self.parts.names)
        if not len(full):
            return {}
        true, out = self._queries(full), {}
        for m, name in enumerate(self.parts.names):
            without = full.restrict(torch.arange(len(self.parts.names), device=true.device) != m, self.parts.names)
            out[name] = (true[:, m], self.answer(without).reconstructed[name])
        return out

    @torch.no_grad()
    def usage(self, batch: Batch) -> dict[str, Tensor]:
        if not self.options.prompts:
            return {}
        queries, out = self._queries(batch), {}
        for m, name in enumerate(self.parts.names):
            mine = queries[batch.presence[:, m], m]
            if len(mine):
                pool = self._pool_of(name)
                out[name] = pool.shares(pool.weights(mine))
        some = queries[batch.presence]
        return {"memory": self.memory.shares(self.memory.weights(some)), **out}

    # What is shown

    def stand_ins(self, batch: Batch) -> Laid:
        """What is shown in place of absent modalities, one row for all: their [CLS], or blank inputs."""
        if not self.feeds:
            return only_cls(self.backbone)
        blanks = {name: dict(blank) for name, blank in self.parts.blanks.items()}
        presence = torch.ones(1, len(blanks), dtype=torch.bool, device=batch.presence.device)
        one = Batch(presence=presence, inputs=blanks, index=batch.index[:1]).to(batch.presence.device)
        return embedded(self.backbone, one)

    def _laid(self, batch: Batch) -> tuple[Laid, Laid]:
        with torch.no_grad():
            return embedded(self.backbone, batch), self.stand_ins(batch)

    def _with_one_hidden(self, batch: Batch, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Rows (n,) that have several modalities, and what they show (n, M) once one or several of them are hidden."""
        rows = (batch.presence.sum(dim=1) > 1).nonzero()[:, 0]
        hidden = hidden_parts(batch.presence[rows], draw, several=self.options.several)
        each = hidden.shape[0] // max(1, len(rows))
        return rows.repeat(each), hidden

    # Pass 1: frozen queries

    def _queries(self, batch: Batch) -> Tensor:
        """(B, M, D): the frozen [CLS] outputs of what is present, zeros for what is not; once for a row."""
        return batch.recall(f"queries {self._weights} {self.options.absent}", self._query, self.parts.names)

    def _query(self, batch: Batch) -> Tensor:
        laid, instead = self._laid(batch)
        everyone = torch.arange(len(batch), device=batch.presence.device)
        if self.feeds:
            return self._run(laid, instead, everyone, batch.presence, None) * batch.presence[..., None]
        seen = self.backbone(batch).together
        out = laid.tokens[self.parts.names[0]].new_zeros(len(batch), len(self.parts.names), self.backbone.width)
        for m, name in enumerate(self.parts.names):
            if name in seen:
                out[batch.presence[:, m], m] = seen[name].to(out.dtype)
        return out

    @cached_property
    def _weights(self) -> str:
        return fingerprint(self.backbone)

    # Pass 2: memory prompts, and what they reconstruct

    def _asked(self, batch: Batch, queries: Tensor, rows: Tensor, hidden: Tensor) -> _Asked:
        """The rows that lack something, as they are, and then the `rows` with parts of them hidden."""
        lacking = (~batch.presence).any(dim=1).nonzero()[:, 0]
        shown = [queries[lacking]]
        if len(rows):
            shown.append(self._queries_of(batch, rows, hidden))
        presence = torch.cat([batch.presence[lacking], hidden])
        return _Asked(torch.cat([lacking, rows]), presence, torch.cat(shown))

    def _queries_of(self, batch: Batch, rows: Tensor, shown: Tensor) -> Tensor:
        """(n, M, D): the frozen queries of rows that show only a part of what they have."""
        out = torch.zeros(len(rows), len(self.parts.names), self.backbone.width, device=rows.device)
        for pattern in torch.unique(shown, dim=0):
            mine = (shown == pattern).all(dim=1)
            chosen = torch.zeros(len(batch), dtype=torch.bool, device=rows.device)
            chosen[rows[mine]] = True
            part = batch.select(chosen, self.parts.names).restrict(pattern, self.parts.names)
            out[mine] = self._queries(part)[chosen.cumsum(0)[rows[mine]] - 1].to(out.dtype)
        return out

    def _recalled(self, laid: Laid, instead: Laid, asked: _Asked) -> Tensor:
        """(n, M, D): the [CLS] outputs behind memory prompts that the present modalities' queries fetch, added up."""
        if not len(asked.rows):
            return asked.queries
        who, which = asked.presence.nonzero(as_tuple=True)
        weights = self.memory.weights(asked.queries[who, which])  # (L, pairs, K)
        added = weights.new_zeros(weights.shape[0], len(asked.rows), weights.shape[2]).index_add(1, who, weights)
        prompts = Prompts(inserted=self.memory.mix(added))
        return self._run(laid, instead, asked.rows, asked.presence, prompts)

    @torch.no_grad()
    def _whole(self, laid: Laid, instead: Laid, batch: Batch, queries: Tensor, rows: Tensor) -> Tensor:
        """(n, M, D): what the same rows say behind memory prompts when nothing of them is hidden; the targets."""
        once, back = torch.unique(rows, return_inverse=True)
        asked = _Asked(once, batch.presence[once], queries[once])
        return self._recalled(laid, instead, asked)[back]

    def _with_reconstructed(self, queries: Tensor, presence: Tensor, outputs: Tensor) -> Tensor:
        """(B, M, D): own queries where a modality is present, reconstructed ones where it is absent."""
        lacking = (~presence).any(dim=1).nonzero()[:, 0]
        if not len(lacking):
            return queries
        made = outputs[: len(lacking)].to(queries.dtype)
        return queries.index_copy(0, lacking, queries[lacking].where(presence[lacking][..., None], made))

    # Pass 3: the answer

    def _answered(self, laid: Laid, instead: Laid, presence: Tensor, queries: Tensor) -> Tensor:
        """(B, D): what the classifier reads, behind the prefixes of all modalities."""
        fetched = [self._pool_of(name)(queries[:, m]) for m, name in enumerate(self.parts.names)]
        keys, values = zip(*(torch.chunk(prompt, 2, dim=2) for prompt in fetched), strict=True)
        prompts = Prompts(keys=torch.cat(keys, dim=2), values=torch.cat(values, dim=2))
        everyone = torch.arange(len(presence), device=presence.device)
        return self._read(self._run(laid, instead, everyone, presence, prompts))

    def _plain(self, batch: Batch) -> Tensor:
        """(B, D): what the classifier reads without any prompt; once for a row."""

        def made(batch: Batch) -> Tensor:
            laid, instead = self._laid(batch)
            everyone = torch.arange(len(batch), device=batch.presence.device)
            return self._read(self._run(laid, instead, everyone, batch.presence, None))

        return batch.recall(f"plain {self._weights} {self.options.absent} {self.options.reads}", made, self.parts.names)

    def _read(self, outputs: Tensor) -> Tensor:
        return outputs[:, 0] if self.options.reads == "first" else outputs.mean(dim=1)

    def _run(self, laid: Laid, instead: Laid, rows: Tensor, presence: Tensor, prompts: Prompts | None) -> Tensor:
        """(n, M, D): the [CLS] outputs of rows (n,) that show `presence` (n, M)."""
        segments = laid.shown(presence, instead, rows)
        output = self.backbone.transformer(segments, len(rows), prompts, rows="cls")
        return torch.stack([output.cls(m) for m in range(len(segments))], dim=1)

    def _task(self, features: Tensor, batch: Batch) -> Tensor:
        assert batch.target is not None
        return session_loss(self.classifier(features), batch.target, self.parts.codec, self.taught)

    # Pools

    def _pool(self, width: int) -> ComponentPool:
        wanted: Any = self.options
        return ComponentPool(
            width=width,
            layers=self.prompted,
            length=wanted.length,
            size=wanted.components,
            selection=wanted.selection,
            top=wanted.top,
        )

    def _pool_of(self, name: str) -> ComponentPool:
        return cast(ComponentPool, self.pools[module_key(name)])

    def _all_pools(self) -> Iterator[ComponentPool]:
        yield self.memory
        yield from map(self._pool_of, self.parts.names)


def _mean_squares(made: Tensor, true: Tensor, lost: Tensor) -> Tensor:
    """The mean over what was lost, bool (n, M), of the mean square between (n, M, D) and their targets."""
    return (made - true)[lost].square().mean()
