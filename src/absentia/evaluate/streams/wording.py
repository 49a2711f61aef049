"""A stream in plain words: its headline, the names of its five figures, and the sizes of files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from absentia.evaluate.headline import Piece
from absentia.evaluate.streams.view import Line, Stream
from absentia.evaluate.wording import NOT_KNOWN, SHARES, Scale, finite, metric_words

__all__ = ["EXPLAINED", "TITLES", "bytes_words", "loss_words", "stream_headline", "streams_headline", "trend_words"]

TITLES = {
    "average_last": "Average at the end",
    "average_stages": "Average on the way",
    "forgetting_first": "Forgotten since new",
    "forgetting_max": "Forgotten since best",
    "last": "Last session",
}
EXPLAINED = {
    "average_last": "over the test rows of all sessions, after the last one",
    "average_stages": "over all stages: after each session, the mean of those so far",
    "forgetting_first": "what earlier sessions lost since they were learned",
    "forgetting_max": "what earlier sessions lost since their best score",
    "last": "its own test rows, right after it was learned",
}


def stream_headline(stream: Stream) -> list[Piece]:
    """The stream in two or three plain sentences, cut where the emphasis changes."""
    average, scale = stream.figures["average_last"], stream.scale
    if average is None:
        return [Piece("No session could be scored.")]
    named = _named(stream.metric)
    if len(stream.matrix) == 1:
        first = [Piece(f"After its first session {named} is "), Piece(scale.figure(average), "score"), Piece(".")]
        return [*first, Piece(" There is nothing yet that it could forget.")]
    pieces = [
        Piece(f"After {len(stream.matrix)} sessions {named} is "),
        Piece(scale.figure(average), "score"),
        Piece(" on average over all of them" + ("." if stream.higher else " (lower is better).")),
        *_forgotten(stream),
    ]
    worst = stream.patterns[0] if len(stream.patterns) > 1 else None
    if worst is None or worst.full or worst.figures["average_last"] is None:
        return pieces
    figure = Piece(scale.figure(worst.figures["average_last"]), "score")
    return [*pieces, Piece(" Worst: "), Piece(worst.words, "name"), Piece(", "), figure, Piece(".")]


def _forgotten(stream: Stream) -> list[Piece]:
    lost = stream.figures["forgetting_first"]
    if lost is None:
        return []
    if stream.scale.bare(lost) == stream.scale.bare(0.0) or not lost:
        return [Piece(" Earlier sessions score what they did when they were new.")]
    amount = Piece(loss_words(abs(lost), stream.metric, stream.scale), "reference" if lost > 0 else "score")
    if not stream.higher:
        turn = "grown" if lost > 0 else "shrunk"
        return [Piece(f" The error on earlier sessions has {turn} by "), amount, Piece(" since they were new.")]
    if lost > 0:
        return [Piece(" Earlier sessions have lost "), amount, Piece(" since they were new.")]
    return [Piece(" Earlier sessions have gained "), amount, Piece(" since they were new.")]


def streams_headline(lines: Sequence[Line], metric: str, higher: bool) -> list[Piece]:
    """Several streams in two sentences: which knows most at the end, and which forgets least."""
    scale = Scale.of(metric, (line.figures.get("average_last") for line in lines))
    best = _first(lines, "average_last", -1.0 if higher else 1.0)
    if best is None:
        return [Piece("No session of any stream could be scored.")]
    pieces = [
        Piece(best.label, "name"),
        Piece(f" ends best: {_named(metric)} is "),
        Piece(scale.figure(best.figures["average_last"]), "score"),
        Piece(" on average over all sessions" + ("." if higher else " (lower is better).")),
    ]
    least = _first(lines, "forgetting_first", 1.0)
    if least is None:
        return pieces
    lost = least.figures["forgetting_first"] or 0.0
    amount = Piece(loss_words(abs(lost), metric, scale), "score")
    if least is best:
        start = " It also forgets least: " if lost > 0 else " It forgets nothing and gains "
        return [*pieces, Piece(start), amount, Piece(".")]
    start = ", " if lost > 0 else ", which gains "
    return [*pieces, Piece(" Least is forgotten by "), Piece(least.label, "name"), Piece(start), amount, Piece(".")]


def loss_words(value: Any, metric: str, scale: Scale) -> str:
    """8.6 points for a share; a plain number for an error."""
    if finite(value) is None:
        return NOT_KNOWN
    return scale.bare(value) + ("\u00a0points" if metric in SHARES else "")


def trend_words(name: str, value: Any, metric: str, scale: Scale) -> str:
    """One of the five figures as it is written on a card."""
    return loss_words(value, metric, scale) if name.startswith("forgetting") else scale.figure(value)


def bytes_words(count: Any) -> str:
    """1234567 -> 1.2 MB"""
    number = finite(count)
    if number is None:
        return NOT_KNOWN
    for unit in ("B", "kB", "MB", "GB"):
        if abs(number) < 1000 or unit == "GB":
            break
        number /= 1000
    return f"{number:,.0f}\u00a0{unit}" if unit == "B" or number >= 100 else f"{number:.3g}\u00a0{unit}"


def _named(metric: str) -> str:
    return f"the {metric_words(metric)}" if metric == "mae" else metric_words(metric)


def _first(lines: Sequence[Line], figure: str, sign: float) -> Line | None:
    known = [
        (sign * value, place) for place, line in enumerate(lines) if (value := line.figures.get(figure)) is not None
    ]
    return lines[min(known)[1]] if known else None
