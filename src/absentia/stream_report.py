"""What is reported of a stream: the matrix of sessions, the numbers drawn from it, and each session in a line."""

from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime
from typing import Any

from absentia.config import StreamConfig, config_to
from absentia.evaluate.metrics import goodness_sign, main_metric
from absentia.jobs import hardware, versions
from absentia.learn.stream import StreamFolder, load_state

__all__ = ["stream_report", "write_stream_page"]

Json = dict[str, Any]


def stream_report(folder: StreamFolder, config: StreamConfig, command: str | None = None) -> Json:
    """The content of report.json, from what the sessions wrote."""
    state = load_state(folder)
    abouts = [folder.about(k) for k in range(state.sessions)]
    scores = [folder.session(k).read_json(folder.session(k).scores)["sessions"] for k in range(state.sessions)]
    codec = state.codec
    return {
        "kind": "stream",
        "method": config.method,
        "abouts": abouts,
        "scores": scores,
        "metric": main_metric(codec),
        "sign": goodness_sign(codec),
        "config": config_to(config),
        "command": command or "absentia " + shlex.join(sys.argv[1:]),
        "versions": versions(),
        "hardware": hardware(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write_stream_page(folder: StreamFolder, report: Json) -> None:
    pass
