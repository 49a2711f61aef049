"""The report of a run: scores of every pattern, and everything that a reader needs to believe them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from absentia.config import RunConfig, config_to
from absentia.data.absence import MaskPlan
from absentia.data.rows import BadCellRecord
from absentia.data.schema import Target
from absentia.environment import hardware, versions
from absentia.evaluate.examples import examples
from absentia.evaluate.patterns import chosen_patterns
from absentia.evaluate.reconstruction import reconstruction
from absentia.evaluate.scoring import score_patterns, split_summary
from absentia.evaluate.slices import slices
from absentia.learn.folder import RunFolder
from absentia.learn.prepare import Prepared, Survey
from absentia.methods.base import Method
from absentia.methods.counted import counted

__all__ = ["bad_cells", "run_report", "write_page"]

LISTED = 200  # bad cells named in the report


def run_report(
    config: RunConfig,
    data: Prepared,
    method: Method,
    reference: Method | None,
    seen: Survey,
    notes: Sequence[str],
) -> dict[str, Any]:
    """What is found on the test rows, or where there are none on those of validation, and how it came about."""
    started = time.monotonic()
    rows = data.rows["test"] if len(data.rows["test"]) else data.rows["val"]
    patterns = chosen_patterns(data.names, config.patterns, rows.presence)
    report, answers = score_patterns(method, reference, rows, patterns, data.rows["train"].presence)
    codec = data.fitted.codec
    bad = [record for part in data.rows.values() for record in part.bad]
    return report | {
        "method": method.name,
        "reference_method": reference.name if reference else None,
        "seed": config.seed,
        "target": _target(codec.target),
        "plan_sha256": data.plan.sha256 if data.plan else None,
        "plan": _plan_rates(data.plan, seen, data),
        "splits": split_summary(data.rows, data.names),
        "bad_cells": bad_cells(bad, config.on_bad),
        "notes": list(notes),
        "examples": examples(rows, patterns, answers, codec),
        "slices": slices(method, rows, patterns),
        "reconstruction": reconstruction(method, rows, data.rows["train"], patterns),
        "versions": versions(),
        "hardware": hardware(),
        "parameters": counted(method),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": {"evaluate": round(time.monotonic() - started, 2)},
        "config": config_to(config),
        "backbone": data.fitted.backbone.describe() if data.fitted.backbone else None,
    }


def _target(target: Target) -> dict[str, Any]:
    masks = {"masks": target.masks.to_json()} if target.kind == "mask" else {}
    return {"column": target.column, "kind": target.kind, "classes": list(target.classes)} | masks


def write_page(folder: RunFolder, report: Mapping[str, Any]) -> None:
    """Write report.html for a report and the metrics that are in the folder."""
    from absentia.evaluate.report import render  # brings matplotlib, which no training waits for

    lines = folder.metrics.read_text(encoding="utf-8").splitlines() if folder.metrics.exists() else []
    folder.write_text(folder.page, render(report, [json.loads(line) for line in lines]))


def _plan_rates(plan: MaskPlan | None, seen: Survey, data: Prepared) -> dict[str, Any] | None:
    if plan is None:
        return None
    rates = plan.realised(seen.ids, seen.presence, list(seen.split))
    return {
        "about": plan.about,
        "asked": {split: found["asked"] for split, found in rates.items()},
        "realised": {split: found["together"] for split, found in rates.items()},
        "emptied": {split: found["emptied"] for split, found in rates.items()},
    }


def bad_cells(bad: Sequence[BadCellRecord], policy: str) -> dict[str, Any]:
    """Cells that could not be read, the first of them named."""
    cells = [{"row": b.row, "column": b.column, "reason": b.reason, "became": b.became} for b in bad[:LISTED]]
    return {"policy": policy, "count": len(bad), "cells": cells}
