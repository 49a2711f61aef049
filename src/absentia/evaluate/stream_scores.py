"""Scores of a method on the rows of every session so far: as they are, and pattern by pattern."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from absentia.data.rows import Rows
from absentia.data.schema import pattern_name
from absentia.evaluate.continual import f1_released
from absentia.evaluate.metrics import score
from absentia.evaluate.patterns import Answers, answer, answer_patterns
from absentia.methods.base import Bools, Method

__all__ = ["score_sessions"]


def score_sessions(method: Method, rows: Mapping[int, Rows], patterns: Bools) -> list[dict[str, Any]]:
    """For each session its number, n, the main score, all metrics, and the score of each pattern (None: no row)."""
    return [{"session": number, **_scored(method, part, patterns)} for number, part in rows.items()]


def _scored(method: Method, rows: Rows, patterns: Bools) -> dict[str, Any]:
    names = method.parts.names
    given = _score(method, rows, answer(method, rows))
    each = zip(patterns, answer_patterns(method, rows, patterns), strict=True)
    by_pattern = {pattern_name(names, pattern.tolist()): _score(method, rows, found) for pattern, found in each}
    return {
        "n": len(rows),
        "score": given["score"],
        "metrics": given["metrics"],
        "patterns": {name: {"n": found["n"], "score": found["score"]} for name, found in by_pattern.items()},
    }


def _score(method: Method, rows: Rows, answers: Answers) -> dict[str, Any]:
    assert rows.target is not None
    where = answers.positions
    codec, target = method.parts.codec, rows.target[where]
    found = score(answers.probabilities, target, [rows.ids[p] for p in where], codec, interval=False)
    metrics = {name: None if value is None else float(value) for name, value in found.metrics.items()}
    if codec.target.kind == "labels":
        metrics["f1_released"] = f1_released(answers.probabilities, target)
    return {"n": int(np.size(where)), "score": found.score, "metrics": metrics}
