"""The lines of metrics.jsonl as curves: one axis of steps through all stages, light however long the training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from absentia.evaluate.wording import clean, finite

__all__ = ["Curve", "Curves", "curves"]

POINTS = 300
PARTS = 4
DIVERGED = 1e12  # a loss beyond tells nothing, and its axis would hide everything else
Event = Mapping[str, Any]


@dataclass(frozen=True)
class Curve:
    """Some numbers over steps: x and y of shape (n,)."""

    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.x)

    def broken(self, starts: Sequence[float]) -> Curve:
        """The curve with a gap at each of `starts`, so that no line joins what is not one course."""
        places = np.unique(np.searchsorted(self.x, [start for start in starts if start > 0], side="right"))
        places = places[(places > 0) & (places < len(self.x))]
        return Curve(np.insert(self.x, places, np.nan), np.insert(self.y, places, np.nan))

    @classmethod
    def of(cls, points: Iterable[tuple[float, Any]]) -> Curve:
        """The points that are numbers; where there are very many, neighbours are averaged."""
        known = [(x, y) for x, value in points if (y := finite(value)) is not None and abs(y) < DIVERGED]
        array = np.array(known, dtype=np.float64).reshape(-1, 2)
        if len(array) > POINTS:
            array = np.stack([part.mean(axis=0) for part in np.array_split(array, POINTS)])
        return cls(array[:, 0], array[:, 1])


@dataclass(frozen=True, kw_only=True)
class Curves:
    """What a training looked like.

    stages: each stage's name and the step where it begins.  parts: of the loss, where it is a sum of several.
    score, worst, best: on validation rows, over patterns.
    """

    stages: list[tuple[str, float]]
    loss: Curve
    parts: dict[str, Curve]
    score: Curve
    worst: Curve
    best: Curve
    last_step: float

    @property
    def starts(self) -> list[float]:
        """The step where each stage begins."""
        return [start for _, start in self.stages]


def curves(metrics: Sequence[Event], part: str = "method") -> Curves:
    """Curves of the events of metrics.jsonl that belong to `part`, the method or its reference.

    A step that was written twice, by a run that was resumed, counts once, the later time.
    """
    events, stages = _one_axis([event for event in metrics if event.get("part", "method") == part])
    train = [event for event in events if event.get("event") == "train"]
    checks = [event for event in events if event.get("event") == "validate"]
    return Curves(
        stages=stages,
        loss=Curve.of((event["x"], event.get("loss")) for event in train),
        parts=_parts(train),
        score=Curve.of((event["x"], event.get("score")) for event in checks),
        worst=Curve.of((event["x"], min(_patterns(event), default=None)) for event in checks),
        best=Curve.of((event["x"], max(_patterns(event), default=None)) for event in checks),
        last_step=max((event["x"] for event in events), default=0.0),
    )


def _one_axis(metrics: Sequence[Event]) -> tuple[list[dict[str, Any]], list[tuple[str, float]]]:
    """Events with a step "x" that never jumps back: a stage that counts from zero begins where the last ended."""
    latest: dict[str, dict[tuple[float, str], Event]] = defaultdict(dict)
    for event in metrics:
        latest[clean(str(event.get("stage", "")))][finite(event.get("step")) or 0.0, str(event.get("event"))] = event
    events: list[dict[str, Any]] = []
    stages: list[tuple[str, float]] = []
    for stage, steps in latest.items():
        reached = events[-1]["x"] if events else 0.0
        offset = reached if min(steps)[0] < reached else 0.0
        stages.append((stage, reached))
        events += [{**steps[key], "x": key[0] + offset} for key in sorted(steps)]
    return events, stages


def _parts(train: Sequence[Event]) -> dict[str, Curve]:
    """The parts of a loss; a loss of one part is its own curve."""
    names = list(dict.fromkeys(name for event in train for name in event.get("losses") or {}))
    if len(names) < 2:
        return {}
    return {
        clean(name): Curve.of((event["x"], (event.get("losses") or {}).get(name)) for event in train)
        for name in names[:PARTS]
    }


def _patterns(event: Event) -> list[float]:
    scores = (event.get("patterns") or {}).values()
    return [number for score in scores if (number := finite(score)) is not None]
