"""The table of a stream in a terminal: it fits 80 columns, whatever the stream."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from absentia.evaluate.continual import FIGURES
from absentia.evaluate.streams.terminal import StreamTable


def shown(report: dict[str, Any], width: int = 80, encoding: str = "utf-8") -> list[str]:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    Console(file=file, width=width).print(StreamTable(report))
    return raw.getvalue().decode(encoding).splitlines()


def test_matrix_figures_and_patterns(made: SimpleNamespace) -> None:
    report = made.stream(5, 3, rich=False)
    lines = shown(report)
    assert lines[0].startswith("After 5 sessions accuracy is")
    rows = [line.split() for line in lines if line.startswith("session ")]
    assert [len(row) for row in rows] == [4, 5, 6, 7, 8]
    assert rows[-1][2:-1] == [f"{100 * value:.1f}" for value in report["matrix"][-1]]
    assert [name for name in FIGURES if any(line.rstrip().endswith(name) for line in lines)] == list(FIGURES)
    patterns = [line.split() for line in lines if line.startswith(("■", "□"))]
    assert len(patterns) == 7 and patterns[-1][:3] == ["■"] * 3
    ends = [float(row[3]) for row in patterns]
    assert ends == sorted(ends)
    assert lines[-1].startswith("Note: Session 2")


@pytest.mark.parametrize("sessions", [1, 2, 5, 11, 40])
@pytest.mark.parametrize("modalities", [1, 2, 6])
@pytest.mark.parametrize("width", [80, 120])
def test_fits_its_width(made: SimpleNamespace, sessions: int, modalities: int, width: int) -> None:
    lines = shown(made.stream(sessions, modalities, rich=False), width)
    assert max(map(len, lines)) <= width and not any("…" in line for line in lines)
    assert sum(line.startswith("session ") for line in lines) == (0 if sessions == 1 else min(sessions, 10))
    assert (modalities == 6) == any("more patterns" in line for line in lines)


def test_long_figures_cost_sessions_not_digits(made: SimpleNamespace) -> None:
    report = made.numbers(12)
    report["matrix"] = [[1e7 * value for value in row] for row in report["matrix"]]
    lines = shown(report)
    rows = [line for line in lines if line.startswith("session ")]
    assert max(map(len, lines)) <= 80 and 3 <= len(rows) < 12
    assert rows[0].startswith("session 0 ") and rows[-1].startswith("session 11 ")


def test_ascii_where_the_terminal_knows_nothing_else(made: SimpleNamespace) -> None:
    lines = shown(made.stream(3, 2, rich=False), encoding="ascii")
    assert any(line.startswith("# .") for line in lines)


def test_names_neither_colour_nor_move_the_terminal(made: SimpleNamespace) -> None:
    name = "[red]x\x1b[2J\r\u202e[/red]"
    report = made.stream(2, 2, rich=False) | {"notes": [name], "names": [name, "b"]}
    report["modalities"] = {name: {}, "b": {}}
    report["sessions"][0]["number"] = name
    report["by_pattern"] = {name: report["matrix"], "b": report["matrix"], "other": report["matrix"]}
    text = "\n".join(shown(report))
    assert "[red]x" in text and not set("\x1b\r\u202e") & set(text)
