"""The job behind `absentia pretrain`: a backbone from a table, without labels unless there are some."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from absentia.config import RunConfig, config_to
from absentia.data.absence import MaskPlan
from absentia.data.catalog import open_source
from absentia.data.presence import count_patterns
from absentia.data.rows import Rows
from absentia.data.schema import Schema
from absentia.data.table import Table
from absentia.declared import declared_schema
from absentia.environment import versions
from absentia.errors import UserError, nearest
from absentia.jobs import Quiet, Watcher, fitted_before, prepared_rows
from absentia.learn.backbones import save_backbone
from absentia.learn.build import fitted_to, make_method, patterns_seen
from absentia.learn.folder import RunFolder
from absentia.learn.identity import identity_of
from absentia.learn.loop import Loop, Validation
from absentia.learn.prepare import Prepared, survey
from absentia.methods.base import Method, Stage
from absentia.methods.imagining import Imagining
from absentia.methods.pretraining import Pretraining

__all__ = ["described", "pretrain_run", "validate_losses"]

KINDS: dict[str, type[Pretraining | Imagining]] = {"pretraining": Pretraining, "universal": Imagining}
SPLITS = ("train", "val")  # the test rows stay unseen, here too
AT_ONCE = 256


def pretrain_run(
    config: RunConfig,
    out: str | Path,
    *,
    resume: bool = False,
    source: Any = None,
    watcher: Watcher | None = None,
) -> dict[str, Any]:
    """Pretrain a backbone, write its folder, and return config.json's content; its `saw` says what it has seen.

    source: the opened table or anything `open_table` takes, where it is not `config.table`.
    Raises `UserError` for everything a user can mend.
    """
    watcher = watcher or Quiet()
    if config.model.backbone is not None:
        raise UserError("pretrain makes a backbone from scratch; leave model.backbone away")
    folder = RunFolder(out)
    config = replace(config, method=_kind(config).name)
    table = source if isinstance(source, Table) else open_source(config.table if source is None else source)
    schema = declared_schema(config, table, watcher.say, need_target=False)
    schema = schema if config.target else replace(schema, target=None)
    if _is_dense(schema) and not _kind(config).dense:
        raise UserError("a mask is answered by a dense network, which is pretrained with --method universal")
    seen = survey(table, schema)
    plan = MaskPlan.load(config.plan) if config.plan else None
    with folder.undone():
        folder.create(resume=resume)
        identity = identity_of(folder, config, plan, seen, resume)
        done = folder.path / "config.json"
        if resume and done.exists():
            _clear(folder)
            return folder.read_json(done)
        known, labels = fitted_before(folder, resume), not _is_dense(schema)  # masks stay closed
        how = {"fitted": known, "splits": SPLITS, "labels": labels}
        data = prepared_rows(config, table, schema, seen, plan, watcher, **how)
        folder.write_json(folder.schema, fitted_to(data.fitted))
        method = _trained(config, data, folder, identity, watcher)
    saw = _saw(config, data, method) | _kept(folder)
    beside = method.beside() if isinstance(method, Imagining) else {}
    content = save_backbone(folder.path, method.backbone, data.fitted, config.model, saw, beside)
    _clear(folder)
    return content


@torch.inference_mode()
def validate_losses(method: Method, stage: Stage, *, rows: Rows) -> Validation:
    """The mean of each loss over held-out rows, with the same questions every time; less is better."""
    summed: dict[str, float] = {}
    weight: dict[str, int] = {}
    for number, positions in enumerate(rows.portions(AT_ONCE)):
        batch = rows.batch(positions, number)
        batch = batch.select(~batch.empty, method.parts.names)
        if not len(batch):
            continue
        draw = torch.Generator().manual_seed(number)
        for name, loss in method.losses(batch.to(method.prior.device), stage, draw).items():
            summed[name] = summed.get(name, 0.0) + float(loss) * len(batch)
            weight[name] = weight.get(name, 0) + len(batch)
    means = {name: total / weight[name] for name, total in summed.items()}
    return Validation(patterns=means, goodness=-sum(means.values()) if means else -np.inf)


def described(made: dict[str, Any]) -> list[str]:
    """What a backbone saw, in words."""
    saw, model = made["saw"], made["model"]
    rows = " and ".join(f"{count:,} {split}" for split, count in saw["rows"].items())
    patterns = ", ".join(f"{count:,} {pattern}" for pattern, count in list(saw["presence"].items())[:8])
    losses = ", ".join(f"{name} {loss:.3f}" for name, loss in saw["validation"].items())
    what = f"backbone of width {model['width']} and depth {model['depth']}"
    what = what if made["kind"] == "fused" else f"dense network, {model['network']},"
    return [
        f"A {what} saw {saw['table']}: {rows} rows",
        f"  of the train rows {patterns}",
        f"  {saw['steps']:,} of {saw['steps_made']:,} steps, seed {saw['seed']}, target {saw['target'] or 'none'}",
        f"  losses on held-out rows: {losses or 'there are none'}",
    ]


def _kind(config: RunConfig) -> type[Pretraining | Imagining]:
    """How to pretrain: the method of the settings, where they name one."""
    if config.method not in (RunConfig.method, *KINDS):
        raise UserError(f"there is no pretraining {config.method!r}; {nearest(config.method, KINDS)}")
    return KINDS.get(config.method, Pretraining)


def _is_dense(schema: Schema) -> bool:
    return schema.target is not None and schema.target.kind == "mask"


def _trained(
    config: RunConfig, data: Prepared, folder: RunFolder, identity: str, watcher: Watcher
) -> Pretraining | Imagining:
    for note in data.notes:
        watcher.say(note)
    watcher.part("pretraining")
    rows = data.rows["train"]
    seen = patterns_seen(rows.presence)
    kind: type[Any] = _kind(config)
    method: Pretraining | Imagining = make_method(
        kind, data.fitted, config.model, seed=config.seed, seen=seen, options=config.options
    )
    loop = Loop(
        method=method,
        rows=rows,
        settings=config.training,
        seed=config.seed,
        folder=folder,
        validate=partial(validate_losses, rows=data.rows["val"]),
        run=identity,
        listener=watcher,
    )
    loop.fit()
    return method


def _saw(config: RunConfig, data: Prepared, method: Pretraining | Imagining) -> dict[str, Any]:
    """Exactly what the backbone was trained on."""
    ids = [key for split in SPLITS for key in data.rows[split].ids]
    return {
        "table": config.table,
        "rows": {split: len(data.rows[split]) for split in SPLITS},
        "ids_sha256": hashlib.sha256(repr(ids).encode()).hexdigest(),
        "presence": count_patterns(data.rows["train"].presence, data.names),
        "plan_sha256": data.plan.sha256 if data.plan else None,
        "target": None if data.rows["train"].target is None else config.target,
        "objectives": config_to(method.options),
        "training": config_to(config.training),
        "seed": config.seed,
        "versions": versions(),
        "notes": list(data.notes),
    }


def _kept(folder: RunFolder) -> dict[str, Any]:
    """How many steps made the weights that were kept, of how many, and their losses on held-out rows."""
    lines = [json.loads(line) for line in folder.metrics.read_text(encoding="utf-8").splitlines()]
    validated = [line for line in lines if line["event"] == "validate"]
    scored = [line for line in validated if line["score"] is not None]
    best = min(scored, key=lambda line: float(line["score"])) if scored else validated[-1]
    return {"steps": best["step"], "steps_made": validated[-1]["step"], "validation": best["patterns"]}


def _clear(folder: RunFolder) -> None:
    """Take away what only a training that goes on needs."""
    for path in (folder.schema, folder.checkpoint()):
        path.unlink(missing_ok=True)
