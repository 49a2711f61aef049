from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from absentia.adaptation.presence import parsed, parsed_all, rows_of
from absentia.errors import UserError

NAMES = ["rgb", "depth", "text"]


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), max_size=8))
def test_rows_find_their_patterns_again(rows: list[list[bool]]) -> None:
    presence = torch.tensor(rows, dtype=torch.bool).view(-1, 3)
    found = rows_of(presence)
    assert torch.equal(found.patterns[found.ids], presence)
    assert found.mixed == (len({tuple(row) for row in rows}) > 1)


@pytest.mark.parametrize("pattern", ["rgb+text", "text+rgb", {"rgb", "text"}, ("text", "rgb"), ["rgb", "text", "rgb"]])
def test_a_pattern_may_be_written_in_several_ways(pattern: Any) -> None:
    assert parsed(pattern, NAMES) == (True, False, True)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("rbg", "unknown modality 'rbg'; did you mean 'rgb'"),
        ("rgb + text", "did you mean 'rgb'"),
        ("", "unknown modality ''"),
        ((), "nothing present"),
        (None, "pattern None: expected names of modalities"),
        (5, "expected names"),
        ([True, False, True], "unknown modality True"),
    ],
)
def test_what_is_no_pattern_is_an_error(pattern: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parsed(pattern, NAMES)


def test_all_patterns_are_those_that_lack_something() -> None:
    assert len(parsed_all("all", NAMES)) == 6 and not bool(parsed_all("all", NAMES).all(1).any())
    assert parsed_all("all", ["a"]).shape == (0, 1)
    assert parsed_all([], NAMES).shape == (0, 3)
    assert parsed_all("rgb", NAMES).tolist() == [[True, False, False]]
    assert len(parsed_all(["rgb", {"rgb"}, "rgb+depth+text"], NAMES)) == 1


def test_too_many_modalities_for_all_patterns_are_an_error() -> None:
    with pytest.raises(UserError, match="9 modalities have 510 patterns; list some, or take kind='compositional'"):
        parsed_all("all", list("abcdefghi"))
