"""A tiny stream by hand: the tiny table in three sessions of two classes each, learned one after the other."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests import tiny
from torch import Tensor

from absentia.data.batch import Batch
from absentia.data.table import open_table
from absentia.layers.subsets import all_patterns
from absentia.learn.build import build_method
from absentia.learn.prepare import Prepared, prepare
from absentia.learn.stream import open_session, with_codec
from absentia.methods import Method

__all__ = ["COUNT", "build", "learn", "opened", "sessions", "shown", "target_of"]

COUNT = 3
NAMES = ("words", "facts", "wave")
TARGETS: Mapping[str, str] = {"class": "kind=class", "labels": "tags=labels", "number": "weight=number"}


def content(session: int) -> tiny.Rows:
    """Rows of one kind, each of them one of two."""
    rows = [row for i, row in enumerate(tiny.rows()) if i % COUNT == session]
    return [row | {"kind": f"{row['kind']}{i % 2}"} for i, row in enumerate(rows)]


@functools.cache
def sessions(kind: str = "class", order: Sequence[int] = (0, 1, 2)) -> list[Prepared]:
    """The data of each session, in an order; what is fitted on the first one holds for all."""
    target = TARGETS[kind]
    first = tiny.prepared(content(order[0]), target, NAMES)
    out, fitted = [first], first.fitted
    for number in order[1:]:
        rows = content(number)
        cells = [row[fitted.schema.target.column] for row in rows if row["split"] == "train"]  # type: ignore[union-attr]
        fitted = with_codec(fitted, fitted.codec.grown(cells, before=18 * len(out)))
        source = open_table(tiny.table(rows))
        out.append(prepare(source, fitted.schema, plan=None, on_bad="error", fitted=fitted))
    return out


def build(name: str, data: Sequence[Prepared], options: Mapping[str, Any] | None = None) -> Method:
    """The method before its first session."""
    seen = all_patterns(len(NAMES))
    return build_method(name, data[0].fitted, tiny.SMALL, seed=0, seen=seen, options=options).eval()


def opened(name: str, data: Sequence[Prepared], count: int, options: Mapping[str, Any] | None = None) -> Method:
    """The method with so many sessions open, and nothing learned."""
    method = build(name, data, options)
    for number in range(1, count):
        begin(method, data, number)
    return method


def begin(method: Method, data: Sequence[Prepared], number: int) -> None:
    """Open a session that is not the first."""
    codec, known = data[number].fitted.codec, data[number - 1].fitted.codec.target.classes
    open_session(method, codec, codec.target.classes[len(known) :] or codec.target.classes, number, seed=0)


def learn(method: Method, data: Sequence[Prepared], folder: Path, numbers: Sequence[int]) -> list[dict[str, Tensor]]:
    """Learn sessions, the first of them open if it is session 0; what had been learned after each."""
    out = []
    for number in numbers:
        if number:
            begin(method, data, number)
        tiny.loop_of(method, data[number], folder / str(number), settings=tiny.BRIEF).fit()
        tiny.close(method, data[number])
        method.eval()
        out.append({name: tensor.clone() for name, tensor in method.learned().items()})
    return out


def shown(data: Prepared) -> Batch:
    """Rows as they are, and with less."""
    batch = tiny.everything(data)
    drawn = torch.rand(batch.presence.shape, generator=torch.Generator().manual_seed(0)) < 0.7
    return batch.restrict(drawn | (torch.arange(len(batch)) % 2 == 0)[:, None], data.names)


def target_of(data: Prepared) -> Tensor:
    return torch.from_numpy(np.asarray(data.rows["train"].target))
