"""The pages of streams as a real browser shows them: they fit a phone, ask for nothing, and sort by a click."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.evaluate.browsing import SPILLS, Visit

from absentia.evaluate.streams.page import render_stream
from absentia.evaluate.streams.side_by_side import render_streams

HOSTILE = "<img src='https://example.org/x.png' onerror='alert(1)'><script>alert(2)</script>" + "W" * 300


def hostile(made: SimpleNamespace) -> dict[str, Any]:
    report: dict[str, Any] = made.stream(3, 2)
    report |= {"method": HOSTILE, "command": HOSTILE, "notes": [HOSTILE], "options": {HOSTILE: HOSTILE}}
    report["target"] |= {"column": HOSTILE, "classes": [HOSTILE] * 12}
    report["usage"] = {HOSTILE + name: square for name, square in report["usage"].items()}
    report["by_pattern"] = {HOSTILE + name: rows for name, rows in report["by_pattern"].items()}
    for session in report["sessions"]:
        session |= {"number": HOSTILE, "classes": [HOSTILE + str(k) for k in range(40)], "notes": [HOSTILE]}
        session["patterns"] = {HOSTILE + str(k): k for k in range(9)}
    for query in report["queries"]:
        query |= {"modality": HOSTILE, "labels": [HOSTILE + str(k % 9) for k in range(len(query["labels"]))]}
    for entry in report["beside"]:
        entry["label"] = HOSTILE
    return report


def page(made: SimpleNamespace, name: str) -> str:
    if name == "beside":
        streams = [made.stream(4, 3, method=HOSTILE + str(k), rich=False) for k in range(3)]
        return render_streams(streams)
    if name == "hostile":
        return render_stream(hostile(made))
    sessions, modalities = {"one": (1, 2), "five": (5, 3), "twenty": (20, 3), "six": (8, 6)}[name]
    return render_stream(made.stream(sessions, modalities))


@pytest.mark.parametrize("name", ["one", "five", "twenty", "six", "hostile", "beside"])
def test_fits_the_screen_and_asks_for_nothing(browser: Any, made: SimpleNamespace, tmp_path: Path, name: str) -> None:
    file = tmp_path / "report.html"
    file.write_text(page(made, name), encoding="utf-8")
    for width in (390, 1280):
        visit = Visit(browser, file, width=width)
        assert visit.page.evaluate("document.documentElement.scrollWidth") == width
        assert visit.page.evaluate(SPILLS) == []
        assert [url for url in visit.requests if not url.startswith(("file:", "data:"))] == []
        assert visit.complaints == []
        visit.context.close()


def test_patterns_sort_by_a_click(browser: Any, made: SimpleNamespace, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page(made, "five"), encoding="utf-8")
    visit = Visit(browser, file, width=1280, scheme="dark")
    first = "document.querySelector('[aria-labelledby=figures] tbody th').textContent"
    assert visit.page.evaluate(first) == "image alone"
    button = visit.page.locator("[aria-labelledby=figures] thead button").first
    button.click()
    button.click()
    assert visit.page.evaluate(first) == "everything"
    visit.context.close()
