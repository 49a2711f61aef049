"""Studies: what a factory gives, every way of adapting it beside each other, and the command around them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.adaptation.halves import TEST, TRAIN, VALID, Halves, accuracy, adapted, batches, trained
from torch.nn import functional as F

from absentia.adaptation.sensitivity import sensitive_sites
from absentia.adaptation.study import ROWS, WHOLE, Study, Subject, run_study
from absentia.adapters import adapt_run, subject_from
from absentia.cli import main
from absentia.errors import UserError
from absentia.evaluate.adapters import render_study
from absentia.evaluate.adapters.view import share_words

FACTORY = """
from tests.adaptation.halves import *
from tests.adaptation.test_study import parts

def make():
    return parts()

def with_data(folder):
    assert folder == "somewhere"
    return parts()

def nothing():
    return None

def lacking():
    return {"network": trained()}

def strange():
    return parts() | {"colour": 1}
"""


def parts() -> dict[str, Any]:
    """What a factory gives, as a mapping."""
    return {
        "network": trained(),
        "modalities": {"left": "left", "right": "right"},
        "train": batches(TRAIN),
        "validation": batches(VALID),
        "test": batches(TEST),
        "loss": F.cross_entropy,
        "score": accuracy,
        "metric": "accuracy",
        "fresh": Halves,
    }


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("adapters")
    study = Study(rows=(*ROWS, *WHOLE), epochs=4, lr=1e-2, whole_epochs=2, budget=0.3)
    found = run_study(Subject(**parts()), study, folder=folder)
    return found | {"files": {path.name: path.stat().st_size for path in folder.iterdir()}}


def test_every_way_is_a_row_with_all_patterns(report: dict[str, Any]) -> None:
    rows = {row["row"]: row for row in report["rows"]}
    assert set(rows) == {*ROWS, *WHOLE, "scale-shift sparse"}
    for row in rows.values():
        assert [p["pattern"] for p in row["patterns"]] == ["left", "right"]
        assert row["worst"] <= row["mean"] <= 1
    assert rows["scale-shift"]["mean"] > rows["base"]["mean"] + 0.05
    assert report["full"]["score"] > rows["scale-shift"]["mean"]


def test_what_a_row_costs_is_what_it_holds(report: dict[str, Any]) -> None:
    rows = {row["row"]: row for row in report["rows"]}
    assert rows["base"]["numbers_per_set"] == rows["base"]["bytes"] == 0
    assert rows["scale"]["numbers_per_set"] == rows["shift"]["numbers_per_set"]
    assert rows["scale-shift"]["numbers_per_set"] == 2 * rows["scale"]["numbers_per_set"]
    assert rows["scale-shift sparse"]["numbers_per_set"] < 0.4 * rows["scale-shift"]["numbers_per_set"]
    assert rows["dedicated"]["numbers_per_set"] == report["parameters"]
    assert report["files"]["scale-shift.safetensors"] == rows["scale-shift"]["bytes"]


def test_features_come_nearer_to_those_of_complete_rows(report: dict[str, Any]) -> None:
    rows = {row["row"]: row for row in report["rows"]}
    assert rows["head-only"]["cosine"] == pytest.approx(rows["base"]["cosine"])
    assert rows["calibrated"]["cosine"] > rows["base"]["cosine"]


def test_the_sites_that_suffer_are_those_of_the_public_function(report: dict[str, Any]) -> None:
    net = adapted(patterns=["left", "right"])
    known = sensitive_sites(net, batches(VALID), F.cross_entropy)
    assert report["suffers"] == {"left": pytest.approx(known["right"]), "right": pytest.approx(known["left"])}
    page = render_study(report)
    assert "What suffers most when one goes" in page
    first = next(iter(report["suffers"]["left"]))
    assert page.index("What suffers most") < page.index(f"<code><bdi>{first}</bdi></code> ")


def test_reports_without_sites_are_still_shown(report: dict[str, Any]) -> None:
    bare = {key: value for key, value in report.items() if key != "suffers"}
    assert "What suffers most when one goes" not in render_study(bare)


def test_sites_that_cannot_be_known_are_said_and_left_out() -> None:
    heard: list[str] = []
    stopped = Subject(**parts() | {"loss": lambda output, target: F.cross_entropy(output.detach(), target)})
    found = run_study(stopped, Study(rows=["base"]), hear=heard.append)
    assert found["suffers"] == {} and any("which sites suffer most is not known" in line for line in heard)


def test_the_network_is_what_it_was_after_a_study() -> None:
    subject = Subject(**parts())
    before = {name: value.clone() for name, value in subject.network.state_dict().items()}
    run_study(subject, Study(rows=["base", "scale", "fine-tuned"], epochs=1, whole_epochs=1))
    assert all((before[name] == value).all() for name, value in subject.network.state_dict().items())


def test_the_page_holds_every_row_and_asks_for_nothing_else(report: dict[str, Any]) -> None:
    page = render_study(report | {"network": "<b>mine</b>", "command": "absentia adapt x:y"})
    assert len(page) < 2_000_000
    assert "<b>mine</b>" not in page and "&lt;b&gt;mine&lt;/b&gt;" in page
    assert all(f">{name}<" in page for name in ("scale-shift", "compositional", "low-rank"))
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page


@pytest.mark.parametrize(
    ("share", "words"), [(0.0041, "0.41"), (0.0999, "10"), (0.29, "29"), (1.0, "100"), (1.2, "120")]
)
def test_a_share_is_written_as_people_do(share: float, words: str) -> None:
    assert share_words(share) == words


def test_the_command_writes_report_page_and_adapters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FACTORY)
    words = ["adapt", "mine.py:make", "--rows", "base", "scale-shift", "--epochs", "2", "--out", "run"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "won back" in said and "run/report.html" in said.replace("\n", "")
    found = json.loads((tmp_path / "run/report.json").read_text())
    assert [row["row"] for row in found["rows"]] == ["base", "scale-shift"]
    assert (tmp_path / "run/scale-shift.safetensors").exists() and (tmp_path / "run/report.html").exists()


@pytest.mark.parametrize(
    ("factory", "data", "words"),
    [
        ("mine", None, "MODULE:FUNCTION"),
        ("nowhere.py:make", None, "no file nowhere.py"),
        ("no_such_module:make", None, "no module 'no_such_module'"),
        ("mine.py:mke", None, "did you mean 'make'"),
        ("mine.py:make", "folder", "takes no argument"),
        ("mine.py:nothing", None, "gave a NoneType"),
        ("mine.py:lacking", None, "gave no modalities, train, test, loss, score"),
        ("mine.py:strange", None, "unknown key 'colour'"),
    ],
)
def test_a_factory_that_does_not_fit_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factory: str, data: str | None, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FACTORY)
    with pytest.raises(UserError, match=words):
        adapt_run(factory, data, Study(rows=["base"]), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_function_that_takes_an_argument_is_given_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FACTORY)
    assert subject_from("mine.py:with_data", "somewhere").metric == "accuracy"


@pytest.mark.parametrize(
    ("asked", "words"),
    [({"budget": 0.0}, "budget 0.0"), ({"rows": ["scale-shift sparse"]}, "scale-shift sparse: say budget")],
)
def test_a_sparse_row_needs_a_budget(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Study(**asked)


def test_an_unknown_way_is_named() -> None:
    with pytest.raises(UserError, match="did you mean 'scale-shift'"):
        Study(rows=["scaleshift"])
