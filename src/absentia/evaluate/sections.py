"""What each section of the page says: a report's numbers turned into plain values that the template only has to lay out."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from absentia.evaluate.shades import shade
from absentia.evaluate.wording import (
    SHARES,
    Scale,
    absent_count,
    finite,
    full_row,
    loss_from_full,
    metric_words,
    one_modality,
    pattern_words,
    ranked,
    seconds_words,
    short,
    value_words,
)

__all__ = ["about", "bad_cells", "cards", "examples", "heat", "pattern_counts", "pattern_table", "plan_rates", "shares"]

Json = Mapping[str, Any]
ERRORS = frozenset({"mae", "mse", "rmse", "loss", "log_loss", "brier", "ece"})
MOST_PATTERNS, MOST_MODALITIES, MOST_ROWS = 256, 24, 40
MOST_EXAMPLES, MOST_PICTURE, MOST_PICTURES = 12, 40_000, 600_000  # examples of each sort; characters of one data URI and of all
PICTURE = re.compile(r"data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Rows to show and how many more there are."""

    rows: list[Any]
    left: int = 0


def listed(rows: Iterable[Any], most: int = MOST_ROWS) -> Listing:
    """The first `most` rows."""
    everything = list(rows)
    return Listing(rows=everything[:most], left=max(0, len(everything) - most))


# --- scores ------------------------------------------------------------------------------------------------------------

def cards(report: Json) -> list[dict[str, str]]:
    """The three or four figures at the top, each with its reference."""
    scale, full, worst = Scale.of_report(report), full_row(report) or {}, ranked(report)[:1]
    table_holes = report.get("as_given") or {}
    shown = [("Everything present", full, full.get("score"), full.get("reference"))]
    if not one_modality(report):
        shown.append((f"Mean of {len(report['patterns'])} patterns", {}, report.get("mean"), report.get("reference_mean")))
        shown.append(("Worst pattern", worst[0] if worst else {}, report.get("worst"), report.get("reference_worst")))
    shown.append(("Test rows as given", table_holes, table_holes.get("score"), table_holes.get("reference")))
    return [{"name": name, "score": scale.figure(score), "interval": _interval(row, scale),
             "reference": scale.figure(reference) if finite(reference) is not None else "", "beside": " at its own worst" if name == "Worst pattern" else ""}
            for name, row, score, reference in shown if finite(score) is not None]


def _interval(row: Json, scale: Scale, prefix: str = "") -> str:
    low, high = finite(row.get(f"{prefix}low")), finite(row.get(f"{prefix}high"))
    return "" if low is None or high is None else f"{scale.bare(low)}–{scale.bare(high)}"


def pattern_table(report: Json) -> dict[str, Any]:
    """The table of patterns, worst first; long ones keep the worst and the full pattern."""
    scale, rows = Scale.of_report(report), ranked(report)
    kept = rows[:MOST_PATTERNS]
    if (full := full_row(report)) is not None and not any(row is full for row in kept):
        kept[-1] = full
    span = _span(report)
    as_given = report.get("as_given") or {}
    return {"rows": [_pattern_row(row, report, scale, span) for row in kept], "left": len(rows) - len(kept),
            "as_given": _score_cells(as_given, report, scale, span) if as_given else None,
            "start": scale.figure(span[0]), "end": scale.figure(span[1]),
            "has_reference": any(finite(row.get("reference")) is not None for row in rows),
            "has_trained": any(finite(row.get("trained_rows")) is not None for row in rows)}


def _pattern_row(row: Json, report: Json, scale: Scale, span: tuple[float, float]) -> dict[str, Any]:
    present = {name: bool(row["present"].get(name)) for name in report["modalities"]}
    loss, trained = loss_from_full(row, report), finite(row.get("trained_rows"))
    return {"name": pattern_words(present, 28 if len(present) < 5 else 18), "marks": list(present.values())[:MOST_MODALITIES], "note": short(row.get("note") or "", 200),
            "absent": absent_count(row), "full": absent_count(row) == 0, "drop": _change(loss, report, scale), "drop_sort": loss,
            "trained": f"{trained:,.0f}" if trained is not None else "–", "trained_sort": trained, "unseen": trained == 0,
            **_score_cells(row, report, scale, span)}


def _change(loss: float | None, report: Json, scale: Scale) -> str:
    """Score minus the score of everything present: below zero for a share that fell, above for an error that grew."""
    return scale.signed(None if loss is None else -loss if report["higher_is_better"] else loss)


def _score_cells(row: Json, report: Json, scale: Scale, span: tuple[float, float]) -> dict[str, Any]:
    score, reference = finite(row.get("score")), finite(row.get("reference"))
    gain = None if score is None or reference is None else (score - reference) * (1 if report["higher_is_better"] else -1)
    return {"n": f"{row['n']:,}" if finite(row.get("n")) is not None else "–", "n_sort": finite(row.get("n")), "score": scale.bare(score),
            "score_sort": score, "interval": _interval(row, scale), "reference": scale.bare(reference), "reference_sort": reference,
            "reference_interval": _interval(row, scale, "reference_"), "gain": scale.signed(gain), "gain_sort": gain,
            "ahead": gain is not None and gain > 0, "track": _track(row, span)}


def _span(report: Json) -> tuple[float, float]:
    """Both ends of the axis that all small bars share: tenths for shares, from zero for errors."""
    keys = ("score", "low", "high", "reference", "reference_low", "reference_high")
    rows = [*report["patterns"], report.get("as_given") or {}]
    values = [number for row in rows for key in keys if (number := finite(row.get(key))) is not None] or [0.0, 1.0]
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

    return {"band": band(place("low"), place("high")), "reference_band": band(place("reference_low"), place("reference_high")),
            "dot": None if (dot := place("score")) is None else f"left:{dot:.1%}",
            "reference_dot": None if (dot := place("reference")) is None else f"left:{dot:.1%}"}


# --- heat map ----------------------------------------------------------------------------------------------------------

def heat(report: Json) -> dict[str, Any] | None:
    """Patterns by metrics for up to three modalities; beyond, the mean score with one modality present and another absent."""
    if len(report["modalities"]) <= 3:
        return _heat_of_metrics(report)
    return _heat_of_modalities(report)


def _heat_of_metrics(report: Json) -> dict[str, Any] | None:
    rows = ranked(report)
    names = list(dict.fromkeys(name for row in rows for name in row.get("metrics") or {}))[:8]
    if not names:
        return None
    columns = [_shaded([(row.get("metrics") or {}).get(name) for row in rows], name, name not in ERRORS) for name in names]
    return {"title": "Every metric, pattern by pattern", "corner": "pattern", "columns": [metric_words(name) for name in names],
            "rows": [{"name": pattern_words(row["present"], 28), "cells": cells} for row, cells in zip(rows, zip(*columns, strict=True), strict=True)],
            "caption": "Each column has its own scale: the deeper the blue, the better."}


def _heat_of_modalities(report: Json) -> dict[str, Any]:
    names = list(report["modalities"])[:MOST_MODALITIES]
    pairs = [(here, gone) for here in names for gone in names]
    means = [_mean(row["score"] for row in report["patterns"] if row["present"].get(here) and not row["present"].get(gone)) for here, gone in pairs]
    cells = _shaded(means, report["metric"], report["higher_is_better"])
    for number, (here, gone) in enumerate(pairs):
        if here == gone:
            cells[number] = None
    return {"title": "Which modality carries, which is missed", "corner": "present ↓ absent →", "columns": [short(name, 28) for name in names],
            "rows": [{"name": short(name, 28), "cells": cells[start : start + len(names)]}
                     for name, start in zip(names, range(0, len(cells), len(names)), strict=True)],
            "caption": "Mean score of all patterns that have the row's modality and lack the column's: the deeper the blue, the better. "
                       "A pale column is a modality that is missed; a deep row is one that carries."}


def _shaded(values: Sequence[Any], metric: str, higher: bool) -> list[dict[str, str] | None]:
    scale, known = Scale.of(metric, values), [number for value in values if (number := finite(value)) is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    cells: list[dict[str, str] | None] = []
    for value in values:
        number = finite(value)
        if number is None:
            cells.append(None)
            continue
        rank = 0.5 if high == low else (number - low) / (high - low)
        background, ink = shade(rank if higher else 1 - rank)
        cells.append({"text": scale.bare(number), "style": f"background:{background};color:{ink}"})
    return cells


def _mean(values: Iterable[Any]) -> float | None:
    known = [number for value in values if (number := finite(value)) is not None]
    return sum(known) / len(known) if known else None


# --- data --------------------------------------------------------------------------------------------------------------

def shares(report: Json) -> dict[str, Any] | None:
    """How often each modality is present in each split."""
    splits = {name: split for name, split in (report.get("splits") or {}).items() if split}
    if not splits:
        return None
    names = list(report["modalities"])
    rows = [{"name": short(name, 40), "cells": [_share((split.get("present") or {}).get(name)) for split in splits.values()]} for name in names[:MOST_ROWS]]
    whole = {"name": "complete rows", "cells": [_share(None if (p := finite(split.get("p_incomplete"))) is None else 1 - p) for split in splits.values()]}
    return {"splits": [{"name": short(name, 20), "rows": f"{finite(split.get('rows')) or 0:,.0f}"} for name, split in splits.items()],
            "rows": rows, "complete": whole, "left": max(0, len(names) - MOST_ROWS)}


def _share(value: Any) -> dict[str, Any]:
    number = finite(value)
    return {"text": "–", "width": 0.0} if number is None else {"text": f"{number:.1%}".replace("%", "\u00a0%"), "width": 100 * min(1.0, max(0.0, number))}


def pattern_counts(report: Json) -> dict[str, Any] | None:
    """How many rows of each split have each pattern, the most frequent first."""
    splits = {name: split["patterns"] for name, split in (report.get("splits") or {}).items() if split and split.get("patterns")}
    if not splits:
        return None
    totals: dict[str, int] = {}
    for counts in splits.values():
        for pattern, count in counts.items():
            totals[pattern] = totals.get(pattern, 0) + count
    most = max(totals.values(), default=0) or 1
    names = sorted(totals, key=lambda pattern: -totals[pattern])
    rows = [{"name": short(_from_code(name, report), 90), "cells": [f"{counts.get(name, 0):,}" for counts in splits.values()],
             "width": f"{100 * totals[name] / most:.1f}"} for name in names]
    return {"splits": [short(name, 20) for name in splits], "listing": listed(rows, 16)}


def _from_code(code: str, report: Json) -> str:
    """"image+text" in words, where all its names are known."""
    here = code.split("+")
    return pattern_words({name: name in here for name in report["modalities"]}, 28) if set(here) <= set(report["modalities"]) else code or "nothing"


def plan_rates(report: Json) -> Listing | None:
    """What the mask plan asked for beside what it came to."""
    plan = report.get("plan")
    if not plan:
        return None
    asked, realised = dict(_leaves(plan.get("asked") or {})), dict(_leaves(plan.get("realised") or {}))
    return listed({"name": " · ".join(short(part.replace("_", " "), 40) for part in path), "asked": _rate(asked.get(path), path in asked),
                   "realised": _rate(realised.get(path), path in realised)} for path in dict.fromkeys([*asked, *realised]))


def _leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterable[tuple[tuple[str, ...], Any]]:
    if not isinstance(tree, Mapping):
        yield path, tree
        return
    for key, inner in tree.items():
        yield from _leaves(inner, (*path, str(key)))


def _rate(value: Any, known: bool) -> str:
    return value_words(value, 60) if known else ""


def bad_cells(report: Json) -> dict[str, Any] | None:
    """Cells that could not be read and what became of them."""
    found = report.get("bad_cells") or {}
    if not found.get("count"):
        return None
    rows = [{key: value_words(cell.get(key), 160) for key in ("row", "column", "reason", "became")} for cell in found.get("cells") or []]
    shown = listed(rows)
    return {"policy": short(found.get("policy", ""), 40), "count": f"{found['count']:,}", "rows": shown.rows, "left": max(0, found["count"] - len(shown.rows))}


# --- examples ----------------------------------------------------------------------------------------------------------

def examples(report: Json) -> list[dict[str, Any]]:
    """Groups of examples, wrong ones first; few of each, and pictures only while they stay light."""
    groups = [("Wrong", False), ("Right", True), ("Examples", None)]
    found, room = [], [MOST_PICTURES]
    for title, right in groups:
        chosen = [example for example in report.get("examples") or [] if example.get("right") is right][:MOST_EXAMPLES]
        if chosen:
            found.append({"title": title, "right": right, "rows": [_example(example, report, room) for example in chosen]})
    return found


def _example(example: Json, report: Json, room: list[int]) -> dict[str, Any]:
    hidden, absent = set(example.get("hidden") or []), set(example.get("absent") or [])
    cells = example.get("cells") or {}
    probability = finite(example.get("probability"))
    return {"id": short(example.get("id", ""), 60), "truth": value_words(example.get("truth"), 90), "predicted": value_words(example.get("predicted"), 90),
            "probability": None if probability is None else f"{probability:.0%}".replace("%", "\u00a0%"),
            "off": _off(example, report), "right": example.get("right"),
            "cells": [_cell(name, cells.get(name) or {}, name in hidden, name in absent, room) for name in list(report["modalities"])[:8]]}


def _off(example: Json, report: Json) -> str:
    truth, predicted = finite(example.get("truth")), finite(example.get("predicted"))
    number = (report.get("target") or {}).get("kind") == "number"
    return "" if not number or truth is None or predicted is None else Scale.of_report(report).signed(predicted - truth)


def _cell(name: str, cell: Json, hidden: bool, absent: bool, room: list[int]) -> dict[str, str]:
    state = "absent" if absent else "hidden" if hidden else "present"
    source = str(cell.get("src") or "") if state != "absent" else ""
    fits = len(source) <= min(MOST_PICTURE, room[0]) and PICTURE.fullmatch(source) is not None
    room[0] -= len(source) if fits else 0
    text = short(cell.get("text") or "", 220) if state != "absent" else ""
    return {"name": short(name, 28), "state": state, "src": source if fits else "", "text": text}


# --- how it was made ---------------------------------------------------------------------------------------------------

def about(report: Json) -> list[tuple[str, str, bool]]:
    """Name, value and whether it is code (set in a typewriter face), of everything that one needs to get the same run again."""
    target, parameters = report.get("target") or {}, report.get("parameters") or {}
    classes = target.get("classes") or []
    rows = [("Target", value_words(target.get("column")), True), (f"{len(classes)} classes", value_words(classes[:60], 400), False),
            ("Method", value_words(report["method"]), True), ("Reference", value_words(report.get("reference_method")), True),
            *[(f"Modality {short(name, 40)}", _modality(kind), False) for name, kind in list(report["modalities"].items())[:MOST_ROWS]],
            ("Seed", value_words(report.get("seed")), True), ("Mask plan", value_words(report.get("plan_sha256") or "none"), True),
            ("Parameters", " of ".join(f"{number:,.0f}" for key in ("trained", "total") if (number := finite(parameters.get(key))) is not None), False),
            ("Time", ", ".join(f"{short(key, 30)} {seconds_words(value)}" for key, value in (report.get("seconds") or {}).items()), False),
            ("Hardware", value_words(report.get("hardware") or "", 200), False), ("Made", value_words(report.get("created") or ""), False),
            ("Versions", ", ".join(f"{short(key, 30)} {short(value, 40)}" for key, value in list((report.get("versions") or {}).items())[:MOST_ROWS]), False)]
    return [(name, value, code) for name, value, code in rows if value and not (name == "0 classes")]


def _modality(kind: Json) -> str:
    columns = kind.get("columns") or []
    shown = f"{', '.join(short(column, 40) for column in columns[:8])}{f' and {len(columns) - 8} more' if len(columns) > 8 else ''}"
    encoder = kind.get("encoder")
    return f"{short(kind.get('kind', ''), 20)} from {shown}{f', read by {short(encoder, 80)}' if encoder else ''}"
