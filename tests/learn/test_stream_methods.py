"""Streams as the command learns them, by methods that need more of a session than its steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests import tiny

from absentia.config import StreamConfig
from absentia.learn.stream import StreamFolder, changed, load_state
from absentia.streams import learn_run

NAMES = ["words", "facts"]


def stream(folder: Path, method: str, **more: Any) -> dict[str, Any]:
    base = tiny.config(method, names=NAMES, options=more.pop("options", {}))
    given = {name: getattr(base, name) for name in ("modality", "target", "method", "model", "training", "options")}
    config = StreamConfig(table="tiny", id="id", split="split", classes=[["ant", "bee"], ["cat"]], **given)
    return learn_run(config, folder, source=tiny.table(tiny.rows()), page=False, **more)


PLAIN = (
    "prototypes",
    "replay",
    "joint",
    "ewc",
    "lwf",
    "coda",
    "dualprompt",
    "modulation",
    "joint-embedding",
    "single-branch",
)
OPTIONS: dict[str, dict[str, Any]] = {name: {} for name in PLAIN} | {
    "rebq": {"queries": "standardised", "head": "gaussian"}
}


@pytest.mark.parametrize("method", OPTIONS)
def test_session_by_session_and_killed_is_the_whole_stream(method: str, tmp_path: Path) -> None:
    options = OPTIONS[method]
    report = stream(tmp_path / "whole", method, options=options)
    for number in (0, 1) if method != "prototypes" else ():
        with pytest.raises(tiny.Killed):
            stream(tmp_path / "run", method, options=options, session=number, watcher=tiny.killer(2))
        stream(tmp_path / "run", method, options=options, session=number)
    again = stream(tmp_path / "run", method, options=options)
    whole, parts = (load_state(StreamFolder(tmp_path / name)).tensors for name in ("whole", "run"))
    assert whole.keys() == parts.keys() and not changed(whole, parts)
    assert again["matrix"] == report["matrix"]


def test_replay_sees_rows_again(tmp_path: Path) -> None:
    seen = {}
    for method, options in (("replay", {"memory": 5}), ("joint", {}), ("finetune", {})):
        stream(tmp_path / method, method, options=options)
        folder = StreamFolder(tmp_path / method)
        again = [note for note in folder.about(1)["notes"] if "seen again" in note]
        seen[method] = int(again[0].split()[0]) if again else 0
    assert seen["joint"] == folder.about(0)["rows"]["train"]
    assert 0 < seen["replay"] <= 5 and seen["finetune"] == 0
