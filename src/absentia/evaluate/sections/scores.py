"""The scores: the figures at the top and the table of patterns with its small bars."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from absentia.evaluate.ranking import absent_count, full_row, loss_from_full, one_modality, pattern_words, ranked
from absentia.evaluate.wording import SHARES, Scale, finite, short

__all__ = ["MOST_MODALITIES", "MOST_PATTERNS", "cards", "pattern_table"]

Json = Mapping[str, Any]
MOST_MODALITIES = 24
MOST_PATTERNS, MOST_WIDE_PATTERNS = 256, 100  # all of up to eight modalities; fewer where each row is long


def cards(report: Json) -> list[dict[str, str]]:
    """The three or four figures at the top, each with its reference."""
    scale, full, worst = Scale.of_report(report), full_row(report) or {}, ranked(report)[:1]
    table_holes = report.get("as_given") or {}
    shown = [("Everything present", full, full.get("score"), full.get("reference"))]
    if not one_modality(report):
        shown.append(
            (
                f"Mean of {len(report['patterns'])} patterns",
                {},
                report.get("mean"),
                report.get("reference_mean"),
            )
        )
        shown.append(("Worst pattern", worst[0] if worst else {}, report.get("worst"), report.get("reference_worst")))
    shown.append(("Test rows as given", table_holes, table_holes.get("score"), table_holes.get("reference")))
    return [
        {
            "name": name,
            "score": scale.figure(score),
            "interval": _interval(row, scale),
            "reference": scale.figure(reference) if finite(reference) is not None else "",
            "beside": " at its own worst" if name == "Worst pattern" else "",
        }
        for name, row, score, reference in shown
        if finite(score) is not None
    ]


def _interval(row: Json, scale: Scale) -> str:
    low, high = finite(row.get("low")), finite(row.get("high"))
    return "" if low is None or high is None else f"{scale.bare(low)}–{scale.bare(high)}"


def pattern_table(report: Json) -> dict[str, Any]:
    """The table of patterns, worst first; long ones keep the worst and the full pattern."""
    scale, rows = Scale.of_report(report), ranked(report)
    kept = rows[: MOST_PATTERNS if len(report["modalities"]) <= 8 else MOST_WIDE_PATTERNS]
    if (full := full_row(report)) is not None and not any(row is full for row in kept):
        kept[-1] = full
    span = _span(report)
    as_given = report.get("as_given") or {}
    return {
        "rows": [_pattern_row(row, report, scale, span) for row in kept],
        "left": len(rows) - len(kept),
        "as_given": _score_cells(as_given, report, scale, span) if as_given else None,
        "start": scale.figure(span[0]),
        "end": scale.figure(span[1]),
        "has_reference": any(finite(row.get("reference")) is not None for row in rows),
        "has_interval": any(_interval(row, scale) for row in rows),
        "has_trained": any(finite(row.get("trained_rows")) is not None for row in rows),
    }


def _pattern_row(row: Json, report: Json, scale: Scale, span: tuple[float, float]) -> dict[str, Any]:
    present = {name: bool(row["present"].get(name)) for name in report["modalities"]}
    loss, trained = loss_from_full(row, report), finite(row.get("trained_rows"))
    return {
        "name": pattern_words(present, 28 if len(present) < 5 else 18),
        "marks": list(present.values())[:MOST_MODALITIES],
        "note": short(row.get("note") or "", 120),
        "full": absent_count(row) == 0,
        "drop": _change(loss, report, scale),
        "drop_sort": loss,
        "trained": f"{trained:,.0f}" if trained is not None else "–",
        "trained_sort": trained,
        "unseen": trained == 0,
        **_score_cells(row, report, scale, span),
    }


def _change(loss: float | None, report: Json, scale: Scale) -> str:
    """Score minus that of everything present: below zero for a share that fell, above for an error that grew."""
    return scale.signed(None if loss is None else -loss if report["higher_is_better"] else loss)


def _score_cells(row: Json, report: Json, scale: Scale, span: tuple[float, float]) -> dict[str, Any]:
    score, reference = finite(row.get("score")), finite(row.get("reference"))
    sign = 1 if report["higher_is_better"] else -1
    gain = None if score is None or reference is None else sign * (score - reference)
    return {
        "n": f"{row['n']:,}" if finite(row.get("n")) is not None else "–",
        "n_sort": finite(row.get("n")),
        "score": scale.bare(score),
        "score_sort": score,
        "interval": _interval(row, scale),
        "reference": scale.bare(reference),
        "reference_sort": reference,
        "gain": scale.signed(gain),
        "gain_sort": gain,
        "ahead": gain is not None and gain > 0,
        "track": _track(row, span),
    }


def _span(report: Json) -> tuple[float, float]:
    """Both ends of the axis that all small bars share: tenths for shares, from zero for errors."""
    keys = ("score", "low", "high", "reference", "reference_low", "reference_high")
    rows = [*report["patterns"], report.get("as_given") or {}]
    values = [number for row in rows for key in keys if (number := finite(row.get(key))) is not None]
    values = values or [0.0, 1.0]
    if report["metric"] in SHARES:
        low, high = math.floor(min(values) * 10) / 10, math.ceil(max(values) * 10) / 10
        return (low, high) if high > low else (low - 0.1, high)
    low = min(0.0, *values)
    return low, max(*values, low + 1e-9)


def _track(row: Json, span: tuple[float, float]) -> dict[str, str | None]:
    def place(key: str) -> float | None:
        number = finite(row.get(key))
        return None if number is None else min(1.0, max(0.0, (number - span[0]) / (span[1] - span[0])))

    def band(start: float | None, end: float | None) -> str | None:
        return None if start is None or end is None else f"left:{start:.1%};width:{max(0.0, end - start):.1%}"

    return {
        "band": band(place("low"), place("high")),
        "reference_band": band(place("reference_low"), place("reference_high")),
        "dot": None if (dot := place("score")) is None else f"left:{dot:.1%}",
        "reference_dot": None if (dot := place("reference")) is None else f"left:{dot:.1%}",
    }
