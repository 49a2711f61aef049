"""Dice and HD95 of every region under every pattern, in the order of the literature where there is one."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from absentia.evaluate.ranking import pattern_words
from absentia.evaluate.wording import NOT_KNOWN, Scale, finite, short

__all__ = ["BRATS", "canonical", "regions"]

Json = Mapping[str, Any]
MOST_ROWS, MOST_REGIONS = 63, 6
BRATS = tuple(
    frozenset(pattern.split("+"))
    for pattern in (
        *("t2", "t1ce", "t1", "flair", "t1ce+t2", "t1+t1ce", "flair+t1", "t1+t2", "flair+t2", "flair+t1ce"),
        *("flair+t1+t1ce", "flair+t1+t2", "flair+t1ce+t2", "t1+t1ce+t2", "flair+t1+t1ce+t2"),
    )
)
"""The rows of tables on BraTS, from one contrast to all four, in the order that its papers use."""


def canonical(patterns: list[Json]) -> list[Json]:
    """The patterns of a report in the order of BraTS where its contrasts are those, else fewest first, as they come."""
    shown = [frozenset(name.lower() for name, here in p["present"].items() if here) for p in patterns]
    if set(shown) <= set(BRATS):
        return [p for _, p in sorted(zip(shown, patterns, strict=True), key=lambda pair: BRATS.index(pair[0]))]
    return sorted(patterns, key=lambda p: (sum(p["present"].values()), [not here for here in p["present"].values()]))


def regions(report: Json) -> dict[str, Any] | None:
    """A row per pattern and the mean over them: Dice in percent, then HD95 in mm; None for other targets."""
    target = report.get("target") or {}
    if target.get("kind") != "mask":
        return None
    names = list(target.get("classes") or [])[:MOST_REGIONS]
    keys = [
        f"{metric}{name}"
        for metric in ("dice", "hd95")
        for name in ([f" {n}" for n in names] if len(names) > 1 else [""])
    ]
    rows = [[finite((p.get("metrics") or {}).get(key)) for key in keys] for p in canonical(report["patterns"])]
    words = [pattern_words(p["present"], 40) for p in canonical(report["patterns"])]
    means = [_mean([row[i] for row in rows]) for i in range(len(keys))]
    return {
        "names": [short(name, 20) for name in names],
        "rows": [
            {"name": name, "cells": _cells(row, keys)}
            for name, row in zip(words[:MOST_ROWS], rows[:MOST_ROWS], strict=True)
        ],
        "left": max(0, len(rows) - MOST_ROWS),
        "mean": _cells(means, keys),
    }


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _cells(row: list[float | None], keys: list[str]) -> list[str]:
    share = Scale.of("dice", [])
    return [
        NOT_KNOWN if value is None else share.bare(value) if key.startswith("dice") else f"{value:.1f}"
        for key, value in zip(keys, row, strict=True)
    ]
