"""A browser, and made-up reports of runs: glyphs (3 modalities), body sensors (6: 63 patterns), prices."""

from __future__ import annotations

import base64
import functools
import io
import itertools
import math
import shutil
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

FLAGS = ["--no-sandbox", "--headless", "--disable-gpu", "--disable-quic", "--no-first-run"]
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
KINDS = {"image": "image", "photo": "image", "text": "text", "name": "text"}


def _patterns(
    carries: dict[str, float], *, full: float, higher: bool, gap: float, noise: np.random.Generator
) -> list[dict[str, Any]]:
    """Rows of all patterns: what is absent costs what it `carries`, and the reference more."""
    rows = []
    sign = 1.0 if higher else -1.0
    for mask in itertools.product((True, False), repeat=len(carries)):
        if not any(mask):
            continue
        present = dict(zip(carries, mask, strict=True))
        cost = sum(value for name, value in carries.items() if not present[name])
        score = full - sign * cost * (1 + 0.1 * float(noise.normal()))
        reference = score - sign * gap * (0.4 + abs(float(noise.normal()))) * sum(not here for here in mask) / len(mask)
        width = 1.96 * math.sqrt(score * (1 - score) / 873) if higher else 0.06 * score
        rows.append(
            {
                "pattern": "+".join(name for name in carries if present[name]),
                "present": present,
                "n": 873,
                "score": score,
                "low": score - width,
                "high": score + 1.2 * width,
                "drop": sign * (full - score),
                "reference": reference,
                "reference_low": reference - width,
                "reference_high": reference + width,
                "metrics": _metrics(score, higher),
                "trained_rows": int(noise.integers(0, 900)),
                "note": None,
            }
        )
    return sorted(rows, key=lambda row: sign * float(row["score"]))


def _metrics(score: float, higher: bool) -> dict[str, float]:
    if higher:
        return {"accuracy": score, "macro_f1": score - 0.03, "auroc": 1 - (1 - score) / 8}
    return {"mae": score, "correlation": 1 / (1 + score / 90_000), "r2": 1 / (1 + score / 60_000)}


def _report(
    carries: dict[str, float], *, metric: str, full: float, gap: float, target: dict[str, Any]
) -> dict[str, Any]:
    higher = metric != "mae"
    noise = np.random.default_rng(len(carries))
    rows = _patterns(carries, full=full, higher=higher, gap=gap, noise=noise)
    scores, references = [row["score"] for row in rows], [row["reference"] for row in rows]
    given = {
        "pattern": "as given",
        "n": 873,
        "score": float(np.mean(scores)),
        "low": min(scores),
        "high": max(scores),
        "reference": float(np.mean(references)),
        "metrics": {},
    }
    return {
        "metric": metric,
        "higher_is_better": higher,
        "plan_sha256": "5d1f" * 16,
        "method": "dropout",
        "reference_method": "ignore",
        "seed": 0,
        "target": target,
        "patterns": rows,
        "as_given": given,
        "mean": float(np.mean(scores)),
        "worst": scores[0],
        "reference_mean": float(np.mean(references)),
        "reference_worst": min(references) if higher else max(references),
        "modalities": {
            name: {
                "kind": KINDS.get(name, "tabular" if len(carries) < 5 else "series"),
                "columns": [name],
                "encoder": None,
            }
            for name in carries
        },
        "splits": {
            split: _split(carries, count, rows) for split, count in (("train", 9000), ("val", 1100), ("test", 873))
        },
        "plan": {
            "asked": {"mechanism": "mcar", "train": {"p_incomplete": 0.7}, "test": {"p_incomplete": 0.7}},
            "realised": {
                "train": {"p_incomplete": 0.6987, "p_absent": {name: 0.35 for name in carries}},
                "test": {"p_incomplete": 0.7045},
            },
        },
        "bad_cells": {
            "policy": "absent",
            "count": 3,
            "cells": [{"row": 17, "column": next(iter(carries)), "reason": "truncated JPEG", "became": "absent"}],
        },
        "notes": [],
        "examples": [],
        "command": "absentia train glyphs --modality image=image --modality text=text "
        "--target script --method dropout --seed 0 --out runs/glyphs",
        "versions": {"absentia": "0.1.0", "torch": "2.13.0+cpu", "python": "3.11.2"},
        "hardware": "2 cores of an x86_64 processor, no accelerator",
        "seconds": {"train": 61.2, "reference": 55.0, "evaluate": 3.1},
        "parameters": {"trained": 812345, "total": 812345},
        "created": "2026-05-04T10:11:12Z",
    }


def _split(carries: dict[str, float], count: int, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    weights = np.random.default_rng(count).dirichlet(np.ones(len(rows)) * 2)
    return {
        "rows": count,
        "present": {name: 0.9 - 0.1 * number for number, name in enumerate(carries)},
        "p_incomplete": 0.7,
        "p_absent": {name: 0.1 + 0.1 * number for number, name in enumerate(carries)},
        "patterns": {row["pattern"]: int(weight * count) for row, weight in zip(rows, weights, strict=True)},
    }


@functools.cache
def _picture(letter: str) -> str:
    from matplotlib import font_manager
    from PIL import ImageFont

    image = Image.new("L", (64, 64), 255)
    ImageDraw.Draw(image).text(
        (32, 32), letter, font=ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 44), anchor="mm"
    )
    file = io.BytesIO()
    image.save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _glyph(
    letter: str,
    name: str,
    facts: str,
    truth: str,
    predicted: str,
    probability: float,
    hidden: list[str],
    absent: list[str],
) -> dict[str, Any]:
    cells = {
        "image": {"kind": "image", "src": _picture(letter)},
        "text": {"kind": "text", "text": name},
        "properties": {"kind": "tabular", "text": facts},
    }
    here = [modality for modality in cells if modality not in hidden + absent]
    return {
        "id": f"U+{ord(letter):04X}",
        "pattern": "+".join(here),
        "hidden": hidden,
        "absent": absent,
        "truth": truth,
        "predicted": predicted,
        "probability": probability,
        "right": truth == predicted,
        "cells": {modality: cell for modality, cell in cells.items() if modality not in absent},
    }


def _gap(report: dict[str, Any]) -> dict[str, Any]:
    """As of a method whose guesses close half of the gap, of one pattern nothing, and of one more than it lost."""
    lines = []
    for number, row in enumerate(row for row in report["patterns"] if not all(row["present"].values())):
        unaided = row["score"] - (0.931 - row["score"])
        closed = (None, -0.25, 0.5)[min(number, 2)]
        around = {"closed": closed, "low": closed and closed - 0.2, "high": closed and closed + 0.2}
        line = {"pattern": row["pattern"], "present": row["present"], "score": row["score"], "unaided": unaided}
        lines.append(line | {"truth": 0.931} | around)
    return {"rows": 412, "patterns": lines, "closed": 0.43, "low": 0.21, "high": 0.6}


def glyphs() -> dict[str, Any]:
    report = _report(
        {"image": 0.07, "text": 0.2, "properties": 0.08},
        metric="accuracy",
        full=0.931,
        gap=0.12,
        target={
            "column": "script",
            "kind": "class",
            "classes": ["LATIN", "GREEK", "CYRILLIC", "ARROW", "ARABIC", "HEBREW"],
        },
    )
    report["patterns"][0]["trained_rows"] = 0
    report["gap"] = _gap(report)
    report["notes"] = ["No training row has image alone: what is said about it rests on other patterns."]
    plain = "category=Lu, width=N, mirrored=no"
    report["examples"] = [
        _glyph("А", "CAPITAL LETTER A", plain, "CYRILLIC", "LATIN", 0.71, ["text"], []),
        _glyph("ν", "SMALL LETTER NU", "category=Ll, width=N", "GREEK", "LATIN", 0.52, ["text"], ["properties"]),
        _glyph(
            "⇶",
            "THREE RIGHTWARDS",
            "category=Sm, width=N",
            "ARROW",
            "MATHEMATICAL",
            0.44,
            ["image", "text"],
            [],
        ),
        _glyph("ב", "LETTER BET", "category=Lo, bidirectional=R", "HEBREW", "HEBREW", 0.98, ["image"], []),
        _glyph("Ж", "CAPITAL LETTER ZHE", plain, "CYRILLIC", "CYRILLIC", 0.93, [], ["text"]),
        _glyph("Ω", "CAPITAL LETTER OMEGA", plain, "GREEK", "GREEK", 0.99, [], []),
    ]
    return report


def sensors() -> dict[str, Any]:
    names = (
        "chest",
        "left ankle",
        "right wrist",
        "heart",
        "gyroscope of the left ankle",
        "magnetometer of the right lower arm",
    )
    carries = dict(zip(names, (0.05, 0.09, 0.11, 0.02, 0.06, 0.03), strict=True))
    return _report(
        carries,
        metric="macro_f1",
        full=0.957,
        gap=0.25,
        target={"column": "activity", "kind": "class", "classes": [f"move {n}" for n in range(12)]},
    )


def prices() -> dict[str, Any]:
    report = _report(
        {"photo": 9000.0, "name": 14000.0, "facts": 22000.0},
        metric="mae",
        full=31_456.0,
        gap=30_000.0,
        target={"column": "price", "kind": "number"},
    )
    report["examples"] = [
        {
            "id": 12,
            "pattern": "photo+facts",
            "hidden": ["name"],
            "absent": [],
            "truth": 240_000.0,
            "predicted": 271_300.5,
            "probability": None,
            "right": None,
            "cells": {
                "photo": {"kind": "image", "src": _picture("⌂")},
                "name": {"kind": "text", "text": "A house by the lake"},
                "facts": {"kind": "tabular", "text": "rooms=4, area=112"},
            },
        }
    ]
    return report


def metrics(
    *, stages: Sequence[str] = ("main",), steps: int = 480, higher: bool = True, parts: Sequence[str] = ("task",)
) -> list[dict[str, Any]]:
    method = [event for stage in stages for event in _course("method", stage, steps, higher, parts)]
    return method + _course("reference", "main", steps, higher, ("task",))


def _course(part: str, stage: str, steps: int, higher: bool, parts: Sequence[str]) -> list[dict[str, Any]]:
    noise = np.random.default_rng(3)
    start = {"part": part, "stage": stage}
    pace = 150 if part == "method" else 220
    events: list[dict[str, Any]] = []
    for step in range(10, steps + 1, 10):
        loss = 3 * math.exp(-step / pace) + 0.25 + 0.04 * float(noise.normal())
        losses = {name: loss / len(parts) * (1 + 0.4 * number) for number, name in enumerate(parts)}
        events.append({"event": "train", **start, "epoch": step / 120, "step": step, "loss": loss, "losses": losses})
        if step % 60 == 0:
            score = 0.8 - 0.7 * math.exp(-step / pace)
            score = score if higher else 90_000 * (1 - score)
            seen = {"image": score * 0.8, "text": score, "image+text": score * 1.15}
            events.append(
                {"event": "validate", **start, "epoch": step / 120, "step": step, "score": score, "patterns": seen}
            )
    return events


@pytest.fixture(scope="session")
def fake() -> SimpleNamespace:
    """Builders of reports; each call makes a fresh one."""
    return SimpleNamespace(glyphs=glyphs, sensors=sensors, prices=prices, metrics=metrics)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=path, args=FLAGS + QUIET)
        yield started
        started.close()
