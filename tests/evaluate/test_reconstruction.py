"""Reconstructions beside the hidden truth: errors that are what they say, and pictures where there are any."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from tests import scans
from tests.evaluate.browsing import page_fits
from torch import Tensor

from absentia.data.batch import Batch
from absentia.evaluate import sections
from absentia.evaluate.pictures import difference
from absentia.evaluate.reconstruction import reconstruction
from absentia.evaluate.report import render
from absentia.evaluate.windows import dense_imagined
from absentia.jobs import train_run
from absentia.layers.subsets import all_patterns
from absentia.learn.prepare import Prepared
from absentia.methods import Method


def pixels(source: str) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))


def imagining(data: Prepared, value: float) -> Method:
    """A method that says the same number of every voxel that a row lacks."""
    method = scans.method_of("dropout", data)

    def imagined(batch: Batch) -> dict[str, Tensor]:
        absent = (~batch.presence).sum(dim=0).tolist()
        return {n: torch.full((count, 1, *batch.space), value) for n, count in zip(data.names, absent, strict=True)}

    method.imagined = imagined  # type: ignore[method-assign]
    return method


def found_of(data: Prepared, method: Method) -> dict[str, Any]:
    found = reconstruction(method, data.rows["test"], data.rows["train"], all_patterns(3))
    assert found is not None
    return found


@pytest.mark.parametrize(("dims", "window"), [(2, []), (3, []), (3, [8])])
def test_errors_are_those_of_hidden_voxels_within_the_head(dims: int, window: list[int]) -> None:
    data = scans.prepared(scans.rows(dims=dims, side=9), window=window)
    found = found_of(data, imagining(data, 0.25))
    rows, sums = data.rows["test"], []
    for i in np.flatnonzero(rows.presence.all(axis=1) | (rows.presence.sum(axis=1) > 1)):
        batch = rows.batch(np.asarray([i]))
        head = torch.stack([x["voxels"][0, 0] for x in batch.inputs.values()]).amax(dim=0) > 0
        if "t1" in batch.inputs and "t2" in batch.inputs:
            sums.append(float((batch.inputs["t1"]["voxels"][0, 0][head] - 0.25).abs().mean()))
    line = next(line for line in found["patterns"] if line["pattern"] == "t2")
    assert line["errors"]["t1"]["n"] == len(sums) and line["errors"]["t1"]["error"] == pytest.approx(np.mean(sums))
    assert {line["pattern"] for line in found["patterns"]} == {"t1", "t2", "flair", "t1+t2", "t1+flair", "t2+flair"}
    assert all(not line["present"][name] for line in found["patterns"] for name in line["errors"])


def test_beside_them_stands_the_mean_image_of_training_rows() -> None:
    data = scans.prepared()
    train, rows = data.rows["train"], data.rows["test"]
    images = [x for batch in train.batches(1) if "t1" in batch.inputs for x in batch.inputs["t1"]["voxels"]]
    mean = torch.stack(images).mean(dim=0)
    found = found_of(data, imagining(data, 0.0))
    assert found["usual"] == "mean image" and found["train_rows"] == int(train.presence.any(axis=1).sum())
    errors = []
    for batch in rows.batches(1):
        if {"t1", "t2"} <= batch.inputs.keys():
            head = torch.stack([x["voxels"][0, 0] for x in batch.inputs.values()]).amax(dim=0) > 0
            errors.append(float((mean - batch.inputs["t1"]["voxels"][0]).abs()[:, head].mean()))
    line = next(line for line in found["patterns"] if line["pattern"] == "t2")
    assert line["errors"]["t1"]["usual"] == pytest.approx(np.mean(errors), rel=1e-5)


def test_rows_of_different_sizes_have_no_mean_image() -> None:
    made = scans.rows()
    for row, larger in zip(made, scans.rows(side=15), strict=True):
        row |= larger if row["patient"] == "p1" else {}
    data = scans.prepared(made, crop=[8])
    found = found_of(data, imagining(data, 0.5))
    assert found["usual"] == "mean brightness"
    assert all(0 < e["usual"] < 1 for line in found["patterns"] for e in line["errors"].values())


@pytest.mark.parametrize("name", ["ignore", "dropout", "dedicated"])
def test_a_method_that_reconstructs_nothing_has_no_such_section(name: str) -> None:
    data = scans.prepared()
    assert reconstruction(scans.method_of(name, data), data.rows["test"], data.rows["train"], all_patterns(3)) is None
    assert sections.reconstruction({"modalities": {}, "reconstruction": None}) is None


@pytest.mark.parametrize("fill", ["template", "reconstruction"])
@pytest.mark.parametrize("window", [[], [8]])
def test_the_universal_model_shows_its_first_stage_however_it_answers(fill: str, window: list[int]) -> None:
    data = scans.prepared(window=window)
    method = scans.method_of("universal", data, fill=fill)
    batch = data.rows["test"].batch(np.flatnonzero(data.rows["test"].presence.all(axis=1))[:2])
    part = batch.restrict(torch.tensor([False, True, False]), data.names)
    made = dense_imagined(method, part)
    assert set(made) == {"t1", "flair"} and made["t1"].shape == (len(batch), 1, 12, 12)
    if not window:
        whole = method.body.complete(part)  # type: ignore[operator,union-attr]
        torch.testing.assert_close(made["t1"], whole[:, :1])


def test_what_is_too_dark_is_blue_and_what_is_too_bright_orange() -> None:
    true = np.full((8, 8), 0.5)
    dark, right, bright = (pixels(difference(np.full((8, 8), v), true))[64, 64].astype(int) for v in (0.0, 0.5, 1.0))
    assert dark[2] > dark[0] + 50 and bright[0] > bright[2] + 50 and right.max() < 5


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("page")
    return train_run(scans.config("universal", reference=False), folder / "run", source=scans.table(scans.rows(32)))


def test_pictures_stand_beside_the_truth_and_what_was_hidden_is_struck_out(report: dict[str, Any]) -> None:
    shown = report["reconstruction"]["shown"]
    assert 0 < len(shown) <= 2
    for contrast in (c for row in shown for c in row["contrasts"]):
        assert 0 < len(contrast["made"]) <= 4 and all(not m["present"][contrast["name"]] for m in contrast["made"])
        sources = [contrast["truth"], *(m["src"] for m in contrast["made"])]
        assert all(pixels(source).shape == (128, 128, 3) and len(source) < 40_000 for source in sources)
        assert [bool(m["off"]) for m in contrast["made"]] == [True, *[False] * (len(contrast["made"]) - 1)]
    page = render(report, [])
    assert "What is made of what is hidden" in page and len(page) < 2_000_000
    assert "What is made of what is hidden" not in render(dict(report, reconstruction=None), [])


def test_what_is_no_better_than_the_mean_image_is_said() -> None:
    lines = [
        {"present": {"a": True, "b": False}, "errors": {"b": {"n": 3, "error": 0.05, "usual": 0.1}}},
        {"present": {"a": False, "b": True}, "errors": {"a": {"n": 3, "error": 0.3, "usual": 0.2}}},
    ]
    found = sections.reconstruction({"modalities": {"a": {}, "b": {}}, "reconstruction": {"patterns": lines}})
    assert found is not None and (found["worse"], found["cells"]) == (1, 2)
    words = {row["name"]: [cell["words"] for cell in row["cells"]] for row in found["rows"]}
    assert words == {"a alone": ["", "50\u00a0%"], "b alone": ["150\u00a0%", ""]} and found["scale"] == [
        "0.200",
        "0.100",
    ]


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_the_screen(browser: Any, report: dict[str, Any], tmp_path: Path, width: int) -> None:
    page_fits(browser, render(report, []), tmp_path, width)


def test_every_contrast_is_shown_as_made_of_all_others_whatever_was_asked() -> None:
    data = scans.prepared()
    rows, train = data.rows["test"], data.rows["train"]
    few = np.asarray([[False, True, False]])
    found = reconstruction(imagining(data, 0.5), rows, train, few)
    assert found is not None and [line["pattern"] for line in found["patterns"]] == ["t2"]
    for contrast in (c for row in found["shown"] for c in row["contrasts"]):
        first = contrast["made"][0]["present"]
        assert not first[contrast["name"]] and sum(first.values()) >= 1 and contrast["made"][0]["off"]
