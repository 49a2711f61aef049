"""The table of patterns in a terminal: narrow, short, and never moved by what names contain."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given
from rich.console import Console

from absentia.evaluate.ranking import initials
from absentia.evaluate.terminal import PatternTable


def shown(report: dict[str, Any], width: int = 80, encoding: str = "utf-8") -> list[str]:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    Console(file=file, width=width).print(PatternTable(report))
    return raw.getvalue().decode(encoding).splitlines()


def test_one_row_for_each_pattern_worst_first(fake: SimpleNamespace) -> None:
    lines = shown(fake.glyphs())
    assert lines[0].startswith("With everything present accuracy is 93.1 %. Worst: properties alone")
    assert "i image, t text, p properties" in lines
    table = [line.split() for line in lines if line.startswith(("■", "□"))]
    assert table[0][:3] == ["□", "□", "■"]
    assert table[-1][:3] == ["■", "■", "■"]
    assert table[0][3:8] == ["873", "67.2", "64.0–70.9", "−25.9", "60.1"]
    assert [float(row[4]) for row in table] == sorted(float(row[4]) for row in table)
    assert any(line.startswith("as given") for line in lines)
    assert any(line.startswith("Note: No training row") for line in lines)


@pytest.mark.parametrize("name", ["glyphs", "sensors", "prices"])
@pytest.mark.parametrize("width", [80, 120])
def test_fits_its_width(fake: SimpleNamespace, name: str, width: int) -> None:
    lines = shown(getattr(fake, name)(), width)
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines if line.startswith(("■", "□")))


def test_of_many_patterns_the_worst_and_the_full_one(fake: SimpleNamespace) -> None:
    lines = shown(fake.sensors())
    table = [line for line in lines if line.startswith(("■", "□"))]
    assert len(table) == 13 and table[-1].startswith("■ ■ ■ ■ ■ ■")
    assert "50 more patterns" in lines[-1]


def test_long_figures_cost_the_bar_not_the_numbers(fake: SimpleNamespace) -> None:
    report = fake.prices()
    for row in report["patterns"]:
        row |= {key: row[key] * 1e7 for key in ("score", "low", "high", "reference")}
    lines = shown(report)
    assert max(map(len, lines)) <= 80 and "643,412,3" in " ".join(lines)
    assert "…" not in " ".join(lines[3:])


def test_without_reference_or_scores(fake: SimpleNamespace) -> None:
    report = fake.glyphs()
    for row in report["patterns"]:
        row["reference"] = None
    assert not any("ignore" in line for line in shown(report))
    report["patterns"][0] |= {"score": None, "low": None, "high": float("nan"), "drop": None}
    rows = [line for line in shown(report) if line.startswith(("■", "□"))]
    assert rows[-1].split()[4] == "–"


def test_ascii_where_the_terminal_knows_nothing_else(fake: SimpleNamespace) -> None:
    report = fake.glyphs()
    report["modalities"] = {("größe" if name == "text" else name): kind for name, kind in report["modalities"].items()}
    lines = shown(report, encoding="ascii")
    assert any(line.startswith(". . #") for line in lines) and any("gr??e" in line for line in lines)


def test_names_neither_colour_nor_move_the_terminal(fake: SimpleNamespace) -> None:
    report = fake.glyphs()
    name = "[red]text\x1b[2J\r\u202e[/red]\n"
    report["modalities"] = {(name if old == "text" else old): kind for old, kind in report["modalities"].items()}
    for row in report["patterns"]:
        row["present"] = {(name if old == "text" else old): here for old, here in row["present"].items()}
    text = "\n".join(shown(report))
    assert "[red]text" in text and not set("\x1b\r\u202e") & set(text)


@given(st.lists(st.text(min_size=1), max_size=16, unique=True))
def test_initials_tell_modalities_apart(names: list[str]) -> None:
    letters = initials(names)
    assert len(set(letters)) == len(names) and all(len(letter) == 1 and letter.isascii() for letter in letters)
