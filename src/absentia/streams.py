"""The jobs behind `absentia learn` and `absentia sessions`: a stream of sessions, one after the other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from absentia.config import StreamConfig, config_from, config_to
from absentia.data.absence import MaskPlan
from absentia.data.catalog import declaration, open_source
from absentia.data.rows import Rows
from absentia.data.schema import Schema
from absentia.data.sessions import Sessions, sessions_by_class, sessions_by_column
from absentia.data.table import Table
from absentia.errors import UserError, nearest
from absentia.evaluate.patterns import chosen_patterns
from absentia.evaluate.stream_scores import score_sessions
from absentia.evaluate.streams.page import render_stream
from absentia.jobs import Quiet, Watcher, declared_schema
from absentia.learn.arrived import Arrived, arrived_before, reopened, schema_for, test_rows
from absentia.learn.identity import FREE
from absentia.learn.prepare import Fitted, Survey, survey
from absentia.learn.run import read_config
from absentia.learn.session import learn_session, policy
from absentia.learn.stream import StreamFolder, load_state
from absentia.stream_report import looked_into, stream_report

__all__ = ["learn_run", "read_stream_config", "report_of", "settings_of"]


def learn_run(
    config: StreamConfig,
    out: str | Path,
    *,
    session: int | None = None,
    source: Any = None,
    schema: Schema | None = None,
    plan: MaskPlan | None = None,
    watcher: Watcher | None = None,
    command: str | None = None,
    page: bool = True,
) -> dict[str, Any]:
    """Learn the sessions that are still to come, score each on all sessions so far; returns the stream's report.

    config: of the stream; where it says how a table falls into sessions, its table is the whole stream, else it is
        the next session.
    session: only this one, the next.  source: the opened table or anything `open_table` takes, where it is not
        `config.table`.  schema: what its columns mean, where the settings do not say all of it.
    An interrupted stream goes on by the same call. Raises `UserError` for everything a user can mend.
    """
    stream = _Stream(StreamFolder(out), config, watcher or Quiet())
    stream.begin()
    arrived = dict(enumerate(stream.arrived(source, schema, plan)))
    unscored = not config.one_table and stream.unscored(arrived[0], session)
    for number in () if unscored else _numbers(stream.folder, config, len(arrived), session):
        stream.learn(number, arrived if config.one_table else {number: arrived[0]})
    stream.catch_up(arrived if config.one_table else {stream.folder.learned_sessions() - 1: arrived[0]})
    stream.look_into(arrived if config.one_table else {})
    report = stream_report(stream.folder, config, command)
    if page:
        _write_page(stream.folder, report)
    stream.folder.write_json(stream.folder.report, report)
    return report


def settings_of(folder: StreamFolder, given: Mapping[str, Any]) -> StreamConfig:
    """The settings for a call: what is given over what the stream was begun with; another table is one more session.

    given: settings by name; what stands at its default counts as not given.
    """
    usual = config_to(StreamConfig(table=""))
    said = {k: v for k, v in given.items() if k == "table" or v != usual.get(k)}
    if not folder.config.exists():
        if said.get("table") is None:
            raise UserError(f"{folder.path} is no stream yet; give the table that it begins with")
        known = (declaration(said["table"]) or {}).get("session")
        if known and not said.keys() & {"sessions", "by", "classes"}:
            said["by"] = known
        return config_from(StreamConfig, said)
    begun = config_to(read_stream_config(folder))
    if said.get("table") is None:
        ways = ("sessions", "by", "classes")
        if folder.learned_sessions() and not any(said.get(way) or begun[way] for way in ways):
            raise UserError(f"which table is the next session of {folder.path}? Give it; the first has been learned")
        said["table"] = begun["table"]
    elif said["table"] != begun["table"] and not said.keys() & {"sessions", "by", "classes"}:
        begun |= {"sessions": None, "by": None, "classes": []}
    return config_from(StreamConfig, begun | said)


def report_of(folder: StreamFolder) -> dict[str, Any]:
    """The report of a stream as it stands, written anew."""
    if not folder.learned_sessions():
        raise UserError(f"{folder.path} holds no session")
    report = stream_report(folder, read_stream_config(folder))
    _write_page(folder, report)
    folder.write_json(folder.report, report)
    return report


def read_stream_config(folder: StreamFolder) -> StreamConfig:
    """The settings of a stream; raises `UserError` where there is none."""
    config = read_config(folder)
    if not isinstance(config, StreamConfig):
        raise UserError(f"{folder.path} is a run without sessions; learn needs a folder of its own")
    return config


def _numbers(folder: StreamFolder, config: StreamConfig, known: int, asked: int | None) -> Iterator[int]:
    """The sessions to be learned now."""
    done = folder.learned_sessions()
    if asked is not None and asked != done:
        state = "has been learned already; roll back to learn it anew" if asked < done else "is not next"
        raise UserError(f"session {asked} {state}: {folder.path} holds {done} sessions, so the next is {done}")
    if not config.one_table:
        return iter([done])
    if asked is not None and asked >= known:
        raise UserError(f"session {asked}: the table has the sessions 0 to {known - 1}")
    return iter(range(done, known) if asked is None else [asked])


def _write_page(folder: StreamFolder, report: Mapping[str, Any]) -> None:
    folder.write_text(folder.page, render_stream(report))


@dataclass
class _Stream:
    """A stream while it is learned. judged: the test rows of each session and their targets, read once."""

    folder: StreamFolder
    config: StreamConfig
    watcher: Watcher
    judged: dict[int, tuple[Rows, list[Any]]] = field(default_factory=dict)

    def begin(self) -> None:
        """Write the settings, or see that they are those the stream was begun with."""
        self.folder.create(resume=True)
        begun = self.folder.learned_sessions() or self.folder.session(0).checkpoint().exists()
        if not (begun and self.folder.config.exists()):
            self.folder.write_yaml(self.folder.config, json.loads(json.dumps(config_to(self.config))))
            return
        before = config_to(read_stream_config(self.folder))
        free = (
            {"patterns", *FREE}
            if self.config.one_table
            else {"patterns", *FREE, "table", "plan", "sessions", "by", "classes"}
        )
        changed = [k for k, v in config_to(self.config).items() if before[k] != v and k not in free]
        if changed:
            raise UserError(
                f"{self.folder.path} was begun with another {' and '.join(changed)}; keep it, or start anew"
            )

    def arrived(self, source: Any, schema: Schema | None, plan: MaskPlan | None) -> list[Arrived]:
        """The sessions of the table."""
        table = source if isinstance(source, Table) else open_source(self.config.table if source is None else source)
        schema = schema or self._schema(table)
        seen = survey(table, schema)
        plan = MaskPlan.load(self.config.plan) if plan is None and self.config.plan else plan
        if plan is not None:
            seen = replace(seen, presence=plan.ordered(schema.names).apply(seen.ids, seen.presence, list(seen.split)))
            plan.save(self.folder.plan)
        sessions = _sessions(self.config, table, schema, seen)
        return [
            Arrived(
                table=table,
                source=self.config.table if source is None else None,
                schema=schema,
                seen=seen,
                mine=sessions.rows(number),
                name=sessions.names[number],
                classes=sessions.classes[number],
                plan_sha256=plan.sha256 if plan else None,
            )
            for number in range(len(sessions))
        ]

    def learn(self, number: int, arrived: Mapping[int, Arrived]) -> None:
        """One of the sessions that are there: train, write, score."""
        self.watcher.part(f"session {number}")
        learn_session(self.folder, self.config, number, arrived[number], self.watcher)
        for note in self.folder.about(number)["notes"]:
            self.watcher.say(note)
        self.score(number, arrived)

    def unscored(self, arrived: Arrived, asked: int | None) -> bool:
        """Whether these rows are the last session already, and an interruption left no more than its scores to do."""
        last = self.folder.learned_sessions() - 1
        if last < 0 or asked not in (None, last) or self.folder.session(last).scores.exists():
            return False
        return arrived_before(self.folder, last, arrived)

    def catch_up(self, arrived: Mapping[int, Arrived]) -> None:
        """Score the sessions that an interruption left without scores."""
        for number in range(self.folder.learned_sessions()):
            if not self.folder.session(number).scores.exists():
                self.score(number, arrived)

    def score(self, number: int, arrived: Mapping[int, Arrived]) -> None:
        """Score the stream as it stands after a session on the test rows of all sessions up to it."""
        state = load_state(self.folder, number + 1)
        rows = {k: found for k in range(number + 1) if (found := self._judged(k, state.fitted, arrived)) is not None}
        presence = np.concatenate([part.presence for part in rows.values()]) if rows else np.zeros((0, 1), np.bool_)
        patterns = chosen_patterns(state.fitted.schema.names, self.config.patterns, presence)
        scores = score_sessions(state.method, rows, patterns) if rows else []
        own = self.folder.session(number)
        own.write_json(own.scores, {"after": number, "sessions": scores})

    def look_into(self, arrived: Mapping[int, Arrived]) -> None:
        """Keep what a page shows of the inside, for the stream as it stands."""
        state = load_state(self.folder)
        own = self.folder.session(state.sessions - 1)
        if own.inside.exists():
            return
        known = {k: self._judged(k, state.fitted, arrived) for k in range(state.sessions)}
        own.write_json(
            own.inside, looked_into(state.method, {k: rows for k, rows in known.items() if rows is not None})
        )

    def _judged(self, number: int, fitted: Fitted, arrived: Mapping[int, Arrived]) -> Rows | None:
        """The test rows of a session under all classes so far; None where its table is not there any more."""
        if number not in self.judged:
            found = arrived.get(number) or reopened(self.folder, number)
            rows = None if found is None else test_rows(fitted.cached(self.config.cache), found, policy(self.config))
            if rows is None or found is None:
                return None
            self.judged[number] = (rows, found.cells(rows.index))
        rows, cells = self.judged[number]
        rows.target = fitted.codec.encode(cells, strict=False)
        return rows

    def _schema(self, table: Table) -> Schema:
        """What the columns mean: said or inferred for the first table, the same for those that follow."""
        if not self.folder.learned_sessions():
            return declared_schema(self.config, table, self.watcher.say)
        return schema_for(Schema.from_json(self.folder.read_json(self.folder.schema)["schema"]), table)


def _sessions(config: StreamConfig, table: Table, schema: Schema, seen: Survey) -> Sessions:
    """How the rows of a table fall into sessions."""
    if schema.target is not None and schema.target.kind == "mask":
        raise UserError("a stream of sessions has classes, labels or numbers; masks are learned with absentia train")
    if not config.one_table:
        return Sessions(np.zeros(len(seen.ids), dtype=np.int64), (table.name,), ((),))
    if config.by:
        if config.by not in table.columns:
            raise UserError(f"--by {config.by}: {table.name} has no such column; {nearest(config.by, table.columns)}")
        return sessions_by_column(
            [c for chunk in table.chunks() for c in chunk.column(config.by).to_pylist()], config.by
        )
    if schema.target is not None and schema.target.kind == "number":
        raise UserError("a number has no classes that sessions could bring; say --by COLUMN")
    return sessions_by_class(
        seen.target,
        train=seen.split == "train",
        count=config.sessions,
        listed=config.classes,
        order=config.order,
        seed=config.seed,
    )
