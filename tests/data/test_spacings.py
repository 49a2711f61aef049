from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given
from tests import scans, tiny

from absentia.data.spacings import of_rows, unlike

ONE = (1.0, 1.0, 2.0)


@pytest.mark.parametrize(
    ("spacing", "far"),
    [((1.0, 1.0, 2.0), False), ((1.04, 0.96, 2.09), False), ((1.0, 1.0, 2.12), True), ((0.94, 1.0, 2.0), True)],
)
def test_one_axis_by_more_than_a_twentieth_is_far(spacing: tuple[float, ...], far: bool) -> None:
    assert bool(unlike([("p", spacing)], [ONE])) == far


def test_it_is_enough_to_be_like_one_of_those_that_were_seen() -> None:
    assert unlike([("p", (5.0, 1.0, 1.0))], [ONE, (5.0, 1.0, 1.0)]) == []
    between = unlike([("p", (3.0, 1.0, 1.5))], [ONE, (5.0, 1.0, 1.0)])
    assert "1 x 1 x 2 mm or 5 x 1 x 1 mm: p (3 x 1 x 1.5 mm)." in between[0]


def test_subjects_are_named_once_and_the_first_ones_only() -> None:
    named = [(f"p{i // 2}", (3.0, 3.0, 3.0)) for i in range(16)]
    [note] = unlike(named, [ONE] * 7)
    assert "p4 (3 x 3 x 3 mm) and 3 more" in note and "p5" not in note and note.count("p0 ") == 1
    assert "and others" in note


@given(st.lists(st.tuples(*[st.floats(0, 1e9)] * 3), max_size=4))
def test_where_nothing_is_known_nothing_is_said(spacings: list[tuple[float, ...]]) -> None:
    assert unlike([("p", spacing) for spacing in spacings], []) == []
    assert unlike([("p", spacing) for spacing in spacings], spacings) == []


@pytest.mark.parametrize(("dims", "spacing"), [(2, (1.0, 1.0)), (3, ONE)])
def test_rows_say_each_spacing_once(dims: int, spacing: tuple[float, ...]) -> None:
    data = scans.prepared(scans.rows(dims=dims, side=9))
    assert of_rows(data.rows["train"]) == [spacing]
    assert of_rows(tiny.prepared().rows["train"]) == []
