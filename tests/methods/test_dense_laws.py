"""The laws for methods that answer masks, on planes and volumes; a new one is found here by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tests import scans, tiny
from tests.damage import write_run
from tests.laws import (
    assert_close,
    assert_steps_are_their_patterns,
    by_pattern,
    forget,
    in_double,
    losses_and_gradients,
    same_bits,
    score_gradients,
    stage_batches,
)
from tests.poison import poison_tensors

from absentia.config import StreamConfig
from absentia.data.kinds.volume import VolumeDecoder
from absentia.errors import UserError
from absentia.evaluate.patterns import answer, answer_patterns
from absentia.jobs import evaluate_run, train_run
from absentia.layers.subsets import all_patterns
from absentia.learn.build import fitted_to
from absentia.learn.prepare import Prepared, rows_of
from absentia.learn.run import load_run
from absentia.methods import METHODS, Method, Output
from absentia.streams import learn_run

DENSE = [name for name, method in METHODS.items() if method.dense]
CLOSE = 1e-5


@pytest.fixture(scope="module")
def data() -> Prepared:
    return scans.prepared()


@pytest.fixture(scope="module", params=DENSE)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def same(left: Output, right: Output) -> bool:
    return torch.equal(left.scores, right.scores) and torch.equal(left.uncertainty, right.uncertainty)


def poisoned(made: scans.Rows, hidden: dict[str, list[str]]) -> scans.Rows:
    """What a plan hides is noise, or no picture at all."""
    gone = [{n: b"poison" for n in hidden.get(row["patient"], ()) if row[n] is not None} for row in made]
    return [row | poison for row, poison in zip(made, gone, strict=True)]


HIDDEN = {"p0": ["t1"], "p1": ["t1", "flair"], "p3": ["t2"], "p4": ["flair", "t2"]}


@pytest.mark.parametrize("settings", [{}, {"crop": [8], "flips": True, "intensity": 0.1}], ids=["whole", "crops"])
def test_poison_changes_no_bit(name: str, settings: dict[str, Any]) -> None:
    made = scans.rows()
    plan = scans.plan_of(made, HIDDEN)
    one, other = (scans.prepared(rows, plan=plan, **settings) for rows in (made, poisoned(made, HIDDEN)))
    assert fitted_to(one.fitted) == fitted_to(other.fitted)
    methods = scans.method_of(name, one), scans.method_of(name, other)
    for split in tiny.SPLITS:
        left, right = (m(scans.everything(d, split)) for m, d in zip(methods, (one, other), strict=True))
        assert same(left, right)
    positions = np.flatnonzero(one.rows["train"].presence.any(axis=1))
    batches = [d.rows["train"].batch(positions, 7) for d in (one, other)]
    pairs = zip(*(stage_batches(m.train(), one, b) for m, b in zip(methods, batches, strict=True)), strict=True)
    for (stage, batch), (_, like) in pairs:
        loss, grads = losses_and_gradients(methods[0], batch, stage)
        again, others = losses_and_gradients(methods[1], like, stage)
        assert torch.equal(loss, again) and same_bits(grads, others)


def test_poison_in_what_a_batch_hides_changes_no_bit(name: str, data: Prepared) -> None:
    method, batch = scans.method_of(name, data), replace(scans.everything(data), memo=None)
    shown = batch.presence & (torch.rand(batch.presence.shape, generator=torch.Generator().manual_seed(2)) < 0.5)
    bad = replace(poison_tensors(batch, shown, data.names), space=batch.space)
    weights = torch.randn(len(batch), 2, *batch.space, generator=torch.Generator().manual_seed(0))
    views = [b.restrict(shown, data.names) for b in (batch, bad)]
    assert same(*(method(view) for view in views))
    assert same_bits(*(score_gradients(method, view, weights) for view in views))
    assert all(torch.isfinite(method(view).scores).all() for view in views)


def test_a_mixed_batch_equals_its_patterns_one_by_one(name: str, data: Prepared) -> None:
    """In float64: the weights are random, and so many layers of them round by as much as is asked for here."""
    method, batch = scans.method_of(name, data).double(), in_double(scans.everything(data))
    whole = method(batch)
    for rows, part in by_pattern(batch, data.names):
        assert_close(method(part), whole, rows)
    for row in range(len(batch)):
        alone = torch.arange(len(batch)) == row
        assert_close(method(batch.select(alone, data.names)), whole, alone)


def test_a_mixed_training_step_equals_its_patterns_one_by_one(name: str, data: Prepared) -> None:
    assert_steps_are_their_patterns(scans.method_of(name, data), data)


def test_cells_are_opened_where_they_are_present(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened = []
    real = VolumeDecoder.decode
    monkeypatch.setattr(VolumeDecoder, "decode", lambda self, cell: (opened.append(cell), real(self, cell))[1])
    made = scans.rows()
    data = scans.prepared(poisoned(made, HIDDEN), plan=scans.plan_of(made, HIDDEN))
    there = sum(int(data.rows[split].presence.sum()) for split in tiny.SPLITS)
    assert len(opened) == there and b"poison" not in opened
    method = scans.method_of(name, data)
    answer_patterns(method, data.rows["test"], all_patterns(3))
    assert len(opened) == there, "they were in memory"


def test_shuffled_rows_get_the_same_answers(name: str, data: Prepared) -> None:
    method, rows = scans.method_of(name, data), data.rows["train"]
    order = np.random.default_rng(1).permutation(len(rows))
    straight, shuffled = method(rows.batch(np.arange(len(rows)))), method(rows.batch(order))
    assert_close(shuffled, straight, torch.from_numpy(order))
    for size in (1, 3):
        np.testing.assert_array_equal(answer(method, rows, size).probabilities, answer(method, rows).probabilities)


def test_nothing_present_gets_the_prior_and_full_uncertainty(name: str, data: Prepared) -> None:
    method, batch = scans.method_of(name, data), scans.everything(data)
    nothing = batch.restrict(torch.zeros(3).bool(), data.names)
    prior = torch.tensor(data.fitted.codec.prior)
    for view in (nothing, batch, nothing.select(torch.arange(len(batch)) == 0, data.names)):
        output = method(view)
        assert output.scores.shape == (len(view), 2, *batch.space)
        assert torch.isfinite(output.scores).all() and ((output.uncertainty >= 0) & (output.uncertainty <= 1)).all()
        assert view.empty.any() and (output.uncertainty[view.empty] == 1).all()
        shares = output.scores[view.empty].sigmoid()
        expected = prior.view(1, 2, *(1 for _ in batch.space)).expand_as(shares)
        torch.testing.assert_close(shares, expected, rtol=0, atol=1e-6)


def test_what_is_saved_answers_the_same_bit_for_bit(name: str, data: Prepared, tmp_path: Path) -> None:
    method = scans.method_of(name, data)
    run = write_run(method, data, tmp_path / "run", model=scans.TINY)
    loaded = load_run(run.path)
    assert same_bits(method.learned(), loaded.method.learned())
    test = data.rows["test"]
    rows = rows_of(scans.table(scans.rows()), loaded.fitted, on_bad="error", presence=test.presence, index=test.index)
    assert same(loaded.method(rows.batch(np.arange(len(rows)))), method(scans.everything(data, "test")))


def test_a_training_killed_at_any_step_ends_in_the_same_weights(name: str, tmp_path: Path) -> None:
    data = scans.prepared(names=["t1", "flair"], crop=[8], flips=True, intensity=0.1)
    whole, heard = scans.method_of(name, data, stir=0), tiny.Heard()
    scans.loop_of(whole, data, tmp_path / "whole", listener=heard).fit()
    for kill in (1, len(heard.losses) - 1):
        killed, method = (scans.method_of(name, data, stir=0) for _ in range(2))
        with pytest.raises(tiny.Killed):
            scans.loop_of(killed, data, tmp_path / str(kill), listener=tiny.killer(kill)).fit()
        forget(data)
        scans.loop_of(method, data, tmp_path / str(kill)).fit()
        assert same_bits(whole.learned(), method.learned()), f"killed in step {kill}"


@pytest.mark.parametrize("dims", [2, 3])
def test_the_report_of_a_table_and_what_evaluate_says_later(name: str, dims: int, tmp_path: Path) -> None:
    made = scans.rows(dims=dims, side=9)
    quick = replace(scans.QUICK, epochs=0.3)
    report = train_run(scans.config(name, training=quick), tmp_path / "run", source=scans.table(made))
    assert report["metric"] == "dice" and report["higher_is_better"] and len(report["patterns"]) == 7
    for line in report["patterns"]:
        assert line["metrics"].keys() >= {"dice", "hd95", "dice WT", "dice ET", "hd95 WT", "hd95 ET"}
        assert line["low"] <= line["score"] <= line["high"]
    assert (report["reference_mean"] is None) == (name == "ignore")
    again = evaluate_run(load_run(tmp_path / "run"), scans.table(made), part="report")
    assert again["mean"] == report["mean"]
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000


def methods_that_do_not() -> Iterator[str]:
    yield from (name for name, method in METHODS.items() if not method.dense)


def test_other_methods_say_that_they_answer_no_masks(data: Prepared) -> None:
    for other in methods_that_do_not():
        with pytest.raises(ValueError, match=r"does not answer masks; these do: .*dropout"):
            scans.method_of(other, data)


def test_a_stream_of_sessions_has_no_masks(tmp_path: Path) -> None:
    table = tmp_path / "scans.parquet"
    pq.write_table(scans.table(scans.rows()), table)
    settings = StreamConfig(table=str(table), target="mask=mask", modality={"t1": "volume"}, method="dropout")
    with pytest.raises(UserError, match="masks are learned with absentia train"):
        learn_run(settings, tmp_path / "stream")


def test_a_method_is_dense_by_saying_so() -> None:
    assert not Method.dense and set(scans.METHODS) <= set(DENSE)
