"""The page report.html of a run: which texts, tables and figures go into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from absentia.evaluate import sections
from absentia.evaluate.curves import Curves, curves
from absentia.evaluate.headline import headline
from absentia.evaluate.page import filled
from absentia.evaluate.plots import draw_scores
from absentia.evaluate.ranking import one_modality, pattern_words, ranked
from absentia.evaluate.svg import to_svg
from absentia.evaluate.training_plots import draw_loss, draw_validation
from absentia.evaluate.wording import Scale, clean, finite, metric_words, short

__all__ = ["render"]

LONGEST_COMMAND, MOST_NOTES = 20_000, 12
OPTIONAL = {"reference_method": None, "target": None}
Json = Mapping[str, Any]


def render(report: Json, metrics: Sequence[Json]) -> str:
    """The page of one run, under 2 MB.

    `report` is what report.json holds and `metrics` the lines of metrics.jsonl. Nothing in them is trusted:
    texts are escaped, and pictures are shown only when they are embedded bitmaps.
    """
    report = {**OPTIONAL, **clean(report)}
    training, reference = (curves(metrics, part) for part in ("method", "reference"))
    return filled(
        "report.html.j2",
        report=report,
        metric=metric_words(report["metric"]),
        headline=headline(report),
        notes=sections.listed((short(note, 600) for note in report.get("notes") or []), MOST_NOTES),
        command=str(report.get("command") or "")[:LONGEST_COMMAND],
        figures=_figures(report, training, reference),
        said=_said(report, training),
        **_sections(report),
    )


def _sections(report: Json) -> dict[str, Any]:
    return {
        "cards": sections.cards(report),
        "table": sections.pattern_table(report),
        "heat": sections.heat(report),
        "gap": sections.gap(report),
        "shares": sections.shares(report),
        "counts": sections.pattern_counts(report),
        "plan": sections.plan_rates(report),
        "bad_cells": sections.bad_cells(report),
        "examples": sections.examples(report),
        "slices": sections.slices(report),
        "regions": sections.regions(report),
        "reconstruction": sections.reconstruction(report),
        "about": sections.about(report),
    }


def _figures(report: Json, training: Curves, reference: Curves) -> dict[str, Markup]:
    drawn = {}
    if not one_modality(report) and any(finite(row["score"]) is not None for row in report["patterns"]):
        drawn["scores"] = to_svg(lambda axes: draw_scores(axes, report), name="scores")
    if len(training.loss):
        drawn["loss"] = to_svg(lambda axes: draw_loss(axes, training, reference, report), name="loss")
    if len(training.score):
        drawn["validation"] = to_svg(lambda axes: draw_validation(axes, training, reference, report), name="validation")
    return drawn


def _said(report: Json, training: Curves) -> dict[str, str]:
    """The figures in words, for those who do not see them."""
    words = {name: "" for name in ("scores", "loss", "validation")}
    if report["patterns"]:
        worst = pattern_words(ranked(report)[0]["present"], 28)
        words["scores"] = f"Scores over the number of absent modalities; the worst pattern is {worst}."
    if len(training.loss):
        first, last = training.loss.y[0], training.loss.y[-1]
        words["loss"] = f"Training loss from {first:.3g} to {last:.3g} in {training.last_step:,.0f} steps."
    if len(training.score):
        scale = Scale.of(report["metric"], training.score.y.tolist())
        first, last = scale.figure(training.score.y[0]), scale.figure(training.score.y[-1])
        words["validation"] = f"Validation score, mean over patterns, from {first} to {last}."
    return words
