"""What guesses of absent modalities are worth: the share of the gap to the truth that they close, by pattern."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from absentia.evaluate.ranking import pattern_words
from absentia.evaluate.wording import Scale, finite

__all__ = ["gap", "gap_sentence"]

Json = Mapping[str, Any]
MOST_ROWS = 63


def gap(report: Json) -> dict[str, Any] | None:
    """A row per incomplete pattern, worst first; None for a method without guesses."""
    found = report.get("gap")
    if not found:
        return None
    scale = Scale.of_report(report)
    lines = sorted(
        found["patterns"], key=lambda line: finite(line["score"]) or 0.0, reverse=not report["higher_is_better"]
    )
    return {
        "said": gap_sentence(report),
        "rows": [_row(line, scale) for line in lines[:MOST_ROWS]],
        "left": max(0, len(lines) - MOST_ROWS),
        "in_all": _closed(found),
    }


def gap_sentence(report: Json) -> str:
    """What guesses come to in all, and on how many rows; empty for a method without guesses."""
    found = report.get("gap")
    if not found:
        return ""
    count = int(found["rows"])
    if not count:
        return "No test row has everything, so nothing says how much of the gap to the truth guesses close."
    where = f"on the {count:,} test row{'' if count == 1 else 's'} with everything"
    closed = _closed(found)
    if closed["share"] is None:
        return f"There is no gap for guesses to close: to know what is absent would not answer surely better, {where}."
    of = "of the gap between answers without them and with the truth in their place"
    return f"Guesses close {closed['words']} ({closed['interval']}) {of}, {where}."


def _row(line: Json, scale: Scale) -> dict[str, Any]:
    values = {key: finite(line.get(key)) for key in ("unaided", "score", "truth")}
    words = {key: scale.bare(value) for key, value in values.items()}
    sorts = {f"{key}_sort": value for key, value in values.items()}
    return {"name": pattern_words(line["present"], 40), **words, **sorts, **_closed(line)}


def _closed(line: Json) -> dict[str, Any]:
    share, low, high = (finite(line.get(key)) for key in ("closed", "low", "high"))
    return {
        "share": share,
        "words": "no gap" if share is None else f"{_percent(share)}\u00a0%",
        "interval": "" if low is None or high is None else f"{_percent(low)} to {_percent(high)}",
        "width": 100 * min(1.0, max(0.0, share or 0.0)),
        "behind": share is not None and share < 0,
    }


def _percent(share: float) -> str:
    return f"{round(100 * share):,}".replace("-", "−")
