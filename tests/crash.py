"""Runs that are killed: functions for a process of their own, which ends by SIGKILL at a chosen moment."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests import conftest as conftest  # its settings hold in the other process too
from tests import tiny

from absentia import jobs, run_report
from absentia.evaluate import report as page
from absentia.learn import folder
from absentia.learn import run as run_module

__all__ = ["kill_run"]

IMPORTS = ["absentia.jobs", "torch._dynamo", "torch._inductor", "sklearn.utils", "tokenizers", "tests.tiny"]
"""What a run imports sooner or later: it takes longer than the run itself, and is done once for all of them."""
Moment = tuple[str, int]
"""What is going on, and the how-manieth time: ("step", 3) is within the third step of the whole run."""


def kill_run(moment: Moment, out: Path, *, resume: bool = False, **settings: Any) -> None:
    """Start or resume a run on the tiny table in another process and see that it is killed at `moment`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTS)
    process = context.Process(target=_run_until_killed, args=(moment, str(out), resume, settings))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL, f"the run was not killed at {moment}: exit {process.exitcode}"


def _run_until_killed(moment: Moment, out: str, resume: bool, settings: dict[str, Any]) -> None:
    assert torch.get_num_threads() == 1
    what, count = moment
    heard = tiny.Heard(lambda done: die() if what == "step" and done == count else None)
    with pytest.MonkeyPatch.context() as patch:
        if what != "step":
            PLACES[what](patch, count)
        jobs.train_run(tiny.config(**settings), out, source=tiny.table(tiny.rows()), resume=resume, watcher=heard)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _counted(patch: pytest.MonkeyPatch, place: Any, name: str, count: int, before: Callable[..., object]) -> None:
    """At the `count`-th call of `place.name`, do `before` (with the call's arguments) and die."""
    real, calls = getattr(place, name), [0]

    def counted(*args: Any, **more: Any) -> Any:
        calls[0] += 1
        if calls[0] == count:
            before(*args, **more)
            die()
        return real(*args, **more)

    patch.setattr(place, name, counted)


def _half(tensors: Any, path: Path, metadata: Any) -> None:
    """Half of a safetensors file."""
    from safetensors.torch import save_file

    save_file(tensors, path, metadata=metadata)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _nothing(*args: Any, **more: Any) -> None: ...


PLACES: dict[str, Callable[[pytest.MonkeyPatch, int], None]] = {
    "writing tensors": lambda patch, count: _counted(patch, folder, "save_file", count, _half),
    "exchanging files": lambda patch, count: _counted(patch, Path, "replace", count, _nothing),
    "preparing": lambda patch, count: _counted(patch, jobs, "prepare", count, _nothing),
    "scoring": lambda patch, count: _counted(patch, run_report, "score_patterns", count, _nothing),
    "drawing the page": lambda patch, count: _counted(patch, page, "render", count, _nothing),
    "clearing up": lambda patch, count: _counted(patch, jobs, "_drop_checkpoints", count, _nothing),
    "saving what was learned": lambda patch, count: _counted(patch, run_module, "save_tensors", count, _nothing),
}
