"""The numbers of a stream: by hand, by their laws, and the trap in the released code's F1."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from absentia.evaluate.continual import FIGURES, f1_known, f1_released, stage_means, summarise

Matrix = list[list[float | None]]


@st.composite
def matrices(draw: st.DrawFn, least: int = 1) -> Matrix:
    """Lower triangles of up to six sessions, without gaps."""
    count = draw(st.integers(least, 6))
    return [draw(st.lists(st.floats(0, 1), min_size=t + 1, max_size=t + 1)) for t in range(count)]


# --- the five figures ------------------------------------------------------------------------------------------------


def test_by_hand() -> None:
    found = summarise([[0.9], [0.7, 0.8], [0.8, 0.5, 0.6]])
    assert found["average_last"] == pytest.approx((0.8 + 0.5 + 0.6) / 3)
    assert found["average_stages"] == pytest.approx((0.9 + 0.75 + 1.9 / 3) / 3)
    assert found["forgetting_first"] == pytest.approx(((0.9 - 0.8) + (0.8 - 0.5)) / 2)
    assert found["forgetting_max"] == found["forgetting_first"]
    assert found["last"] == 0.6
    assert tuple(found) == FIGURES


def test_best_day_may_come_after_the_first() -> None:
    found = summarise([[0.5], [0.9, 0.4], [0.6, 0.4, 0.7]])
    assert found["forgetting_first"] == pytest.approx(-0.05)  # the first session is better than when it was new
    assert found["forgetting_max"] == pytest.approx(0.15)


def test_last_stage_is_no_best_day() -> None:
    assert summarise([[0.5], [0.9, 0.4]])["forgetting_max"] == pytest.approx(-0.4)


def test_errors_that_grow_are_forgotten() -> None:
    found = summarise([[2.0], [1.0, 3.0], [5.0, 4.0, 2.0]], higher_is_better=False)
    assert found["forgetting_first"] == pytest.approx((3 + 1) / 2)
    assert found["forgetting_max"] == pytest.approx((4 + 1) / 2)


def test_one_session_forgets_nothing() -> None:
    assert summarise([[0.7]]) == {
        "average_last": 0.7,
        "average_stages": 0.7,
        "forgetting_first": None,
        "forgetting_max": None,
        "last": 0.7,
    }


def test_nothing_learned_yet() -> None:
    assert set(summarise([]).values()) == {None}


def test_gaps_are_left_out() -> None:
    found = summarise([[0.8], [0.6, None], [0.4, 0.9, float("nan")]])
    assert found["average_last"] == pytest.approx(0.65)
    assert found["average_stages"] == pytest.approx((0.8 + 0.6 + 0.65) / 3)
    assert found["forgetting_first"] == pytest.approx(0.4)  # the second session was never scored when it was new
    assert found["last"] is None
    assert summarise([[None], [None, None]]) == dict.fromkeys(FIGURES)


def test_what_stands_above_the_diagonal_does_not_count() -> None:
    assert summarise([[0.9, 0.0], [0.7, 0.8]]) == summarise([[0.9], [0.7, 0.8]])


def test_short_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="row 1 of the matrix has 1 cells, not the 2 of sessions 0 to 1"):
        summarise([[0.9], [0.7]])


@given(matrices(least=2))
def test_laws_of_forgetting(matrix: Matrix) -> None:
    found = summarise(matrix)
    first, most = found["forgetting_first"], found["forgetting_max"]
    assert first is not None and most is not None and -1 <= first <= most + 1e-12 <= 1 + 1e-12
    turned = summarise([[-value for value in row if value is not None] for row in matrix], higher_is_better=False)
    assert turned["forgetting_first"] == pytest.approx(first)
    assert turned["forgetting_max"] == pytest.approx(most)


@given(matrices(), st.floats(0.1, 100), st.floats(-5, 5))
def test_units_go_through(matrix: Matrix, factor: float, shift: float) -> None:
    found = summarise(matrix)
    other = summarise([[factor * value + shift for value in row if value is not None] for row in matrix])
    for name in FIGURES:
        moved = 0.0 if name.startswith("forgetting") else shift
        value = found[name]
        assert other[name] == (None if value is None else pytest.approx(factor * value + moved, abs=1e-6))


@given(st.integers(2, 6), st.floats(0, 1))
def test_what_stands_still_is_not_forgotten(count: int, value: float) -> None:
    found = summarise([[value] * (t + 1) for t in range(count)])
    assert found["forgetting_first"] == found["forgetting_max"] == 0
    assert found["average_last"] == found["average_stages"] == pytest.approx(value)


@given(matrices())
def test_stage_means_are_what_the_averages_are_made_of(matrix: Matrix) -> None:
    means, found = stage_means(matrix), summarise(matrix)
    assert means[-1] == found["average_last"]
    assert found["average_stages"] == pytest.approx(np.mean([value for value in means if value is not None]))


# --- the released F1 -------------------------------------------------------------------------------------------------


def labelled(of: int, labels: int, rows: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Rows that carry only the first `of` of `labels` labels, and answers that find 75 % of them."""
    rng = np.random.default_rng(0)
    target = np.zeros((rows, labels))
    target[:, :of] = rng.random((rows, of)) < 0.4
    right = rng.random((rows, of)) < 0.75
    logits = np.full((rows, labels), -4.0)
    logits[:, :of] = np.where(right == (target[:, :of] > 0), 3.0, -3.0)
    return logits, target


def test_released_f1_falls_without_any_forgetting() -> None:
    """The answers to the old rows do not change at all; only labels arrive that these rows do not have."""
    stages = [f1_released(*labelled(4, labels)) for labels in (4, 8, 12)]
    assert stages[0] is not None and stages[0] > 0.6
    assert stages[1] == pytest.approx(stages[0] / 2) and stages[2] == pytest.approx(stages[0] / 3)
    known = [f1_known(1 / (1 + np.exp(-logits)), target) for logits, target in (labelled(4, k) for k in (4, 8, 12))]
    assert known == [pytest.approx(stages[0])] * 3


def test_released_forgetting_may_be_the_metric_alone() -> None:
    """A matrix that the released code gave on made-up rows: every fall is the number of labels, none is forgetting."""
    released = [[75.52], [37.76, 43.25], [25.17, 28.83, 26.15]]
    assert summarise(released)["forgetting_first"] == pytest.approx(32.38, abs=0.01)
    seen = [[value * (t + 1) for value in row] for t, row in enumerate(released)]
    assert summarise(seen)["forgetting_first"] == pytest.approx(0, abs=0.02)


def test_small_logits_are_read_as_probabilities() -> None:
    target = np.array([[1.0, 0.0]])
    assert f1_released(np.array([[0.4, 0.1]]), target) == 0.0  # as probabilities: nothing is answered
    assert f1_released(np.array([[0.4, -0.1]]), target) == 0.5  # as logits: right, the absent label counts 0


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 6), st.booleans())
def test_released_f1_is_scikit_learns_with_zeros(seed: int, rows: int, labels: int, logits: bool) -> None:
    rng = np.random.default_rng(seed)
    answers = rng.normal(size=(rows, labels)) * 3 if logits else rng.random((rows, labels))
    target = rng.random((rows, labels)) < rng.random(labels)
    outside = ((answers < 0) | (answers > 1)).any()
    probabilities = 1 / (1 + np.exp(-answers)) if outside else answers
    each = [reference.f1_score(target[:, k], probabilities[:, k] > 0.5, zero_division=0) for k in range(labels)]
    found, known = f1_released(answers, target), f1_known(probabilities, target)
    assert found == pytest.approx(np.mean(each))
    assert known is None or known >= found - 1e-12  # leaving out zeros never lowers a mean


def test_without_rows_and_with_other_shapes() -> None:
    assert (
        f1_released(np.zeros((0, 3)), np.zeros((0, 3))) is None and f1_known(np.zeros((0, 3)), np.zeros((0, 3))) is None
    )
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(2,\)"):
        f1_released(np.zeros((2, 3)), np.zeros(2))
