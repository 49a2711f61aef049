"""Verification: do two embeddings belong together? The equal error rate and the area under the curve, from scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from absentia.errors import UserError

__all__ = ["area_under_curve", "equal_error_rate", "error_rates"]

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def equal_error_rate(scores: Array, genuine: Bools) -> float:
    """Where as large a share of the others is accepted as of the genuine pairs rejected.

    scores: (n,), higher for pairs that belong together.  genuine: bool (n,), which do. Exact, from all thresholds;
    between two of them the rates are joined by a straight line, so that equal scores count as a coin that is tossed.
    Raises `UserError` for scores that are not finite, and unless there are both kinds of pairs.
    """
    accepted, rejected = error_rates(scores, genuine)
    gap = accepted - rejected
    behind = int((gap >= 0).argmax())  # the first threshold at which more is accepted than rejected
    if gap[behind] == 0:
        return float(accepted[behind])
    share = gap[behind - 1] / (gap[behind - 1] - gap[behind])
    return float(accepted[behind - 1] + share * (accepted[behind] - accepted[behind - 1]))


def error_rates(scores: Array, genuine: Bools) -> tuple[Array, Array]:
    """Falling thresholds, from one that accepts nothing: the shares of others accepted and of genuine ones rejected."""
    scores, genuine = _checked(scores, genuine)
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # of equal scores all are accepted at once
    right, wrong = np.cumsum(genuine[order])[last], np.cumsum(~genuine[order])[last]
    accepted, rejected = wrong / wrong[-1], 1 - right / right[-1]
    return np.insert(accepted, 0, 0.0), np.insert(rejected, 0, 1.0)


def area_under_curve(scores: Array, genuine: Bools) -> float:
    """The share of (genuine, other) couples of pairs in which the genuine one scores higher; equal ones count half."""
    scores, genuine = _checked(scores, genuine)
    count = float(genuine.sum())
    from scipy.stats import rankdata  # half a second, for this alone

    above = rankdata(scores)[genuine].sum() - count * (count + 1) / 2
    return float(above / (count * (len(scores) - count)))


def _checked(scores: Array, genuine: Bools) -> tuple[Array, Bools]:
    scores, genuine = np.asarray(scores, dtype=np.float64), np.asarray(genuine, dtype=np.bool_)
    if scores.ndim != 1 or scores.shape != genuine.shape:
        raise UserError(f"scores {scores.shape} and genuine {genuine.shape}: one of each per pair is needed")
    if not np.isfinite(scores).all():
        raise UserError(f"pair {int((~np.isfinite(scores)).argmax())} has a score that is not finite")
    if not len(scores) or genuine.all() or not genuine.any():
        missing = "others" if len(scores) and genuine.all() else "pairs that belong together"
        raise UserError(f"there are no {missing}; an error rate needs both kinds of pairs")
    return scores, genuine
