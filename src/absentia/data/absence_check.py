"""The self-test of the mechanisms: on made-up entities, is what was asked for also what came about?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from absentia.data.absence import MaskPlan
from absentia.data.absence_rules import Rule
from absentia.data.absence_scores import normal_scores
from absentia.data.absence_solve import Moments, solve
from absentia.data.entity import entity_uniform

__all__ = ["Check", "self_test", "strength_seen"]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

MODALITIES = ("image", "sound", "text")
RATES: tuple[dict[str, Any], ...] = (
    {"p_absent": {"image": 0.3, "sound": 0.6, "text": 0.45}},
    {"p_incomplete": 0.7},
    {"patterns": {"image+sound+text": 2, "image": 1, "image+text": 3, "sound+text": 2}},
)
OBSERVED = "age"  # a column that is always there; besides, each modality has a value of its own
DEPENDS: dict[str, Any] = {"mcar": None, "mar": OBSERVED, "mnar": {name: name for name in MODALITIES}}
CAUSE = {"mcar": {}, "mar": dict.fromkeys(MODALITIES, OBSERVED), "mnar": DEPENDS["mnar"]}
STRENGTH = 1.0
WITHIN_RATE, WITHIN_STRENGTH = 0.01, 0.1


class Check(NamedTuple):
    """One line of the self-test: what was asked, what was found, and how far apart the two may be."""

    what: str
    asked: float
    found: float
    within: float

    @property
    def good(self) -> bool:
        """Is it near enough?"""
        return abs(self.found - self.asked) <= self.within


class Entities(NamedTuple):
    """Made-up ones: ids, and by column their values and the scores of those, each (N,)."""

    ids: list[str]
    values: dict[str, Floats]
    scores: dict[str, Floats]


def self_test(size: int = 10_000, seed: int = 0, plans: int = 5) -> list[Check]:
    """Draw plans for `size` made-up entities by every mechanism and every kind of rate, and look at them.

    Rates have to be within 1 % of those asked, and the dependence on a value (`strength_seen`) within 0.1 of the
    stated strength: for mar on the observed column, for mnar on the hidden one, and 0 everywhere else, thus
    everywhere for mcar. A figure is the mean over `plans` plans with different seeds: in a single one of 10,000
    entities 1 % is about two standard errors, so that now and then a figure would miss it by chance.
    """
    figures: dict[str, list[Check]] = {}
    for number in range(plans):
        entities = _entities(size, seed + number)
        for rule in _rules():
            for check in _figures(rule, entities, seed + number):
                figures.setdefault(check.what, []).append(check)
    return [c[0]._replace(found=float(np.mean([check.found for check in c]))) for c in figures.values()]


def strength_seen(absent: Bools, score: Floats, m: int) -> float:
    """How strongly the absence of modality `m` depends on a score (N,): the estimate of a rule's `strength`.

    A logistic regression of absent[:, m] (absent: bool (N, M)) on the score, among the rows that keep something
    else, with an intercept for each pattern of the other modalities. NaN where it is never, or always, absent.
    """
    others = np.delete(absent, m, axis=1)
    rows = ~others.all(axis=1)
    _, rest = np.unique(others[rows], axis=0, return_inverse=True)
    y, groups = absent[rows, m], [rest == k for k in range(rest.max() + 1)]
    groups = [group for group in groups if 0 < y[group].mean() < 1]  # the others say nothing
    if not groups:
        return np.nan
    telling = np.any(groups, axis=0)
    x = np.stack([score[rows], *groups], axis=1)[telling]
    return float(solve(lambda beta: _moments(x, beta), x.T @ y[telling] / len(x), np.zeros(x.shape[1]))[0])


def _moments(x: Floats, beta: Floats) -> Moments:
    """Moments of a logistic regression on x (n, K)."""
    logit = x @ beta
    p = 1 / (1 + np.exp(-logit))
    information = (x * (p * (1 - p))[:, None]).T @ x / len(x)
    return Moments(float(np.logaddexp(0, logit).mean()), x.T @ p / len(x), information)


def _rules() -> list[Rule]:
    return [
        Rule(mechanism=mechanism, depends_on=depends, strength=STRENGTH, **rate)  # type: ignore[arg-type]
        for mechanism, depends in DEPENDS.items()
        for rate in RATES
    ]


def _entities(size: int, seed: int) -> Entities:
    ids = [f"entity {i:09}" for i in range(size)]  # as the plan sorts them
    columns = (OBSERVED, *MODALITIES)
    values = {name: 100 * entity_uniform(ids, "self-test", seed, name) ** 2 for name in columns}
    return Entities(ids, values, {name: normal_scores(column, name) for name, column in values.items()})


def _figures(rule: Rule, entities: Entities, seed: int) -> Iterator[Check]:
    ids, values, scores = entities
    plan = MaskPlan.draw(modalities=MODALITIES, splits="all", ids=ids, rules={"all": rule}, seed=seed, values=values)
    kind = next(name for name in ("p_absent", "p_incomplete", "patterns") if getattr(rule, name) is not None)
    about = f"{rule.mechanism} by {kind}"
    yield from _rates(plan, about)
    for m, modality in enumerate(MODALITIES):
        for column in (OBSERVED, modality):
            found = strength_seen(~plan.keep, scores[column], m)
            asked = STRENGTH if CAUSE[rule.mechanism].get(modality) == column else 0.0
            yield Check(f"{about}: strength of {modality} on {column}", asked, found, WITHIN_STRENGTH)


def _rates(plan: MaskPlan, about: str) -> Iterator[Check]:
    found = plan.realised()["all"]
    asked, planned = found["asked"], found["planned"]
    for name, rate in asked["p_absent"].items():
        yield Check(f"{about}: p_absent {name}", rate, planned["p_absent"][name], WITHIN_RATE)
    if asked["p_incomplete"] is not None:
        yield Check(f"{about}: p_incomplete", asked["p_incomplete"], planned["p_incomplete"], WITHIN_RATE)
    for name, share in (asked["patterns"] or {}).items():
        yield Check(f"{about}: share of {name}", share, planned["patterns"].get(name, 0.0), WITHIN_RATE)
