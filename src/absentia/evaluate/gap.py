"""How much of the gap between what is present alone and the whole truth a method's guesses close.

Of each pattern (score - unaided) / (truth - unaided), all three of the same rows, those that have everything: as the
method answers, with its guesses switched off, and with what the pattern hides in the place of the guesses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from absentia.data.rows import Rows
from absentia.data.schema import pattern_name
from absentia.evaluate.metrics import goodness_sign, interval_of, main_statistic, resampled
from absentia.evaluate.patterns import AT_ONCE, Answers
from absentia.layers.heads import probabilities
from absentia.methods.base import Method

__all__ = ["gap_closed", "shares_closed"]

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
KEYS = ("score", "unaided", "truth")
NO_GAP: dict[str, float | None] = {"closed": None, "low": None, "high": None}


def shares_closed(gains: Mapping[str, float], gaps: Mapping[str, float]) -> tuple[dict[str, float], float | None]:
    """The share of its gap that each pattern gains, and that of all of them, summed; None where there are none.

    gains, gaps: score - unaided and truth - unaided, both positive where better, by pattern.
    """
    shares = {name: gains[name] / gap for name, gap in gaps.items()}
    return shares, sum(gains[name] for name in gaps) / sum(gaps.values()) if gaps else None


def gap_closed(method: Method, rows: Rows, patterns: Bools, answers: Sequence[Answers]) -> dict[str, Any] | None:
    """The share of the gap that guesses close, by pattern and in all, with 95 % intervals; None without guesses.

    answers: what the method answered for each of `patterns`, bool (P, M). A pattern has a gap where the lower end of
    its 95 % interval is above 0; `closed` is None for the others, and they are left out of the share in all.
    """
    chosen = [number for number, pattern in enumerate(patterns) if not pattern.all()]
    if not method.guesses or not chosen:
        return None
    complete = np.flatnonzero(rows.presence.all(axis=1))
    if not len(complete):
        return {"rows": 0, "patterns": [], **NO_GAP}
    given = [_among(answers[number], complete) for number in chosen]
    scores, draws = _scored(method, rows, complete, [given, *_bounds(method, rows, complete, patterns[chosen])])
    sign = goodness_sign(method.parts.codec)
    lines = [
        _named(method.parts.names, patterns[number].tolist()) | _line(scores[i], draws[:, i], sign)
        for i, number in enumerate(chosen)
    ]
    there = [number for number, line in enumerate(lines) if line["closed"] is not None]
    in_all = _share(sign * scores[there].sum(axis=0), sign * draws[:, there].sum(axis=1)) if there else NO_GAP
    return {"rows": len(complete), "patterns": lines, **in_all}


@torch.inference_mode()
def _bounds(method: Method, rows: Rows, positions: npt.NDArray[np.int64], patterns: Bools) -> tuple[Array, Array]:
    """Answers (P, n, K) without guesses, and with the truth in their place."""
    method.eval()
    shown, parts = torch.from_numpy(patterns).to(method.prior.device), []
    for start in range(0, len(positions), AT_ONCE):
        batch = rows.batch(positions[start : start + AT_ONCE]).to(method.prior.device)
        both = torch.stack(method.bounds(batch, shown))
        parts.append(probabilities(both.flatten(0, 2), method.parts.codec).view(both.shape).cpu())
    unaided, truth = torch.cat(parts, dim=2).double().numpy()
    return unaided, truth


def _among(answers: Answers, positions: npt.NDArray[np.int64]) -> Array:
    """(n, K): the answers of these rows."""
    return answers.probabilities[np.isin(answers.positions, positions)]


def _scored(
    method: Method, rows: Rows, positions: npt.NDArray[np.int64], ways: Sequence[Sequence[Array] | Array]
) -> tuple[Array, Array]:
    """The scores (P, 3) of three ways to answer P patterns, and those of resampled entities (R, P, 3)."""
    assert rows.target is not None
    target, ids = rows.target[positions], [rows.ids[p] for p in positions]
    statistics = [
        [main_statistic(answers, target, ids, method.parts.codec) for answers in pattern]
        for pattern in zip(*ways, strict=True)
    ]

    def each(weights: Array) -> Array:
        return np.stack([np.stack([of(weights) for of in pattern], axis=1) for pattern in statistics], axis=1)

    return each(np.ones((1, len(positions))))[0], resampled(ids, each)


def _named(names: Sequence[str], shown: Sequence[bool]) -> dict[str, Any]:
    return {"pattern": pattern_name(names, shown), "present": dict(zip(names, shown, strict=True))}


def _line(scores: Array, draws: Array, sign: int) -> dict[str, Any]:
    """A pattern's scores (3,), those of resampled entities (R, 3), and the share that they come to."""
    low, _ = interval_of(sign * (draws[:, 2] - draws[:, 1]))
    share = _share(sign * scores, sign * draws) if low is not None and low > 0 else NO_GAP
    return {key: None if np.isnan(one) else one for key, one in zip(KEYS, scores.tolist(), strict=True)} | share


def _share(scores: Array, draws: Array) -> dict[str, float | None]:
    """The share closed of scores (3,), higher being better, and its interval from draws (R, 3) that have a gap."""
    _, closed = shares_closed({"": float(scores[0] - scores[1])}, {"": float(scores[2] - scores[1])})
    gains, gaps = draws[:, 0] - draws[:, 1], draws[:, 2] - draws[:, 1]
    low, high = interval_of(gains[gaps > 0] / gaps[gaps > 0])
    return {"closed": closed, "low": low, "high": high}
