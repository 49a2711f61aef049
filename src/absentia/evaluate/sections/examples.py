"""Examples right and wrong, each cell with its state: present, hidden from the model, or absent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from absentia.evaluate.wording import Scale, finite, short, value_words

__all__ = ["MOST_EXAMPLES", "examples"]

Json = Mapping[str, Any]
MOST_EXAMPLES, MOST_CELLS = 12, 8  # of each sort; of each example
MOST_PICTURE, MOST_PICTURES = 40_000, 600_000  # characters of one picture and of all
PICTURE = re.compile(r"data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+={0,2}")
TITLES = {False: "Wrong", True: "Right", None: "Answers"}
NUMBER_TITLES = {False: "Further off than most", True: "Closer than most", None: "Answers"}


class Album:
    """Pictures that the page may show: embedded bitmaps, and only while all together stay light."""

    def __init__(self) -> None:
        self.room = MOST_PICTURES

    def add(self, source: str) -> str:
        """The picture's address, or nothing where it may not be shown."""
        if len(source) > min(MOST_PICTURE, self.room) or not PICTURE.fullmatch(source):
            return ""
        self.room -= len(source)
        return source


def examples(report: Json) -> list[dict[str, Any]]:
    """Groups of examples, wrong ones first, few of each."""
    titles = NUMBER_TITLES if _is_number(report) else TITLES
    album, groups = Album(), []
    for right, title in titles.items():
        chosen = [example for example in report.get("examples") or [] if example.get("right") is right]
        rows = [_example(example, report, album) for example in chosen[:MOST_EXAMPLES]]
        if rows:
            groups.append({"title": title, "right": right, "rows": rows})
    return groups


def _is_number(report: Json) -> bool:
    return bool((report.get("target") or {}).get("kind") == "number")


def _example(example: Json, report: Json, album: Album) -> dict[str, Any]:
    probability = finite(example.get("probability"))
    return {
        "id": short(example.get("id", ""), 60),
        "truth": value_words(example.get("truth"), 90),
        "predicted": value_words(example.get("predicted"), 90),
        "probability": None if probability is None else f"{probability:.0%}".replace("%", "\u00a0%"),
        "off": _off(example, report),
        "right": example.get("right"),
        "cells": [_cell(name, example, album) for name in list(report["modalities"])[:MOST_CELLS]],
    }


def _off(example: Json, report: Json) -> str:
    """By how much a predicted number is beside the true one."""
    truth, predicted = finite(example.get("truth")), finite(example.get("predicted"))
    if not _is_number(report) or truth is None or predicted is None:
        return ""
    return Scale.of_report(report).signed(predicted - truth)


def _cell(name: str, example: Json, album: Album) -> dict[str, str]:
    if name in (example.get("absent") or []):
        return {"name": short(name, 28), "state": "absent", "src": "", "text": ""}
    cell = (example.get("cells") or {}).get(name) or {}
    return {
        "name": short(name, 28),
        "state": "hidden" if name in (example.get("hidden") or []) else "present",
        "src": album.add(str(cell.get("src") or "")),
        "text": short(cell.get("text") or "", 220),
    }
