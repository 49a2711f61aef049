"""The page of a stream: it holds what the report says, trusts nothing in it, and stays light."""

from __future__ import annotations

import copy
import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
from tests.evaluate.pages import ATTACK, Page

from absentia.evaluate.continual import FIGURES
from absentia.evaluate.streams.page import render_stream
from absentia.evaluate.streams.view import Stream
from absentia.evaluate.streams.wording import bytes_words, stream_headline

OWN_KEYS = {"modalities", "options", "by_pattern", "usage", "patterns", "versions", "parts", "matrices"}
FIXED = {"metric", "kind", "plan_sha256", "layout"}


def plain(report: dict[str, Any]) -> str:
    return "".join(piece.words for piece in stream_headline(Stream.of(report))).replace("\u00a0", " ")


def attacked(value: Any, key: str = "") -> Any:
    """The report with hostile strings and keys wherever they come from a user's table."""
    if isinstance(value, str):
        return value if key in FIXED else value + ATTACK
    if isinstance(value, dict):
        own = key in OWN_KEYS
        return {(name + ATTACK if own else name): attacked(inner, name) for name, inner in value.items()}
    return [attacked(inner, key) for inner in value] if isinstance(value, list) else value


# --- what it says ----------------------------------------------------------------------------------------------------


def test_headline_in_plain_words(made: SimpleNamespace) -> None:
    report = made.stream(3, 2)
    report["matrix"] = [[0.9], [0.7, 0.8], [0.8, 0.5, 0.6]]
    assert plain(report).startswith(
        "After 3 sessions accuracy is 63.3 % on average over all of them. "
        "Earlier sessions have lost 20.0 points since they were new. Worst: image alone, "
    )
    report["by_pattern"] = {}
    assert plain(report | {"matrix": [[0.5], [0.6, 0.5]]}).endswith("have gained 10.0 points since they were new.")
    assert plain(report | {"matrix": [[0.5], [0.5, 0.4]]}).endswith("score what they did when they were new.")
    assert plain(report | {"matrix": [[0.9]]}) == (
        "After its first session accuracy is 90.0 %. There is nothing yet that it could forget."
    )
    assert plain(report | {"matrix": [[None]]}) == "No session could be scored."


def test_headline_of_a_number(made: SimpleNamespace) -> None:
    report = made.numbers(2) | {"matrix": [[2000.0], [2500.0, 2100.0]], "by_pattern": {}}
    assert plain(report) == (
        "After 2 sessions the mean absolute error is 2,300 on average over all of them (lower is better). "
        "The error on earlier sessions has grown by 500 since they were new."
    )


def test_everything_is_on_the_page(made: SimpleNamespace) -> None:
    report = made.stream(5, 3)
    page = Page(render_stream(report))
    for name in FIGURES:
        assert name in page.text
        assert f"{100 * report[name]:.1f}" in page.text
    for row in report["matrix"]:
        assert all(f"{100 * value:.1f}" in page.text for value in row)
    for session in report["sessions"]:
        assert ", ".join(session["classes"]) in page.text and f"{session['rows']['train']:,}" in page.text
    for words in (
        report["command"], report["plan_sha256"], report["hardware"], "torch 2.13.0+cpu", "components=25",
        "Session 2 has no complete training row", "3 cells could not be read", "1.23 MB", "finetune", "macro F1",
        "image and text", "Pool memory", "Queries of text", "Their mean cosine similarity is 0.9", "5 min 16 s",
    ):  # fmt: skip
        assert words in page.text, words
    assert page.count()["svg"] == 6  # the course, patterns, losses, three maps of queries
    assert all(attributes.get("scope") in ("row", "col") for tag, attributes in page.tags if tag == "th")
    assert all(attributes.get("aria-label") for _, attributes in page.tags if attributes.get("role") == "img")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_matrix_is_a_triangle_with_means(made: SimpleNamespace) -> None:
    report = made.stream(4, 2, rich=False)
    html = render_stream(report)
    table = html[html.index('<table class="heat matrix') :].split("</table>")[0]
    rows = table.split("<tr>")[2:]
    assert [len(re.findall(r">[\d.]+</td>", row)) for row in rows] == [2, 3, 4, 5]
    assert f">{100 * report['average_last']:.1f}</td>" in rows[-1]


def test_the_trap_is_named_where_it_was_measured(made: SimpleNamespace) -> None:
    words = Page(render_stream(made.labelled())).text
    assert "macro F1 as released" in words and "falls as labels arrive" in words
    assert "falls as labels arrive" not in Page(render_stream(made.stream(3, 2))).text


def test_one_session_has_no_empty_figures(made: SimpleNamespace) -> None:
    page = Page(render_stream(made.stream(1, 2, rich=False)))
    assert page.count()["svg"] == 0 and "forgetting_first" not in page.text and "average_last" in page.text
    bare = made.stream(1, 1, rich=False) | {"matrices": {}}
    assert "What is known" not in Page(render_stream(bare)).text


def test_other_streams_as_reports_or_entries(made: SimpleNamespace) -> None:
    report, other = made.stream(4, 2, rich=False), made.stream(4, 2, method="finetune", keeps=0.2)
    page = Page(render_stream(report, beside=[other]))
    assert "Beside other streams" in page.text and "finetune, seed 0" in page.text
    assert f"{100 * other['forgetting_first']:.1f}" in page.text
    foreign = Page(render_stream(report, beside=[made.numbers()]))
    assert "another metric measures them: rebq, seed 0" in foreign.text and "Beside other" not in foreign.text


def test_a_number(made: SimpleNamespace) -> None:
    page = Page(render_stream(made.numbers()))
    assert "lower is better" in page.text and "no new classes" in page.text and "points" not in page.text


@pytest.mark.parametrize("what", ["usage", "queries", "curves", "beside", "matrices", "notes", "by_pattern", "options"])
def test_every_part_may_be_missing(made: SimpleNamespace, what: str) -> None:
    report = made.stream(3, 2)
    for empty in ({}, {what: None}, {what: [] if isinstance(report[what], list) else {}}):
        text = Page(render_stream({k: v for k, v in report.items() if k != what} | empty)).text
        assert "None" not in text and "nan" not in text.split()


def test_with_the_least_that_a_report_may_hold() -> None:
    least = {"kind": "stream", "method": "m", "metric": "accuracy", "higher_is_better": True, "matrix": [[None]]}
    page = Page(render_stream({**least, "modalities": {"a": {}}, "sessions": []}))
    assert "No session could be scored." in page.text and "None" not in page.text
    scored = {**least, "matrix": [[0.5], [None, 0.25]], "modalities": {"a": {}}, "sessions": [{}, {}]}
    assert "25.0" in Page(render_stream(scored)).text


def test_broken_queries_are_not_drawn(made: SimpleNamespace) -> None:
    report = made.stream(3, 2)
    good, bad = report["queries"]
    broken = [
        bad | {"labels": bad["labels"][:-1]},
        bad | {"true": [["x", None]]},
        {},
        {"modality": "empty", "true": []},
    ]
    assert Page(render_stream(report | {"queries": [good, *broken]})).count()["svg"] == 4


# --- what it does not trust, and what it weighs ----------------------------------------------------------------------


def test_hostile_texts_stay_texts(made: SimpleNamespace) -> None:
    harmless = made.stream(3, 2)
    hostile = attacked(copy.deepcopy(harmless))
    html = render_stream(hostile | {"kind": "stream"})
    page, before = Page(html), Page(render_stream(harmless))
    assert page.count()["script"] == before.count()["script"] == 1 and page.count()["img"] == 0
    assert {name for _, attributes in page.tags for name in attributes if name.startswith("on")} == set()
    assert "<script>alert(1)</script>" in page.text and "49" not in page.text.split()
    assert not re.search("[\x00\ud800\u202e]", html)
    html.encode("utf-8")


def test_names_that_matplotlib_would_hide(made: SimpleNamespace) -> None:
    report = made.stream(3, 2) | {"method": "__ours__"}
    for number, entry in enumerate(report["beside"]):
        entry["label"] = "_" * number
    report["queries"] = [one | {"labels": [f"_{k % 3}" for k in range(120)]} for one in report["queries"]]
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", render_stream(report))
    assert any("__ours__" in text for text in texts) and any("_2" in text for text in texts)


def test_no_request_leaves_the_page(made: SimpleNamespace) -> None:
    html = render_stream(made.stream(4, 3))
    addresses = [v or "" for _, a in Page(html).tags for name, v in a.items() if name in ("src", "href", "action")]
    assert addresses and all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"@import|url\((?!#)", html) and "default-src 'none'" in html


def monster(made: SimpleNamespace) -> dict[str, Any]:
    """Everything far too long: sessions, classes, names, patterns, pools, maps, losses, streams beside."""
    report = made.stream(120, 2)
    long = "длинное 名前 & 🧪🧫🧬🔬🔭" * 12
    names = [f"{k} {long}" for k in range(12)]
    report |= {"names": names, "modalities": {name: {"kind": "text", "columns": names * 20} for name in names}}
    for session in report["sessions"]:
        session["classes"] = [long + str(k) for k in range(300)]
        session["notes"] = [long] * 50
        session["patterns"] = {f"{long}{k}": k for k in range(200)}
    scores = report["matrix"]
    report["by_pattern"] = {f"{long}{k}": scores for k in range(80)} | {"+".join(names): scores}
    report["usage"] = {f"{long}{k}": report["usage"]["memory"] for k in range(20)}
    many = report["queries"][0]
    report["queries"] = [many | {key: many[key] * 3 for key in ("true", "reconstructed", "labels")}] * 12
    report["beside"] = [entry | {"label": long + str(k)} for k in range(15) for entry in report["beside"]]
    report["notes"] = [long] * 400
    report["options"] = {f"{long}{k}": long for k in range(200)}
    report["command"] = "absentia learn " + long * 1000
    return report


def test_always_under_two_megabytes(made: SimpleNamespace) -> None:
    page = render_stream(monster(made))
    assert len(page.encode()) < 2_000_000
    words = Page(page).text
    assert "96 more sessions" in words and "41 more patterns" in words and "388 more notes" in words


def test_usual_pages_are_light(made: SimpleNamespace) -> None:
    assert len(render_stream(made.stream(5, 3)).encode()) < 300_000
    assert len(render_stream(made.stream(20, 3)).encode()) < 500_000


def test_same_report_same_bytes_and_report_untouched(made: SimpleNamespace) -> None:
    report = made.stream(3, 3)
    saved = json.dumps(report)
    assert render_stream(report) == render_stream(report)
    assert json.dumps(report) == saved


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (1_234_567, "1.23 MB"), (5e11, "500 GB"), (None, "–")],
)
def test_sizes_of_files(count: Any, words: str) -> None:
    assert bytes_words(count).replace("\u00a0", " ") == words
