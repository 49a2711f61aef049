"""What is remarkable about good cells: counted by modality, added up, and worth a word only where it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import checkpoints, tiny

from absentia.data.inspect import inspect
from absentia.data.kinds import Decoder, Text
from absentia.data.kinds.pretrained import PretrainedDecoder
from absentia.data.remarkable import Remarkable
from absentia.data.schema import Schema
from absentia.data.table import open_table

EMPTY = "and an empty text is there. If it means that there is none, leave these cells empty (null)."


def seen(decoder: Decoder, *cells: str) -> Remarkable:
    found = Remarkable()
    for cell in cells:
        found.see("words", decoder, cell)
    return found


@pytest.mark.parametrize(("empty", "worth"), [(0, False), (1, False), (2, True), (10, True)])
def test_a_few_empty_texts_are_usual_and_many_are_said(empty: int, worth: bool) -> None:
    decoder = Text().fit(["one two", "three"])
    found = seen(decoder, *[" \n"] * empty, *["one"] * (10 - empty))
    assert found.notes({"words": decoder}) == ([f"words: {empty} of 10 texts are empty, {EMPTY}"] if worth else [])


def test_parts_are_added_up(tmp_path: Path) -> None:
    decoder = PretrainedDecoder(kind="text", source=str(checkpoints.bert(tmp_path / "bert")))
    found = Remarkable()
    for part in (seen(decoder, "a " * 30, ""), seen(decoder, "a " * 30, "", "b")):
        found.add(part)
    longer, blank = found.notes({"words": decoder})
    assert longer.startswith("words: at least 2 texts are longer than the 11 tokens that encoder")
    assert blank == f"words: 2 of 5 texts are empty, {EMPTY}"
    assert Remarkable().notes({}) == []


@pytest.mark.parametrize("decode", [True, False])
def test_an_inspection_says_it_where_cells_are_opened(decode: bool) -> None:
    content = tiny.rows(20, holes=0.0)
    for row in content[:15]:
        row["words"] = ""
    content[0]["words"] = None
    found = inspect(open_table(tiny.table(content)), Schema(modalities={"words": Text()}), decode=decode)
    assert found.notes == ([f"words: 14 of 19 texts are empty, {EMPTY}"] if decode else [])
