"""Reports of streams as sessions would leave them, made up: any number of sessions and modalities, with everything."""

from __future__ import annotations

import functools
import itertools
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from absentia.evaluate.query_map import query_map
from absentia.evaluate.streams.contract import beside, completed, session_curves

KINDS = ("image", "text", "audio", "series", "tabular", "volume")
Matrix = list[list[float]]


def _matrix(count: int, *, best: float, keeps: float, seed: int) -> Matrix:
    """Scores that fade towards a tenth of what they were, by `1 - keeps` with each session."""
    noise = np.random.default_rng(seed)
    new = best - 0.1 * noise.random(count)
    rows = []
    for t in range(count):
        fading = [new[i] * (0.1 + 0.9 * keeps ** (t - i)) + 0.012 * float(noise.normal()) for i in range(t + 1)]
        rows.append([float(np.clip(value, 0, 1)) for value in fading])
    return rows


def _scaled(matrix: Matrix, factor: float) -> Matrix:
    return [[factor * value for value in row] for row in matrix]


def stream(
    sessions: int = 5, modalities: int = 3, *, method: str = "rebq", keeps: float = 0.93, rich: bool = True
) -> dict[str, Any]:
    """A report of a stream: `keeps` of a score outlasts each later session."""
    names = list(KINDS[:modalities])
    seed = sessions * 10 + modalities
    noise = np.random.default_rng(seed)
    classes = [f"{word} {k}" for k in range(sessions) for word in ("soup", "cake", "salad", "bread")]
    patterns = ["+".join(p) for n in range(modalities, 0, -1) for p in itertools.combinations(names, n)]
    matrix = _matrix(sessions, best=0.86, keeps=keeps, seed=seed)
    report: dict[str, Any] = {
        "kind": "stream",
        "method": method,
        "options": {"components": 25, "alpha": 0.01},
        "metric": "accuracy",
        "higher_is_better": True,
        "names": names,
        "modalities": {name: {"kind": name, "columns": [name], "encoder": None} for name in names},
        "seed": 0,
        "target": {"column": "dish", "kind": "class", "classes": classes},
        "plan_sha256": "5d1f" * 16,
        "command": "absentia learn food.csv --target dish --method rebq --sessions 5 --out runs/food",
        "versions": {"absentia": "0.1.0", "torch": "2.13.0+cpu", "python": "3.11.2"},
        "hardware": "2 cores of an x86_64 processor, no accelerator",
        "parameters": {"trained": 812_345, "total": 4_812_345},
        "created": "2026-05-04T10:11:12Z",
        "notes": ["Session 2 has no complete training row."] if sessions > 2 else [],
        "sessions": [
            {
                "number": k,
                "classes": classes[4 * k : 4 * k + 4],
                "rows": {"train": int(noise.integers(900, 1300)), "val": 100, "test": 340},
                "p_incomplete": {"train": 0.69 + 0.02 * float(noise.random()), "test": 0.7},
                "patterns": {p: int(noise.integers(1, 400)) for p in patterns},
                "seconds": 61.2 + k,
                "bytes": 1_234_567 + 1000 * k,
                "steps": 480,
                "notes": ["3 cells could not be read."] if k == 1 else [],
            }
            for k in range(sessions)
        ],
        "matrix": matrix,
        "matrices": {"accuracy": matrix, "macro_f1": _scaled(matrix, 0.93)},
        "by_pattern": {
            p: _matrix(sessions, best=0.6 + 0.05 * (p.count("+") + 1), keeps=keeps, seed=k)
            for k, p in enumerate(patterns)
        },
    }
    return completed(report | (_inside(sessions, names) if rich else {}))


def _inside(sessions: int, names: list[str]) -> dict[str, Any]:
    noise = np.random.default_rng(1)
    away = np.abs(np.subtract.outer(np.arange(sessions), np.arange(sessions)))
    squares = {
        name: (0.4 * np.exp(-away / 2) + 0.05 * noise.random(away.shape)).tolist() for name in ("memory", *names)
    }
    losses = [
        [
            {
                "event": "train",
                "stage": "main",
                "step": step,
                "loss": loss + 0.1,
                "losses": {"task": loss, "rebuild": 0.1},
            }
            for step in range(10, 481, 10)
            if (loss := 2.5 * math.exp(-step / 150) + 0.3 + 0.05 * float(noise.normal()))
        ]
        for _ in range(sessions)
    ]
    others = [
        beside(stream(sessions, 2, method=method, keeps=keeps, rich=False), method)
        for method, keeps in (("finetune", 0.3), ("frozen", 0.9), ("replay", 0.8))
    ]
    return {
        "usage": squares,
        "queries": [dict(_queries(name, sessions)) for name in names[:3]],
        "curves": session_curves(losses),
        "beside": others,
    }


@functools.cache
def _queries(name: str, sessions: int) -> dict[str, Any]:
    noise = np.random.default_rng(len(name))
    labels = noise.integers(0, sessions, size=120)
    true = 4 * noise.normal(size=(sessions, 16))[labels] + noise.normal(size=(120, 16))
    return query_map(true, true + 0.8 * noise.normal(size=true.shape), labels.tolist(), modality=name)


def labelled(sessions: int = 5) -> dict[str, Any]:
    """Several labels, scored by F1, beside the released F1."""
    report = stream(sessions, 2)
    matrix = report["matrix"]
    released = [[value * (i + 1) / (t + 1) for i, value in enumerate(row)] for t, row in enumerate(matrix)]
    matrices = {"macro_f1": matrix, "accuracy": _scaled(matrix, 1.1), "f1_released": released}
    target = report["target"] | {"kind": "labels"}
    return report | {"metric": "macro_f1", "matrices": matrices, "target": target, "beside": []}


def numbers(sessions: int = 4) -> dict[str, Any]:
    """A number, whose error grows."""
    report = stream(sessions, 3, rich=False)
    by_pattern = {
        name: [[30_000 * (1 - v) for v in row] for row in rows] for name, rows in report["by_pattern"].items()
    }
    matrix = [[30_000 * (1 - value) for value in row] for row in report["matrix"]]
    for session in report["sessions"]:
        session["classes"] = []
    target = {"column": "price", "kind": "number", "classes": []}
    changed = {"metric": "mae", "higher_is_better": False, "matrix": matrix, "by_pattern": by_pattern, "matrices": {}}
    return completed(report | changed | {"target": target})


@pytest.fixture(scope="session")
def made() -> SimpleNamespace:
    """Builders of reports; each call makes a fresh one."""
    return SimpleNamespace(stream=stream, labelled=labelled, numbers=numbers)
