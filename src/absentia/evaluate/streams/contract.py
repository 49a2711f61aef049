"""What report.json of a stream of sessions holds, and the figures in it that follow from its matrices.

```
kind                "stream", which tells it from the report of a plain run
method, options     the method's name and its options by name
metric              what all scores are measured by, unless said otherwise; higher_is_better: bool
names               of the modalities, in order; modalities: each name's {"kind", "columns", "encoder"}
target              {"column", "kind", "classes"}: all classes of the stream, in the order of their arrival
seed, plan_sha256, command, versions, hardware, created, notes: as in a plain run
parameters          {"trained", "total", "answering", "scaffold"}: the last by name, what only training needs; as in a
                    plain run
sessions            one for each session, in order:
    number              as its folder is called
    classes             those that arrived with it; empty where none did
    rows                {"train", "val", "test"}: how many
    p_incomplete        {"train", "test"}: the share of rows that lack a modality
    patterns            of the training rows: how many have "image+text", ...
    seconds, steps      of its training; bytes: of the file that it learned
    notes               sentences
matrix              row t holds the scores R[t][i] on the test rows of sessions i <= t after session t; null where
                    there is none (a row may be longer: what stands beyond the diagonal is not looked at)
matrices            the same for other metrics by name: accuracy, macro_f1, f1_released
by_pattern          the same for the test rows of one pattern by its name, "image+text"
after               [{"session", "score"}]: the mean of each row of the matrix                             (derived)
average_last, average_stages, forgetting_first, forgetting_max, last: see `evaluate.continual`             (derived)
by_pattern_summary  the five for each pattern                                                              (derived)
```
What may be missing altogether:
```
usage     for each pool of prompts by name a square [i][s]: how much queries of session i use the components that came
          with session s, as a mean absolute weight
queries   what `evaluate.query_map.query_map` gives, one for each modality
curves    what `session_curves` gives: the training losses
beside    other streams to compare with, each what `beside` gives
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from absentia.evaluate.continual import FIGURES, stage_means, summarise
from absentia.evaluate.curves import Curve, curves

__all__ = ["KIND", "beside", "completed", "is_stream", "session_curves"]

KIND = "stream"
Json = Mapping[str, Any]


def is_stream(report: Json) -> bool:
    """Whether a report is that of a stream."""
    return report.get("kind") == KIND


def completed(report: Json) -> dict[str, Any]:
    """The report with its derived figures, computed from `matrix` and `by_pattern`.

    Raises ValueError where a row of a matrix is too short.
    """
    higher, matrix = bool(report["higher_is_better"]), report["matrix"]
    numbers = [session["number"] for session in report["sessions"]]
    return {
        **report,
        "kind": KIND,
        "after": [
            {"session": number, "score": score} for number, score in zip(numbers, stage_means(matrix), strict=True)
        ],
        **summarise(matrix, higher),
        "by_pattern_summary": {
            pattern: summarise(scores, higher) for pattern, scores in (report.get("by_pattern") or {}).items()
        },
    }


def beside(report: Json, label: str | None = None) -> dict[str, Any]:
    """What another stream's page shows of this one: its line and its five figures."""
    keys = ("method", "seed", "metric", "plan_sha256", "after", *FIGURES)
    named = label or f"{report['method']}, seed {report.get('seed')}"
    return {"label": named, **{key: report.get(key) for key in keys}}


def session_curves(metrics: Sequence[Sequence[Json]]) -> list[dict[str, Any]]:
    """The training losses of a stream from the lines of each session's metrics.jsonl, made light.

    One entry for each session: `loss` as [step, value] pairs, and `parts` with the same for each part of a loss that
    is a sum of several. Steps count on through a session's stages.
    """
    found = [curves(lines) for lines in metrics]
    return [
        {"loss": _pairs(one.loss), "parts": {name: _pairs(part) for name, part in one.parts.items()}} for one in found
    ]


def _pairs(curve: Curve) -> list[list[float]]:
    return [[float(x), float(y)] for x, y in zip(curve.x.tolist(), curve.y.tolist(), strict=True)]
