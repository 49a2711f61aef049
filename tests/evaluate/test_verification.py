from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from absentia.errors import UserError
from absentia.evaluate.verification import area_under_curve, equal_error_rate, error_rates

PAIRS = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30).filter(
    lambda pairs: len({genuine for _, genuine in pairs}) == 2
)


def split(pairs: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray([float(s) for s, _ in pairs]), np.asarray([g for _, g in pairs])


def by_hand(scores: np.ndarray, genuine: np.ndarray) -> float:
    """The crossing of the polyline through the rates at every threshold, looked for segment by segment."""
    points = [(0.0, 1.0)]
    for threshold in sorted(set(scores.tolist()), reverse=True):
        accepts = scores >= threshold
        points.append((float(accepts[~genuine].mean()), float((~accepts)[genuine].mean())))
    for (a, r), (b, s) in pairwise(points):
        for share in np.linspace(0, 1, 2001):
            if a + share * (b - a) >= r + share * (s - r) - 1e-12:
                return float(a + share * (b - a))
    raise AssertionError


@given(PAIRS)
def test_rates_are_those_of_every_threshold(pairs: list[tuple[int, bool]]) -> None:
    scores, genuine = split(pairs)
    assert equal_error_rate(scores, genuine) == pytest.approx(by_hand(scores, genuine), abs=1e-3)
    assert area_under_curve(scores, genuine) == pytest.approx(roc_auc_score(genuine, scores))


@given(PAIRS)
def test_neither_order_nor_scale_matters(pairs: list[tuple[int, bool]]) -> None:
    scores, genuine = split(pairs)
    turn = np.random.default_rng(0).permutation(len(scores))
    assert equal_error_rate(scores[turn], genuine[turn]) == equal_error_rate(scores, genuine)
    assert equal_error_rate(3 * scores - 7, genuine) == equal_error_rate(scores, genuine)


@pytest.mark.parametrize(
    ("scores", "genuine", "rate"),
    [
        ([2, 1], [1, 0], 0.0),
        ([1, 2], [1, 0], 1.0),
        ([1, 1, 1, 1], [1, 0, 0, 0], 0.5),
        ([4, 3, 2, 1], [1, 0, 1, 0], 0.5),
        ([6, 5, 4, 3, 2, 1], [1, 1, 0, 1, 0, 0], 1 / 3),
    ],
)
def test_known_rates(scores: list[float], genuine: list[int], rate: float) -> None:
    assert equal_error_rate(np.asarray(scores, float), np.asarray(genuine, bool)) == pytest.approx(rate)


def test_the_rates_begin_and_end_at_nothing_and_everything() -> None:
    accepted, rejected = error_rates(np.asarray([1.0, 0.0]), np.asarray([True, False]))
    assert (accepted[0], rejected[0], accepted[-1], rejected[-1]) == (0, 1, 1, 0)


@pytest.mark.parametrize(
    ("scores", "genuine", "said"),
    [
        ([], [], "no pairs that belong together"),
        ([1.0], [True], "no others"),
        ([1.0, 2.0], [False, False], "no pairs that belong together"),
        ([1.0, float("nan")], [True, False], "pair 1"),
        ([1.0, float("inf")], [True, False], "pair 1"),
        ([1.0, 2.0], [True], "one of each"),
    ],
)
def test_what_has_no_rate_is_refused(scores: list[float], genuine: list[bool], said: str) -> None:
    for measure in (equal_error_rate, area_under_curve):
        with pytest.raises(UserError, match=said):
            measure(np.asarray(scores, float), np.asarray(genuine, bool))
