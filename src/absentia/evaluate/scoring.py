"""The report of a run: every pattern scored on the same rows, worst first, beside the reference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from absentia.data.presence import count_patterns
from absentia.data.rows import Rows
from absentia.data.schema import pattern_name
from absentia.evaluate.gap import gap_closed
from absentia.evaluate.metrics import Scores, goodness_sign, main_metric, score
from absentia.evaluate.patterns import Answers, answer, answer_patterns
from absentia.methods.base import Method

__all__ = ["score_patterns", "split_summary"]

Bools = npt.NDArray[np.bool_]
FEW = 30  # training rows that can show a pattern, under which the report warns


def score_patterns(
    method: Method, reference: Method | None, rows: Rows, patterns: Bools, trained: Bools
) -> tuple[dict[str, Any], list[Answers]]:
    """The part of report.json about scores, and the method's answers for each of `patterns`.

    `trained` is the presence bool (N, M) of the training rows.
    """
    codec, names = method.parts.codec, method.parts.names
    answers = answer_patterns(method, rows, patterns)
    beside = answer_patterns(reference, rows, patterns) if reference else [None] * len(patterns)
    lines = [
        _line(pattern, a, b, rows, method, trained) for pattern, a, b in zip(patterns, answers, beside, strict=True)
    ]
    full = next((line["score"] for line, p in zip(lines, patterns, strict=True) if p.all()), None)
    sign = goodness_sign(codec)
    for line in lines:
        line["drop"] = None if full is None or line["score"] is None else sign * (full - line["score"])
    given = answer(method, rows)
    given_line = _given(given, answer(reference, rows) if reference else None, rows, method)
    worst_first = sorted(lines, key=lambda x: math.inf if x["score"] is None else sign * x["score"])
    return {
        "metric": main_metric(codec),
        "higher_is_better": sign > 0,
        "modalities": {name: _described(rows, name) for name in names},
        "patterns": worst_first,
        "as_given": given_line,
        "gap": gap_closed(method, rows, patterns, answers),
        **_summary(lines, "score", sign, ""),
        **_summary(lines, "reference", sign, "reference_"),
        "names": list(names),
    }, answers


def split_summary(rows: Mapping[str, Rows], names: Sequence[str]) -> dict[str, Any]:
    """Rows, shares present and patterns of each split."""
    out = {}
    for split, part in rows.items():
        n = max(1, len(part))
        present = part.presence.sum(axis=0) / n
        out[split] = {
            "rows": len(part),
            "present": dict(zip(names, present.tolist(), strict=True)),
            "p_absent": dict(zip(names, (1 - present).tolist(), strict=True)) if len(part) else {},
            "p_incomplete": float((~part.presence.all(axis=1)).sum() / n),
            "patterns": count_patterns(part.presence, names),
        }
    return out


def _described(rows: Rows, name: str) -> dict[str, Any]:
    return rows.schema.modalities[name].describe() | {"columns": list(rows.schema.columns_of(name))}


def _line(
    pattern: Bools, answers: Answers, beside: Answers | None, rows: Rows, method: Method, trained: Bools
) -> dict[str, Any]:
    names = method.parts.names
    scores = _score(answers, rows, method)
    other = _score(beside, rows, method) if beside is not None else None
    shown = int((trained | ~pattern).all(axis=1).sum())
    return {
        "pattern": pattern_name(names, pattern.tolist()),
        "present": dict(zip(names, pattern.tolist(), strict=True)),
        "n": len(answers.positions),
        "score": scores.score,
        "low": scores.low,
        "high": scores.high,
        "reference": other.score if other else None,
        "reference_low": other.low if other else None,
        "reference_high": other.high if other else None,
        "metrics": scores.metrics,
        "trained_rows": shown,
        "note": _note(len(answers.positions), shown),
    }


def _note(tested: int, shown: int) -> str | None:
    if not tested:
        return "no test row has all of it"
    if not shown:
        return "no training row has all of it"
    return f"only {shown} training rows have all of it" if shown < FEW else None


def _given(answers: Answers, beside: Answers | None, rows: Rows, method: Method) -> dict[str, Any]:
    scores = _score(answers, rows, method)
    return {
        "pattern": "as given",
        "n": len(answers.positions),
        "score": scores.score,
        "low": scores.low,
        "high": scores.high,
        "reference": _score(beside, rows, method).score if beside is not None else None,
        "metrics": scores.metrics,
    }


def _score(answers: Answers, rows: Rows, method: Method) -> Scores:
    assert rows.target is not None
    ids = [rows.ids[p] for p in answers.positions]
    return score(answers.probabilities, rows.target[answers.positions], ids, method.parts.codec)


def _summary(lines: list[dict[str, Any]], key: str, sign: int, prefix: str) -> dict[str, float | None]:
    values = [line[key] for line in lines if line[key] is not None]
    if not values:
        return {f"{prefix}mean": None, f"{prefix}worst": None}
    return {f"{prefix}mean": float(np.mean(values)), f"{prefix}worst": min(values) if sign > 0 else max(values)}
