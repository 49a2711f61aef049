"""The rows of a report: each pattern in words, the worst first, and what is lost against everything present."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from absentia.evaluate.wording import finite, short

__all__ = ["absent_count", "full_row", "initials", "loss_from_full", "one_modality", "pattern_words", "ranked"]


def pattern_words(present: Mapping[str, bool], length: int = 40) -> str:
    """A pattern as one would say it; names longer than `length` are cut.

    >>> pattern_words({"image": True, "text": False})
    'image alone'
    """
    here = [short(name, length) for name, is_here in present.items() if is_here]
    gone = [short(name, length) for name, is_here in present.items() if not is_here]
    if not gone:
        return "everything"
    if len(here) < 2:
        return f"{here[0]} alone" if here else "nothing"
    if len(gone) <= 2 and len(gone) < len(here) and len(present) > 3:
        return f"everything but {_joined(gone)}"
    return _joined(here)


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def initials(names: Sequence[str]) -> list[str]:
    """One letter for each of at most 36 names, all different; a name's own first free letter if it has one.

    >>> initials(["text", "title", "image"])
    ['t', 'i', 'm']
    """
    taken: list[str] = []
    for name in names:
        spare = "123456789abcdefghijklmnopqrstuvwxyz0"
        taken.append(next(letter for letter in name.lower() + spare if letter in spare and letter not in taken))
    return taken


def absent_count(row: Mapping[str, Any]) -> int:
    """How many modalities a row of `patterns` does without."""
    return sum(not is_here for is_here in row["present"].values())


def one_modality(report: Mapping[str, Any]) -> bool:
    """Whether the report knows one modality only, so that nothing can be absent."""
    return len(report["modalities"]) == 1


def ranked(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of `patterns`, worst score first; those without a score last."""
    sign = 1.0 if report["higher_is_better"] else -1.0
    scores = {id(row): finite(row["score"]) for row in report["patterns"]}
    return sorted(report["patterns"], key=lambda row: math.inf if (score := scores[id(row)]) is None else sign * score)


def full_row(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """The row where everything is present, if it was asked for."""
    return next((row for row in report["patterns"] if absent_count(row) == 0), None)


def loss_from_full(row: Mapping[str, Any], report: Mapping[str, Any]) -> float | None:
    """How much worse a row scores than everything present; above zero is worse, whatever the metric."""
    full = full_row(report)
    best, score = finite(full["score"]) if full else None, finite(row["score"])
    if best is None or score is None:
        return finite(row.get("drop"))
    return best - score if report["higher_is_better"] else score - best
