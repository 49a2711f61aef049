"""The job behind `absentia embed`: what frozen encoders make of a table's cells, kept for all runs to come."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from threading import Thread
from typing import get_args

import numpy as np
import torch

from absentia.data.absence import MaskPlan
from absentia.data.catalog import open_source
from absentia.data.features import features_folder
from absentia.data.kinds.pretrained import PretrainedDecoder
from absentia.data.remarkable import Remarkable
from absentia.data.rows import BLOCK, BadCellRecord, OnBad
from absentia.data.schema import Schema
from absentia.data.table import Table
from absentia.errors import UserError, nearest
from absentia.learn.prepare import NO_TARGET, Bools, Fitted, frozen_encoders, rows_of, survey

__all__ = ["Embedded", "embed_table"]


@dataclass
class Embedded:
    """What became of the cells: how many were computed and found by modality, which were bad, what is remarkable."""

    rows: int = 0
    computed: dict[str, int] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    remarkable: Remarkable = field(default_factory=Remarkable)
    bad: list[BadCellRecord] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    folder: Path = field(default_factory=features_folder)

    def add(self, part: Embedded) -> None:
        """Count what became of more rows."""
        self.rows += part.rows
        for kind in ("computed", "found"):
            mine = getattr(self, kind)
            for name, count in getattr(part, kind).items():
                mine[name] = mine.get(name, 0) + count
        self.remarkable.add(part.remarkable)
        self.bad += part.bad
        self.notes += [note for note in part.notes if note not in self.notes]

    def told(self) -> Iterator[str]:
        """The same in lines for people, but for the remarks."""
        for name, count in self.computed.items():
            yield f"{name}: {count:,} cells computed, {self.found[name]:,} found"
        if self.bad:
            yield f"· {len(self.bad):,} cells could not be read; first: {self.bad[0]}"
        yield f"features of {self.rows:,} rows are in {self.folder}"


def embed_table(
    table: Table,
    schema: Schema,
    *,
    source: str | None = None,
    plan: MaskPlan | None = None,
    on_bad: OnBad = "error",
    workers: int = 1,
    advance: Callable[[int, int], object] = lambda done, total: None,
) -> Embedded:
    """Compute and keep the features of every present cell of every modality with a frozen encoder.

    source: what the table was opened from, for `workers` to open it again; each is a process with one thread.
    plan: what it hides is not opened.  advance: hears (rows done, rows in all).  Raises `UserError` for a bad cell
    (unless `on_bad` says otherwise), and where nothing can be kept.
    """
    frozen = {n: k for n, k in schema.modalities.items() if k.encoder and not k.tune}
    if not frozen:
        raise UserError("no modality has a frozen encoder; say --modality NAME=KIND:ENCODER, a hub name or a folder")
    if on_bad not in get_args(OnBad):
        raise UserError(f"--on-bad {on_bad!r}: {nearest(on_bad, get_args(OnBad))}")
    if workers < 1:
        raise UserError(f"--workers {workers}: must be at least 1")
    presence = _presence(table, schema, plan)[:, [schema.names.index(name) for name in frozen]]
    schema = replace(schema, modalities=frozen, target=None, id=None, split=None)
    blocks = [(start, presence[start : start + BLOCK]) for start in range(0, len(presence), BLOCK)]
    if workers > 1 and source is not None:
        parts = _by_workers(source, schema, blocks, on_bad, min(workers, len(blocks)))
    else:
        here = _fitted(schema)
        parts = (_embedded(table, here, on_bad, block) for block in blocks)
    done = Embedded()
    for part in parts:
        done.add(part)
        advance(done.rows, len(presence))
    done.notes += done.remarkable.notes(_decoders(schema))
    return done


def _presence(table: Table, schema: Schema, plan: MaskPlan | None) -> Bools:
    seen = survey(table, replace(schema, target=None))
    if plan is None:
        return seen.presence
    return plan.ordered(schema.names).apply(seen.ids, seen.presence, list(seen.split))


def _fitted(schema: Schema) -> Fitted:
    """What reads these modalities; nothing of it has to be learned."""
    decoders = _decoders(schema)
    return Fitted(schema=schema, codec=NO_TARGET, decoders=decoders, encoders=frozen_encoders(schema, decoders))


def _decoders(schema: Schema) -> dict[str, PretrainedDecoder]:
    kinds = schema.modalities.items()
    return {name: PretrainedDecoder(kind=kind.kind, source=str(kind.encoder)) for name, kind in kinds}


def _embedded(table: Table, fitted: Fitted, on_bad: OnBad, block: tuple[int, Bools]) -> Embedded:
    """A block of rows, given by the number of its first one and by what is present."""
    start, presence = block
    index = np.arange(start, start + len(presence))
    rows = rows_of(table, fitted, on_bad=on_bad, presence=presence, index=index)
    stuck = [encoder.store.stuck for encoder in fitted.encoders.values() if encoder.store.stuck]
    if stuck:
        raise UserError(f"{stuck[0]} Make room, or set ABSENTIA_CACHE to another folder")
    return Embedded(
        rows=len(presence),
        computed={name: cache.computed for name, cache in rows.caches.items()},
        found={name: cache.found for name, cache in rows.caches.items()},
        bad=rows.bad,
        notes=fitted.cache_notes(),
        remarkable=rows.remarkable,
    )


def _by_workers(
    source: str, schema: Schema, blocks: Sequence[tuple[int, Bools]], on_bad: OnBad, workers: int
) -> Iterator[Embedded]:
    """The blocks in order, from processes that share them out among themselves."""
    work = partial(_in_worker, source, json.dumps(schema.to_json()), on_bad)
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin_worker)
    try:
        yield from pool.map(work, blocks)
    except BrokenProcessPool:
        raise UserError("a worker was ended from outside (no memory?); what is done is kept, so start again") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    torch.set_num_threads(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for good."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _in_worker(source: str, schema: str, on_bad: OnBad, block: tuple[int, Bools]) -> Embedded:
    table, fitted = _opened(source, schema)
    return _embedded(table, fitted, on_bad, block)


@lru_cache(maxsize=1)
def _opened(source: str, schema: str) -> tuple[Table, Fitted]:
    """A worker opens table and encoders once."""
    return open_source(source), _fitted(Schema.from_json(json.loads(schema)))
