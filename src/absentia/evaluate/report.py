"""The page report.html: one file that holds everything, needs no network, and stays small whatever the report holds."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from absentia.evaluate import sections
from absentia.evaluate.curves import Curves, curves
from absentia.evaluate.plots import draw_loss, draw_scores, draw_validation
from absentia.evaluate.svg import to_svg
from absentia.evaluate.wording import clean, finite, headline, metric_words, one_modality, pattern_words, ranked, short

__all__ = ["render"]

HERE = Path(__file__).parent
LONGEST_COMMAND = 20_000


def render(report: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> str:
    """The page of one run, under 2 MB.

    `report` is what report.json holds and `metrics` the lines of metrics.jsonl. Nothing in them is trusted: texts are escaped,
    pictures are shown only when they are embedded bitmaps, and the page forbids itself every request and every foreign script.
    """
    report = {"reference_method": None, "target": None, **clean(report)}
    training = curves(clean(metrics))
    environment = Environment(autoescape=True, loader=FileSystemLoader(HERE), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["short"] = short
    script = (HERE / "report.js").read_text("utf-8")
    return environment.get_template("template.html.j2").render(
        style=Markup((HERE / "report.css").read_text("utf-8")), script=Markup(script), script_hash=_hash(script),
        report=report, metric=metric_words(report["metric"]), one_modality=one_modality(report), headline=headline(report),
        notes=sections.listed([short(note, 600) for note in report.get("notes") or []]), cards=sections.cards(report),
        table=sections.pattern_table(report), heat=sections.heat(report), shares=sections.shares(report), counts=sections.pattern_counts(report),
        plan=sections.plan_rates(report), bad_cells=sections.bad_cells(report), examples=sections.examples(report), about=sections.about(report),
        command=str(report.get("command") or "")[:LONGEST_COMMAND], figures=_figures(report, training), training=_training_words(training, report))


def _hash(script: str) -> str:
    """The script's hash as the page's content security policy wants it: no other script runs."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _figures(report: Mapping[str, Any], training: Curves) -> dict[str, Markup]:
    drawn = {}
    if any(finite(row["score"]) is not None for row in report["patterns"]) and not one_modality(report):
        drawn["scores"] = to_svg(lambda axes: draw_scores(axes, report), name="scores")
    if len(training.loss):
        drawn["loss"] = to_svg(lambda axes: draw_loss(axes, training), name="loss")
    if len(training.score):
        drawn["validation"] = to_svg(lambda axes: draw_validation(axes, training, report), name="validation")
    return drawn


def _training_words(training: Curves, report: Mapping[str, Any]) -> dict[str, str]:
    """What the figures show, for those who do not see them."""
    rows = ranked(report)
    words = {"scores": f"Scores over the number of absent modalities; the worst pattern is {pattern_words(rows[0]['present'], 28)}." if rows else ""}
    if len(training.loss):
        words["loss"] = f"Training loss from {training.loss.y[0]:.3g} to {training.loss.y[-1]:.3g} in {training.last_step:,.0f} steps."
    if len(training.score):
        words["validation"] = f"Validation score, mean over patterns, from {training.score.y[0]:.3g} to {training.score.y[-1]:.3g}."
    return words
