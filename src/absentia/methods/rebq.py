"""RebQ, "Reconstruct before Query for Continual Missing Modality Learning" (Zhao et al. 2024, arXiv 2403.11373).

The backbone never moves. It reads a row up to three times:

1. without prompts: the [CLS] output of a present modality is its query q_m;
2. behind memory prompts that the present queries fetch: the [CLS] output of an absent modality is its reconstructed
   query r_m, trained towards what the same row gives there when nothing of it is hidden;
3. with prefixes to keys and values that q_m or r_m fetch from the pool of their modality: what the classifier reads.

An absent modality is its [CLS] alone; `absent="placeholder"` feeds what the released code feeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from absentia.data.batch import Batch
from absentia.data.target import TargetCodec
from absentia.errors import UserError
from absentia.layers.classifier import Classifier, session_loss
from absentia.layers.gaussian import Gaussian
from absentia.layers.naming import module_key
from absentia.layers.pools import ComponentPool
from absentia.layers.ridge import Ridge, columns_of, scores_of
from absentia.layers.standard import Standard
from absentia.layers.subsets import hidden_parts, weighted_parts
from absentia.methods.base import Batches, Bools, Method, Output, Parts, Stage
from absentia.methods.rebq_options import RebQOptions
from absentia.models.frozen import FrozenReader
from absentia.models.fused import Prompts
from absentia.models.laid import Laid

__all__ = ["RebQ"]


class _Asked(NamedTuple):
    """Rows of a batch for pass 2: which (n,), what they show (n, M), the queries of that (n, M, D)."""

    rows: Tensor
    shown: Tensor
    queries: Tensor


class RebQ(Method):
    """A memory pool, a pool of prefixes for each modality and a classifier, all growing with the sessions."""

    name = "rebq"
    Options = RebQOptions

    def __init__(self, *, parts: Parts) -> None:
        super().__init__(parts=parts)
        self.backbone = parts.backbone().freeze()
        feeds = self.options.absent == "placeholder"
        self.reader = FrozenReader(self.backbone, blanks=parts.blanks if feeds else None)
        self.classifier = Classifier(width=self.backbone.width, codec=parts.codec)
        if self.options.prompts:
            self.memory = self._pool()
            self.pools = nn.ModuleDict({module_key(name): self._pool() for name in parts.names})
        self.head = self._head()
        standard = Standard(count=len(parts.names), width=self.backbone.width)
        self.standard = standard if self.options.queries == "standardised" else None

    @property
    def settles(self) -> bool:
        """A head that adds up counts the rows of known classes too."""
        return self.head is None

    def stages(self) -> Sequence[Stage]:
        """One in every session; none once rows are counted and nothing that is counted would change any more."""
        still = self.options.head == "ridge" or self.options.variant == "released" or not self.options.prompts
        return [] if self._counted and still else super().stages()

    def losses(self, batch: Batch, stage: Stage, draw: torch.Generator) -> dict[str, Tensor]:
        if not self.options.prompts:
            return {"task": self._task(self.reader.outputs(batch), batch)}
        tokens, queries = self.reader.laid(batch), self.reader.queries(batch)
        lacking, hidden = _lacking(batch, queries), self._hidden(batch, draw)
        outputs = self._remembered(tokens, _Asked(*map(torch.cat, zip(lacking, hidden, strict=True))))
        own, others = torch.split(outputs, [len(lacking.rows), len(hidden.rows)])
        out = {"task": self._task(self._answered(tokens, batch, _filled(queries, lacking, own)), batch)}
        if len(hidden.rows):
            whole = _filled(self._whole(tokens, batch, queries), lacking, own.detach(), everything=True)
            out["reconstruction"] = self.options.alpha * _distance(others, whole, batch.presence, hidden)
        if self.options.orthogonal:
            penalties = torch.stack([pool.penalty() for pool in self._all_pools()])
            out["orthogonal"] = self.options.orthogonal * penalties.sum()
        return out

    def answer(self, batch: Batch) -> Output:
        outputs, queries = self._outputs(batch)
        scores = self.scores(self._read(outputs))
        return Output(
            scores=scores,
            uncertainty=scores[:, 0],
            embeddings=self._by_modality(outputs, batch.presence),
            reconstructed={} if queries is None else self._by_modality(queries, ~batch.presence),
        )

    def open_session(self, codec: TargetCodec, taught: Sequence[str] | None = None) -> None:
        """Another session: its classes and its components join those that were learned, which stand still."""
        super().open_session(codec, taught)
        if self.head is not None:
            self.head.grow(codec.target.size)
        if self.options.head == "ridge":
            return
        for pool in self._all_pools():
            pool.open_session(dead=self.options.variant == "released")

    @torch.no_grad()
    def begin_session(self, batches: Batches) -> None:
        """Measure the queries of the first session's rows, where they are to be standardised."""
        if self.standard is not None and not self.standard.count.any():
            for batch in batches():
                self.standard.add(self.reader.queries(batch), batch.presence)

    @torch.no_grad()
    def close_session(self, batches: Batches) -> None:
        """Count the session's rows, and every part of what they have, where the head adds up."""
        if self.head is None:
            return
        for batch in batches():
            assert batch.target is not None
            columns = columns_of(batch.target, self.parts.codec)
            for shown, weight in weighted_parts(batch.presence):
                rows = weight > 0
                if rows.any():
                    part = batch.restrict(shown, self.parts.names).select(rows, self.parts.names)
                    self.head.add(self.features(part), columns[rows], weight[rows])
        self.head.solve()

    def features(self, batch: Batch) -> Tensor:
        """(B, D): what the head reads of each row."""
        return self._read(self._outputs(batch)[0])

    def scores(self, read: Tensor) -> Tensor:
        """What the head reads (B, D) to scores (B, K)."""
        head = self.head if self._counted else None
        scores: Tensor = self.classifier(read) if head is None else head(read)
        return scores_of(scores, self.parts.codec) if isinstance(head, Ridge) else scores

    def passes(self, presence: Tensor) -> tuple[Tensor, Tensor]:
        """A row is read for its queries and for its answer, and once between if it lacks something."""
        prompts, feeds = self.options.prompts, self.options.absent == "placeholder"
        stand_ins = self.reader.stand_ins(torch.arange(len(presence), device=presence.device))
        instead = torch.stack([stand_in.valid.sum() for stand_in in stand_ins.values()]) * ~presence  # (B, M)
        read = 1 + prompts * (1 + (~presence).any(dim=1).long())
        fed = read if feeds or not prompts else read - 1  # queries come from what is present alone
        return read, fed * instead.sum(dim=1)

    def remarks(self, presence: Bools) -> list[str]:
        """Whether there is anything to learn reconstruction from."""
        if not self.options.prompts or presence.shape[1] < 2 or (presence.sum(axis=1) > 1).any():
            return []
        return ["No training row has two modalities, so there was nothing to learn reconstruction from."]

    @torch.no_grad()
    def reconstructions(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Of complete rows: per modality its true query and the one that is made without it, (n, D) each."""
        names = self.parts.names
        full = batch.select(batch.presence.all(dim=1), names)
        if not self.options.prompts or len(names) < 2 or not len(full):
            return {}
        true, out = self.reader.queries(full), {}
        for m, gone in enumerate(torch.eye(len(names), dtype=torch.bool, device=true.device)):
            part = full.restrict(~gone, names)
            out[names[m]] = (true[:, m], self._reconstructed(self.reader.laid(part), part)[:, m])
        return out

    @torch.no_grad()
    def usage(self, batch: Batch) -> dict[str, Tensor]:
        """How much the queries of what is present draw on each session's components, (S,) for each pool."""
        if not self.options.prompts or not len(batch):
            return {}
        queries = self._asking(self.reader.queries(batch))
        out = {"memory": self.memory.shares(self.memory.weights(queries[batch.presence]))}
        for name, own in self._by_modality(queries, batch.presence).items():
            pool = self._pool_of(name)
            out[name] = pool.shares(pool.weights(own))
        return out

    def _head(self) -> Ridge | Gaussian | None:
        """What answers instead of the linear classifier once it has counted rows."""
        width, size, target = self.backbone.width, self.options.projected, self.parts.codec.target
        if self.options.head == "ridge":
            return Ridge(width=width, outputs=target.size, size=size)
        if self.options.head == "linear":
            return None
        if target.kind == "number":
            raise UserError("options.head gaussian: a number has no classes; say ridge")
        return Gaussian(width=width, outputs=target.size, size=size, labels=target.kind == "labels")

    @property
    def _counted(self) -> bool:
        """Whether rows have been counted."""
        return self.head is not None and float(self.head.count) > 0

    def _outputs(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """(B, M, D) each: the [CLS] outputs that are read, and the queries that fetched the prompts before them."""
        if not self.options.prompts:
            return self.reader.outputs(batch), None
        tokens = self.reader.laid(batch)
        queries = self._reconstructed(tokens, batch)
        return self._answered(tokens, batch, queries), queries

    # Pass 2

    def _hidden(self, batch: Batch, draw: torch.Generator) -> _Asked:
        """The rows that have several modalities, with a part of these hidden."""
        several, names = batch.presence.sum(dim=1) > 1, self.parts.names
        part = batch.select(several, names)
        part = part if self._keeps_hidden else replace(part, memo=None)
        shown = hidden_parts(part.presence, draw, several=self.options.several)
        turns = torch.split(shown, len(part)) if len(part) else []
        queries = [self.reader.queries(part.restrict(turn, names)) for turn in turns]
        nothing = torch.zeros(0, len(names), self.backbone.width, device=batch.presence.device)
        rows = several.nonzero()[:, 0].repeat(len(turns))
        return _Asked(rows, shown, torch.cat([nothing, *queries]))

    @property
    def _keeps_hidden(self) -> bool:
        """Whether there are few parts that may be hidden; the queries of many are not worth keeping."""
        return not self.options.several or len(self.parts.names) < 3

    def _remembered(self, tokens: Laid, asked: _Asked) -> Tensor:
        """(n, M, D): the [CLS] outputs behind the memory prompts of all present queries, added up."""
        if not len(asked.rows):
            return asked.queries
        row, m = asked.shown.nonzero(as_tuple=True)
        each = self.memory.weights(self._asking(asked.queries)[row, m])  # (L, pairs, K)
        summed = each.new_zeros(len(each), len(asked.rows), each.shape[2]).index_add(1, row, each)
        return tokens.run(asked.rows, asked.shown, Prompts(inserted=self.memory.mix(summed)))

    def _reconstructed(self, tokens: Laid, batch: Batch) -> Tensor:
        """(B, M, D): q_m where a modality is present, r_m where it is absent."""
        queries = self.reader.queries(batch)
        lacking = _lacking(batch, queries)
        return _filled(queries, lacking, self._remembered(tokens, lacking))

    @torch.no_grad()
    def _whole(self, tokens: Laid, batch: Batch, queries: Tensor) -> Tensor:
        """(B, M, D): what complete rows say behind memory prompts; 0 for the others."""
        rows = batch.presence.all(dim=1).nonzero()[:, 0]
        outputs = self._remembered(tokens, _Asked(rows, batch.presence[rows], queries[rows]))
        return torch.zeros_like(queries).index_copy(0, rows, outputs.to(queries.dtype))

    # Pass 3

    def _answered(self, tokens: Laid, batch: Batch, queries: Tensor) -> Tensor:
        """(B, M, D): the [CLS] outputs behind the prefixes that queries (B, M, D) fetch."""
        queries = self._asking(queries)
        fetched = [self._pool_of(name)(queries[:, m]).chunk(2, dim=2) for m, name in enumerate(self.parts.names)]
        keys, values = (torch.cat(half, dim=2) for half in zip(*fetched, strict=True))
        everyone = torch.arange(len(batch), device=batch.presence.device)
        return tokens.run(everyone, batch.presence, Prompts(keys=keys, values=values))

    def _read(self, outputs: Tensor) -> Tensor:
        """[CLS] outputs (B, M, D) to what the classifier reads (B, D)."""
        return outputs[:, 0] if self.options.reads == "first" else outputs.mean(dim=1)

    def _task(self, outputs: Tensor, batch: Batch) -> Tensor:
        assert batch.target is not None
        return session_loss(self.classifier(self._read(outputs)), batch.target, self.parts.codec, self.taught)

    # Pools

    def _asking(self, queries: Tensor) -> Tensor:
        """Queries (B, M, D) as the pools are asked with them."""
        asking: Tensor = queries if self.standard is None else self.standard(queries)
        return asking

    def _pool(self) -> ComponentPool:
        options, depth = self.options, len(self.backbone.transformer.blocks)
        layers = -(-2 * depth // 3) if options.layers is None else options.layers
        if layers > depth:
            raise UserError(f"options.layers {layers}: the backbone has only {depth}")
        return ComponentPool(
            layers=layers,
            length=options.length,
            width=self.backbone.width,
            size=options.components,
            selection=options.selection,
            top=options.top,
        )

    def _pool_of(self, name: str) -> ComponentPool:
        return cast(ComponentPool, self.pools[module_key(name)])

    def _all_pools(self) -> list[ComponentPool]:
        return [self.memory, *map(self._pool_of, self.parts.names)] if self.options.prompts else []

    def _by_modality(self, values: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        """(B, M, D) and bool (B, M) to (n, D) of the modalities that are wanted of any row."""
        some = wanted.any(dim=0).tolist()
        return {name: values[wanted[:, m], m] for m, name in enumerate(self.parts.names) if some[m]}


def _lacking(batch: Batch, queries: Tensor) -> _Asked:
    """The rows that lack something, as they are."""
    rows = (~batch.presence).any(dim=1).nonzero()[:, 0]
    return _Asked(rows, batch.presence[rows], queries[rows])


def _filled(queries: Tensor, asked: _Asked, outputs: Tensor, *, everything: bool = False) -> Tensor:
    """Queries (B, M, D) with the outputs (n, M, D) in the rows asked for, where they show nothing or everywhere."""
    if not len(asked.rows):
        return queries
    outputs = outputs.to(queries.dtype)
    if not everything:
        outputs = torch.where(asked.shown[..., None], asked.queries, outputs)
    return queries.index_copy(0, asked.rows, outputs)


def _distance(made: Tensor, whole: Tensor, presence: Tensor, hidden: _Asked) -> Tensor:
    """The mean square between what rows (n, M, D) say of what was hidden and the targets (B, M, D)."""
    lost = presence[hidden.rows] & ~hidden.shown
    return (made - whole[hidden.rows])[lost].square().mean()
