"""The words of error messages."""

from __future__ import annotations

import pytest

from absentia.errors import BadCell, UserError, nearest


@pytest.mark.parametrize(
    ("word", "known", "tail"),
    [
        ("imgae", ["image", "text"], "did you mean 'image'?"),
        ("volume", ["image", "text"], "known: image, text"),
        ("x", [], "there are none"),
        ("zzz", [f"n{i}" for i in range(500)], "known: n0, n1"),
    ],
)
def test_the_nearest_word(word: str, known: list[str], tail: str) -> None:
    found = nearest(word, known)
    assert found.startswith(tail) and len(found) < 250
    assert nearest(word, iter(known)) == found


def test_a_long_list_says_that_it_goes_on() -> None:
    assert nearest("zzz", map(str, range(500))).endswith(", ...")
    assert not nearest("zzz", map(str, range(30))).endswith("...")


def test_a_bad_cell_names_its_column_where_there_are_several() -> None:
    assert str(BadCell("is bad")) == BadCell("is bad").reason == "is bad"
    several = BadCell("is bad", column="b")
    assert (str(several), several.reason, several.column) == ("column 'b' is bad", "is bad", "b")


def test_a_user_error_is_a_value_error() -> None:
    assert issubclass(UserError, ValueError) and not issubclass(BadCell, ValueError)
