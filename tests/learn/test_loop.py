from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests import tiny
from torch import Tensor

from absentia.config import Model, Training
from absentia.data.batch import Batch
from absentia.data.target import TargetCodec
from absentia.errors import UserError
from absentia.evaluate.patterns import answer
from absentia.jobs import train_run
from absentia.layers.orders import Taken, by_row
from absentia.learn import loop as loop_module
from absentia.learn.draws import chance, number_of
from absentia.learn.loop import Validation
from absentia.learn.prepare import Prepared
from absentia.methods import METHODS, Method, Stage

STILL = Model(width=16, depth=1, heads=2, mlp=1, dropout=0.0)  # nothing is drawn in a step of `ignore`
FACTS = ("words", "facts")


@pytest.fixture(scope="module")
def data() -> Prepared:
    return tiny.prepared(target="weight=number", names=FACTS)


def settings(**changes: Any) -> Training:
    return dataclasses.replace(tiny.QUICK, checkpoint_seconds=1e6, **changes)


def weights(method: Method) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in method.learned().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


# --- steps


def test_two_small_batches_are_one_large_one(data: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With plain gradient descent: AdamW makes whole steps out of rounding errors where a gradient is zero."""
    monkeypatch.setattr(torch.optim, "AdamW", lambda groups, lr, **_: torch.optim.SGD(groups, lr=lr, weight_decay=0.0))
    learned = []
    for number, sizes in enumerate(({"batch": 16}, {"batch": 8, "accumulate": 2}, {"batch": 4, "accumulate": 4})):
        method = tiny.method_of("ignore", data, stir=0, model=STILL)
        heard = tiny.Heard()
        tiny.loop_of(method, data, tmp_path / str(number), settings=settings(**sizes), listener=heard).fit()
        learned.append((weights(method), heard.losses))
    for found, losses in learned[1:]:
        assert losses == pytest.approx(learned[0][1], abs=1e-6)
        for key, value in learned[0][0].items():
            torch.testing.assert_close(found[key], value, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("target", tiny.TARGETS)
def test_bf16_learns_about_the_same(name: str, target: str, tmp_path: Path) -> None:
    data = tiny.prepared(target=target)
    losses: dict[str, list[float]] = {}
    for precision in ("no", "bf16", "no"):  # to and fro in one process
        method, heard = tiny.method_of(name, data, stir=0, seen=np.eye(4, dtype=bool)), tiny.Heard()
        quick = dataclasses.replace(tiny.BRIEF, precision=precision)
        tiny.loop_of(method, data, tmp_path / f"{precision}-{len(losses)}", settings=quick, listener=heard).fit()
        assert {p.dtype for p in method.parameters()} == {torch.float32}
        assert all(torch.isfinite(p).all() for p in method.parameters())
        assert losses.setdefault(precision, heard.losses) == heard.losses
    assert losses["bf16"] != losses["no"] or not method.stages()
    assert losses["bf16"] == pytest.approx(losses["no"], abs=0.1)


def test_the_callers_generator_is_neither_needed_nor_changed(data: Prepared, tmp_path: Path) -> None:
    learned = []
    for number in range(2):
        torch.manual_seed(number)
        np.random.seed(number)
        method = tiny.method_of("dropout", data, stir=0)
        before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]
        tiny.loop_of(method, data, tmp_path / str(number), settings=tiny.BRIEF).fit()
        assert torch.equal(torch.get_rng_state(), before[0])
        assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index, union-attr]
        learned.append(weights(method))
    assert same(*learned)


@pytest.mark.parametrize("floor", [0.0, 0.3, 1.0])
def test_the_rate_rises_and_falls(
    floor: float, data: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the share of it that the stage says."""
    rates: list[float] = []
    before = loop_module._set_rate

    def spy(optimizer: Any, *args: Any) -> None:
        before(optimizer, *args)
        rates.extend(group["lr"] for group in optimizer.param_groups[:1])

    monkeypatch.setattr(loop_module, "_set_rate", spy)
    method = tiny.method_of("dropout", data)
    monkeypatch.setattr(method, "stages", lambda: [Stage(floor=floor)])
    tiny.loop_of(method, data, tmp_path, settings=settings(epochs=10, warmup=0.25, lr=0.1)).fit()
    top = int(np.argmax(rates))
    assert max(rates) == pytest.approx(0.1) and top == pytest.approx(0.25 * len(rates), abs=1.5)
    assert (np.diff(rates[: top + 1]) > 0).all() and (np.diff(rates[top:]) <= 0).all()
    assert 0 < rates[0] < 0.05 and 0 <= rates[-1] - 0.1 * floor < 0.01


def test_a_loss_that_is_no_number_is_one_sentence(data: Prepared, tmp_path: Path) -> None:
    method = tiny.method_of("dropout", data)
    with torch.no_grad():
        next(method.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match=r"stage 'main', step 0: the loss 'task' is nan.*training\.lr"):
        tiny.loop_of(method, data, tmp_path).fit()


def test_epochs_are_those_of_all_rows_with_something(data: Prepared, tmp_path: Path) -> None:
    rows = int(data.rows["train"].presence.any(axis=1).sum())
    method = tiny.method_of("dropout", data)

    def steps(epochs: float | None, batch: int, share: float = 1.0) -> int:
        loop = tiny.loop_of(method, data, tmp_path, settings=settings(epochs=epochs, batch=batch))
        return loop.steps_of(Stage(share=share))

    assert [steps(1, rows), steps(3, 10), steps(0.001, 10), steps(2, 10_000)] == [1, math.ceil(0.3 * rows), 1, 2]
    assert steps(4, rows, share=0.5) == 2
    assert steps(None, rows) == 200, "a small table is seen two hundred times at most"


@given(st.integers(1, 50), st.integers(1, 60), st.integers(0, 10**6))
def test_rows_come_in_passes_that_leave_nothing_out(rows: int, size: int, seed: int) -> None:
    steps = -(-3 * rows // size)
    order = by_row(rows, partial(chance, seed, "main"))
    drawn = np.concatenate([order(size, step).rows for step in range(steps)])
    for number in range(3):
        assert sorted(drawn[number * rows : (number + 1) * rows]) == list(range(rows))
    again = by_row(rows, partial(chance, seed, "main"))(size, steps - 1)
    assert drawn[-size:].tolist() == again.rows.tolist(), "a step needs no step before it"


def test_keys_give_numbers_of_their_own() -> None:
    numbers = {number_of(*key) for key in ((0, "main", 1), (0, "main", 11), (0, "main1", 1), (1, "main", 1), (0, 1))}
    assert len(numbers) == 5 and all(0 <= n < 2**63 for n in numbers)


def test_a_stage_may_say_in_which_order_its_rows_come_and_what_they_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tiny.prepared()
    method = tiny.method_of("dropout", data)
    wanted, heard, seen = np.flatnonzero(data.rows["train"].presence.any(axis=1)), [], []
    losses = method.losses

    def order(presence: Any, target: Any, chance: Any) -> Any:
        heard.append((presence, target))
        return lambda size, step: Taken(np.arange(size), np.eye(presence.shape[1], dtype=bool)[np.arange(size) % 2])

    def watched(batch: Batch, stage: Stage, draw: torch.Generator) -> dict[str, Tensor]:
        seen.append(batch)
        return losses(batch.select(~batch.empty, data.names), stage, draw)

    monkeypatch.setattr(method, "stages", lambda: [Stage(order=order)])
    monkeypatch.setattr(method, "losses", watched)
    tiny.loop_of(method, data, tmp_path, settings=settings(batch=8, accumulate=2)).fit()
    ((presence, target),) = heard
    assert (presence == data.rows["train"].presence[wanted]).all() and len(target) == len(wanted)
    assert torch.cat([seen[0].index, seen[1].index]).tolist() == data.rows["train"].index[wanted[:16]].tolist()
    assert all(not batch.presence[:, 2:].any() and (batch.presence.sum(dim=1) < 2).all() for batch in seen)
    assert all(set(batch.inputs) <= set(data.names[:2]) for batch in seen)


# --- validation


def scripted(scores: Sequence[float], kept: list[dict[str, Tensor]]) -> Any:
    """A judge that says what the script says, and keeps the weights it judged."""
    script = iter(scores)

    def judge(method: Method, stage: Stage) -> Validation:
        assert not method.training
        kept.append(weights(method))
        value = next(script)
        return Validation(patterns={"words": value}, goodness=value)

    return judge


def test_the_best_weights_are_the_ones_that_stay(data: Prepared, tmp_path: Path) -> None:
    kept: list[dict[str, Tensor]] = []
    method, heard = tiny.method_of("dropout", data, stir=0), tiny.Heard()
    many = settings(epochs=20, batch=60, validations=20, patience=3)
    judge = scripted([0.1, 0.5, 0.3, 0.6, 0.6, 0.2, 0.1, 0.9], kept)
    tiny.loop_of(method, data, tmp_path, settings=many, judge=judge, listener=heard).fit()
    assert len(kept) == 7, "three validations without a better one"
    assert [best for _, best in heard.results] == [True, True, False, True, False, False, False]
    assert same(weights(method), kept[3]) and not same(kept[3], kept[6])


def test_without_patience_it_goes_on_to_the_end(data: Prepared, tmp_path: Path) -> None:
    kept: list[dict[str, Tensor]] = []
    method = tiny.method_of("dropout", data, stir=0)
    many = settings(epochs=15, batch=60, validations=15, patience=None)
    tiny.loop_of(method, data, tmp_path, settings=many, judge=scripted([1.0, *[0.0] * 14], kept)).fit()
    assert len(kept) == 15 and same(weights(method), kept[0])


def test_where_nothing_can_be_validated_the_last_weights_stay(data: Prepared, tmp_path: Path) -> None:
    kept: list[dict[str, Tensor]] = []
    method = tiny.method_of("dropout", data, stir=0)
    many = settings(epochs=12, batch=60, validations=12, patience=2)
    tiny.loop_of(method, data, tmp_path, settings=many, judge=scripted([-math.inf] * 12, kept)).fit()
    assert len(kept) == 12 and same(weights(method), kept[-1])
    assert [line["score"] for line in tiny.metrics(tmp_path) if line["event"] == "validate"] == [None] * 12


def test_a_table_without_validation_rows_trains(tmp_path: Path) -> None:
    content = [row for row in tiny.rows() if row["split"] != "val"]
    for i, row in enumerate(content):
        row["id"] = f"far-from-validation-{i}"
    data = tiny.prepared(content, names=FACTS)
    data.rows["val"].presence[:] = False  # rows of which no pattern can be shown
    method = tiny.method_of("dropout", data, stir=0)
    tiny.loop_of(method, data, tmp_path).fit()
    assert all(torch.isfinite(p).all() for p in method.parameters())


@pytest.mark.parametrize("validations", [1, 3, 1000])
def test_it_validates_as_often_as_asked_and_always_at_the_end(validations: int, data: Prepared, tmp_path: Path) -> None:
    heard = tiny.Heard()
    often = settings(epochs=6, batch=20, validations=validations)
    tiny.loop_of(tiny.method_of("dropout", data), data, tmp_path, settings=often, listener=heard).fit()
    events = [line for line in tiny.metrics(tmp_path) if line["event"] == "validate"]
    assert len(events) == len(heard.results)
    assert 1 <= len(events) <= min(validations, 6)
    assert events[-1]["step"] == len(heard.losses)


# --- what is written and said


@pytest.mark.parametrize("name", METHODS)
def test_metrics_have_one_line_for_each_look(name: str, data: Prepared, tmp_path: Path) -> None:
    method, heard = tiny.method_of(name, data, stir=0), tiny.Heard()
    tiny.loop_of(method, data, tmp_path, listener=heard, part="reference").fit()
    stages = [stage.name for stage in method.stages()]
    assert [name for name, _, _ in heard.stages] == stages
    lines = tiny.metrics(tmp_path) if stages else []
    assert list(dict.fromkeys(line["stage"] for line in lines)) == stages
    for line in lines:
        assert line["part"] == "reference" and line["step"] >= 1 and line["epoch"] > 0
        if line["event"] == "train":
            assert line["loss"] == pytest.approx(sum(line["losses"].values())) and line["lr"] >= 0
        else:
            assert line["event"] == "validate"
            scores = list(line["patterns"].values())
            assert line["score"] == (pytest.approx(np.mean(scores)) if scores else None)


def test_a_stage_that_no_row_can_show_is_noted_and_passed_over(
    data: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = tiny.method_of("dropout", data, stir=0)
    nobody = Stage(name="nobody", wants=lambda presence: np.zeros(len(presence), dtype=bool))
    monkeypatch.setattr(method, "stages", lambda: [nobody, Stage(name="main")])
    position = tiny.loop_of(method, data, tmp_path, settings=tiny.BRIEF).fit()
    assert position.notes == ["nobody: no training row can show it, so nothing was learned for it"]
    assert {line["stage"] for line in tiny.metrics(tmp_path)} == {"main"}


def test_the_parts_of_a_run_do_not_touch_each_other(tmp_path: Path) -> None:
    """The reference trained beside a method is the one that is trained alone."""
    content = tiny.table(tiny.rows())
    for folder, method in (("beside", "dropout"), ("alone", "ignore")):
        train_run(tiny.config(method, "weight=number"), tmp_path / folder, source=content, page=False)
    beside, alone = (
        tiny.tensors_of(tmp_path / path) for path in ("beside/reference.safetensors", "alone/weights.safetensors")
    )
    assert same(beside, alone)


# --- it learns


@pytest.mark.parametrize("name", METHODS)
def test_it_learns(name: str, tmp_path: Path) -> None:
    """What is frozen has weights that are far apart: fresh ones are so small that all rows look the same to them."""
    data = tiny.prepared(names=FACTS)
    method = tiny.method_of(name, data, stir=0, model=dataclasses.replace(tiny.SMALL, width=32, depth=2))
    draw = torch.Generator().manual_seed(0)
    for frozen in (p for p in method.parameters() if not p.requires_grad):
        frozen += 0.3 * torch.randn(frozen.shape, generator=draw)
    tiny.loop_of(method, data, tmp_path, settings=settings(epochs=25, validations=2, lr=2e-2)).fit()
    tiny.close(method, data)
    rows = data.rows["test"]
    assert rows.target is not None
    right = answer(method, rows).probabilities.argmax(axis=1) == rows.target
    assert right[rows.presence.any(axis=1)].mean() > 0.75


def test_numbers_are_learned_in_units_of_their_spread(tmp_path: Path) -> None:
    data = tiny.prepared(target="weight=number", names=FACTS)
    codec: TargetCodec = data.fitted.codec
    assert data.rows["train"].target is not None
    assert codec.std > 1 and abs(data.rows["train"].target.mean()) < 0.05
    method = tiny.method_of("dropout", data, stir=0)
    tiny.loop_of(method, data, tmp_path, settings=settings(epochs=100, validations=2)).fit()
    rows = data.rows["test"].where(data.rows["test"].presence.any(axis=1))
    assert rows.target is not None
    wrong = np.abs(answer(method, rows).probabilities[:, 0] - rows.target)
    assert wrong.mean() < 0.5 * np.abs(rows.target).mean()
