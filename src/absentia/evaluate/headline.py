"""The headline of a report: what the figures say, in two or three sentences that anybody understands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from absentia.evaluate.ranking import absent_count, full_row, one_modality, pattern_words, ranked
from absentia.evaluate.wording import Scale, finite, metric_words

__all__ = ["Piece", "headline"]


class Piece(NamedTuple):
    """A few words of the headline; `role` says what they stand for ("" , "name", "score" or "reference")."""

    words: str
    role: str = ""


def headline(report: Mapping[str, Any]) -> list[Piece]:
    """The report in two or three plain sentences, cut where the emphasis changes."""
    rows = [row for row in ranked(report) if finite(row["score"]) is not None]
    if not rows:
        return [Piece("No pattern could be scored.")]
    scale, worst = Scale.of_report(report), rows[0]
    pieces = _full_sentence(report, scale)
    if one_modality(report):
        return [*pieces, Piece(" There is one modality, so nothing else can be absent.")]
    if absent_count(worst):
        pieces += [
            Piece(" Worst: "),
            Piece(pattern_words(worst["present"]), "name"),
            Piece(", "),
            Piece(scale.figure(worst["score"]), "score"),
            Piece("."),
        ]
    else:
        pieces += [Piece(" No other pattern scores worse.")]
    return pieces + _reference_sentence(report, worst, scale)


def _full_sentence(report: Mapping[str, Any], scale: Scale) -> list[Piece]:
    full, metric = full_row(report), metric_words(report["metric"])
    if full is None or finite(full["score"]) is None:
        return [Piece(f"Measured by {metric}, everything present was not scored.")]
    named = f"the {metric}" if report["metric"] == "mae" else metric
    tail = "." if report["higher_is_better"] else " (lower is better)."
    return [
        Piece(f"With everything present {named} is "),
        Piece(scale.figure(full["score"]), "score"),
        Piece(tail),
    ]


def _reference_sentence(report: Mapping[str, Any], worst: Mapping[str, Any], scale: Scale) -> list[Piece]:
    reference = finite(worst.get("reference"))
    if reference is None:
        itself = report["method"] == "ignore"
        return [Piece(" This run is the one that ignores the problem.")] if itself else []
    better = reference > worst["score"] if report["higher_is_better"] else reference < worst["score"]
    verb = "score" if report["higher_is_better"] else "err by"
    start = " Ignoring the problem would do better there: " if better else f" Ignoring the problem would {verb} "
    return [Piece(start), Piece(scale.figure(reference), "reference"), Piece("." if better else " there.")]
