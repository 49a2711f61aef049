"""The page of an adapted network in a real browser: it fits desktop and phone, asks for nothing, sorts by a click."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.evaluate.browsing import Visit, page_fits

from absentia.evaluate.adapters import render_study

SIX = [f"sensor_with_a_long_name_{number}" for number in range(6)]


def report() -> dict[str, Any]:
    """A study of many patterns with long names."""
    patterns = ["+".join(SIX[:count]) for count in range(1, 6)] + SIX[1:]
    scores = {"base": 0.4, "scale-shift": 0.8, "dedicated": 0.82, "<i>odd</i>": 0.1}
    rows = [
        {
            "row": name,
            "mean": score,
            "worst": score - 0.1,
            "cosine": 0.5 if name != "dedicated" else None,
            "patterns": [{"pattern": p, "n": 10, "score": score + 0.001 * len(p), "cosine": None} for p in patterns],
            "numbers_per_set": 1234,
            "sets": len(patterns),
            "bytes": 45_678,
            "seconds": 61.0,
        }
        for name, score in scores.items()
    ]
    return {
        "metric": "accuracy",
        "modalities": SIX,
        "full": {"pattern": "+".join(SIX), "n": 10, "score": 0.9, "cosine": None},
        "importance": {name: 0.1 * number for number, name in enumerate(SIX)},
        "suffers": {name: {f"encoders.{name}.blocks.{i}.in_proj": 0.4 / (i + 1) for i in range(6)} for name in SIX},
        "parameters": 100_000,
        "rows": rows,
        "seed": 0,
        "command": "absentia adapt somewhere.py:make",
    }


@pytest.mark.parametrize("width", [1280, 390])
def test_fits_and_asks_for_nothing(browser: Any, tmp_path: Path, width: int) -> None:
    page_fits(browser, render_study(report()), tmp_path, width)


def test_sorts_by_a_click(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(render_study(report()), encoding="utf-8")
    visit = Visit(browser, file, width=1280)
    first = "document.querySelector('table.sortable tbody th').textContent"
    assert visit.page.evaluate(first) == "own network, per pattern"
    visit.page.locator("table.sortable thead button").first.click()
    assert visit.page.evaluate(first) in ("<i>odd</i>", "own network, per pattern")
    visit.context.close()
