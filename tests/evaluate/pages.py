"""A page as a browser would find it, and reports whose texts are hostile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

ATTACK = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}</style>\u202e\x00\ud800$\\frac{1}{0}$"
VOID = {"meta", "link", "img", "br", "input", "hr", "path", "use"}


class Page(HTMLParser):
    """What a browser would find: tags with attributes, texts by tag, and whether everything is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def count(self) -> Counter[str]:
        return Counter(tag for tag, _ in self.tags)


def everywhere(value: Any, change: Callable[[str], str], key: str = "") -> Any:
    """The report with `change` on all its strings and keys that come from a user's table."""
    fixed = {"metric", "kind", "src", "plan_sha256"}
    if isinstance(value, str):
        return value if key in fixed else change(value)
    if isinstance(value, dict):
        own = key in {"modalities", "present", "cells", "losses", "asked", "realised", "versions", "p_absent"}
        return {(change(name) if own else name): everywhere(inner, change, name) for name, inner in value.items()}
    return [everywhere(inner, change, key) for inner in value] if isinstance(value, list) else value
