"""The page as a real browser shows it: it fits a phone, asks the network for nothing, and sorts by a click."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.evaluate.browsing import Visit, page_fits

from absentia.evaluate.report import render


def hostile(fake: SimpleNamespace) -> dict[str, Any]:
    report: dict[str, Any] = fake.glyphs()
    attack = "<img src='https://example.org/x.png' onerror='alert(1)'><script>alert(2)</script>" + "W" * 300
    report["notes"] = [attack]
    report["method"] = report["reference_method"] = report["command"] = report["target"]["column"] = attack
    for example in report["examples"]:
        example |= {"truth": attack, "predicted": attack, "id": attack}
        example["cells"]["text"] = {"kind": "text", "text": attack}
    report["modalities"] = {name + attack: kind for name, kind in report["modalities"].items()}
    for row in report["patterns"]:
        row["present"] = {name + attack: here for name, here in row["present"].items()}
        row["note"] = attack
    return report


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["glyphs", "sensors", "prices", "hostile"])
def test_fits_the_screen_and_asks_for_nothing(
    browser: Any, fake: SimpleNamespace, tmp_path: Path, name: str, width: int
) -> None:
    report = hostile(fake) if name == "hostile" else getattr(fake, name)()
    page_fits(browser, render(report, fake.metrics()), tmp_path, width)


def test_sorts_by_a_click_and_follows_the_dark(browser: Any, fake: SimpleNamespace, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(render(fake.glyphs(), fake.metrics()), encoding="utf-8")
    visit = Visit(browser, file, width=1280, scheme="dark")
    first = "document.querySelector('.patterns tbody th').textContent"
    assert visit.page.evaluate(first) == "properties alone"
    button = visit.page.locator(".patterns thead button").first
    button.click()
    button.click()
    assert visit.page.evaluate(first) == "everything"
    assert visit.page.locator(".patterns thead th[aria-sort=descending]").count() == 1
    ground = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(int(part) for part in ground.removeprefix("rgb(").removesuffix(")").split(",")) < 60
    visit.context.close()


def test_a_heat_map_has_no_bar_to_scroll_it_down(browser: Any, fake: SimpleNamespace, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(render(fake.glyphs(), fake.metrics()), encoding="utf-8")
    visit = Visit(browser, file, width=1280)
    boxes = "[...document.querySelectorAll('.scroll:has(.heat)')].map((e) => e.scrollHeight - e.clientHeight)"
    assert set(visit.page.evaluate(boxes)) == {0}
    visit.context.close()
