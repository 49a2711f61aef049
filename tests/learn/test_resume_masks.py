"""A training on masks, with crops and mirrors, that is killed by SIGKILL and resumed ends as if nothing had been."""

from __future__ import annotations

import json
import multiprocessing
import signal
from pathlib import Path
from typing import Any

from tests import scans, tiny
from tests.crash import IMPORTS, die

from absentia.config import RunConfig
from absentia.data.segmentation import Masks
from absentia.jobs import train_run

CLOCK = {"created", "seconds", "command", "hardware"}


def settings() -> RunConfig:
    masks = Masks(regions=scans.BRAIN, crop=[8], flips=True, intensity=0.1, window=[8])
    return scans.config("dropout", reference=False, masks=masks)


def run(out: str, kill: int = 0, resume: bool = False) -> None:
    heard = tiny.Heard(lambda done: die() if done == kill else None)
    train_run(settings(), out, source=scans.table(scans.rows()), resume=resume, watcher=heard)


def told(out: Path) -> dict[str, Any]:
    report = json.loads((out / "report.json").read_text())
    return {key: value for key, value in report.items() if key not in CLOCK}


def test_a_killed_run_loses_nothing(tmp_path: Path) -> None:
    run(str(tmp_path / "whole"))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*IMPORTS, "monai.networks.nets"])
    process = context.Process(target=run, args=(str(tmp_path / "killed"), 3))
    process.start()
    process.join(240)
    assert process.exitcode == -signal.SIGKILL
    run(str(tmp_path / "killed"), resume=True)
    for name in ("weights.safetensors", "schema.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes(), name
    assert tiny.metrics(tmp_path / "whole") == tiny.metrics(tmp_path / "killed")
    assert told(tmp_path / "whole") == told(tmp_path / "killed")
