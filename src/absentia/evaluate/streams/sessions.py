"""What the page says of the sessions themselves: what arrived, what it cost, and what is inside the method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from absentia.evaluate.ranking import pattern_words
from absentia.evaluate.sections.about import Fact, about
from absentia.evaluate.sections.listing import Listing, listed
from absentia.evaluate.sections.shades import shaded
from absentia.evaluate.streams.view import Stream, spread
from absentia.evaluate.streams.wording import bytes_words
from absentia.evaluate.wording import NOT_KNOWN, Scale, finite, seconds_words, short, value_words

__all__ = ["pattern_shares", "session_rows", "stream_facts", "usage_heats"]

MOST_SESSIONS, MOST_CLASSES, MOST_PATTERNS, MOST_POOLS = 60, 12, 8, 6
MOST_USED, MOST_WITH_FIGURES, MOST_SHARES = 24, 8, 12
Json = Mapping[str, Any]


def session_rows(stream: Stream) -> Listing:
    """Each session: its classes, its rows, how many are incomplete, its score then and now, and its cost."""
    return listed(
        (
            {
                "number": number,
                "classes": value_words(list(session.get("classes") or [])[:MOST_CLASSES], 110),
                "more": max(0, len(session.get("classes") or []) - MOST_CLASSES),
                "rows": [_count((session.get("rows") or {}).get(split)) for split in ("train", "val", "test")],
                "incomplete": [_share((session.get("p_incomplete") or {}).get(split)) for split in ("train", "test")],
                "new": stream.scale.bare(stream.matrix[t][t]),
                "now": stream.scale.bare(stream.matrix[-1][t]),
                "steps": _count(session.get("steps")),
                "seconds": seconds_words(session.get("seconds")),
                "bytes": bytes_words(session.get("bytes")),
                "notes": [short(note, 200) for note in list(session.get("notes") or [])[:3]],
            }
            for t, (number, session) in enumerate(zip(stream.numbers, stream.sessions, strict=True))
        ),
        MOST_SESSIONS,
    )


def pattern_shares(stream: Stream) -> dict[str, Any] | None:
    """The share of each pattern in the training rows of each session; the most frequent patterns, some sessions."""
    counts = [session.get("patterns") or {} for session in stream.sessions]
    totals: dict[str, float] = {}
    for one in counts:
        for name, count in one.items():
            totals[name] = totals.get(name, 0.0) + (finite(count) or 0.0)
    names = sorted(totals, key=lambda name: -totals[name])[:MOST_PATTERNS]
    if len(totals) < 2:
        return None
    shown = spread(len(counts), MOST_SHARES)
    values = [[_part(counts[t], name) for name in names] for t in shown]
    cells = shaded([v for row in values for v in row], Scale(factor=100, decimals=0, unit="\u00a0%"), higher=True)
    return {
        "corner": "session",
        "columns": [_words(name, stream) for name in names],
        "rows": [
            {"name": stream.numbers[t], "cells": cells[k * len(names) : (k + 1) * len(names)]}
            for k, t in enumerate(shown)
        ],
        "left": len(totals) - len(names),
        "some": len(shown) < len(counts),
    }


def usage_heats(stream: Stream) -> list[dict[str, Any]]:
    """For each pool how much the queries of a session use the components of each session."""
    heats = []
    for name, square in list((stream.report.get("usage") or {}).items())[:MOST_POOLS]:
        shown = spread(len(square), MOST_USED) if square else []
        width = max((len(row) for row in square), default=0)
        columns = spread(width, MOST_USED) if width else []
        values = [[finite(square[i][s]) if s < len(square[i]) else None for s in columns] for i in shown]
        flat = [value for row in values for value in row]
        if sum(value is not None for value in flat) < 2:
            continue
        mute = len(columns) > MOST_WITH_FIGURES
        cells = [cell and {**cell, "mute": mute} for cell in shaded(flat, Scale.of("", flat), higher=True)]
        rows = [
            {"name": f"session {_number(stream, i)}", "cells": cells[k * len(columns) : (k + 1) * len(columns)]}
            for k, i in enumerate(shown)
        ]
        head = [_number(stream, s) for s in columns]
        heats.append({"title": short(name, 40), "corner": "rows of", "columns": head, "rows": rows, "mute": mute})
    return heats


def stream_facts(stream: Stream) -> list[Fact]:
    """How the stream was made: everything that one needs to get the same again."""
    report, sessions = stream.report, stream.sessions
    options = ", ".join(f"{short(k, 40)}={value_words(v, 40)}" for k, v in (report.get("options") or {}).items())
    seconds = [number for one in sessions if (number := finite(one.get("seconds"))) is not None]
    size = [number for one in sessions if (number := finite(one.get("bytes"))) is not None]
    facts = []
    for fact in about(report):
        if fact.name == "Reference":
            continue
        facts.append(fact)
        if fact.name == "Method" and options:
            facts.append(Fact("Options", short(options, 600), True))
        if fact.name == "Parameters":
            facts.append(Fact("All sessions", _total(seconds, size)))
    return [fact for fact in facts if fact.value]


def _total(seconds: list[float], size: list[float]) -> str:
    words = [f"{seconds_words(sum(seconds))} of training"] if seconds else []
    return ", ".join([*words, *([f"{bytes_words(sum(size))} learned"] if size else [])])


def _number(stream: Stream, place: int) -> str:
    return stream.numbers[place] if place < len(stream.numbers) else str(place)


def _words(name: str, stream: Stream) -> str:
    here = name.split("+")
    known = set(here) <= set(stream.modalities)
    return short(pattern_words({one: one in here for one in stream.modalities}, 28) if known else name or "nothing", 60)


def _part(counts: Json, name: str) -> float | None:
    total = sum(finite(count) or 0.0 for count in counts.values())
    return (finite(counts.get(name)) or 0.0) / total if total else None


def _share(value: Any) -> str:
    number = finite(value)
    return NOT_KNOWN if number is None else f"{number:.0%}".replace("%", "\u00a0%")


def _count(value: Any) -> str:
    number = finite(value)
    return NOT_KNOWN if number is None else f"{number:,.0f}"
