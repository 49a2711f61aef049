"""Scores of predictions, with weights, so that a bootstrap is one matrix product and no loop over resamples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from absentia.data.target import TargetCodec
from absentia.evaluate.overlap import region_scores, resampled_dice

__all__ = [
    *("Scores", "goodness_sign", "interval_of", "macro_f1", "main_metric", "main_statistic", "resampled"),
    *("resampled_interval", "score"),
]

Array = npt.NDArray[np.float64]
RESAMPLES = 1000
AT_ONCE = 20_000_000  # weights in memory
Statistic = Callable[[Array], Array]
"""Weights (R, n) of n rows to values (R, ...)."""


@dataclass(frozen=True)
class Scores:
    """The main metric with its bootstrap interval, and all metrics by name (None where undefined)."""

    score: float | None
    low: float | None
    high: float | None
    metrics: dict[str, float | None]


def main_metric(codec: TargetCodec) -> str:
    """accuracy for a class, macro_f1 for labels, mae for a number, dice for a mask."""
    return {"class": "accuracy", "labels": "macro_f1", "number": "mae", "mask": "dice"}[str(codec.target.kind)]


def goodness_sign(codec: TargetCodec) -> int:
    """1 where higher is better, -1 where lower is."""
    return -1 if codec.target.kind == "number" else 1


def score(
    answers: Array,
    target: npt.NDArray[np.generic],
    ids: Sequence[str],
    codec: TargetCodec,
    *,
    interval: bool = True,
) -> Scores:
    """Score n answers.

    answers: probabilities (n, K) or numbers (n, 1) in learned units; target as `TargetCodec.encode` gives it. Of masks
        the answers are what `overlaps` kept of them, (n, K, 4), and the truth is in these.
    The interval is a 95 % bootstrap that draws entities (`ids`), for rows of one entity are not independent.
    """
    name = main_metric(codec)
    if not len(answers):
        return Scores(None, None, None, {})
    if codec.target.kind == "mask":
        metrics = region_scores(answers, ids, codec)
    else:
        kinds = {"class": _class, "labels": _labels, "number": _number}
        metrics = kinds[str(codec.target.kind)](answers, target, codec)
    low, high = resampled_interval(ids, main_statistic(answers, target, ids, codec)) if interval else (None, None)
    return Scores(metrics[name], low, high, metrics)


def resampled_interval(ids: Sequence[str], statistic: Statistic) -> tuple[float, float] | tuple[None, None]:
    """2.5 % and 97.5 % quantiles of a statistic under resampled entities; None where it is never defined."""
    return interval_of(resampled(ids, statistic))


def resampled(ids: Sequence[str], statistic: Statistic) -> Array:
    """(1000, ...): a statistic under resampled entities, always of the same draws."""
    _, entity = np.unique(np.asarray(ids, dtype=np.str_), return_inverse=True)
    count = int(entity.max()) + 1
    rng, shares = np.random.default_rng(0), np.full(count, 1 / count)
    block = max(1, min(RESAMPLES, AT_ONCE // len(entity)))
    sizes = [min(block, RESAMPLES - start) for start in range(0, RESAMPLES, block)]
    draws = (rng.multinomial(count, shares, size=size) for size in sizes)
    return np.concatenate([statistic(part[:, entity].astype(np.float64)) for part in draws])


def interval_of(values: Array) -> tuple[float, float] | tuple[None, None]:
    """2.5 % and 97.5 % quantiles of values (R,) that are not NaN; None where all are."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None, None
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)


def main_statistic(
    answers: Array, target: npt.NDArray[np.generic], ids: Sequence[str], codec: TargetCodec
) -> Statistic:
    """The main metric of answers, as `score` takes them, by how much each row counts."""
    if codec.target.kind == "mask":
        share, dice = resampled_dice(answers, ids, codec)
        share, dice = np.where(np.isnan(dice), 0, share), np.nan_to_num(dice)
        return lambda weights: _ratio(weights @ (share * dice), weights @ share)
    if codec.target.kind == "class":
        right = (answers.argmax(axis=1) == target).astype(np.float64)
        return lambda weights: np.asarray(weights @ right / weights.sum(axis=1))
    if codec.target.kind == "labels":
        counts = _counts(answers >= 0.5, np.asarray(target) > 0.5)
        return lambda weights: _macro_f1(*(weights @ part for part in counts))
    wrong = np.abs(codec.number(answers[:, 0]) - codec.number(np.asarray(target, dtype=np.float64)))
    return lambda weights: np.asarray(weights @ wrong / weights.sum(axis=1))


def _ratio(sums: Array, counts: Array) -> Array:
    ratio: Array = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
    return ratio


def _class(answers: Array, target: npt.NDArray[np.generic], codec: TargetCodec) -> dict[str, float | None]:
    classes = np.arange(answers.shape[1])
    predicted = answers.argmax(axis=1)
    return {
        "accuracy": float((predicted == target).mean()),
        "macro_f1": macro_f1(predicted[:, None] == classes, np.asarray(target)[:, None] == classes),
        "auroc": _auroc(answers, np.asarray(target)[:, None] == classes),
    }


def _labels(answers: Array, target: npt.NDArray[np.generic], codec: TargetCodec) -> dict[str, float | None]:
    truth = np.asarray(target) > 0.5
    return {
        "macro_f1": macro_f1(answers >= 0.5, truth),
        "accuracy": float(((answers >= 0.5) == truth).mean()),
        "auroc": _auroc(answers, truth),
    }


def _number(answers: Array, target: npt.NDArray[np.generic], codec: TargetCodec) -> dict[str, float | None]:
    learned, truth = answers[:, 0].astype(np.float64), np.asarray(target, dtype=np.float64)
    wrong = np.abs(codec.number(learned) - codec.number(truth))
    spread = float(((truth - truth.mean()) ** 2).sum())
    return {
        "mae": float(wrong.mean()),
        "correlation": _correlation(learned, truth),
        "r2": 1 - float(((learned - truth) ** 2).sum()) / spread if spread > 0 else None,
    }


def _counts(predicted: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> tuple[Array, Array, Array]:
    """Per row and class whether it is a true positive, a false positive, a false negative: (n, K) each."""
    hit = (predicted & truth).astype(np.float64)
    return hit, (predicted & ~truth).astype(np.float64), (~predicted & truth).astype(np.float64)


def macro_f1(predicted: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float | None:
    """The mean F1 over those of K classes that occur in truth or answer, both (n, K); None where none does."""
    return _defined(_macro_f1(*(part.sum(axis=0)[None] for part in _counts(predicted, truth)))[0])


def _macro_f1(hit: Array, extra: Array, missed: Array) -> Array:
    """(R,) from counts (R, K): mean over the classes that occur in truth or answer; others have no F1.

    NaN where no class occurs at all.
    """
    total = 2 * hit + extra + missed
    f1 = np.divide(2 * hit, total, out=np.zeros_like(hit), where=total > 0)
    classes = (total > 0).sum(axis=1)
    mean: Array = np.divide(f1.sum(axis=1), classes, out=np.full(len(f1), np.nan), where=classes > 0)
    return mean


def _auroc(answers: Array, truth: npt.NDArray[np.bool_]) -> float | None:
    """Mean over the classes that have both kinds of rows; None where there is none.

    The share of pairs of a right and a wrong row that are ordered well, equal ones counted half: from the ranks.
    """
    both = truth.any(axis=0) & ~truth.all(axis=0)
    if not both.any():
        return None
    from scipy.stats import rankdata  # half a second, for this alone

    ranks, right = rankdata(answers[:, both], axis=0), truth[:, both]
    count = right.sum(axis=0)
    above = (ranks * right).sum(axis=0) - count * (count + 1) / 2
    return float((above / (count * (len(right) - count))).mean())


def _correlation(learned: Array, truth: Array) -> float | None:
    """Pearson's; None where one of the two is constant as far as its digits go."""
    x, y = (a - a.mean() for a in (learned, truth))
    if any(np.abs(d).max() <= 1e-12 * np.abs(a).max() for d, a in ((x, learned), (y, truth))):
        return None
    return float((x / np.linalg.norm(x)) @ (y / np.linalg.norm(y)))


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
