"""The demonstration of continual learning: a backbone that is made first, then two methods on the same sessions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from absentia.config import Model, RunConfig, StreamConfig, Training
from absentia.data.absence import MaskPlan
from absentia.data.absence_rules import Rule
from absentia.data.catalog import open_source
from absentia.data.table import Table
from absentia.errors import UserError
from absentia.evaluate.streams.side_by_side import write_streams
from absentia.jobs import Watcher
from absentia.pretrain import pretrain_run
from absentia.streams import learn_run

__all__ = ["continual_demo"]

STREAM, OUTSIDE = "glyphs-cmml", "glyphs-outside"
INCOMPLETE = 0.7
PRETRAINING = 6.0  # epochs
BESIDE = "finetune"
OPTIONS: dict[str, dict[str, Any]] = {"rebq": {"head": "ridge"}}  # what a small backbone and few steps need


def continual_demo(
    out: str | Path, *, method: str, seed: int, epochs: float, watcher: Watcher, command: str
) -> dict[str, Any]:
    """Pretrain on characters of no class, learn five sessions of five scripts, and the same by fine-tuning.

    Seven of ten rows of every split are incomplete. Writes `backbone`, one folder for each method and a page with both
    below `out`; what is there already is not made again. Returns the report of the method.
    """
    out, table = Path(out), open_source(STREAM)
    if (out / "config.yaml").exists():
        raise UserError(f"{out} holds a run; say another --out")
    backbone, plan = out / "backbone", _plan(table, seed)
    watcher.say("a backbone first, from characters of none of the classes")
    pretrain_run(
        RunConfig(table=OUTSIDE, seed=seed, training=Training(epochs=PRETRAINING, patience=None)),
        backbone,
        resume=backbone.exists(),
        watcher=watcher,
    )
    config = StreamConfig(table=STREAM, by="session", method=method, seed=seed, training=Training(epochs=epochs))
    reports = []
    for name, frozen in dict.fromkeys([(method, True), (BESIDE, False)]):
        watcher.say(f"five sessions, one after the other, by {name}")
        model = Model(backbone=str(backbone), freeze=frozen)
        settings = replace(config, method=name, options=OPTIONS.get(name, {}), model=model)
        reports.append(learn_run(settings, out / name, plan=plan, watcher=watcher, command=command))
    names = [report["method"] for report in reports]
    write_streams(out / "report.html", reports, names)
    return reports[0]


def _plan(table: Table, seed: int) -> MaskPlan:
    """Proper patterns drawn evenly for seven of ten rows of every split."""
    rows = [row for chunk in table.chunks() for row in chunk.select(["id", "split"]).to_pylist()]
    rule = Rule(p_incomplete=INCOMPLETE)
    return MaskPlan.draw(
        modalities=["image", "text", "properties"],
        splits=[row["split"] for row in rows],
        ids=[row["id"] for row in rows],
        rules=dict.fromkeys(("train", "val", "test"), rule),
        seed=seed,
    )
