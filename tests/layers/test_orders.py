"""Orders of training rows and of (row, modality) pairs: nothing is left out, and any step can be replayed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from absentia.errors import UserError
from absentia.layers.orders import Chance, Order, Taken, by_class, by_pair, by_row, unchanging

PRESENCE = st.lists(st.tuples(*[st.booleans()] * 3).filter(any), min_size=1, max_size=30).map(np.asarray)
SIZES, SEEDS = st.integers(1, 40), st.integers(0, 999)


def chance(seed: int) -> Chance:
    """Keys are told apart by their words."""
    return lambda *key: np.random.default_rng([seed, *"/".join(map(str, key)).encode()])


def run(order: Order, size: int, steps: int) -> Taken:
    """All that so many steps take."""
    taken = [order(size, step) for step in range(steps)]
    shown = [t.shown for t in taken if t.shown is not None]
    return Taken(np.concatenate([t.rows for t in taken]), np.concatenate(shown) if shown else None)


def pairs_of(taken: Taken) -> list[tuple[int, int]]:
    assert taken.shown is not None and (taken.shown.sum(axis=1) == 1).all()
    return list(zip(taken.rows.tolist(), taken.shown.argmax(axis=1).tolist(), strict=True))


@given(PRESENCE, SIZES, SEEDS, st.sampled_from([None, (0, 1, 2), (2, 0, 1)]))
def test_each_pass_has_every_pair_once_and_only_those_that_are_there(
    presence: np.ndarray, size: int, seed: int, turns: tuple[int, ...] | None
) -> None:
    there = sorted(zip(*(x.tolist() for x in np.nonzero(presence)), strict=True))
    drawn = pairs_of(run(by_pair(presence, chance(seed), turns), size, -(-3 * len(there) // size)))
    for number in range(3):
        one = drawn[number * len(there) : (number + 1) * len(there)]
        assert sorted(one) == there
        if turns is not None:
            modalities = [turns.index(m) for _, m in one]
            assert modalities == sorted(modalities), "one modality behind the other"


@given(PRESENCE, SIZES, SEEDS, st.integers(0, 20))
def test_a_step_needs_no_step_before_it(presence: np.ndarray, size: int, seed: int, step: int) -> None:
    classes = np.arange(len(presence)) % 2
    for make in (
        lambda: by_row(len(presence), chance(seed)),
        lambda: by_pair(presence, chance(seed)),
        lambda: by_pair(presence, chance(seed), (2, 1, 0)),
        lambda: by_class(classes, -(-size // len(np.unique(classes))), chance(seed)),
    ):
        order = make()
        [order(size, before) for before in range(step)]
        one, fresh = order(size, step), make()(size, step)
        assert one.rows.tolist() == fresh.rows.tolist()
        assert (one.shown is None) == (fresh.shown is None)
        assert one.shown is None or (one.shown == fresh.shown).all()  # type: ignore[union-attr]


def test_passes_differ_unless_they_are_to_stay() -> None:
    presence = np.ones((50, 2), dtype=np.bool_)
    for make in (lambda c: by_row(50, c), lambda c: by_pair(presence, c), lambda c: by_pair(presence, c, (0, 1))):
        size = 50 if make(chance(0))(1, 0).shown is None else 100
        changing, settled = make(chance(0)), make(unchanging(chance(0)))
        assert changing(size, 0).rows.tolist() == settled(size, 0).rows.tolist()
        assert changing(size, 0).rows.tolist() != changing(size, 1).rows.tolist()
        assert settled(size, 0).rows.tolist() == settled(size, 7).rows.tolist()


def test_half_an_epoch_shows_one_modality_alone() -> None:
    presence = np.ones((64, 2), dtype=np.bool_)
    order = by_pair(presence, chance(0), (1, 0))
    seen = [set(order(16, step).shown.argmax(axis=1).tolist()) for step in range(8)]  # type: ignore[union-attr]
    assert seen == [{1}] * 4 + [{0}] * 4


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 5), st.integers(1, 6), SEEDS)
def test_a_step_has_so_many_rows_of_different_classes(drawn: list[int], each: int, groups: int, seed: int) -> None:
    classes = np.asarray(drawn)
    groups = min(groups, len(set(drawn)))
    order = by_class(classes, each, chance(seed))
    for step in range(6):
        taken = order(groups * each + each - 1, step)
        assert taken.shown is None
        counts = Counter(classes[taken.rows].tolist())
        assert len(counts) == groups and set(counts.values()) == {each}
        for label in counts:
            assert len({row for row in taken.rows.tolist() if classes[row] == label}) == min(each, drawn.count(label))


def test_rows_of_a_class_come_in_turn_and_classes_too() -> None:
    classes = np.repeat(np.arange(4), [3, 6, 6, 9])
    taken = [by_class(classes, 3, chance(3))(6, step).rows for step in range(2 * 6)]  # two classes a step: six passes
    times = Counter(np.concatenate(taken).tolist())
    assert {times[row] for row in range(3)} == {6} and {times[row] for row in range(3, 15)} == {3}
    assert {times[row] for row in range(15, 24)} == {2}
    assert len({tuple(sorted(set(classes[rows].tolist()))) for rows in taken}) > 2, "not always the same two together"


@pytest.mark.parametrize(
    ("each", "size", "said"),
    [(5, 4, "only 4 rows"), (2, 12, "asks for 6 classes.*have 3.*per_class 4, or training.batch 6")],
)
def test_a_step_that_cannot_be_is_one_clear_error(each: int, size: int, said: str) -> None:
    with pytest.raises(UserError, match=f"options.per_class {each}: .*{said}"):
        by_class(np.arange(30) % 3, each, chance(0))(size, 0)


def test_parts_of_a_step_are_the_step() -> None:
    taken = by_pair(np.ones((9, 2), dtype=np.bool_), chance(0))(10, 0)
    parts = taken.parts(3)
    assert [len(part.rows) for part in parts] == [4, 3, 3]
    assert np.concatenate([part.rows for part in parts]).tolist() == taken.rows.tolist()
    assert (np.concatenate([part.shown for part in parts]) == taken.shown).all()  # type: ignore[misc]
    assert [part.shown for part in Taken(np.arange(4)).parts(2)] == [None, None]
