"""A visit of a page in a real browser, and what may not be found there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SPILLS = """() => {
    const wide = document.documentElement.clientWidth;
    const inBox = (e) => e.closest('.scroll, .said, svg') !== null;
    return [...document.querySelectorAll('body *')]
        .filter((e) => !inBox(e) && e.getBoundingClientRect().right > wide + 1)
        .map((e) => e.tagName + '.' + e.className);
}"""


class Visit:
    """A page that is open, with everything it asked for and complained about."""

    def __init__(self, browser: Any, file: Path, *, width: int, scheme: str = "light") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.goto(file.as_uri())

    def fits(self, width: int) -> None:
        """The page is no wider than the window, asked the network for nothing and complained of nothing."""
        assert self.page.evaluate("document.documentElement.scrollWidth") == width
        assert self.page.evaluate(SPILLS) == []
        assert [url for url in self.requests if not url.startswith(("file:", "data:"))] == []
        assert self.complaints == []


def page_fits(browser: Any, html: str, folder: Path, width: int) -> None:
    """A page in a window of this width: see `Visit.fits`."""
    file = folder / "report.html"
    file.write_text(html, encoding="utf-8")
    visit = Visit(browser, file, width=width)
    visit.fits(width)
    visit.context.close()
