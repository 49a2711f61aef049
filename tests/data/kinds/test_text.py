"""Any text becomes tokens and any bytes that are no text become a bad cell; empty is present."""

from __future__ import annotations

import json
import time
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from absentia.data.kinds import Text
from absentia.data.kinds.text import TextDecoder, read_text
from absentia.errors import BadCell

TEXTS = ["the quick brown fox", "jumps over the lazy dog", "the the the the", "çedilla and 日本語 and 🙂"]
READABLE = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@pytest.fixture(scope="module")
def decoder() -> TextDecoder:
    return Text(max_length=16).fit(TEXTS * 2)


def ids(decoder: TextDecoder, cell: Any) -> list[int]:
    found = decoder.decode(cell)["ids"]
    assert found.dtype == np.int64 and found.ndim == 1
    return found.tolist()


@given(text=READABLE)
def test_any_text_is_tokens_within_bounds(decoder: TextDecoder, text: str) -> None:
    found = ids(decoder, text)
    assert len(found) <= 16 and all(0 <= i < decoder.vocabulary for i in found)
    assert found == ids(decoder, text.encode()) == ids(decoder, bytearray(text.encode()))
    assert bool(found) == bool(text)


@pytest.mark.parametrize("cell", ["", b""])
def test_an_empty_text_is_present_and_has_no_tokens(decoder: TextDecoder, cell: Any) -> None:
    assert ids(decoder, cell) == []
    collated = decoder.collate([decoder.decode(cell)] * 2)
    assert collated["ids"].shape == collated["mask"].shape == (2, 0)
    assert collated["ids"].dtype == np.int64 and collated["mask"].dtype == np.bool_


def test_different_texts_have_different_tokens(decoder: TextDecoder) -> None:
    cells = ["", " ", "\0", "a\0b", "ab", "🙂", "🙃", "\ufeffab", "AB", "a b"]
    assert len({tuple(ids(decoder, cell)) for cell in cells}) == len(cells)
    assert ids(decoder, "e\u0301") == ids(decoder, "é")  # one letter in two encodings


def test_common_words_are_single_tokens(decoder: TextDecoder) -> None:
    assert len(ids(decoder, "the the")) == 2
    assert len(ids(decoder, "the quick brown fox jumps over the lazy dog")) < 16


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (b"caf\xe9", "is not UTF-8 text: byte 3 is 0xe9"),
        (b"\xff\xfeh\x00i\x00", "byte 0 is 0xff"),
        (b"\xed\xa0\x80", "is not UTF-8 text"),
        ("half \ud83d", r"character 5 is the lone surrogate U\+D83D"),
        ("\udfff", "lone surrogate"),
        (None, "holds NoneType, expected text"),
        (["a", "b"], "holds list, expected text"),
        ({"a": 1}, "holds dict, expected text"),
    ],
)
def test_what_is_no_text(decoder: TextDecoder, cell: Any, reason: str) -> None:
    with pytest.raises(BadCell, match=reason):
        decoder.decode(cell)


@pytest.mark.parametrize(
    ("cell", "text"),
    [(3, "3"), (2.5, "2.5"), (True, "True"), (Decimal("1.50"), "1.50"), (date(2020, 1, 31), "2020-01-31")],
)
def test_plain_values_read_as_text(cell: Any, text: str) -> None:
    assert read_text(cell) == text


LETTERS = "".join(map(chr, range(33, 1000)))


@pytest.mark.parametrize("text", ["a" * 10**6, "word " * 200_000, LETTERS * 1000, "ﷺ" * 10**5])
def test_a_megabyte_is_cut_and_not_waited_for(text: str) -> None:
    start = time.monotonic()
    decoder = Text(max_length=16).fit([text, *TEXTS])
    assert 1 <= len(ids(decoder, text)) <= 16
    assert len(ids(decoder, "the quick brown fox")) <= 16
    assert time.monotonic() - start < 2


def test_the_start_of_a_long_text_is_what_counts(decoder: TextDecoder) -> None:
    assert ids(decoder, "the quick " * 50) == ids(decoder, "the quick " * 100_000)


def test_unreadable_training_texts_are_passed_over(decoder: TextDecoder) -> None:
    spoilt = Text(max_length=16).fit([b"\xff", *TEXTS, "\ud800", *TEXTS, None])
    assert spoilt.state() == decoder.state()


def test_fitting_twice_gives_the_same() -> None:
    texts = [f"row {i} of {i * 7 % 13} things, and {i % 5} more" for i in range(200)]
    assert Text(vocabulary=400).fit(texts).state() == Text(vocabulary=400).fit(iter(texts)).state()


def test_the_vocabulary_has_a_limit() -> None:
    texts = [f"w{i}ord s{i * i}ome" for i in range(300)] * 2
    assert Text(vocabulary=300).fit(texts).vocabulary == 300
    assert Text().fit([]).vocabulary == 256  # every text can be written in bytes


@given(text=READABLE)
def test_a_restored_decoder_is_the_same(decoder: TextDecoder, text: str) -> None:
    again = Text().restore(json.loads(json.dumps(decoder.state())))
    assert ids(again, text) == ids(decoder, text)
    assert again.state() == decoder.state() and again.vocabulary == decoder.vocabulary


@given(texts=st.lists(READABLE, min_size=1, max_size=4))
def test_a_batch_is_padded_and_masked(decoder: TextDecoder, texts: list[str]) -> None:
    values = [*map(decoder.decode, texts), decoder.blank()]
    batch = decoder.collate(values)
    for value, row, real in zip(values, batch["ids"], batch["mask"], strict=True):
        assert row[real].tolist() == value["ids"].tolist() and (row[~real] == 0).all()
