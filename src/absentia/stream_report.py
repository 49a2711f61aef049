"""What is reported of a stream: the matrix of sessions, the figures drawn from it, and each session in a line."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from absentia.config import StreamConfig
from absentia.data.rows import Rows
from absentia.environment import hardware, versions
from absentia.evaluate.metrics import goodness_sign, main_metric
from absentia.evaluate.query_map import query_map
from absentia.evaluate.streams.contract import completed, session_curves
from absentia.learn.stream import StreamFolder, StreamState, load_state
from absentia.methods.base import Method
from absentia.methods.counted import counted

__all__ = ["looked_into", "stream_report"]

Json = dict[str, Any]
AT_ONCE = 256  # rows of a session that are looked into


def stream_report(folder: StreamFolder, config: StreamConfig, command: str | None = None) -> Json:
    """The content of report.json (`evaluate.streams.contract` says what is in it), from what the sessions wrote."""
    state = load_state(folder)
    abouts = [folder.about(k) for k in range(state.sessions)]
    scores = [_by_session(folder, k) for k in range(state.sessions)]
    codec, names = state.codec, state.fitted.schema.names
    report = {
        "method": config.method,
        "options": dict(config.options),
        "metric": main_metric(codec),
        "higher_is_better": goodness_sign(codec) > 0,
        "names": names,
        "modalities": {name: kind.describe() for name, kind in state.fitted.schema.modalities.items()},
        "seed": config.seed,
        "target": {"column": codec.target.column, "kind": codec.target.kind, "classes": list(codec.target.classes)},
        "plan_sha256": abouts[-1]["plan_sha256"],
        "sessions": [_line(folder, about, row) for about, row in zip(abouts, scores, strict=True)],
        "matrix": _matrix(scores, lambda cell: cell["score"]),
        "matrices": {name: _matrix(scores, _metric(name)) for name in _metrics(scores)},
        "by_pattern": _patterns(scores),
        "curves": session_curves([folder.session(k).losses() for k in range(state.sessions)]),
        "notes": list(dict.fromkeys(note for about in abouts for note in about["notes"])),
        "command": command or "absentia " + shlex.join(sys.argv[1:]),
        "versions": versions(),
        "hardware": hardware(),
        "parameters": counted(state.method),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **_kept(folder, state),
    }
    return completed(report)


@torch.inference_mode()
def looked_into(method: Method, rows: Mapping[int, Rows]) -> Json:
    """What a page shows of the inside: true and reconstructed queries, and which components each session uses."""
    method.eval()
    found: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    labels: dict[str, list[str]] = {}
    usage: dict[str, list[list[float]]] = {}
    for number, part in rows.items():
        batch = part.batch(np.arange(min(len(part), AT_ONCE)))
        batch = batch.select(~batch.empty, method.parts.names)
        for name, pair in method.reconstructions(batch).items():
            found.setdefault(name, []).append(pair)
            labels.setdefault(name, []).extend([f"session {number}"] * len(pair[0]))
        for pool, shares in method.usage(batch).items():
            usage.setdefault(pool, []).append(shares.tolist())
    maps = [_map(name, pairs, labels[name]) for name, pairs in found.items() if sum(len(t) for t, _ in pairs) > 1]
    return {"queries": maps, "usage": usage}


def _map(name: str, pairs: Sequence[tuple[torch.Tensor, torch.Tensor]], labels: Sequence[str]) -> Json:
    true, made = (torch.cat([pair[i] for pair in pairs]).float().cpu().numpy() for i in (0, 1))
    return query_map(true, made, labels, modality=name)


def _by_session(folder: StreamFolder, number: int) -> dict[int, Json]:
    own = folder.session(number)
    return {cell["session"]: cell for cell in own.read_json(own.scores)["sessions"]}


def _matrix(scores: Sequence[Mapping[int, Json]], read: Callable[[Json], Any]) -> list[list[float | None]]:
    """R[t][i] for i <= t; None where a session could not be judged."""
    return [[read(row[i]) if i in row else None for i in range(t + 1)] for t, row in enumerate(scores)]


def _metrics(scores: Sequence[Mapping[int, Json]]) -> list[str]:
    return list(dict.fromkeys(name for row in scores for cell in row.values() for name in cell["metrics"]))


def _metric(name: str) -> Callable[[Json], Any]:
    return lambda cell: cell["metrics"].get(name)


def _pattern(name: str) -> Callable[[Json], Any]:
    return lambda cell: cell["patterns"].get(name, {}).get("score")


def _patterns(scores: Sequence[Mapping[int, Json]]) -> dict[str, list[list[float | None]]]:
    names = dict.fromkeys(name for row in scores for cell in row.values() for name in cell["patterns"])
    return {name: _matrix(scores, _pattern(name)) for name in names}


def _line(folder: StreamFolder, about: Json, scores: Mapping[int, Json]) -> Json:
    own = scores.get(about["number"], {"n": 0})
    return {
        "number": about["number"],
        "name": about["name"],
        "classes": _arrived(about),
        "rows": about["rows"],
        "judged": own["n"],
        "p_incomplete": {"train": about["p_incomplete"]},
        "patterns": about["patterns"],
        "seconds": about["seconds"],
        "steps": about["steps"],
        "bytes": about["bytes"],
        "plan_sha256": about["plan_sha256"],
        "notes": about["notes"],
    }


def _arrived(about: Json) -> list[str]:
    """The classes that a session brought."""
    return list(about["known"][about["before"] :])


def _kept(folder: StreamFolder, state: StreamState) -> Json:
    """What was looked into when the last session was scored."""
    path = folder.session(state.sessions - 1).inside
    return folder.read_json(path) if path.exists() else {}
