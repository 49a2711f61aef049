"""The page of a study of adapters: what each kind won back, pattern by pattern, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from matplotlib.axes import Axes

from absentia.evaluate.adapters.view import StudyView, bytes_words, share_words
from absentia.evaluate.page import filled
from absentia.evaluate.sections.about import Fact
from absentia.evaluate.sections.listing import listed
from absentia.evaluate.sections.shades import shaded
from absentia.evaluate.svg import COLOURS, to_svg
from absentia.evaluate.wording import finite, metric_words, seconds_words, short, value_words

__all__ = ["render_study"]

MOST_ROWS, MOST_PATTERNS = 16, 64
MOST_GONE, MOST_SITES = 8, 4
TITLES = {
    "mean": "mean",
    "worst": "worst",
    "closed": "won back",
    "cosine": "likeness of features",
    "share": "of the parameters",
    "bytes": "file",
    "seconds": "time",
}


def render_study(report: Mapping[str, Any]) -> str:
    """The page, under 2 MB. report: what `run_study` gives, with command, versions and hardware where known."""
    view = StudyView(report)
    height = 90 + 24 * min(MOST_ROWS, len(view.rows))
    drawn = to_svg(partial(_draw, view=view), name="kinds", size=(395, height))
    return filled(
        "adapters.html.j2",
        report=report,
        metric=metric_words(report["metric"]),
        headline=view.headline(),
        cards=_cards(view),
        notes=listed(short(note, 600) for note in report.get("notes") or []),
        titles=TITLES,
        rows=listed((_row(view, row) for row in view.rows), MOST_ROWS),
        heat=_heat(view),
        figures={"kinds": drawn},
        said={"kinds": "Mean and worst pattern of every way of adapting, and the score with everything present."},
        importance=[
            {"name": name, "drop": view.scale.signed(-drop)}
            for name, drop in sorted(report["importance"].items(), key=lambda item: -(finite(item[1]) or 0.0))
        ],
        suffers=_suffers(report),
        command=str(report.get("command") or "")[:20_000],
        about=_facts(report),
    )


def _cards(view: StudyView) -> list[dict[str, str]]:
    scale, base, best = view.scale, view.base, view.best
    found = [("Everything present", scale.figure(view.full), "the network itself, unchanged")]
    if base is not None:
        found.append(("Filled in", scale.figure(base["mean"]), f"worst pattern {scale.figure(base['worst'])}"))
    if best is not None:
        found.append((f"Adapted: {best['row']}", scale.figure(best["mean"]), f"worst {scale.figure(best['worst'])}"))
        if (closed := view.closed(best)) is not None:
            found.append(("Won back", f"{100 * closed:.0f}\u00a0%", "of what filling in loses"))
    return [{"name": name, "score": score, "explained": words} for name, score, words in found]


def _row(view: StudyView, row: Mapping[str, Any]) -> dict[str, Any]:
    closed, cosine, base = view.closed(row), finite(row.get("cosine")), row["row"] == "base"
    cells = [
        (view.scale.bare(row["mean"]), finite(row["mean"])),
        (view.scale.bare(row["worst"]), finite(row["worst"])),
        ("–" if closed is None or base else f"{100 * closed:.0f}\u00a0%", closed),
        ("–" if cosine is None else f"{cosine:.2f}", cosine),
        ("–" if base else f"{share_words(view.share(row))}\u00a0%", view.share(row)),
        (bytes_words(row["bytes"]) if row["bytes"] else "–", row["bytes"]),
        (seconds_words(row["seconds"]), row["seconds"]),
    ]
    return {
        "name": view.name(row),
        "best": row is view.best,
        "base": base,
        "cells": [{"text": text, "sort": value} for text, value in cells],
    }


def _suffers(report: Mapping[str, Any]) -> dict[str, Any]:
    """Of each modality that goes the sites that suffer most; reports of before have none."""
    found = report.get("suffers") or {}
    gone = sorted(found, key=lambda name: -(finite(report["importance"].get(name)) or 0.0))
    return {
        "gone": [{"name": name, "sites": _worst_sites(found[name])} for name in gone[:MOST_GONE]],
        "left": max(0, len(gone) - MOST_GONE),
    }


def _worst_sites(shares: Mapping[str, Any]) -> list[dict[str, str]]:
    known = sorted(((finite(share) or 0.0, site) for site, share in shares.items()), key=lambda one: -one[0])
    return [{"name": site, "share": f"{100 * share:.0f}\u00a0%"} for share, site in known[:MOST_SITES]]


def _heat(view: StudyView) -> dict[str, Any]:
    """Patterns by ways of adapting, on one scale."""
    rows, patterns = view.rows[:MOST_ROWS], view.patterns[:MOST_PATTERNS]
    values = [[view.score(row, pattern) for row in rows] for pattern in patterns]
    among = [value for line in values for value in line]
    return {
        "corner": "present",
        "columns": [str(row["row"]) for row in rows],
        "rows": [
            {
                "name": short(pattern.replace("+", " + "), 60),
                "cells": shaded(line, view.scale, higher=True, among=among),
            }
            for pattern, line in zip(patterns, values, strict=True)
        ],
        "left": max(0, len(view.patterns) - MOST_PATTERNS),
    }


def _draw(axes: Axes, view: StudyView) -> None:
    """A line from the worst pattern to the mean of each way."""
    rows = list(reversed(view.rows[:MOST_ROWS]))
    factor = view.scale.factor
    for place, row in enumerate(rows):
        colour = COLOURS["reference"] if row["row"] == "base" else COLOURS["method"]
        mean, worst = (factor * (finite(row[key]) or 0.0) for key in ("mean", "worst"))
        axes.plot([worst, mean], [place, place], color=colour, linewidth=1.6, alpha=0.45)
        axes.plot([mean], [place], "o", color=colour, markersize=7)
        axes.plot([worst], [place], "|", color=colour, markersize=9, markeredgewidth=2)
    if view.full is not None:
        axes.axvline(factor * view.full, color=COLOURS["soft"], linewidth=1, linestyle=(0, (4, 3)))
    axes.set_yticks(range(len(rows)), [short(row["row"], 24) for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(axis="x", visible=True)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"{metric_words(view.report['metric'])}{' in %' if factor == 100 else ''}")


def _facts(report: Mapping[str, Any]) -> list[Fact]:
    facts = [
        Fact("Network", value_words(report.get("network") or ""), True),
        Fact("Parameters", f"{report['parameters']:,}"),
        Fact("Modalities", value_words(list(report["modalities"]))),
        Fact("Test rows", f"{report['full']['n']:,}"),
        Fact("Seed", value_words(report.get("seed", "")), True),
        Fact("Hardware", value_words(report.get("hardware") or "")),
        Fact("Versions", ", ".join(f"{k} {v}" for k, v in (report.get("versions") or {}).items())),
        Fact("Made", value_words(report.get("created") or "")),
    ]
    return [fact for fact in facts if fact.value and fact.value != "nothing"]
