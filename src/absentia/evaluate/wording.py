"""Plain words for a report: how figures, patterns and the headline are said, the same on the page and in the terminal."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["Piece", "Scale", "absent_count", "clean", "finite", "full_row", "headline", "initials", "loss_from_full",
           "metric_words", "one_modality", "pattern_words", "ranked", "seconds_words", "short", "value_words"]

METRIC_WORDS = {"macro_f1": "macro F1", "micro_f1": "micro F1", "auroc": "AUROC", "mae": "mean absolute error", "r2": "R²"}
SHARES = frozenset({"accuracy", "balanced_accuracy", "macro_f1", "micro_f1"})
NOT_KNOWN = "–"


# --- strings that come from the user's table ---------------------------------------------------------------------------

def clean(value: Any) -> Any:
    """`value` with every string in it, keys too, free of control characters, lone surrogates and text-direction overrides."""
    if isinstance(value, str):
        return "".join(_harmless(letter) for letter in value)
    if isinstance(value, Mapping):
        return {clean(key): clean(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [clean(inner) for inner in value]
    return value


def _harmless(letter: str) -> str:
    if letter in "\n\t":
        return letter
    if unicodedata.category(letter) in ("Cc", "Cs"):
        return "\ufffd"
    return "" if "\u202a" <= letter <= "\u202e" or "\u2066" <= letter <= "\u2069" else letter


def short(value: Any, length: int = 80) -> str:
    """One line of at most `length` characters; what was cut leaves an ellipsis."""
    line = " ".join(str(value).split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


# --- figures -----------------------------------------------------------------------------------------------------------

def finite(value: Any) -> float | None:
    """The number, or None where there is none (null, NaN, infinite, not a number at all)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How all values of one metric are written, so that they stand under each other: 0.931 is "93.1 %" of accuracy."""

    factor: float
    decimals: int
    unit: str

    @classmethod
    def of(cls, metric: str, values: Iterable[Any]) -> Scale:
        """Shares become percent; anything else keeps its unit, with decimals that suit the largest of `values`."""
        if metric in SHARES:
            return cls(factor=100.0, decimals=1, unit="\u00a0%")
        largest = max((abs(number) for value in values if (number := finite(value)) is not None), default=0.0)
        decimals = 0 if largest >= 1000 else 1 if largest >= 100 else 2 if largest >= 10 else 3
        return cls(factor=1.0, decimals=decimals, unit="")

    @classmethod
    def of_report(cls, report: Mapping[str, Any]) -> Scale:
        """The scale of the metric that `report` is ranked by."""
        return cls.of(report["metric"], (row.get(key) for row in report["patterns"] for key in ("score", "reference")))

    def bare(self, value: Any) -> str:
        """93.1"""
        number = finite(value)
        return NOT_KNOWN if number is None else f"{number * self.factor:,.{self.decimals}f}".replace("-", "−")

    def figure(self, value: Any) -> str:
        """93.1 %"""
        return self.bare(value) + (self.unit if finite(value) is not None else "")

    def signed(self, value: Any) -> str:
        """+5.0; what rounds to nothing has no sign."""
        number = finite(value)
        if number is None:
            return NOT_KNOWN
        words = self.bare(abs(number))
        return words if words == self.bare(0.0) else ("+" if number > 0 else "−") + words


def metric_words(metric: str) -> str:
    """macro_f1 -> macro F1"""
    return METRIC_WORDS.get(metric, metric.replace("_", " "))


def seconds_words(seconds: Any) -> str:
    """75 -> 1 min 15 s"""
    number = finite(seconds)
    if number is None:
        return NOT_KNOWN
    if number < 60:
        return f"{number:.1f} s"
    minutes, rest = divmod(round(number), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def value_words(value: Any, length: int = 80) -> str:
    """A target or a setting as a reader would write it: lists joined, floats short, null named."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, list | tuple):
        return short(", ".join(value_words(inner) for inner in value), length) or "none"
    return short(value, length)


# --- patterns ----------------------------------------------------------------------------------------------------------

def pattern_words(present: Mapping[str, bool], length: int = 40) -> str:
    """{"image": True, "text": False} -> "image alone"; names longer than `length` are cut."""
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
    """One letter for each name, all different (a name's own first free letter where it has one); at most 36 names."""
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
    """How much worse a row scores than everything present; above zero is worse whichever way the metric points."""
    full = full_row(report)
    best, score = finite(full["score"]) if full else None, finite(row["score"])
    if best is None or score is None:
        return finite(row.get("drop"))
    return best - score if report["higher_is_better"] else score - best


# --- the headline ------------------------------------------------------------------------------------------------------

class Piece(NamedTuple):
    """A few words of the headline; `role` says what they stand for ("" , "name", "score" or "reference")."""

    words: str
    role: str = ""


def headline(report: Mapping[str, Any]) -> list[Piece]:
    """The report in two or three sentences that need no knowledge of its words; joined, the pieces are plain text."""
    rows = [row for row in ranked(report) if finite(row["score"]) is not None]
    if not rows:
        return [Piece("No pattern could be scored.")]
    scale, worst = Scale.of_report(report), rows[0]
    pieces = _full_sentence(report, scale)
    if one_modality(report):
        return [*pieces, Piece(" There is one modality, so nothing else can be absent.")]
    if absent_count(worst):
        pieces += [Piece(" Worst: "), Piece(pattern_words(worst["present"]), "name"), Piece(", "),
                   Piece(scale.figure(worst["score"]), "score"), Piece(".")]
    else:
        pieces += [Piece(" No other pattern scores worse.")]
    return pieces + _reference_sentence(report, worst, scale)


def _full_sentence(report: Mapping[str, Any], scale: Scale) -> list[Piece]:
    full, metric = full_row(report), metric_words(report["metric"])
    if full is None or finite(full["score"]) is None:
        return [Piece(f"Measured by {metric}, everything present was not scored.")]
    named = f"the {metric}" if report["metric"] == "mae" else metric
    tail = "." if report["higher_is_better"] else " (lower is better)."
    return [Piece(f"With everything present {named} is "), Piece(scale.figure(full["score"]), "score"), Piece(tail)]


def _reference_sentence(report: Mapping[str, Any], worst: Mapping[str, Any], scale: Scale) -> list[Piece]:
    reference = finite(worst.get("reference"))
    if reference is None:
        itself = report["method"] == "ignore"
        return [Piece(" This run is the one that ignores the problem.")] if itself else []
    better = reference > worst["score"] if report["higher_is_better"] else reference < worst["score"]
    verb = "score" if report["higher_is_better"] else "err by"
    start = " Ignoring the problem would do better there: " if better else f" Ignoring the problem would {verb} "
    return [Piece(start), Piece(scale.figure(reference), "reference"), Piece("." if better else " there.")]
