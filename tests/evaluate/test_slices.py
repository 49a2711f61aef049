"""Slices and the table of regions on the page: what is shown, what is struck out, in which order."""

from __future__ import annotations

import base64
import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests import scans
from tests.evaluate.browsing import page_fits

from absentia.evaluate.report import render
from absentia.evaluate.sections.regions import BRATS, canonical, regions
from absentia.evaluate.slices import slices
from absentia.evaluate.wording import classes_words
from absentia.jobs import train_run
from absentia.layers.subsets import all_patterns

CONTRASTS = ("flair", "t1ce", "t1", "t2")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("page")
    return train_run(scans.config("dropout", reference=False), folder / "run", source=scans.table(scans.rows(32)))


@pytest.mark.parametrize("dims", [2, 3])
def test_rows_with_a_mask_are_shown_under_every_pattern_they_can_show(dims: int) -> None:
    data = scans.prepared(scans.rows(dims=dims, side=9))
    method, rows = scans.method_of("dropout", data), data.rows["train"]
    found = slices(method, rows, all_patterns(3))
    assert 1 < len(found) <= 3 and len({row["id"] for row in found}) == len(found)
    for row in found:
        assert (
            set(row["scans"]) | set(row["absent"]) == set(scans.NAMES) and row["regions"].keys() == scans.BRAIN.keys()
        )
        assert len(row["answers"]) == 2 ** len(row["scans"]) - 1
        for source in (row["truth"], *row["scans"].values(), *(a["src"] for a in row["answers"])):
            picture = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
            assert picture.size == (128, 128) and len(source) < 40_000
    assert slices(method, scans.prepared().rows["test"].where(np.zeros(4, dtype=bool)), all_patterns(3)) == []


def test_the_page_strikes_out_what_was_hidden(report: dict[str, Any]) -> None:
    page = render(report, [])
    assert page.count("<s><bdi>") >= sum(
        not here for row in report["slices"] for a in row["answers"] for here in a["present"].values()
    )
    assert "Every region" in page and "HD95" in page and len(page) < 2_000_000
    poisoned = dict(
        report, slices=[dict(report["slices"][0], id="<script>", regions={"x": "red;}</style>"}, truth="javascript:1")]
    )
    page = render(poisoned, [])
    assert "<script>alert" not in page and "red;}" not in page and "javascript:1" not in page


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_the_screen(browser: Any, report: dict[str, Any], tmp_path: Path, width: int) -> None:
    page_fits(browser, render(report, []), tmp_path, width)


def lines(names: tuple[str, ...]) -> list[dict[str, Any]]:
    masks = itertools.product([True, False], repeat=len(names))
    return [
        {"present": dict(zip(names, m, strict=True)), "metrics": {"dice": 0.5, "dice WT": 0.5}} for m in masks if any(m)
    ]


def test_brats_has_the_order_of_its_papers() -> None:
    assert len(set(BRATS)) == 15
    found = [{n for n, here in line["present"].items() if here} for line in canonical(lines(CONTRASTS))]
    assert found[:5] == [{"t2"}, {"t1ce"}, {"t1"}, {"flair"}, {"t1ce", "t2"}] and found[-1] == set(CONTRASTS)
    assert found[9] == {"flair", "t1ce"} and found[13] == {"t1", "t1ce", "t2"}
    others = [sum(line["present"].values()) for line in canonical(lines(("ct", "pet", "t1")))]
    assert others == sorted(others)


def test_regions_have_a_row_per_pattern_and_the_mean() -> None:
    target = {"kind": "mask", "classes": ["WT", "ET"]}
    table = regions({"target": target, "patterns": lines(CONTRASTS)})
    assert table is not None and [c["name"] for c in table["columns"]] == ["WT", "ET"] * 2 and len(table["rows"]) == 15
    assert table["rows"][0]["cells"] == ["50.0", "–", "–", "–"] and table["mean"] == ["50.0", "–", "–", "–"]
    assert regions({"target": {"kind": "class"}, "patterns": []}) is None


def test_the_page_says_what_counts_where_regions_are_empty() -> None:
    masks = {"empty": "one", "lone": None, "fewest": {}}
    target = {"kind": "mask", "classes": ["WT", "ET"], "masks": masks}
    table = regions({"target": target, "patterns": lines(CONTRASTS)})
    assert table is not None and table["policy"] == [
        "Dice of a region that is empty in truth and in the answer is 1.",
        "HD95 does not count where either is empty.",
    ]
    found = [line | {"metrics": line["metrics"] | {"dice ET": 0.3, "dice_post ET": 0.4}} for line in lines(CONTRASTS)]
    more = target | {"masks": {"empty": "nan", "lone": 373.13, "fewest": {"ET": 500}}}
    table = regions({"target": more, "patterns": found})
    assert table is not None and table["rows"][0]["cells"] == ["50.0", "30.0", "40.0", "–", "–"]
    assert [c["metric"] for c in table["columns"]] == ["Dice", "Dice", "post-processed", "HD95", "HD95"]
    assert "does not count" in table["policy"][0] and "373.13 mm" in table["policy"][1]
    assert "ET with fewer than 500 voxels" in table["policy"][2]


@pytest.mark.parametrize(
    ("kind", "count", "words"), [("mask", 1, "1 region"), ("mask", 3, "3 regions"), ("class", 20, "20 classes")]
)
def test_a_mask_has_regions_and_not_classes(kind: str, count: int, words: str) -> None:
    assert classes_words({"kind": kind, "classes": ["x"] * count}) == words
