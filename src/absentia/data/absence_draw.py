"""The drawing of masks: from a rule and scores to what each entity keeps, at the rates that were asked for.

The model is one family. With z[i, m] the score of entity i for modality m (0 for mcar), a row hides the
set S with

    p(S | i)  proportional to  exp( b(S) + strength * sum over m in S of z[i, m] )

so that, the rest of the row being equal, the log-odds of hiding m rise by `strength` with each deviation of
z. Rules about patterns have one b for each pattern; rules about single modalities have b(S) = sum of a[m],
without S = everything unless rows may become empty. The b (or a) are solved so that the average over the
entities is what was asked. Entity i is then compared with numbers drawn from its id alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from absentia.data.absence_counted import counts
from absentia.data.absence_rules import Rule, Shares
from absentia.data.absence_solve import Moments, solve
from absentia.data.entity import entity_uniform
from absentia.errors import UserError

__all__ = ["draw_keep"]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

BLOCK = 1 << 14  # entities whose probabilities are in memory at once
Uniform = Callable[[str], Floats]


def draw_keep(rule: Rule, modalities: Sequence[str], ids: Sequence[str], scores: Floats | None, seed: int) -> Bools:
    """What each entity keeps, bool (N, M).

    ids: N different ids.  scores: (N, M) with mean 0 and deviation 1, None for mcar.
    The order of the entities, and of the modalities, changes nothing.
    """
    order = np.argsort(np.asarray(modalities, dtype=str))
    names = [modalities[m] for m in order]
    tilts = np.zeros((1, len(names))) if scores is None else rule.strength * scores[:, order]

    def uniform(what: str) -> Floats:
        return entity_uniform(ids, "absence", seed, what)

    shares, each = rule.shares(names), rule.each(names)
    if each is not None and not rule.allow_empty and np.sum(1 - each) <= 1 + 1e-9:
        shares = _one_remains(each)
    if shares is not None:
        hidden = _draw_patterns(shares, tilts, uniform, len(ids), rule)
    else:
        assert each is not None
        hidden = _draw_each(each, tilts, uniform, len(ids), names, rule.allow_empty)
    if rule.counted is not None:
        _settle(hidden, rule.dropped(names), sorted(shares or {}), uniform)
    keep = np.empty((len(ids), len(names)), dtype=np.bool_)
    keep[:, order] = ~hidden
    return keep


# --- rules about patterns ----------------------------------------------------------------------------


def _draw_patterns(shares: Shares, tilts: Floats, uniform: Uniform, size: int, rule: Rule) -> Bools:
    """Two numbers for each entity: is it incomplete, and in which way? A higher p_incomplete thus keeps the
    incomplete rows as they are and adds others."""
    patterns = sorted(shares, key=lambda pattern: (not all(pattern), pattern))  # complete rows first, if any
    weights = np.asarray([shares[pattern] for pattern in patterns])
    hidden = ~np.asarray(patterns)
    _check_dependence(rule, hidden)
    offsets = np.log(weights)
    if len(weights) > 1:
        start = offsets[1:] - offsets[0]
        offsets[1:] = solve(lambda b: _pattern_moments(b, hidden, tilts), weights[1:], start)
        offsets[0] = 0.0
    broken, which = uniform("incomplete"), uniform("which")
    chosen = np.empty(size, dtype=np.int64)
    first = int(not hidden[0].any())
    for rows in _blocks(size):
        p = _pattern_probabilities(offsets, hidden, tilts if len(tilts) == 1 else tilts[rows])
        chosen[rows] = _choose(p, first, broken[rows], which[rows])
    return hidden[chosen]


def _choose(p: Floats, first: int, broken: Floats, which: Floats) -> npt.NDArray[np.int64]:
    """The number of a pattern for each entity; the first incomplete pattern is number `first` (0 or 1)."""
    steps = np.cumsum(p[:, first:], axis=1)
    if not steps.shape[1]:
        return np.zeros(len(broken), dtype=np.int64)
    if len(steps) == 1:
        pick = np.searchsorted(steps[0], which * steps[0, -1], side="right")
    else:
        pick = (which[:, None] * steps[:, -1:] >= steps).sum(axis=1)
    pick = first + np.minimum(pick, steps.shape[1] - 1)
    return np.where(broken < steps[:, -1], pick, 0) if first else pick


def _pattern_probabilities(offsets: Floats, hidden: Bools, tilts: Floats) -> Floats:
    """p(S | i), (n, P)."""
    energy = offsets + tilts @ hidden.T
    p = np.exp(energy - energy.max(axis=1, keepdims=True))
    return np.asarray(p / p.sum(axis=1, keepdims=True))


def _pattern_moments(free: Floats, hidden: Bools, tilts: Floats) -> Moments:
    """Moments of all patterns but the first, whose offset is 0."""
    offsets = np.concatenate([[0.0], free])
    normaliser, rates, products = 0.0, np.zeros(len(free)), np.zeros((len(free), len(free)))
    for rows in _blocks(len(tilts)):
        energy = offsets + tilts[rows] @ hidden.T
        top = energy.max(axis=1, keepdims=True)
        p = np.exp(energy - top)
        total = p.sum(axis=1, keepdims=True)
        normaliser += float((top + np.log(total)).sum())
        p = (p / total)[:, 1:]
        rates += p.sum(axis=0)
        products += p.T @ p
    n = len(tilts)
    return Moments(normaliser / n, rates / n, np.diag(rates / n) - products / n)


def _check_dependence(rule: Rule, hidden: Bools) -> None:
    """Patterns that lose equally much rise and fall together with the score of mar: none of them moves."""
    if rule.mechanism == "mar" and hidden.any() and len(set(hidden.sum(axis=1).tolist())) == 1:
        raise UserError(
            f"under this rule every row loses equally much, so nothing can depend on {rule.depends_on!r}: "
            "let some rows stay complete (lower rates), or use mcar"
        )


def _one_remains(each: Floats) -> Shares:
    """Rates so high that every row keeps exactly one modality: m with probability 1 - p[m]."""
    patterns = np.eye(len(each), dtype=np.bool_)
    return {tuple(row.tolist()): float(1 - p) for row, p in zip(patterns, each, strict=True) if p < 1}


def _settle(hidden: Bools, dropped: Sequence[float], patterns: Sequence[tuple[bool, ...]], uniform: Uniform) -> None:
    """Of what was drawn, replace most: in an order of chance the first entities get their patterns in counts."""
    settled = np.repeat(~np.asarray(patterns, dtype=np.bool_), counts(len(hidden), dropped, patterns), axis=0)
    hidden[np.argsort(uniform("counted"), kind="stable")[: len(settled)]] = settled


# --- rules about single modalities -------------------------------------------------------------------


def _draw_each(
    each: Floats, tilts: Floats, uniform: Uniform, size: int, names: Sequence[str], allow_empty: bool
) -> Bools:
    """One number for each entity and modality. Modalities are decided one after the other, each given that
    something has to remain."""
    free = np.flatnonzero((each > 0) & (each < 1))
    remains = not allow_empty and bool((each > 0).all())  # else one that is never absent sees to it
    hidden = np.repeat((each == 1)[None, :], size, axis=0)
    if not len(free):
        return hidden
    rates = each[free]
    start = np.log(rates) - np.log1p(-rates)
    intercepts = solve(lambda a: _each_moments(a + tilts[:, free], remains), rates, start)
    log_q = _log_sigmoid(intercepts + tilts[:, free])
    later = np.cumsum(log_q[:, ::-1], axis=1)[:, ::-1]  # log of the chance that it and all after it go
    nothing_yet = np.full(size, remains)
    for column, m in enumerate(free.tolist()):
        p = np.exp(log_q[:, column])
        after = later[:, column + 1] if column + 1 < len(free) else np.zeros(len(p))
        p_given = p * np.expm1(after) / np.expm1(later[:, column])
        hidden[:, m] = uniform(f"modality {names[m]}") < np.where(nothing_yet, p_given, p)
        nothing_yet &= hidden[:, m]
    return hidden


def _each_moments(logits: Floats, remains: bool) -> Moments:
    """Moments of the modalities' absence; logits (n, M). remains: given that not all of them are absent."""
    log_q = _log_sigmoid(logits)
    q, together = np.exp(log_q), log_q.sum(axis=1, keepdims=True)
    normaliser = (logits - log_q).sum(axis=1)
    p, everything, weight = q, np.zeros_like(together), np.ones_like(together)
    if remains:
        something = -np.expm1(together)
        p = q * np.expm1(together - log_q) / np.expm1(together)
        normaliser = normaliser + np.log(something[:, 0])
        everything, weight = np.exp(together), 1 / something
    n = len(logits)
    both = (q * weight).T @ q / n - (everything * weight).mean()
    np.fill_diagonal(both, p.mean(axis=0))
    return Moments(float(normaliser.mean()), p.mean(axis=0), both - p.T @ p / n)


def _log_sigmoid(logits: Floats) -> Floats:
    return -np.logaddexp(0.0, -logits)


def _blocks(size: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, size, BLOCK))
