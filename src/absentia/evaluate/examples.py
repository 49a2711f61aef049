"""Rows for people to look at: what the method saw, what was hidden, what it said."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from absentia.data.kinds.image import read_image
from absentia.data.kinds.text import read_text
from absentia.data.rows import Rows, raw_cells
from absentia.data.schema import pattern_name
from absentia.data.target import TargetCodec
from absentia.errors import BadCell
from absentia.evaluate.patterns import Answers

__all__ = ["examples"]

EACH = 6  # right and wrong answers shown
SIDE = 96  # pixels of a thumbnail
Bools = npt.NDArray[np.bool_]


def examples(rows: Rows, patterns: Bools, answers: Sequence[Answers], codec: TargetCodec) -> list[dict[str, Any]]:
    """Up to 6 right and 6 wrong answers, spread over patterns and rows; the same scores show the same examples."""
    assert rows.target is not None
    if codec.target.kind == "mask":  # those are shown as slices
        return []
    chosen: list[tuple[int, int, bool]] = []
    for right in (True, False):
        found = [_first(rows, a, codec, right, number) for number, a in enumerate(answers)]
        spots = [(number, spot) for number, spot in enumerate(found) if spot is not None]
        step = max(1, len(spots) / EACH)
        picked = [spots[int(i * step)] for i in range(min(EACH, len(spots)))]
        chosen += [(number, spot, right) for number, spot in picked]
    return [_example(rows, patterns[n], answers[n], spot, codec, right) for n, spot, right in chosen]


def _first(rows: Rows, answers: Answers, codec: TargetCodec, right: bool, number: int) -> int | None:
    """A place in `answers` with this outcome, not always the first row."""
    outcome = _right(rows, answers, codec)
    if outcome is None or not (outcome == right).any():
        return None
    places = np.flatnonzero(outcome == right)
    return int(places[(number * 7919) % len(places)])


def _right(rows: Rows, answers: Answers, codec: TargetCodec) -> Bools | None:
    if not len(answers.positions):
        return None
    assert rows.target is not None
    target, p = rows.target[answers.positions], answers.probabilities
    if codec.target.kind == "class":
        return np.asarray(p.argmax(axis=1) == target)
    if codec.target.kind == "labels":
        return np.asarray(((p >= 0.5) == (target > 0.5)).all(axis=1))
    wrong = np.abs(p[:, 0] - target)
    return np.asarray(wrong <= np.median(wrong))


def _example(
    rows: Rows, pattern: Bools, answers: Answers, spot: int, codec: TargetCodec, right: bool
) -> dict[str, Any]:
    position = int(answers.positions[spot])
    names = rows.schema.names
    present = rows.presence[position]
    predicted, probability = _said(answers.probabilities[spot], codec)
    assert rows.target is not None
    return {
        "id": rows.ids[position],
        "pattern": pattern_name(names, pattern.tolist()),
        "hidden": [n for n, p, there in zip(names, pattern, present, strict=True) if there and not p],
        "absent": [n for n, there in zip(names, present, strict=True) if not there],
        "truth": _truth(rows.target[position], codec),
        "predicted": predicted,
        "probability": probability,
        "right": right,
        "cells": {n: _cell(rows, n, position) for n, there in zip(names, present, strict=True) if there},
    }


def _said(p: npt.NDArray[np.float64], codec: TargetCodec) -> tuple[str | float, float | None]:
    if codec.target.kind == "class":
        return codec.target.classes[int(p.argmax())], float(p.max())
    if codec.target.kind == "labels":
        return ", ".join(c for c, x in zip(codec.target.classes, p, strict=True) if x >= 0.5) or "none", None
    return float(codec.number(p[:1])[0]), None


def _truth(target: Any, codec: TargetCodec) -> str | float:
    if codec.target.kind == "class":
        return codec.target.classes[int(target)]
    if codec.target.kind == "labels":
        return ", ".join(c for c, x in zip(codec.target.classes, target, strict=True) if x > 0.5) or "none"
    return float(codec.number(np.asarray([target]))[0])


def _cell(rows: Rows, name: str, position: int) -> dict[str, str]:
    kind = rows.schema.modalities[name].kind
    cell = raw_cells(rows, name, position)
    try:
        if kind == "image":
            return {"kind": kind, "src": _thumbnail(cell, rows)}
        if kind == "text":
            return {"kind": kind, "text": read_text(cell)[:300]}
    except BadCell as error:
        return {"kind": "text", "text": str(error)}
    if kind == "tabular":
        return {"kind": kind, "text": ", ".join(f"{c}={_short(v)}" for c, v in cell.items() if v is not None)}
    return {"kind": kind, "text": _short(cell)}


def _thumbnail(cell: Any, rows: Rows) -> str:
    picture = read_image(cell, rows.root)
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.convert("RGB" if picture.mode not in ("L", "1") else "L").save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _short(value: Any) -> str:
    if isinstance(value, (list, np.ndarray)):
        inner = len(value[0]) if len(value) and isinstance(value[0], (list, np.ndarray)) else None
        return f"{len(value)} x {inner} numbers" if inner else f"{len(value)} numbers"
    if isinstance(value, (bytes, dict)):
        return "sound" if isinstance(value, dict) else f"{len(value):,} bytes"
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:80]
