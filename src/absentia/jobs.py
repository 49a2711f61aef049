"""The jobs behind the commands: train, evaluate, predict. Each takes settings and gives back what it found."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from absentia.config import RunConfig, config_to
from absentia.data.absence import MaskPlan
from absentia.data.catalog import open_source
from absentia.data.dense_rows import DenseRows
from absentia.data.rows import OnBad, Rows
from absentia.data.schema import Schema
from absentia.data.spacings import of_rows, unlike
from absentia.data.splits import SPLITS
from absentia.data.table import Table
from absentia.data.target import is_known
from absentia.declared import declared_schema
from absentia.errors import UserError, nearest
from absentia.evaluate.patterns import chosen_patterns, validate
from absentia.evaluate.scoring import score_patterns
from absentia.learn.backbones import backbone_of
from absentia.learn.build import build_method, fitted_from, patterns_seen
from absentia.learn.folder import RunFolder
from absentia.learn.identity import identity_of
from absentia.learn.loop import Listener, Loop, Validation
from absentia.learn.prepare import Fitted, Prepared, Survey, prepare, rows_of, survey
from absentia.learn.run import Run, read_config, save_method, save_setup
from absentia.learn.session import rows_to_close
from absentia.methods.base import Bools, Method, Stage
from absentia.run_report import bad_cells, run_report, write_page

__all__ = [
    "Watcher",
    "declared_schema",
    "evaluate_run",
    "fitted_before",
    "part_of",
    "prepared_rows",
    "rows_of_part",
    "train_run",
]

MOST_VALIDATED = 31  # patterns looked at in a validation; more are thinned out evenly


class Watcher(Listener, Protocol):
    """Who watches a whole job."""

    def say(self, line: str) -> None:
        """A remark for people."""

    def part(self, name: str) -> None:
        """The training of a method begins ("dropout", "ignore as reference")."""

    def reading(self, what: str, done: int, total: int) -> None:
        """Rows of a split are being read."""


class Quiet:
    """Nobody watches."""

    def say(self, line: str) -> None: ...
    def part(self, name: str) -> None: ...
    def reading(self, what: str, done: int, total: int) -> None: ...
    def begin(self, stage: str, steps: int, done: int) -> None: ...
    def step(self, loss: float) -> None: ...
    def validated(self, result: Validation, best: bool) -> None: ...


def train_run(
    config: RunConfig,
    out: str | Path,
    *,
    resume: bool = False,
    source: Any = None,
    schema: Schema | None = None,
    plan: MaskPlan | None = None,
    watcher: Watcher | None = None,
    command: str | None = None,
    page: bool = True,
) -> dict[str, Any]:
    """Train a method (and the reference), score every pattern, write the run folder; returns report.json's content.

    source: the opened table or anything `open_table` takes, where it is not `config.table`.
    schema: what its columns mean, where the settings do not say all of it.
    plan: the mask plan, where it is not a file.  page: whether report.html is written now (`write_page` does it later).
    Raises `UserError` for everything a user can mend.
    """
    watcher = watcher or Quiet()
    folder = RunFolder(out)
    table = source if isinstance(source, Table) else open_source(config.table if source is None else source)
    schema = schema or declared_schema(config, table, watcher.say)
    seen = survey(table, schema)
    if plan is None and config.plan:
        plan = MaskPlan.load(config.plan)
    with folder.undone():
        folder.create(resume=resume)
        identity = identity_of(folder, config, plan, seen, resume)
        if resume and folder.report.exists():  # it is written last: nothing is left to do
            _drop_checkpoints(folder)
            return folder.read_json(folder.report)
        known = fitted_before(folder, resume)
        backbone = None if known else backbone_of(config.model)
        data = prepared_rows(config, table, schema, seen, plan, watcher, fitted=known, backbone=backbone)
        report = _trained(config, folder, data, seen, plan, identity, watcher)
    report["command"] = command or "absentia train " + shlex.join(sys.argv[2:])
    if page:
        write_page(folder, report)
    folder.write_json(folder.report, report)
    _drop_checkpoints(folder)
    return report


def _trained(
    config: RunConfig,
    folder: RunFolder,
    data: Prepared,
    seen: Survey,
    plan: MaskPlan | None,
    identity: str,
    watcher: Watcher,
) -> dict[str, Any]:
    """Train the method and the reference on prepared rows, and say how they do."""
    for note in data.notes:
        watcher.say(note)
    patterns_of_train = patterns_seen(data.rows["train"].presence)
    setup = save_setup(
        folder,
        data.fitted,
        method=config.method,
        options=config.options,
        model=config_to(config.model),
        seed=config.seed,
        seen=patterns_of_train,
        train_presence=data.rows["train"].presence,
        plan_sha256=plan.sha256 if plan else None,
        spacings=of_rows(data.rows["train"]),
    )
    if plan is not None:
        plan.save(folder.plan)
    study = _Study(config, folder, data, setup, patterns_of_train, identity, watcher)
    method, seconds, notes = study.train(config.method, "")
    reference, reference_seconds = None, None
    if config.reference and config.method != "ignore":
        reference, reference_seconds, _ = study.train("ignore", "reference")
    report = run_report(config, data, method, reference, seen, [*data.notes, *notes])
    report["seconds"] |= {"train": seconds, "reference": reference_seconds}
    return report


def fitted_before(folder: RunFolder, resume: bool) -> Fitted | None:
    """What an interrupted run has fitted already, if this one goes on with it."""
    return fitted_from(folder.read_json(folder.schema)) if resume and folder.schema.exists() else None


def prepared_rows(
    config: RunConfig,
    table: Table,
    schema: Schema,
    seen: Survey,
    plan: MaskPlan | None,
    watcher: Watcher,
    **how: Any,
) -> Prepared:
    """The rows of a training, of which there are enough for a step; `how` as `prepare` has it."""
    on_bad: OnBad = config.on_bad  # type: ignore[assignment]
    reading = watcher.reading
    data = prepare(table, schema, plan=plan, on_bad=on_bad, advance=reading, seen=seen, cache=config.cache, **how)
    data.rows["train"].check_steps(config.training.batch)
    return data


def _drop_checkpoints(folder: RunFolder) -> None:
    for part in ("", "reference"):
        folder.checkpoint(part).unlink(missing_ok=True)


def evaluate_run(
    run: Run,
    source: Any,
    *,
    patterns: Sequence[str] = (),
    on_bad: OnBad = "error",
    part: str | None = None,
    plan: MaskPlan | None = None,
) -> dict[str, Any]:
    """Score a finished run on a table; returns the scores of report.json.

    part: which rows: train, val, test, all, or "report" for those that the run's own report is about; None takes the
        test rows where a split column marks some, else all.
    plan: hides what it hides in these rows first.
    """
    table = source if isinstance(source, Table) else open_source(source)
    schema = run.fitted.schema
    own = {role: getattr(schema, role) for role in ("id", "split") if getattr(schema, role) in table.columns}
    schema = replace(schema, **({"id": None, "split": None} | own))
    seen = survey(table, schema)
    known = np.asarray([is_known(cell) for cell in seen.target])
    index = rows_of_part(known, seen.split, part_of(seen, schema, part), table.name)
    presence = seen.presence if plan is None else seen.presence & _kept(plan, seen, schema)
    rows = rows_of(
        table,
        run.fitted,
        on_bad=on_bad,
        ids=[seen.ids[i] for i in index],
        presence=presence[index],
        index=index,
        target=[seen.target[i] for i in index],
    )
    chosen = chosen_patterns(schema.names, patterns, rows.presence)
    report, _ = score_patterns(run.method, run.reference, rows, chosen, _trained_presence(run.setup))
    return report | {
        "method": run.method.name,
        "reference_method": run.reference.name if run.reference else None,
        "plan_sha256": plan.sha256 if plan else None,
        "table": table.name,
        "bad_cells": bad_cells(rows.bad, on_bad),
        "notes": [*rows.remarkable.notes(run.fitted.decoders), *_unlike(run, rows)],
    }


def _unlike(run: Run, rows: Rows) -> list[str]:
    """Whose voxels are not as large as those that the run learned from."""
    return unlike(rows.spacings(), run.spacings) if isinstance(rows, DenseRows) else []


def own_table(run: Run, plan: MaskPlan | None) -> tuple[Table, MaskPlan | None]:
    """The table that a run was trained on, and its mask plan unless another one is given."""
    config = read_config(run.folder)
    table = open_source(config.table)
    if plan is None and run.folder.plan.exists():
        plan = MaskPlan.load(run.folder.plan)
    return table, plan


def _kept(plan: MaskPlan, seen: Survey, schema: Schema) -> Bools:
    """What the plan keeps of the run's modalities, bool (N, M); it may speak of more than the run learned."""
    everything = np.ones((len(seen.ids), len(plan.modalities)), dtype=np.bool_)
    kept = plan.apply(seen.ids, everything, list(seen.split) if schema.split else None)
    for name in schema.names:
        if name not in plan.modalities:
            raise UserError(f"the mask plan says nothing about {name!r}; {nearest(name, plan.modalities)}")
    return kept[:, [plan.modalities.index(name) for name in schema.names]]


def part_of(seen: Survey, schema: Schema, asked: str | None) -> str:
    """The part of a table that is asked for, train, val, test or all; see `evaluate_run`."""
    tested = bool((seen.split == "test").any())
    if asked is None:
        return "test" if schema.split and tested else "all"
    part = ("test" if tested else "val") if asked == "report" else asked
    if part != "all" and part not in SPLITS:
        raise UserError(f"--part {part!r}: {nearest(part, [*SPLITS, 'all'])}")
    return part


def rows_of_part(known: Bools, split: npt.NDArray[np.str_], part: str, name: str) -> npt.NDArray[np.int64]:
    """The numbers of a part's rows whose target is known, bool (N,); raises `UserError` where there are none."""
    mine = known if part == "all" else known & (split == part)
    if not mine.any():
        raise UserError(f"{name} has no {'rows' if part == 'all' else part + ' rows'} with a target")
    return np.flatnonzero(mine)


def _trained_presence(setup: Mapping[str, Any]) -> Bools:
    """The training rows' presence, bool (N, M), from its counts."""
    patterns = np.asarray([row for row, _ in setup["train_presence"]], dtype=np.bool_)
    return np.repeat(patterns, [count for _, count in setup["train_presence"]], axis=0)


@dataclass(frozen=True)
class _Study:
    """One run's trainings: the method and the reference, on the same rows with the same budget."""

    config: RunConfig
    folder: RunFolder
    data: Prepared
    setup: Mapping[str, Any]
    seen: Bools
    identity: str
    watcher: Watcher

    def train(self, name: str, part: str) -> tuple[Method, float, list[str]]:
        """A trained method, its seconds, and remarks."""
        self.watcher.part(f"{name} as reference" if part else name)
        method = build_method(
            name,
            self.data.fitted,
            self.config.model,
            seed=self.config.seed,
            seen=self.seen,
            options={} if part else self.config.options,
        )
        loop = Loop(
            method=method,
            rows=self.data.rows["train"],
            settings=self.config.training,
            seed=self.config.seed,
            folder=self.folder,
            validate=self._validate(),
            run=self.identity,
            part=part,
            listener=self.watcher,
        )
        method.begin_session(partial(rows_to_close, self.data.rows["train"]))
        position = loop.fit()
        method.close_session(partial(rows_to_close, self.data.rows["train"]))
        told = method.remarks(self.data.rows["train"].presence)
        notes = [*told, *position.notes, *method.check(partial(rows_to_close, self.data.rows["val"]))]
        save_method(self.folder, self.setup, method, part)
        return method, round(position.seconds, 2), notes

    def _validate(self) -> Callable[[Method, Stage], Validation]:
        rows = self.data.rows["val"]
        patterns = chosen_patterns(self.data.names, self.config.patterns, rows.presence)
        thinned = patterns[np.linspace(0, len(patterns) - 1, min(len(patterns), MOST_VALIDATED)).astype(int)]
        return partial(validate, rows=rows, patterns=thinned, codec=self.data.fitted.codec)
