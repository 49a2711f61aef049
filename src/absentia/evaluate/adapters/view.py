"""What a study of adapters says: its rows in order, what each won back, and the headline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from absentia.evaluate.headline import Piece
from absentia.evaluate.wording import Scale, finite, metric_words

__all__ = ["NAMES", "StudyView", "bytes_words", "share_words"]

Json = Mapping[str, Any]
NAMES = {
    "base": "filled in, not adapted",
    "calibrated": "calibrated, no labels",
    "fine-tuned": "whole network tuned, per pattern",
    "dedicated": "own network, per pattern",
}
WHOLE = ("fine-tuned", "dedicated")


@dataclass(frozen=True)
class StudyView:
    """A study's report, ready to be shown."""

    report: Json

    @property
    def scale(self) -> Scale:
        """How scores are written."""
        values = [p["score"] for row in self.report["rows"] for p in row["patterns"]]
        return Scale.of(self.report["metric"], [*values, self.full])

    @property
    def full(self) -> float | None:
        """The score with everything present."""
        return finite(self.report["full"]["score"])

    @property
    def rows(self) -> Sequence[Json]:
        """Best mean first."""
        return sorted(self.report["rows"], key=lambda row: -(finite(row["mean"]) or float("-inf")))

    @property
    def base(self) -> Json | None:
        """The network as it was."""
        return next((row for row in self.report["rows"] if row["row"] == "base"), None)

    @property
    def best(self) -> Json | None:
        """The adapters with the best mean."""
        return next((row for row in self.rows if row["row"] not in ("base", *WHOLE)), None)

    @property
    def patterns(self) -> Sequence[str]:
        """Names, the worst under the network as it was first."""
        row = self.base or self.report["rows"][0]
        return [p["pattern"] for p in sorted(row["patterns"], key=lambda p: finite(p["score"]) or 0.0)]

    def name(self, row: Json) -> str:
        """What a row is called."""
        return NAMES.get(row["row"], str(row["row"]))

    def score(self, row: Json, pattern: str) -> float | None:
        """A row's score of a pattern."""
        return next((finite(p["score"]) for p in row["patterns"] if p["pattern"] == pattern), None)

    def closed(self, row: Json) -> float | None:
        """The share of the drop from the full pattern that is won back."""
        base, mean = (finite(self.base["mean"]) if self.base else None), finite(row["mean"])
        if base is None or mean is None or self.full is None or self.full <= base:
            return None
        return (mean - base) / (self.full - base)

    def share(self, row: Json) -> float:
        """Of all parameters, what one set holds."""
        return float(row["numbers_per_set"]) / max(1.0, float(self.report["parameters"]))

    def headline(self) -> list[Piece]:
        """What was lost and what was won back, in a few sentences."""
        scale, words = self.scale, metric_words(self.report["metric"])
        pieces = [Piece(f"With everything present {words} is "), Piece(scale.figure(self.full), "score"), Piece(".")]
        if self.base is not None:
            pieces += [
                Piece(" Filled in where something is absent, it is "),
                Piece(scale.figure(self.base["mean"]), "reference"),
                Piece(" on average"),
            ]
        if self.best is None:
            return [*pieces, Piece(".")] if self.base is not None else pieces
        size = f"{share_words(self.share(self.best))} % of its parameters"
        return [
            *pieces,
            Piece("; " if self.base is not None else " "),
            Piece(str(self.best["row"]), "name"),
            Piece(f", with {size} for a pattern, makes it "),
            Piece(scale.figure(self.best["mean"]), "score"),
            Piece("."),
        ]


def bytes_words(count: Any) -> str:
    """1536 -> 1.5 kB"""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def share_words(share: float) -> str:
    """A share of all parameters in %, with two digits that say something."""
    return f"{100 * share:.0f}" if share >= 0.1 else f"{100 * share:.2g}"
