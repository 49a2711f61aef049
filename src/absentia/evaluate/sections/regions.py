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
TITLES = {"dice": "Dice", "dice_post": "post-processed", "hd95": "HD95"}
EMPTY = {"one": "is 1", "zero": "is 0", "nan": "does not count"}
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
    """A row per pattern and the mean over them: Dice in percent and HD95 in mm of each region; None for other targets.

    Beside the plain Dice stands that without small answers, of regions for which `fewest` says what is small.
    """
    target = report.get("target") or {}
    if target.get("kind") != "mask":
        return None
    names = list(target.get("classes") or [])[:MOST_REGIONS]
    columns = _columns(names, target.get("masks") or {})
    keys = [metric if len(names) < 2 else f"{metric} {name}" for metric, name in columns]
    rows = [[finite((p.get("metrics") or {}).get(key)) for key in keys] for p in canonical(report["patterns"])]
    words = [pattern_words(p["present"], 40) for p in canonical(report["patterns"])]
    means = [_mean([row[i] for row in rows]) for i in range(len(keys))]
    return {
        "columns": [{"metric": TITLES[metric], "name": short(name, 20)} for metric, name in columns],
        "policy": _policy(target.get("masks") or {}),
        "rows": [
            {"name": name, "cells": _cells(row, keys)}
            for name, row in zip(words[:MOST_ROWS], rows[:MOST_ROWS], strict=True)
        ],
        "left": max(0, len(rows) - MOST_ROWS),
        "mean": _cells(means, keys),
    }


def _columns(names: list[str], masks: Json) -> list[tuple[str, str]]:
    plain, far = ([(metric, name) for name in names] for metric in ("dice", "hd95"))
    return [*plain, *(("dice_post", name) for name in names if name in (masks.get("fewest") or {})), *far]


def _policy(masks: Json) -> list[str]:
    """What counts where regions are empty, and what is taken back, in sentences."""
    if not masks:
        return []
    empty, lone = EMPTY.get(str(masks.get("empty")), NOT_KNOWN), finite(masks.get("lone"))
    said = [f"Dice of a region that is empty in truth and in the answer {empty}."]
    said += [
        "HD95 does not count where either is empty."
        if lone is None
        else f"HD95 is {lone:g} mm where one of them is empty and 0 where both are."
    ]
    fewest = {name: finite(count) for name, count in (masks.get("fewest") or {}).items()}
    few = [f"{short(name, 20)} with fewer than {n:,.0f} voxels" for name, n in fewest.items() if n is not None]
    taken = f"Post-processed is Dice without answers of {', '.join(few[:MOST_REGIONS])}; predictions are so."
    return [*said, taken] if few else said


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _cells(row: list[float | None], keys: list[str]) -> list[str]:
    share = Scale.of("dice", [])
    return [
        NOT_KNOWN if value is None else share.bare(value) if key.startswith("dice") else f"{value:.1f}"
        for key, value in zip(keys, row, strict=True)
    ]
