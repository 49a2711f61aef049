"""The page: it holds what the report says, trusts nothing in it, needs nothing around it, and stays light."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import example, given, settings
from tests.evaluate.pages import ATTACK, Page, everywhere

import absentia.evaluate
from absentia.evaluate.curves import curves
from absentia.evaluate.headline import headline
from absentia.evaluate.ranking import pattern_words
from absentia.evaluate.report import render
from absentia.evaluate.sections.shades import contrast, shade
from absentia.evaluate.wording import Scale, clean, seconds_words, short


def plain(report: dict[str, Any]) -> str:
    return "".join(piece.words for piece in headline(report)).replace("\u00a0", " ")


# --- what it says ----------------------------------------------------------------------------------------------------


def test_headline_in_plain_words(fake: SimpleNamespace) -> None:
    report = fake.glyphs()
    report["patterns"][0] |= {"score": 0.58, "reference": 0.53}
    assert plain(report) == (
        "With everything present accuracy is 93.1 %. Worst: properties alone, 58.0 %. "
        "Ignoring the problem would score 53.0 % there."
    )
    report["patterns"][0]["reference"] = 0.61
    assert plain(report).endswith("Ignoring the problem would do better there: 61.0 %.")


def test_headline_of_a_number(fake: SimpleNamespace) -> None:
    said = plain(fake.prices())
    assert said.startswith("With everything present the mean absolute error is 31,456 (lower is better). Worst: photo")
    assert re.search(r"Ignoring the problem would err by [\d,]+ there\.$", said)


def test_headline_where_little_is_known(fake: SimpleNamespace) -> None:
    report = fake.glyphs()
    for row in report["patterns"]:
        row["reference"] = None
    assert "gnor" not in plain(report)
    assert "ignores the problem" in plain(report | {"method": "ignore"})
    full = [row for row in report["patterns"] if row["pattern"] == "image+text+properties"]
    assert plain(report | {"patterns": full}).endswith("No other pattern scores worse.")
    assert "everything present was not scored" in plain(report | {"patterns": report["patterns"][:3]})
    assert plain(report | {"patterns": []}) == "No pattern could be scored."
    one = report | {"modalities": {"image": {}}, "patterns": [full[0] | {"present": {"image": True}}]}
    assert "one modality" in plain(one)


@pytest.mark.parametrize(
    ("here", "of", "words"),
    [
        ("ab", "ab", "everything"),
        ("a", "ab", "a alone"),
        ("", "ab", "nothing"),
        ("ab", "abc", "a and b"),
        ("abce", "abcde", "everything but d"),
        ("acef", "abcdef", "everything but b and d"),
        ("abc", "abcdef", "a, b and c"),
    ],
)
def test_patterns_in_words(here: str, of: str, words: str) -> None:
    assert pattern_words({name: name in here for name in of}) == words


def test_everything_is_on_the_page(fake: SimpleNamespace) -> None:
    report = fake.glyphs()
    page = Page(render(report, fake.metrics()))
    for row in report["patterns"]:
        assert pattern_words(row["present"]) in page.text
        assert f"{100 * row['score']:.1f}" in page.text
        assert f"{100 * row['low']:.1f}–{100 * row['high']:.1f}" in page.text
    for words in (
        report["command"], report["plan_sha256"], report["hardware"], "truncated JPEG", "absent", "0.6987",
        "torch 2.13.0+cpu", "1 min 1 s", "No training row has image alone", "never", "9,000 rows", "812,345",
    ):  # fmt: skip
        assert words in page.text
    assert page.count()["svg"] == 3
    assert all(attributes.get("scope") in ("row", "col") for tag, attributes in page.tags if tag == "th")
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    assert all(attributes.get("aria-label") for _, attributes in page.tags if attributes.get("role") == "img")


def test_worst_pattern_comes_first_whatever_the_order(fake: SimpleNamespace) -> None:
    for report in (fake.glyphs(), fake.prices()):
        shuffled = report | {"patterns": report["patterns"][::-1]}
        assert render(shuffled, []) == render(report, [])
        page = render(report, []).split("</table>")[0]
        rows = re.findall(r'<tr[^>]*>\s*<th scope="row"><bdi>([^<]+)<', page)
        assert rows == [pattern_words(row["present"]) for row in report["patterns"]]


def test_heat_map_of_many_modalities(fake: SimpleNamespace) -> None:
    report = fake.sensors()
    page = render(report, [])
    table = page[page.index('<table class="heat') :]
    table = table[: table.index("</table>")]
    assert table.count("<td") == 36 and table.count('class="void"') == 6
    rows = [row for row in report["patterns"] if row["present"]["chest"] and not row["present"]["heart"]]
    mean = 100 * np.mean([row["score"] for row in rows])
    assert f">{mean:.1f}</td>" in table[table.index(">chest<", table.index("<tbody")) :].split("</tr>")[0]


def test_hidden_is_always_marked_and_absent_never_shown(fake: SimpleNamespace) -> None:
    report = fake.glyphs()
    first = report["examples"][0]
    first |= {"hidden": ["text"], "absent": ["properties"]}
    first["cells"]["properties"] = {"kind": "tabular", "text": "leaked=yes"}
    page = render(report | {"examples": [first]}, [])
    assert "leaked" not in page
    hidden = re.search(r'<div class="cell hidden">(.*?)</dd></div>', page, re.S)
    assert hidden and "<s " in hidden[1] and ">hidden</b>" in hidden[1] and "CAPITAL LETTER A" in hidden[1]
    assert page.count("CAPITAL LETTER A") == 1
    assert re.search(r'<div class="cell absent">.*?>absent</b></dt>\s*<dd></dd>', page, re.S)


# --- what it does not need -------------------------------------------------------------------------------------------


def minimal(fake: SimpleNamespace) -> dict[str, Any]:
    """A report with a null or nothing wherever the contract allows it."""
    keep = ("metric", "higher_is_better", "method", "patterns", "modalities", "plan_sha256", "as_given", "splits")
    report = {key: value for key, value in fake.glyphs().items() if key in keep}
    for row in report["patterns"]:
        row |= {key: None for key in ("reference", "reference_low", "reference_high", "low", "high", "note", "drop")}
        row |= {"metrics": {}, "trained_rows": None}
    empty = dict.fromkeys(("reference_method", "target", "plan", "plan_sha256", "as_given", "bad_cells", "parameters"))
    return report | empty | {"notes": [], "examples": [], "splits": {"train": {}, "val": None}}


def test_without_reference_plan_examples_and_training(fake: SimpleNamespace) -> None:
    page = Page(render(minimal(fake), []))
    assert " gain " not in page.text and " 95 % " not in page.text
    assert "mask plan:" not in page.text and "Training" not in page.text
    assert "properties alone" in page.text and "None" not in page.text


def test_what_only_training_needed_is_said_apart(fake: SimpleNamespace) -> None:
    report = fake.glyphs()
    report["parameters"] = {"trained": 90, "total": 100, "answering": 60, "scaffold": {"teacher": 30, "old": 10}}
    assert (
        "90 trained of 100 (90.00%); 60 answer, in training alone teacher 30, old 10" in Page(render(report, [])).text
    )
    for nothing in ({"scaffold": {}}, {"answering": None, "scaffold": {"teacher": 30}}):
        report["parameters"] = {"trained": 100, "total": 100, "answering": 100} | nothing
        text = Page(render(report, [])).text
        assert "100 trained of 100" in text and "in training alone" not in text


def test_without_scores(fake: SimpleNamespace) -> None:
    report = fake.glyphs()
    for row, lost in zip(report["patterns"], (float("nan"), None, float("inf")), strict=False):
        row |= dict.fromkeys(("score", "low", "high", "reference"), lost)
        row["metrics"] = {"accuracy": lost, "auroc": None}
    page = Page(render(report, fake.metrics()))
    assert "nan" not in page.text.lower().replace("explanation", "") and "inf" not in page.text.split()
    for row in report["patterns"]:
        row |= dict.fromkeys(("score", "low", "high", "reference", "drop"))
    Page(render(report, []))


def test_one_modality(fake: SimpleNamespace) -> None:
    report = fake.glyphs()
    row = report["patterns"][-1] | {"pattern": "image", "present": {"image": True}}
    one = report | {"patterns": [row], "modalities": {"image": report["modalities"]["image"]}}
    page = Page(render(one, fake.metrics()))
    assert "nothing else can be absent" in page.text and page.count()["svg"] == 2


def test_several_labels(fake: SimpleNamespace) -> None:
    report = fake.glyphs() | {"metric": "macro_f1"}
    report["target"] = {"column": "genres", "kind": "labels", "classes": ["drama", "war"]}
    report["examples"][0] |= {"truth": ["drama", "war"], "predicted": [], "probability": None}
    assert "drama, war" in Page(render(report, [])).text


def test_a_number(fake: SimpleNamespace) -> None:
    page = Page(render(fake.prices(), fake.metrics(higher=False)))
    assert "lower is better" in page.text and "off by +31,300" in page.text
    assert "+32,885" in page.text  # what absence adds to the error


# --- what it does not trust ------------------------------------------------------------------------------------------


def test_hostile_texts_stay_texts(fake: SimpleNamespace) -> None:
    harmless, events = fake.glyphs(), fake.metrics(parts=("task", "extra"))
    hostile = everywhere(copy.deepcopy(harmless), lambda text: text + ATTACK)
    attacked = [event | {"stage": ATTACK, "losses": {ATTACK: 1.0, ATTACK + "2": 2.0}} for event in events]
    html = render(hostile, attacked)
    page, before = Page(html), Page(render(harmless, events))
    assert page.count()["script"] == before.count()["script"] == 1
    assert page.count()["img"] == before.count()["img"]
    assert {name for _, attributes in page.tags for name in attributes if name.startswith("on")} == set()
    assert "<script>alert(1)</script>" in page.text and "49" not in page.text.split()
    assert not re.search("[\x00\ud800\u202e]", html)
    html.encode("utf-8")


@pytest.mark.parametrize(
    "source",
    [
        "https://example.org/x.png",
        "//example.org/x.png",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "data:image/svg+xml;base64,AAAA",
        "data:text/html;base64,AAAA",
        'data:image/png;base64,AAAA" onerror="alert(1)',
        "data:image/png;base64," + "A" * 50_000,
    ],
)
def test_only_small_embedded_bitmaps_are_shown(fake: SimpleNamespace, source: str) -> None:
    report = fake.glyphs()
    report["examples"] = report["examples"][:1]
    report["examples"][0]["cells"]["image"]["src"] = source
    assert Page(render(report, [])).count()["img"] == 0


def test_no_request_leaves_the_page(fake: SimpleNamespace) -> None:
    html = render(fake.glyphs(), fake.metrics())
    page = Page(html)
    addresses = [value or "" for _, a in page.tags for name, value in a.items() if name in ("src", "href", "action")]
    assert addresses and all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"@import|url\((?!#)", html)
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    script = re.search(r"<script>(.*?)</script>", html, re.S)
    assert script and policy and "default-src 'none'" in policy
    assert base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode() in policy


@settings(max_examples=12)
@given(name=st.text(min_size=1), text=st.text())
@example(name="]]>", text="<!--")
@example(name="\u0627\u0644\u0646\u0635 \U0001f9ea 漢字", text="-->")
@example(name="$x$ __main__ {%", text="</s></script>")
def test_any_name_gives_the_same_page_structure(fake: SimpleNamespace, name: str, text: str) -> None:
    report = fake.glyphs()
    report["examples"], report["notes"] = report["examples"][:1], [text or "-"]
    renamed = everywhere(report, lambda old: name + old)
    page, before = Page(render(renamed, [])), Page(render(report, []))
    assert page.count() == before.count()


# --- what it weighs --------------------------------------------------------------------------------------------------


def monster(fake: SimpleNamespace, modalities: int) -> dict[str, Any]:
    """Everything far too long: names, notes, classes, bad cells, pictures, and all patterns of many modalities."""
    report = fake.glyphs()
    names = [f"{number} " + "длинное 名前 & 🧪🧫🧬🔬🔭" * 12 for number in range(modalities)]
    row = report["patterns"][0]
    masks = [[bool(code >> bit & 1) for bit in range(modalities)] for code in range(1, min(2**modalities, 300))]
    report["modalities"] = {name: {"kind": "tabular", "columns": names * 50, "encoder": names[0]} for name in names}
    report["patterns"] = [
        row
        | {
            "pattern": "+".join(names),
            "present": dict(zip(names, mask, strict=True)),
            "note": names[0],
            "score": sum(mask) / 99,
        }
        for mask in masks
    ]
    counts = {
        "+".join(n for n, here in zip(names[:3], mask, strict=False) if here) + str(k): k
        for k, mask in enumerate(masks)
    }
    report["splits"] = {split: report["splits"]["train"] | {"patterns": counts} for split in ("train", "val", "test")}
    picture = "data:image/png;base64," + "A" * 39_000
    example = report["examples"][0] | {
        "cells": {name: {"kind": "image", "src": picture, "text": name} for name in names}
    }
    report["examples"] = [example | {"right": bool(k % 2)} for k in range(500)]
    report["notes"] = names * 30
    report["target"]["classes"] = names * 100
    report["bad_cells"] |= {
        "count": 10**6,
        "cells": [{"row": 1, "column": names[0], "reason": names[0], "became": "absent"}] * 500,
    }
    report["plan"] = {"asked": {name: {other: 0.5 for other in names} for name in names}, "realised": {}}
    report["versions"] = {name + str(k): names[0] for k in range(30) for name in names}
    report["command"] = "absentia train " + names[0] * 100
    return dict(report)


@pytest.mark.parametrize("modalities", [8, 26])
def test_always_under_two_megabytes(fake: SimpleNamespace, modalities: int) -> None:
    report = monster(fake, modalities)
    events = fake.metrics(
        stages=[f"stage {k}" for k in range(20)], steps=300, parts=["p" * 300 + str(k) for k in range(9)]
    )
    page = render(report, events)
    assert len(page.encode()) < 2_000_000
    words = Page(page).text
    assert "more cells" in words and ("more patterns, none of them worse" in words) == (modalities > 8)


def test_usual_pages_are_light(fake: SimpleNamespace) -> None:
    assert len(render(fake.glyphs(), fake.metrics()).encode()) < 100_000
    assert len(render(fake.sensors(), fake.metrics()).encode()) < 250_000


def test_same_report_same_bytes_and_settings_untouched(fake: SimpleNamespace) -> None:
    before = dict(mpl.rcParams)
    report, events = fake.glyphs(), fake.metrics()
    saved = json.dumps([report, events])
    assert render(report, events) == render(report, events)
    assert json.dumps([report, events]) == saved
    assert dict(mpl.rcParams) == before


# --- curves ----------------------------------------------------------------------------------------------------------


def test_resumed_steps_count_once(fake: SimpleNamespace) -> None:
    events = [{"event": "train", "stage": "main", "step": step, "loss": float(step)} for step in (1, 2, 3)]
    again = [{"event": "train", "stage": "main", "step": step, "loss": 10.0 * step} for step in (2, 3, 4)]
    found = curves(events + again)
    assert found.loss.x.tolist() == [1, 2, 3, 4] and found.loss.y.tolist() == [1, 20, 30, 40]


def test_stages_follow_each_other_and_parts_stay_apart(fake: SimpleNamespace) -> None:
    events = fake.metrics(stages=("one", "two"), steps=100)
    found = curves(events)
    assert found.stages == [("one", 0.0), ("two", 100.0)] and found.last_step == 200
    assert (np.diff(found.loss.x) > 0).all()
    broken = found.loss.broken(found.starts)
    assert np.isnan(broken.y).sum() == 1 and np.isnan(broken.y[10])
    assert curves(events, "reference").last_step == 100


def test_curves_of_a_diverged_training() -> None:
    losses = [1.0, float("nan"), float("inf"), None, 1e300, 2.0]
    events = [{"event": "train", "stage": "main", "step": step, "loss": loss} for step, loss in enumerate(losses)]
    assert curves(events).loss.y.tolist() == [1.0, 2.0]
    assert len(curves([]).loss) == 0


def test_long_curves_are_thinned_and_keep_their_mean() -> None:
    events = [{"event": "train", "stage": "main", "step": step, "loss": step % 7} for step in range(30_000)]
    found = curves(events).loss
    assert len(found) <= 300 and abs(found.y.mean() - 3) < 0.01


# --- words and colours -----------------------------------------------------------------------------------------------


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_clean_is_harmless_and_final(value: Any) -> None:
    once = clean(value)
    assert clean(once) == once
    json.dumps(once, ensure_ascii=False).encode("utf-8")


@given(st.text(), st.integers(min_value=2, max_value=50))
def test_short_is_one_short_line(text: str, length: int) -> None:
    line = short(text, length)
    assert len(line) <= length and "\n" not in line


def test_figures() -> None:
    share = Scale.of("accuracy", [0.5])
    assert (share.figure(0.9312), share.bare(None), share.signed(-0.05)) == ("93.1\u00a0%", "–", "−5.0")
    assert (share.signed(0.0001), share.signed(0.002)) == ("0.0", "+0.2")
    error = Scale.of("mae", [12_345.6, None, float("nan")])
    assert (error.figure(12_345.6), error.signed(-1234)) == ("12,346", "−1,234")
    assert Scale.of("mae", [0.1234]).bare(0.1234) == "0.123"
    assert [seconds_words(value) for value in (3.14, 75, 7260, None)] == ["3.1 s", "1 min 15 s", "2 h 1 min", "–"]


def parts(code: str) -> tuple[float, float, float]:
    return tuple(int(code[place : place + 2], 16) / 255 for place in (1, 3, 5))  # type: ignore[return-value]


@given(st.floats(min_value=0, max_value=1))
def test_heat_is_readable_everywhere(rank: float) -> None:
    background, ink = shade(rank)
    assert contrast(parts(background), parts(ink)) >= 4.5


def test_heat_darkens_all_the_way() -> None:
    on_white = [contrast(parts(shade(rank)[0]), (1.0, 1.0, 1.0)) for rank in np.linspace(0, 1, 50)]
    assert (np.diff(on_white) > 0).all()


def test_page_colours_are_readable_in_light_and_dark() -> None:
    style = (Path(absentia.evaluate.__file__).parent / "page.css.j2").read_text("utf-8")
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in style.split("@media", 2)[:2])
    for colours in (light, dark):
        for ground in ("paper", "card", "faint"):
            for ink in ("ink", "soft", "method-ink", "reference-ink"):
                assert contrast(parts(colours[ink]), parts(colours[ground])) >= 4.5, (ink, ground)
            for mark in ("method", "reference"):
                assert contrast(parts(colours[mark]), parts(colours[ground])) >= 3, (mark, ground)
