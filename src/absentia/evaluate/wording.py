"""Plain words for what a report holds: harmless short strings, figures that compare."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "NOT_KNOWN",
    "SHARES",
    "Scale",
    "classes_words",
    "clean",
    "finite",
    "metric_words",
    "seconds_words",
    "short",
    "value_words",
]

METRIC_WORDS = {
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "f1_released": "macro F1 as released",
    "auroc": "AUROC",
    "mae": "mean absolute error",
    "r2": "R²",
    "dice": "Dice",
    "iou": "mean IoU",
    "hd95": "HD95 in mm",
}
SHARES = frozenset({"accuracy", "balanced_accuracy", "macro_f1", "micro_f1", "f1_released", "dice", "iou"})
NOT_KNOWN = "–"
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
UNSEEN = re.compile("[\r\u202a-\u202e\u2066-\u2069]")


def clean(value: Any) -> Any:
    """`value`, its strings (keys too) free of control characters, lone surrogates and direction overrides."""
    if isinstance(value, str):
        return UNSEEN.sub("", UNPRINTABLE.sub("\ufffd", value))
    if isinstance(value, Mapping):
        return {clean(key): clean(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [clean(inner) for inner in value]
    return value


def short(value: Any, length: int = 80) -> str:
    """One line of at most `length` characters; what was cut leaves an ellipsis."""
    text = str(value)
    looked_at = text[: 50 * length]  # a cell can hold a whole book
    line = " ".join(looked_at.split())
    return line if len(line) <= length and looked_at == text else line[: length - 1].rstrip() + "…"


def finite(value: Any) -> float | None:
    """The number, or None where there is none (null, NaN, infinite, not a number at all)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How all values of one metric are written, so that they stand under each other: 0.931 is "93.1 %"."""

    factor: float
    decimals: int
    unit: str

    @classmethod
    def of(cls, metric: str, values: Iterable[Any]) -> Scale:
        """Shares become percent; else the unit stays, with decimals that suit the largest of `values`."""
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
        if number is None:
            return NOT_KNOWN
        return f"{number * self.factor:,.{self.decimals}f}".replace("-", "−")

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


def classes_words(target: Mapping[str, Any]) -> str:
    """How many answers a target has: 20 classes, or of a mask 1 region."""
    count = len(target.get("classes") or [])
    one, more = ("region", "regions") if target.get("kind") == "mask" else ("class", "classes")
    return f"{count} {one if count == 1 else more}"


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
