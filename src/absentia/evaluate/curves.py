"""The lines of metrics.jsonl as curves: one time axis through all stages, thinned so that a long training stays light."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from absentia.evaluate.wording import finite

__all__ = ["Curve", "Curves", "curves"]

POINTS = 300
PARTS = 4


@dataclass(frozen=True)
class Curve:
    """Some numbers over steps: x and y of shape (n,)."""

    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.x)

    @classmethod
    def of(cls, points: Iterable[tuple[float, float | None]], most: int = POINTS) -> Curve:
        """The points that are numbers; beyond `most`, neighbours are averaged."""
        known = np.array([(x, y) for x, y in points if y is not None], dtype=np.float64).reshape(-1, 2)
        if len(known) > most:
            known = np.stack([part.mean(axis=0) for part in np.array_split(known, most)])
        return cls(known[:, 0], known[:, 1])


@dataclass(frozen=True, kw_only=True)
class Curves:
    """What a training looked like. `stages`: each stage's name and the step where it begins, on the common axis."""

    stages: list[tuple[str, float]] = field(default_factory=list)
    loss: Curve
    parts: dict[str, Curve]
    score: Curve
    worst: Curve
    best: Curve
    last_step: float


def curves(metrics: Sequence[Mapping[str, Any]]) -> Curves:
    """Curves of the events of metrics.jsonl; a step that was written twice (a resumed run) counts once, the later time."""
    events, stages = _one_axis(metrics)
    train = [event for event in events if event.get("event") == "train"]
    checks = [event for event in events if event.get("event") == "validate"]
    return Curves(
        stages=stages, loss=_curve(train, "loss"), parts=_parts(train), score=_curve(checks, "score"),
        worst=Curve.of((event["x"], min(_patterns(event), default=None)) for event in checks),
        best=Curve.of((event["x"], max(_patterns(event), default=None)) for event in checks),
        last_step=max((event["x"] for event in events), default=0.0))


def _one_axis(metrics: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[tuple[str, float]]]:
    """Events with a step "x" that never jumps back: where a stage counts from zero again, it begins where the last one ended."""
    latest: dict[tuple[str, str, float], Mapping[str, Any]] = {}
    for event in metrics:
        latest[str(event.get("event")), str(event.get("stage", "")), finite(event.get("step")) or 0.0] = event
    events: list[dict[str, Any]] = []
    stages: list[tuple[str, float]] = []
    for stage in dict.fromkeys(name for _, name, _ in latest):
        steps = {key: event for key, event in latest.items() if key[1] == stage}
        reached = max((event["x"] for event in events), default=0.0)
        offset = reached if min(step for _, _, step in steps) < reached else 0.0
        stages.append((stage, reached))
        events += [{**event, "x": key[2] + offset} for key, event in sorted(steps.items(), key=lambda item: item[0][2])]
    return events, stages


def _curve(events: Iterable[Mapping[str, Any]], key: str) -> Curve:
    return Curve.of((event["x"], finite(event.get(key))) for event in events)


def _parts(train: Sequence[Mapping[str, Any]]) -> dict[str, Curve]:
    """The parts of a loss that is a sum of several; a loss of one part is its own curve."""
    names = list(dict.fromkeys(name for event in train for name in event.get("losses") or {}))
    if len(names) < 2:
        return {}
    return {name: Curve.of((event["x"], finite((event.get("losses") or {}).get(name))) for event in train) for name in names[:PARTS]}


def _patterns(event: Mapping[str, Any]) -> list[float]:
    return [number for score in (event.get("patterns") or {}).values() if (number := finite(score)) is not None]
