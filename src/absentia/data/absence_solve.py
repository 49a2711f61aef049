"""The one equation of mask plans: parameters at which the expected rates are the asked ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from absentia.errors import UserError

__all__ = ["Moments", "solve"]

Floats = npt.NDArray[np.float64]

TOLERANCE = 1e-10  # between asked and expected rates
DECIMALS = 9  # of the result: a linear algebra library's last bits must not move a mask
LONGEST = 4.0  # a step, in log-odds
STEPS, HALVINGS = 300, 40


class Moments(NamedTuple):
    """Averages over entities at some parameters (K,): the log-normaliser and its two derivatives.

    rates: (K,), the expected rates.  covariance: (K, K), how they move with the parameters.
    """

    normaliser: float
    rates: Floats
    covariance: Floats


def solve(moments: Callable[[Floats], Moments], target: Floats, start: Floats) -> Floats:
    """The parameters (K,) whose rates are `target` (K,): Newton's method on a concave function.

    Raises `UserError` where there are none.
    """
    theta, now = start, moments(start)
    for _ in range(STEPS):
        miss = target - now.rates
        if np.abs(miss).max() < TOLERANCE:
            return np.asarray(theta.round(DECIMALS))
        step = np.asarray(np.linalg.solve(now.covariance + 1e-12 * np.eye(len(theta)), miss))
        theta, now = _climb(moments, target, theta, now, step * min(1.0, LONGEST / np.abs(step).max()))
    raise UserError("the asked rates cannot be met with this strength; lower the strength or the rates")


def _climb(
    moments: Callable[[Floats], Moments], target: Floats, theta: Floats, now: Moments, step: Floats
) -> tuple[Floats, Moments]:
    """A step that does not lead downhill, halved until it does not."""
    height = target @ theta - now.normaliser
    for _ in range(HALVINGS):
        new = moments(theta + step)
        if target @ (theta + step) - new.normaliser >= height - 1e-12:
            break
        step = step / 2
    return theta + step, new
