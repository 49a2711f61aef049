"""One session of a stream: its rows, the training on them, and what is written when it ends.

The steps read from top to bottom in `learn_session`. Everything it needs of earlier sessions comes from their files,
so that a session that is interrupted, or learned in another process, ends the same.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import torch

from absentia import __version__
from absentia.config import StreamConfig, config_to
from absentia.data.batch import Batch
from absentia.data.joined import joined
from absentia.data.presence import count_patterns, natural_presence
from absentia.data.rows import OnBad, Rows
from absentia.data.schema import Schema
from absentia.data.table import Table, open_table
from absentia.data.target import class_names
from absentia.errors import UserError
from absentia.learn.arrived import Arrived, list_rows, read_rows, remarks
from absentia.learn.backbones import backbone_of
from absentia.learn.build import patterns_seen
from absentia.learn.checkpoint import Position
from absentia.learn.draws import number_of
from absentia.learn.identity import FREE
from absentia.learn.loop import Listener, Loop, Validation
from absentia.learn.prepare import Fitted, fitted_on, rows_of
from absentia.learn.remembered import ID, TARGET, chosen_rows, keep_rows, remembered_rows
from absentia.learn.run import counted, save_setup
from absentia.learn.stream import (
    SessionFolder,
    StreamFolder,
    Tensors,
    load_state,
    new_method,
    open_session,
    with_codec,
    write_session,
)
from absentia.methods.base import Bools, Method, Stage

__all__ = ["learn_session", "policy", "rows_to_close"]

AT_ONCE = 256


@dataclass(frozen=True)
class _Session:
    """A session that is ready for its training. Of the training rows the first `own` are the session's own.

    known: how many classes there were before.
    """

    number: int
    method: Method
    fitted: Fitted
    setup: Mapping[str, Any]
    follows: str
    before: Tensors
    train: Rows
    own: int
    known: int
    taught: Sequence[str]
    notes: Sequence[str]


def learn_session(
    folder: StreamFolder, config: StreamConfig, number: int, arrived: Arrived, listener: Listener | None = None
) -> None:
    """Learn session `number` and write it; nothing of earlier sessions is touched.

    Raises `UserError` for everything that a user can mend, and `KeyboardInterrupt` after Ctrl-C, with a checkpoint.
    """
    own = folder.session(number)
    own.create(resume=True)
    if not len(arrived.rows("train")):
        raise UserError(f"session {number} ({arrived.name}): no row is for training and has a target")
    session = _later(folder, config, number, arrived) if number else _first(folder, config, arrived)
    session.method.begin_session(partial(rows_to_close, session.train))
    position = _trained(own, config, session, listener)
    session.method.close_session(partial(rows_to_close, session.train))
    session = replace(session, notes=[*session.notes, *_checked(session, arrived, config)])
    _write(folder, own, config, session, arrived, position)


def _first(folder: StreamFolder, config: StreamConfig, arrived: Arrived) -> _Session:
    """Session 0 fits everything that later ones stand on: decoders, target, setup."""
    mine = replace(arrived.seen, split=np.where(arrived.mine, arrived.seen.split, "other"))
    fitted, notes = fitted_on(arrived.table, arrived.schema, mine, backbone_of(config.model))
    fitted = fitted.cached(config.cache)
    index = arrived.rows("train")
    train = read_rows(fitted, arrived, index, policy(config))
    setup = save_setup(
        folder,
        fitted,
        method=config.method,
        options=config.options,
        model=config_to(config.model),
        seed=config.seed,
        seen=patterns_seen(train.presence),
        train_presence=train.presence,
        plan_sha256=arrived.plan_sha256,
    )
    taught = fitted.codec.target.classes
    notes = [*notes, *remarks(0, taught, taught, train, arrived, settles=False), *fitted.cache_notes()]
    return _Session(
        number=0,
        method=new_method(setup, fitted),
        fitted=fitted,
        setup=setup,
        follows="nothing",
        before={},
        train=train,
        own=len(train),
        known=0,
        taught=taught,
        notes=notes,
    )


def _later(folder: StreamFolder, config: StreamConfig, number: int, arrived: Arrived) -> _Session:
    """A later session opens what the earlier ones left."""
    state = load_state(folder, number)
    index = arrived.rows("train")
    cells = arrived.cells(index)
    known = state.fitted.codec.target.classes
    codec = state.fitted.codec.grown(cells, before=state.rows, classes=arrived.classes)
    fitted = with_codec(state.fitted, codec).cached(config.cache)
    own = {name for cell in cells for name in class_names(cell)} if codec.target.classes else set()
    taught: Sequence[str] = [name for name in codec.target.classes if name in own]
    train = read_rows(fitted, arrived, index, policy(config))
    notes = remarks(number, taught, known, train, arrived, settles=state.method.settles)
    rows, taught, recalled = _with_remembered(folder, number, state.method, fitted, train, taught)
    open_session(state.method, codec, taught, number, seed=config.seed)
    return _Session(
        number=number,
        method=state.method,
        fitted=fitted,
        setup=state.setup,
        follows=folder.about(number - 1)["mark"],
        before=state.tensors,
        train=rows,
        own=len(train),
        known=len(known),
        taught=taught,
        notes=[*notes, *recalled, *fitted.cache_notes()],
    )


def _with_remembered(
    folder: StreamFolder, number: int, method: Method, fitted: Fitted, train: Rows, taught: Sequence[str]
) -> tuple[Rows, Sequence[str], list[str]]:
    """The training rows with those of earlier sessions that the method wants to see again; all classes are taught."""
    files = [folder.session(k).memory for k in range(number)]
    earlier = fitted.codec.target.classes
    table = remembered_rows(files, method.remembers, earlier)
    if table is None:
        return train, taught, []
    source = open_table(table.drop_columns([ID, TARGET]))
    again = rows_of(
        source,
        fitted,
        on_bad="error",
        presence=_presence(source, fitted.schema),
        ids=table.column(ID).to_pylist(),
        target=table.column(TARGET).to_pylist(),
    )
    note = f"{len(again)} training rows of earlier sessions were seen again."
    return joined(train, again), earlier, [note]


def _presence(table: Table, schema: Schema) -> Bools:
    return np.concatenate([natural_presence(chunk, schema) for chunk in table.chunks()])


def _trained(own: SessionFolder, config: StreamConfig, session: _Session, listener: Listener | None) -> Position:
    loop = Loop(
        method=session.method,
        rows=session.train,
        settings=replace(config.training, patience=None),
        seed=number_of(config.seed, "session", session.number),
        folder=own,
        validate=_blind,
        run=_identity(config, session),
        listener=listener,
    )
    return loop.fit()


def policy(config: StreamConfig) -> OnBad:
    """What becomes of cells that cannot be read."""
    return config.on_bad  # type: ignore[return-value]  # the settings know the three words


def _blind(method: Method, stage: Stage) -> Validation:
    """A session ends with its last weights: to judge it by its own classes alone would favour forgetting."""
    return Validation(patterns={}, goodness=-np.inf)


def _identity(config: StreamConfig, session: _Session) -> str:
    decisive = {k: v for k, v in config_to(config).items() if k not in ("patterns", "reference", "table", *FREE)}
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode())
    train = session.train
    assert train.target is not None
    for part in (session.follows.encode(), repr(train.ids).encode(), train.presence.tobytes(), train.target.tobytes()):
        digest.update(part)
    return digest.hexdigest()


def rows_to_close(rows: Rows) -> Iterator[Batch]:
    """Training rows that have anything, in order: what a method sees when its session closes."""
    for batch in rows.batches(AT_ONCE):
        some = ~batch.empty
        if some.any():
            yield batch if some.all() else batch.select(some, rows.schema.names)


def _checked(session: _Session, arrived: Arrived, config: StreamConfig) -> list[str]:
    """What a method that asks held-out rows says of the session's own."""
    index = arrived.rows("val")
    if not session.method.checks or not len(index):
        return []
    rows = read_rows(session.fitted, arrived, index, policy(config))
    return session.method.check(partial(rows_to_close, rows))


def _write(
    folder: StreamFolder,
    own: SessionFolder,
    config: StreamConfig,
    session: _Session,
    arrived: Arrived,
    position: Position,
) -> None:
    """Rows and memory, then what was learned, then that the session is whole."""
    list_rows(own.rows, arrived, session.fitted.schema.names)
    if session.method.remembers:
        mine = session.train.where(np.arange(len(session.train)) < session.own)
        cells = [arrived.seen.target[i] for i in mine.index]
        keep_rows(own.memory, mine, chosen_rows(cells, mine.ids, session.method.remembers), cells)
    after = session.method.learned()
    codec = session.fitted.codec
    about = {
        "number": session.number,
        "name": arrived.name,
        "follows": session.follows,
        "mark": _mark(session, after),
        "taught": list(session.taught),
        "known": list(codec.target.classes),
        "before": session.known,
        "prior": list(codec.prior),
        "table": arrived.source,
        "rows": {split: len(arrived.rows(split)) for split in ("train", "val", "test")},
        "train_presence": counted(session.train.presence[: session.own]),
        "p_incomplete": float((~session.train.presence.all(axis=1)).mean()),
        "patterns": count_patterns(session.train.presence, session.fitted.schema.names),
        "plan_sha256": arrived.plan_sha256,
        "bad_cells": [str(record) for record in session.train.bad],
        "notes": [*session.notes, *session.method.remarks(session.train.presence), *position.notes],
        "seconds": round(position.seconds, 2),
        "steps": own.steps(),
        "command": " ".join(["absentia", *sys.argv[1:]]),
        "absentia": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_session(own, about, session.before, after)
    own.checkpoint().unlink(missing_ok=True)


def _mark(session: _Session, after: Tensors) -> str:
    """What later sessions know this one by."""
    digest = hashlib.sha256(f"{session.number} {session.follows}".encode())
    for name in sorted(after):
        digest.update(
            name.encode() + after[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()
