"""The page report.html of a stream, and the page on which several streams stand beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from markupsafe import Markup

from absentia.evaluate.curves import Curves
from absentia.evaluate.page import filled
from absentia.evaluate.sections.listing import listed
from absentia.evaluate.streams import scores, sessions
from absentia.evaluate.streams.contract import beside as shown_beside
from absentia.evaluate.streams.contract import is_stream
from absentia.evaluate.streams.plots import (
    MOST_LINES,
    draw_after,
    draw_losses,
    draw_patterns,
    losses,
    shown_patterns,
)
from absentia.evaluate.streams.queries import draw_queries, drawn_queries, queries_of, query_words
from absentia.evaluate.streams.view import Line, Stream, lines_beside
from absentia.evaluate.streams.wording import TITLES, stream_headline
from absentia.evaluate.svg import to_svg
from absentia.evaluate.wording import metric_words, short

__all__ = ["LONGEST_COMMAND", "after_figure", "render_stream"]

LONGEST_COMMAND, MOST_NOTES = 20_000, 12
Json = Mapping[str, Any]
Figures = dict[str, tuple[Markup, str]]


def render_stream(report: Json, beside: Sequence[Json] = ()) -> str:
    """The page of one stream, under 2 MB.

    `report`: what report.json holds (see `streams.contract`); `beside`: other streams to compare with, as whole
    reports or as entries of "beside", shown after those that the report names itself. Nothing in them is trusted.
    """
    stream = Stream.of(report)
    entries = [shown_beside(one) if is_stream(one) else one for one in (*(report.get("beside") or ()), *beside)]
    others, foreign = lines_beside(entries, stream.metric)
    lines = [stream.line, *others]
    notes = [short(note, 600) for note in stream.report.get("notes") or []]
    if foreign:
        notes.append(f"Not shown beside, for another metric measures them: {short(', '.join(foreign), 300)}.")
    figures = _figures(stream, lines)
    return filled(
        "stream.html.j2",
        report=stream.report,
        metric=metric_words(stream.metric),
        headline=stream_headline(stream),
        notes=listed(notes, MOST_NOTES),
        command=str(stream.report.get("command") or "")[:LONGEST_COMMAND],
        titles=TITLES,
        figures={name: svg for name, (svg, _) in figures.items()},
        said={name: words for name, (_, words) in figures.items()},
        cards=scores.stream_cards(stream),
        matrix=scores.matrix_heat(stream) if len(stream.matrix) > 1 else None,
        beside=scores.stream_rows(lines, stream.report),
        metrics=scores.metric_rows(stream),
        released="f1_released" in (stream.report.get("matrices") or {}),
        patterns=scores.pattern_rows(stream),
        pattern_caption=_pattern_caption(stream),
        sessions=sessions.session_rows(stream),
        shares=sessions.pattern_shares(stream),
        usage=sessions.usage_heats(stream),
        queries=[
            {"name": f"query-{place}", "title": f"Queries of {name}", "caption": query_words(entry)}
            for place, (name, entry) in enumerate(drawn_queries(stream))
        ],
        about=sessions.stream_facts(stream),
    )


def after_figure(lines: Sequence[Line], report: Json, words: str) -> tuple[Markup, str]:
    """The figure of scores after each session, tall enough for its legend, and what it says."""
    rows = -(-min(len(lines), MOST_LINES) // 2) if len(lines) > 1 else 0
    size = (395, 250 + 17 * rows)
    return to_svg(lambda axes: draw_after(axes, lines, report), name="after", size=size), words


def _figures(stream: Stream, lines: Sequence[Line]) -> Figures:
    figures: Figures = {}
    several = len(stream.matrix) > 1
    if several and any(line.points for line in lines):
        figures["after"] = after_figure(lines, stream.report, _course_words(stream))
    if several and len(stream.patterns) > 1:
        rows = (len(shown_patterns(stream.patterns)) + 2) // 2
        svg = to_svg(partial(draw_patterns, stream=stream), name="patterns", size=(395, 250 + 17 * rows))
        figures["patterns"] = svg, f"A line for each of {len(stream.patterns)} patterns over sessions."
    if len((course := losses(stream.report, stream.numbers)).loss):
        figures["loss"] = _loss_figure(course, stream)
    for place, (name, entry) in enumerate(drawn_queries(stream)):
        if (found := queries_of(entry)) is not None:
            true, again, labels = found
            draw = partial(draw_queries, true=true, again=again, labels=labels)
            words = f"{len(true)} true queries of {name} and the reconstructed ones as points on a plane."
            figures[f"query-{place}"] = to_svg(draw, name=f"query-{place}", size=(395, 400)), words
    return figures


def _loss_figure(course: Curves, stream: Stream) -> tuple[Markup, str]:
    svg = to_svg(partial(draw_losses, course=course, report=stream.report), name="loss", size=(395, 290))
    first, last = course.loss.y[0], course.loss.y[-1]
    return svg, f"Training loss from {first:.3g} to {last:.3g} in {course.last_step:,.0f} steps."


def _course_words(stream: Stream) -> str:
    known = [value for value in stream.after if value is not None]
    if not known:
        return "Scores of other streams after each session."
    return f"Mean score from {stream.scale.figure(known[0])} to {stream.scale.figure(known[-1])}."


def _pattern_caption(stream: Stream) -> str:
    words = "The mean over all sessions so far."
    shown = len(shown_patterns(stream.patterns))
    if shown < len(stream.patterns):
        words += f" The lines are the full pattern and the {shown - 1} that end worst; the band spans all of them."
    return words
