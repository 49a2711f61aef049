"""The numbers of a stream of sessions: what is known at the end, on the way, and how much was forgotten.

Everything starts from the matrix R: R[t][i] is the score on the test rows of session i after session t, i <= t.
Cells that are None (a session without a row of a pattern, say) are left out of every mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from absentia.evaluate.metrics import macro_f1

__all__ = [
    "FIGURES",
    "average_last",
    "average_stages",
    "f1_known",
    "f1_released",
    "forgetting_first",
    "forgetting_max",
    "last",
    "stage_means",
    "summarise",
]

FIGURES = ("average_last", "average_stages", "forgetting_first", "forgetting_max", "last")
Matrix = Sequence[Sequence[float | None]]
Array = npt.NDArray[np.floating]


def summarise(matrix: Matrix, higher_is_better: bool = True) -> dict[str, float | None]:
    """The five figures by name; None where one is undefined.

    matrix: T rows, of which row t has at least t+1 cells; what stands beyond is not looked at. Scores keep their
    unit and direction; forgetting is positive where the score became worse, whatever the metric.
    Raises ValueError where a row is too short.
    """
    return {
        "average_last": average_last(matrix),
        "average_stages": average_stages(matrix),
        "forgetting_first": forgetting_first(matrix, higher_is_better),
        "forgetting_max": forgetting_max(matrix, higher_is_better),
        "last": last(matrix),
    }


def average_last(matrix: Matrix) -> float | None:
    """The mean over all sessions i of R[T-1][i]: what is known once the stream has ended.

    RebQ calls it AP. Every session counts alike, however many rows it has.
    """
    return _mean(_lower(matrix)[-1]) if len(matrix) else None


def average_stages(matrix: Matrix) -> float | None:
    """The mean over the stages t of the mean over i <= t of R[t][i]: what was known on the way."""
    return _mean(stage_means(matrix))


def forgetting_first(matrix: Matrix, higher_is_better: bool = True) -> float | None:
    """The mean over i < T-1 of R[i][i] - R[T-1][i]: what was lost since a session was new.

    RebQ calls it FG. Below zero where later sessions helped the earlier ones; None with one session only.
    """
    rows = _lower(matrix)
    return _lost([(rows[i][i], rows[-1][i]) for i in range(len(rows) - 1)], higher_is_better)


def forgetting_max(matrix: Matrix, higher_is_better: bool = True) -> float | None:
    """The mean over i < T-1 of max over i <= t < T-1 of R[t][i], minus R[T-1][i]: what was lost since the best day.

    The usual forgetting of continual learning, never below `forgetting_first`. The best is the least where lower is
    better. None with one session only.
    """
    rows, best = _lower(matrix), max if higher_is_better else min
    pairs = []
    for i in range(len(rows) - 1):
        known = [value for row in rows[i:-1] if (value := row[i]) is not None]
        pairs.append((best(known, default=None), rows[-1][i]))
    return _lost(pairs, higher_is_better)


def last(matrix: Matrix) -> float | None:
    """R[T-1][T-1]: how well the newest session was learned."""
    return _lower(matrix)[-1][-1] if len(matrix) else None


def stage_means(matrix: Matrix) -> list[float | None]:
    """(T,): after each session t the mean over i <= t of R[t][i]."""
    return [_mean(row) for row in _lower(matrix)]


def f1_released(answers: Array, target: npt.NDArray[np.generic]) -> float | None:
    """Macro F1 of several labels as RebQ's released code computes it, for comparison with its published numbers.

    answers: probabilities or logits (n, K), target 0/1 (n, K), K the labels seen so far; None without rows.
    Two traps come with the formula. A label that neither occurs nor is answered has F1 = 0 and still counts in the
    mean, so that the score of old rows falls as labels arrive, though nothing is forgotten. And the sigmoid is taken
    only when some answer lies outside [0, 1], so that small logits are read as probabilities.
    """
    answers, truth = _of_labels(answers, target)
    if not answers.size:
        return None
    outside = bool(((answers < 0) | (answers > 1)).any())
    predicted = answers > (0.0 if outside else 0.5)  # sigmoid(x) > 0.5 where x > 0
    hit = (predicted & truth).sum(axis=0)
    total = predicted.sum(axis=0) + truth.sum(axis=0)
    return float(np.mean(2 * hit / np.maximum(total, 1)))


def f1_known(probabilities: Array, target: npt.NDArray[np.generic]) -> float | None:
    """Macro F1 (n, K) over those labels that occur in truth or answer: what this project calls macro_f1.

    A label that no row has, and no answer claims, says nothing about the answers and is left out of the mean.
    """
    probabilities, truth = _of_labels(probabilities, target)
    return macro_f1(probabilities >= 0.5, truth) if probabilities.size else None


def _of_labels(answers: Array, target: npt.NDArray[np.generic]) -> tuple[Array, npt.NDArray[np.bool_]]:
    answers, truth = np.asarray(answers, dtype=np.float64), np.asarray(target) > 0.5
    if answers.ndim != 2 or answers.shape != truth.shape:
        raise ValueError(f"answers {answers.shape} and target {truth.shape} must both have the shape (n, K)")
    return answers, truth


def _lower(matrix: Matrix) -> list[list[float | None]]:
    """The lower triangle, NaN as None; row t has t+1 cells."""
    for t, row in enumerate(matrix):
        if len(row) <= t:
            raise ValueError(f"row {t} of the matrix has {len(row)} cells, not the {t + 1} of sessions 0 to {t}")
    return [[_defined(value) for value in row[: t + 1]] for t, row in enumerate(matrix)]


def _defined(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _lost(pairs: Iterable[tuple[float | None, float | None]], higher_is_better: bool) -> float | None:
    """The mean of (before - now), turned round where lower is better; pairs with a gap are left out."""
    sign = 1.0 if higher_is_better else -1.0
    return _mean([sign * (before - now) for before, now in pairs if before is not None and now is not None])
