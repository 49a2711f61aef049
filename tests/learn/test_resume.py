"""A killed run loses nothing: killed by SIGKILL or Ctrl-C at any moment and resumed, it ends as if nothing had been."""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests import tiny
from tests.crash import kill_run

from absentia.data.absence import MaskPlan
from absentia.errors import UserError
from absentia.jobs import train_run
from absentia.learn.interrupt import Interrupt
from absentia.learn.loop import Validation
from absentia.learn.run import load_run

CLOCK = {"created", "seconds", "command", "hardware"}
SETTINGS: dict[str, dict[str, Any]] = {
    "dropout": {"method": "dropout", "target": "weight=number"},
    "dedicated": {"method": "dedicated", "target": "kind=class", "names": ("words", "facts")},
}


def start(out: Path, watcher: tiny.Heard | None = None, **settings: Any) -> dict[str, Any]:
    given = {key: settings.pop(key) for key in ("resume", "source", "plan") if key in settings}
    given.setdefault("source", tiny.table(tiny.rows()))
    return train_run(tiny.config(**settings), out, watcher=watcher, **given)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that nobody interrupted."""
    folders = {name: tmp_path_factory.mktemp("whole") / name for name in SETTINGS}
    for name, folder in folders.items():
        start(folder, **SETTINGS[name])
    return folders


def assert_same_run(one: Path, other: Path) -> None:
    """The same files; weights, scores and metrics equal to the last bit."""
    assert sorted(file.name for file in one.iterdir()) == sorted(file.name for file in other.iterdir())
    for name in ("weights.safetensors", "reference.safetensors", "schema.json", "config.yaml"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert scores(one) == scores(other)
    assert tiny.metrics(one) == tiny.metrics(other)
    assert (other / "report.html").stat().st_size > 1000


def scores(folder: Path) -> dict[str, Any]:
    report = json.loads((folder / "report.json").read_text())
    return {key: value for key, value in report.items() if key not in CLOCK}


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("dropout", ("preparing", 1)),
        ("dropout", ("step", 1)),
        ("dropout", ("step", 3)),
        ("dropout", ("writing tensors", 2)),
        ("dropout", ("exchanging files", 5)),
        ("dropout", ("saving what was learned", 1)),
        ("dropout", ("step", 9)),  # the second step of the reference
        ("dropout", ("writing tensors", 11)),  # a checkpoint of the reference
        ("dropout", ("saving what was learned", 2)),
        ("dropout", ("scoring", 1)),
        ("dropout", ("drawing the page", 1)),
        ("dropout", ("clearing up", 1)),
        ("dedicated", ("step", 11)),  # in the second of three stages
        ("dedicated", ("step", 24)),  # in the reference
    ],
    ids=str,
)
def test_a_killed_run_ends_as_if_nothing_had_happened(
    name: str, moment: tuple[str, int], tmp_path: Path, whole: dict[str, Path]
) -> None:
    kill_run(moment, tmp_path / "run", **SETTINGS[name])
    start(tmp_path / "run", resume=True, **SETTINGS[name])
    assert_same_run(whole[name], tmp_path / "run")


def test_a_run_may_be_killed_again_and_again(tmp_path: Path, whole: dict[str, Path]) -> None:
    for number, moment in enumerate([("step", 2), ("writing tensors", 3), ("step", 4), ("exchanging files", 4)]):
        kill_run(moment, tmp_path / "run", resume=number > 0, **SETTINGS["dropout"])
    start(tmp_path / "run", resume=True, **SETTINGS["dropout"])
    assert_same_run(whole["dropout"], tmp_path / "run")


def test_a_run_killed_before_its_first_checkpoint_starts_again(tmp_path: Path) -> None:
    seldom = SETTINGS["dropout"] | {"training": {"checkpoint_seconds": 1e6}}
    start(tmp_path / "whole", **seldom)
    kill_run(("step", 6), tmp_path / "run", **seldom)  # validated by then, so there are metrics
    assert (tmp_path / "run" / "metrics.jsonl").stat().st_size
    start(tmp_path / "run", resume=True, **seldom)
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_a_line_of_metrics_that_was_cut_short_is_no_trouble(tmp_path: Path, whole: dict[str, Path]) -> None:
    kill_run(("step", 9), tmp_path / "run", **SETTINGS["dropout"])
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"event": "train", "pa')
    start(tmp_path / "run", resume=True, **SETTINGS["dropout"])
    assert_same_run(whole["dropout"], tmp_path / "run")


def test_half_a_checkpoint_is_never_read(tmp_path: Path) -> None:
    kill_run(("writing tensors", 3), tmp_path / "run", **SETTINGS["dropout"])
    left = [file.name for file in (tmp_path / "run").iterdir() if file.name.startswith(".checkpoint")]
    assert len(left) == 1, "the half-written file lies beside the whole one"
    start(tmp_path / "run", resume=True, **SETTINGS["dropout"])
    assert not list((tmp_path / "run").glob(".*")), "and is cleared away"


# --- Ctrl-C


def ctrl_c(step: int) -> tiny.Heard:
    return tiny.Heard(lambda done: os.kill(os.getpid(), signal.SIGINT) if done == step else None)


@pytest.mark.parametrize(("name", "step"), [("dropout", 1), ("dropout", 8), ("dropout", 9), ("dedicated", 8)])
def test_ctrl_c_ends_cleanly_and_is_resumed(name: str, step: int, tmp_path: Path, whole: dict[str, Path]) -> None:
    heard, before = ctrl_c(step), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "run", watcher=heard, training={"checkpoint_seconds": 1e6}, **SETTINGS[name])
    assert signal.getsignal(signal.SIGINT) is before
    assert len(heard.losses) == step, "the step was finished, and none begun"
    assert list((tmp_path / "run").glob("checkpoint*.safetensors"))
    heard = tiny.Heard()
    start(tmp_path / "run", watcher=heard, resume=True, training={"checkpoint_seconds": 1e6}, **SETTINGS[name])
    steps = len(tiny.metrics(whole[name]))
    assert steps and heard.losses, "it went on"
    assert scores(tmp_path / "run")["patterns"] == scores(whole[name])["patterns"]


def test_ctrl_c_in_the_last_step_is_not_swallowed(tmp_path: Path) -> None:
    """Also when that step ends the training early: the second validation is no better than the first."""
    data, heard = tiny.prepared(target="weight=number", names=("words", "facts")), ctrl_c(2)
    settings = replace(tiny.QUICK, epochs=50, validations=1000, patience=1, batch=64)
    loop = tiny.loop_of(
        tiny.method_of("dropout", data),
        data,
        tmp_path,
        settings=settings,
        listener=heard,
        judge=lambda method, stage: Validation(patterns={}, goodness=0.5),
    )
    with pytest.raises(KeyboardInterrupt):
        loop.fit()
    assert len(heard.losses) == 2


def test_a_second_ctrl_c_does_not_wait() -> None:
    with pytest.raises(KeyboardInterrupt), Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.asked
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second one raises where it comes")


def test_a_run_in_a_thread_leaves_signals_alone(tmp_path: Path) -> None:
    before, failures = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        try:
            start(tmp_path / "run", reference=False, target="weight=number", training={"epochs": 0.1})
        except BaseException as error:
            failures.append(error)
            raise

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failures and signal.getsignal(signal.SIGINT) is before


# --- resuming something else


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"training": {"lr": 0.5}}, r"training\.lr"),
        ({"model": {"depth": 2}}, r"model\.depth"),
        ({"seed": 7}, "seed"),
        ({"method": "ignore"}, "method"),
        ({"target": "kind=class"}, "target"),
        ({"names": ("facts", "words")}, r"modality\.wave"),
        ({"on_bad": "skip"}, "on_bad"),
        ({"reference": False, "seed": 7}, "reference and seed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_settings_are_refused_by_name(
    change: dict[str, Any], named: str, tmp_path: Path, whole: dict[str, Path]
) -> None:
    (tmp_path / "config.yaml").write_bytes((whole["dropout"] / "config.yaml").read_bytes())
    if "model" in change:
        change = {"model": replace(tiny.SMALL, **change["model"])}
    with pytest.raises(UserError, match=f"another {named}"):
        start(tmp_path, resume=True, **(SETTINGS["dropout"] | change))


def test_settings_that_are_spelled_differently_are_the_same(tmp_path: Path) -> None:
    modality = {"words": {"kind": "text"}, "facts": {"kind": "tabular", "columns": ("height", "colour")}}
    settings = {"target": "weight=number", "modality": modality, "reference": False, "training": {"epochs": 0.5}}
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path, watcher=ctrl_c(1), **settings)
    start(tmp_path, resume=True, **settings)


def test_another_table_or_plan_is_refused(tmp_path: Path) -> None:
    settings = {"target": "weight=number", "reference": False, "training": {"epochs": 0.5}}
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path, watcher=ctrl_c(1), **settings)
    changed = tiny.rows()
    changed[3]["weight"] += 1
    for other in ({"source": tiny.table(tiny.rows(85))}, {"source": tiny.table(changed)}, {"plan": a_plan()}):
        with pytest.raises(UserError, match="other settings or another table"):
            start(tmp_path, resume=True, **settings, **other)


def a_plan() -> MaskPlan:
    return tiny.plan_of(tiny.rows(), {0: ["words"]}, tiny.NAMES[1:])


def test_a_finished_run_resumes_to_its_report_at_once(tmp_path: Path, whole: dict[str, Path]) -> None:
    heard, before = tiny.Heard(), {f: f.stat().st_mtime_ns for f in whole["dropout"].iterdir()}
    report = start(whole["dropout"], watcher=heard, resume=True, **SETTINGS["dropout"])
    assert heard.losses == []
    assert report == json.loads((whole["dropout"] / "report.json").read_text())
    changed = {f.name for f in whole["dropout"].iterdir() if f.stat().st_mtime_ns != before[f]}
    assert changed <= {"config.yaml"}


def test_a_run_that_was_never_started_may_be_resumed(tmp_path: Path, whole: dict[str, Path]) -> None:
    start(tmp_path / "run", resume=True, **SETTINGS["dropout"])
    assert_same_run(whole["dropout"], tmp_path / "run")


def test_a_run_is_not_started_over_another(whole: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="already holds a run"):
        start(whole["dropout"], **SETTINGS["dropout"])


def test_a_resumed_run_can_be_loaded(tmp_path: Path, whole: dict[str, Path]) -> None:
    kill_run(("step", 2), tmp_path / "run", **SETTINGS["dropout"])
    start(tmp_path / "run", resume=True, **SETTINGS["dropout"])
    one, other = load_run(whole["dropout"]).method, load_run(tmp_path / "run").method
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))
