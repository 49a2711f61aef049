from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import torch
from tests import checkpoints, tiny
from tests.laws import data_for, forget, learn, losses_and_gradients, rows_with_something, same_bits
from tests.poison import packed_tokens

from absentia.data.batch import Batch
from absentia.errors import UserError
from absentia.jobs import train_run
from absentia.layers.heads import row_losses
from absentia.layers.scenarios import Read
from absentia.layers.subsets import all_patterns
from absentia.learn.prepare import Prepared
from absentia.methods import Stage, universal
from absentia.methods.counted import counted
from absentia.methods.universal import Universal
from absentia.methods.universal_options import UniversalOptions


def made(data: Prepared | None = None, *, stir: float = 0.3, **options: Any) -> Universal:
    method = tiny.method_of("universal", data or data_for(), stir=stir, options=options)
    assert isinstance(method, Universal)
    return method


def stage(method: Universal, name: str) -> Stage:
    return next(s for s in method.stages() if s.name == name)


def learned_with(batch: Batch, **options: Any) -> dict[str, torch.Tensor]:
    """The terms of stage 2's loss, by name."""
    method = made(**options)
    terms = method.losses(batch, stage(method, "answer"), torch.Generator().manual_seed(0))
    return {name: term.detach() for name, term in terms.items()}


def test_a_fresh_model_is_the_same_for_every_scenario() -> None:
    """What the hyper-network makes begins at zero: whatever the scenario, and whether there is one at all."""
    data = data_for()
    batch = rows_with_something(data)
    plain = made(data, stir=0, generates="none")
    for generates in ("all", "film", "residual", "head"):
        fresh = made(data, stir=0, generates=generates)
        fresh.load_state_dict(plain.state_dict(), strict=False)
        for pattern in all_patterns(len(data.names)):
            scenario = torch.from_numpy(pattern).expand(len(batch), -1)
            expected = plain.body.see(batch, None, scenario)
            found = fresh.body.see(batch, None, scenario)
            torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-6)
            torch.testing.assert_close(found.features, expected.features, rtol=0, atol=1e-6)


@pytest.mark.parametrize("generates", ["all", "film", "residual", "head"])
def test_a_trained_one_answers_by_the_scenario_and_a_constant_code_does_not(generates: str) -> None:
    batch = rows_with_something(data_for())
    for scenario, differs in (("composed", True), ("table", True), ("constant", False)):
        method = made(generates=generates, scenario=scenario)
        answers = [
            method.body.see(batch, None, torch.from_numpy(p).expand(len(batch), -1)).scores for p in all_patterns(4)
        ]
        assert bool((answers[0] - answers[-1]).abs().max() > 1e-3) == differs


def test_a_completed_row_is_marked_and_a_whole_one_is_not() -> None:
    """The scenario of everything is learned from rows that have everything, not from what stands in for them."""
    batch = rows_with_something(data_for())
    lacking = ~batch.presence.all(dim=1)
    body = made(data_for(), generates="all").body
    plain, marked = (body.code_of(batch.presence, completed=c) for c in (False, True))
    assert torch.equal(plain[~lacking], marked[~lacking]) and (plain[lacking] != marked[lacking]).any(dim=1).all()
    assert torch.equal(body.told(batch.presence), batch.presence)
    for options in ({"mark": False}, {"scenario": "constant"}):
        other = made(data_for(), generates="all", **options).body
        assert other.told(batch.presence).all()
        assert torch.equal(*(other.code_of(batch.presence, completed=c) for c in (False, True)))


def test_what_a_row_has_is_kept_and_the_teacher_is_not_moved() -> None:
    data = data_for()
    batch = rows_with_something(data)
    method = made(data)
    full = batch.select(batch.presence.all(dim=1), data.names)
    assert not method.body.complete(full).any(), "nothing is made for rows that lack nothing"
    assert not method.body.complete(batch).requires_grad
    weights = {"features": 0.0, "scores": 0.0}
    for term in weights:
        alone = made(data, **(weights | {term: 1.0}))
        one = stage(alone, "answer")
        terms = alone.losses(full, one, torch.Generator().manual_seed(0))
        teacher = alone.body.see(full, None, full.presence)
        student_only = torch.autograd.grad(terms[term], list(alone.body.head.parameters()), allow_unused=True)
        assert term != "features" or not any(g is not None and g.any() for g in student_only), "features, not scores"
        assert teacher.scores.requires_grad
    exam = made(data, keep=1.0, teacher="shared")
    same = exam.losses(full, stage(exam, "answer"), torch.Generator().manual_seed(0))
    assert float(same["features"].detach()) < 1e-9 and float(same["scores"].detach()) < 1e-6, "nothing to distil"


def test_a_teacher_apart_learns_the_task_and_its_student_what_it_says() -> None:
    """No loss but the teacher's own moves it, and its own moves nothing else; both begin where stage 1 ended."""
    data = data_for()
    batch = rows_with_something(data)
    method = made(data, teacher="apart")
    assert method.teacher is not None
    method.train()
    terms = method.losses(batch, stage(method, "answer"), torch.Generator().manual_seed(0))
    theirs = dict(method.teacher.named_parameters())
    ours = {name: p for name, p in method.body.named_parameters() if name in theirs}
    assert theirs and not any(name.startswith("imagination") for name in theirs)
    for term, loss in terms.items():
        for moved, whose in ((theirs, "teacher" in term), (ours, "teacher" not in term)):
            grads = torch.autograd.grad(loss, list(moved.values()), allow_unused=True, retain_graph=True)
            assert any(g is not None and g.any() for g in grads) == whose, term
    begun = dict(method.body.imagination.backbone.named_parameters())
    assert same_bits(dict(method.teacher.backbone.named_parameters()), begun)
    assert {id(p) for p in stage(method, "answer").learns()} >= {id(p) for p in theirs.values()}
    assert made(data, features=0.0, scores=0.0).teacher is None


def test_an_averaged_teacher_is_the_mean_of_what_its_student_was_and_answers(tmp_path: Path) -> None:
    """Of all steps at first, then a running one; no loss moves it, and a run that is saved and loaded has it."""
    data = data_for()
    batch, draw = rows_with_something(data), torch.Generator().manual_seed(0)
    method = made(data, momentum=0.75).train()
    assert method.teacher is method.answerer is not None
    answer = stage(method, "answer")
    theirs = [name for name, _ in method.teacher.named_parameters()]
    assert not {id(p) for p in answer.learns()} & {id(p) for p in method.teacher.parameters()}  # type: ignore[misc]
    expected: dict[str, torch.Tensor] = {}
    for number in range(6):
        terms = method.losses(batch, answer, draw)
        own = {name: p.detach().clone() for name, p in method.body.named_parameters() if name in theirs}
        kept = min(0.75, number / (number + 1))
        expected = {name: kept * expected.get(name, p) + (1 - kept) * p for name, p in own.items()}
        for name, p in method.teacher.named_parameters():
            torch.testing.assert_close(p.detach(), expected[name])
        grads = torch.autograd.grad(sum(terms.values()), list(method.teacher.parameters()), allow_unused=True)  # type: ignore[arg-type]
        assert all(g is None for g in grads)
        with torch.no_grad():
            for name, p in method.body.named_parameters():
                if name in theirs:
                    p.add_(0.01 * torch.randn(p.shape, generator=draw))
    method.eval()
    other = made(data, momentum=0.75).eval()
    other.restore(method.learned())
    assert torch.equal(other(batch).scores, method(batch).scores)
    assert torch.equal(method(batch).scores, method.teacher.see(batch, None, batch.presence).scores)
    assert not torch.equal(method(batch).scores, method.body.see(batch, None, batch.presence).scores)


def test_the_rate_stays_where_a_teacher_averages() -> None:
    """An average needs no falling rate; what is not averaged does."""

    def floors(**options: Any) -> dict[str, float]:
        return {one.name: one.floor for one in made(**options).stages()}

    assert floors() == {"imagine": 0.0, "answer": 1.0}
    assert floors(floor=0.25)["answer"] == 0.25
    assert floors(teacher="apart")["answer"] == floors(features=0.0, scores=0.0)["answer"] == 0.0
    with pytest.raises(UserError, match=r"options\.floor 1\.5: must be a number from 0 to 1"):
        made(floor=1.5)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_step_of_several_batches_moves_the_average_and_the_ramp_once(tmp_path: Path, accumulate: int) -> None:
    data, heard = data_for(names=("words", "facts")), tiny.Heard()
    method = tiny.method_of("universal", data, stir=0, options={"imagine": 1.0})
    assert isinstance(method, Universal)
    settings = replace(tiny.QUICK, batch=8, accumulate=accumulate, patience=None)
    learn(method, data, tmp_path, settings, listener=heard)
    assert int(method.followed) == int(method.distilled) == len(heard.losses) // 2 > 2


def test_a_row_is_distilled_by_as_much_as_the_teacher_is_nearer_to_its_truth() -> None:
    data = data_for()
    batch = rows_with_something(data)
    target = cast(torch.Tensor, batch.target)
    right = torch.arange(len(batch)) % 2 == 0
    gradients, lost = {}, partial(row_losses, target=target, codec=data.fitted.codec)
    for selective in (True, False):
        method = made(data, selective=selective, ramp=0, features=1.0, scores=1.0)
        seen = method.body.see(batch, None, batch.presence)
        student = replace(seen, scores=0.1 * seen.scores)  # of none of them sure
        truth = torch.nn.functional.one_hot(target, student.scores.shape[1]).float()
        scores = 3 * torch.where(right[:, None], truth, 1 - truth)
        said = method._distilled(student, replace(student, features=student.features + 1, scores=scores), target)
        wanted = [student.features, student.scores]
        gradients[selective] = torch.autograd.grad(said["features"] + said["scores"], wanted)
    share = 1 - lost(scores) / lost(student.scores.detach())
    assert (share[right] > 0.1).all() and (share[~right] < 0).all()
    for chosen, plain in zip(gradients[True], gradients[False], strict=True):
        torch.testing.assert_close(chosen, plain * share.clamp(min=0)[:, None])
        assert plain[~right].any()


def test_a_teacher_apart_keeps_no_frozen_weights_of_its_own() -> None:
    """What is frozen is in memory once for both, and in no file: it is the backbone's, whatever it is called."""
    method = made(teacher="apart")
    size = sum(tensor.numel() for tensor in method.learned().values())
    for body in method._bodies():
        body.backbone.requires_grad_(False)
    frozen = list(method.body.backbone.parameters())
    method.teacher = method.body.twin()
    assert all(mine is his for mine, his in zip(frozen, method.teacher.backbone.parameters(), strict=True))
    assert not [name for name in method.learned() if name.startswith(("teacher.backbone.", "body.backbone."))]
    assert sum(tensor.numel() for tensor in method.learned().values()) == size - 2 * sum(p.numel() for p in frozen)


@pytest.mark.parametrize("teacher", ["average", "apart", "shared"])
@pytest.mark.parametrize("fill", ["template", "reconstruction"])
def test_what_only_training_needs_is_counted_apart(fill: str, teacher: str) -> None:
    """What of teacher and student does not answer, nor of the imagination, each by its name."""
    data = data_for()
    method, batch = made(data, fill=fill, teacher=teacher).eval(), rows_with_something(data)
    found, scores = counted(method), method(batch).scores
    spare = {"average": {"student"}, "apart": {"teacher"}, "shared": set()}[teacher]
    assert found["scaffold"].keys() - {"imagination"} == spare
    imagination = sum(p.numel() for p in method.body.imagination.parameters())
    assert (found["scaffold"]["imagination"] == imagination) == (fill == "template")
    student = sum(p.numel() for p in method.body.answering())
    assert found["answering"] == student + imagination - found["scaffold"]["imagination"]
    learning = student + imagination + found["scaffold"].get("teacher", 0)
    assert found["trained"] == learning  # an averaged teacher follows, and learns nothing
    with torch.no_grad():
        for parameter in chain.from_iterable(method.scaffold().values()):
            parameter.fill_(torch.nan)
    assert torch.equal(scores, method(batch).scores)


def test_distillation_rises_over_its_steps() -> None:
    batch = rows_with_something(data_for())
    method, whole = made(ramp=4).train(), made(ramp=0).train()

    def terms(one: Universal, step: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(step)  # of dropout
        return one.losses(batch, stage(one, "answer"), torch.Generator().manual_seed(step))

    for step in range(1, 6):
        rising, full = terms(method, step), terms(whole, step)
        share = math.exp(-5 * (1 - min(1, step / 4)) ** 2)
        for term in ("features", "scores"):
            torch.testing.assert_close(rising[term], share * full[term], rtol=1e-4, atol=1e-6)
    method.eval()
    terms(method, 6)
    assert int(method.distilled) == 5, "steps of a training alone count"


def test_what_is_truly_absent_has_no_target_in_stage_one() -> None:
    """Without the distribution the summary of an absent modality gets no gradient; with it, it does."""
    data = data_for()
    batch = rows_with_something(data)
    lacking = batch.select(~batch.presence[:, 0], data.names)
    method = made(data, distribution="none", ratio=0.0)
    _, grads = losses_and_gradients(method, lacking, stage(method, "imagine"))
    speak = [key for key in grads if "imagination.speak.m_photo" in key]
    assert speak and not any(g.any() for key in speak if (g := grads[key]) is not None)
    judged = made(data, ratio=0.0)
    judged.train()
    losses_and_gradients(judged, batch, stage(judged, "imagine"))  # takes note of real photos
    _, grads = losses_and_gradients(judged, lacking, stage(judged, "imagine"))
    assert any(g.any() for key in speak if (g := grads[key]) is not None)


def test_parts_are_switched_off_by_options() -> None:
    batch = rows_with_something(data_for())
    assert {"task", "alone", "features", "scores"} == set(learned_with(batch))
    apart = {"task", "alone", "teacher task", "teacher alone", "features", "scores"}
    assert apart == set(learned_with(batch, teacher="apart"))
    assert set(learned_with(batch, features=0.0, scores=0.0)) == {"task", "alone"}
    method = made(distribution="none")
    terms = method.losses(batch, stage(method, "imagine"), torch.Generator().manual_seed(0))
    assert set(terms) == {"masked", "gist", "summary"}
    off = made(generates="none")
    assert not [key for key, _ in off.named_parameters() if ".early.parts" in key or ".late.parts" in key]


def test_the_second_stage_begins_where_the_first_ended(tmp_path: Path) -> None:
    data = data_for(names=("words", "facts"))
    method = made(data, stir=0)
    learn(method, data, tmp_path)
    assert bool(method.begun)
    imagination = dict(method.body.imagination.backbone.named_parameters())
    one, again = made(data, stir=0), made(data, stir=0)
    one.restore(method.learned())
    assert same_bits(dict(one.body.imagination.backbone.named_parameters()), imagination)
    again.body.imagination.backbone.load_state_dict(imagination)
    again.train()
    again.losses(rows_with_something(data), stage(again, "answer"), torch.Generator())
    assert same_bits(dict(again.body.backbone.named_parameters()), imagination)


@pytest.mark.parametrize("fill", ["reconstruction", "template"])
def test_cost_is_what_the_method_says(fill: str) -> None:
    data = data_for()
    method, batch = made(data, fill=fill), replace(rows_with_something(data), memo=None)
    full = batch.select(batch.presence.all(dim=1), data.names)
    with packed_tokens() as passes:
        method(full)
    assert len(passes) == 1, "rows that lack nothing are not reconstructed"
    with packed_tokens() as passes:
        output = method(batch)
    assert len(passes) == (2 if fill == "reconstruction" else 1)
    absent = (~batch.presence).sum(dim=0).tolist()
    if fill == "reconstruction":
        assert {name: len(rows) for name, rows in output.reconstructed.items()} == dict(
            zip(data.names, absent, strict=True)
        )
    else:
        assert output.reconstructed == {}


def test_reconstructions_stand_beside_the_truth() -> None:
    data = data_for()
    batch = rows_with_something(data)
    found = made(data).reconstructions(batch)
    complete = int(batch.presence.all(dim=1).sum())
    assert set(found) == set(data.names)
    assert all(true.shape == guess.shape and len(true) == complete for true, guess in found.values())


def test_one_modality_is_rejected_and_one_that_nobody_has_too() -> None:
    with pytest.raises(UserError, match="only modality"):
        made(data_for(names=("facts",)))
    data = data_for()
    seen = all_patterns(4)
    with pytest.raises(UserError, match=r"no training row has 'photo'"):
        tiny.method_of("universal", data, seen=seen[~seen[:, 0]])


def test_pairs_that_nobody_has_are_said() -> None:
    method, names = made(), data_for().names
    presence = np.asarray([[True, False, True, True], [False, True, True, True]])
    (said,) = method.remarks(presence)
    assert f"{names[0]} and {names[1]}" in said
    assert method.remarks(np.ones((1, 4), dtype=np.bool_)) == []


def test_sentences_are_read_once_and_travel_with_the_weights(tmp_path: Path) -> None:
    data = data_for()
    encoder = checkpoints.clip_text(tmp_path / "clip")
    options = {"scenario": "text", "encoder": str(encoder), "text_width": 4, "words": "{present} ! {absent}"}
    method = made(data, **options)
    assert isinstance(method.body.scenario, Read) and not method.body.scenario.written
    method.begin_session(lambda: iter([]))
    table = method.body.scenario.table.clone()
    assert method.body.scenario.written and len(torch.unique(table, dim=0)) > 1
    for path in encoder.iterdir():
        path.unlink()
    other = made(data, stir=0, **options)
    other.restore(method.learned())
    batch = rows_with_something(data)
    assert torch.equal(other(batch).scores, method(batch).scores)
    wrong = made(data, **(options | {"text_width": 5}))
    with pytest.raises(UserError):
        wrong.begin_session(lambda: iter([]))


def test_a_teacher_apart_knows_the_same_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder is opened once for both, and a copy of the method answers as it does."""
    calls, read = [], universal.sentence_vectors
    monkeypatch.setattr(universal, "sentence_vectors", lambda *args: calls.append(args) or read(*args))
    encoder = str(checkpoints.clip_text(tmp_path / "clip"))
    method = made(scenario="text", encoder=encoder, text_width=4, words="{present} ! {absent}")
    assert method.teacher is not None
    for _ in range(2):
        method.begin_session(lambda: iter([]))
    mine, his = (cast(Read, body.scenario).table for body in (method.body, method.teacher))
    assert len(calls) == 1 and mine.any() and torch.equal(mine, his)
    other, batch = copy.deepcopy(method), rows_with_something(data_for())
    assert other.teacher is not None and other.teacher.imagination is other.body.imagination
    assert torch.equal(other(batch).scores, method(batch).scores)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fill": "templat"}, "did you mean 'template'"),
        ({"distribution": "moment"}, "did you mean 'moments'"),
        ({"ratio": 1.5}, "from 0 to 1"),
        ({"scenario": "text"}, "options.encoder"),
        ({"words": "{present} {what}"}, "may say"),
        ({"code": 0}, "at least 1"),
        ({"temperature": 0.0}, "from 0.01"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        UniversalOptions(**options)


def test_what_is_left_says_more_than_to_fill_in_what_is_absent(tmp_path: Path) -> None:
    """The answer depends on one view, which another tells in part; few training rows lack one."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 360)
    one = 3.0 * (label - 1)[:, None] + rng.normal(size=(360, 4))  # a blank, its mean, looks like the class between
    other = one + 4.0 * rng.normal(size=(360, 4))
    views = {
        name: [None if (i + 20 * turn) % 40 == 3 and i < 240 else view.tolist() for i, view in enumerate(views)]
        for turn, (name, views) in enumerate((("one", one), ("other", other)))
    }
    splits = ["train"] * 200 + ["val"] * 40 + ["test"] * 120
    table = pa.table({"split": splits, **views, "label": [str(x) for x in label]})
    found = {}
    for method in ("ignore", "universal"):
        config = tiny.config(method, "label=class", names=(), reference=False, training={"epochs": 8, "batch": 32})
        config = replace(config, modality={name: {"kind": "tabular"} for name in views})
        report = train_run(config, tmp_path / method, source=table, page=False)
        found[method] = {line["pattern"]: line["score"] for line in report["patterns"]}
    assert found["universal"]["other"] > found["ignore"]["other"] + 0.05
    assert found["universal"]["one"] > 0.8 and found["universal"]["one+other"] > 0.8


def test_a_step_embeds_its_rows_once_and_sees_what_it_would_see_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_for()
    batch, method = rows_with_something(data), made(data)
    part = batch.restrict(torch.tensor([True, False, True, False]) | ~batch.presence[:, :1], data.names)
    part = part.select(~part.empty, data.names)
    rows = (part.index[:, None] == batch.index).any(dim=0)
    whole = batch.select(rows, data.names)
    seen = method.body.see(part, None, part.presence, method.body.laid(whole))  # type: ignore[arg-type]
    torch.testing.assert_close(seen.scores, method.body.see(part, None, part.presence).scores, rtol=1e-5, atol=1e-5)
    calls = []
    backbone, before = method.body.backbone, method.body.backbone.segments
    monkeypatch.setattr(backbone, "segments", lambda b: (calls.append(len(b)), before(b))[1])
    method.losses(batch, stage(method, "answer"), torch.Generator().manual_seed(0))
    assert calls == [len(batch)]


def test_a_student_lays_out_what_it_sees_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own rows are a part of what the teacher is shown, unless both read the same tokens."""
    data = data_for()
    batch = rows_with_something(data)
    for teacher, whole in (("apart", False), ("shared", True), ("copy", True)):
        method, laid = made(data, teacher=teacher, keep=0.0), list[int]()
        before = method.body.backbone.segments
        monkeypatch.setattr(
            method.body.backbone, "segments", lambda b, f=before, to=laid: (to.append(int(b.presence.sum())), f(b))[1]
        )
        method.losses(batch, stage(method, "answer"), torch.Generator().manual_seed(0))
        assert len(laid) == 1 and (laid[0] == int(batch.presence.sum())) == whole


def test_rows_are_completed_once_in_a_training_until_stage_one_goes_on() -> None:
    """What stands beside the rows is what would be said of them again, and what another stage 1 says is another."""
    data = data_for()
    rows, method = data.rows["train"], made(data)
    forget(data)
    batch = rows.batch(np.arange(len(rows))[::3])
    assert batch.memo is not None
    method.train()

    def completed(one: Batch) -> torch.Tensor:
        return method.body.completed_once(one)

    first = completed(batch)
    torch.testing.assert_close(first, completed(replace(batch, memo=None)), rtol=1e-5, atol=1e-6)
    assert len([key for key, _ in batch.memo._kept if key.startswith("completed")]) == 1
    assert torch.equal(first, completed(batch))
    with torch.no_grad():
        next(p for p in method.body.imagination.parameters() if p.dim() > 1).mul_(1.5)
    again = completed(batch)
    assert not torch.equal(first, again)
    torch.testing.assert_close(again, completed(replace(batch, memo=None)), rtol=1e-5, atol=1e-6)
    less = batch.restrict(torch.tensor([True, True, False, True]), data.names)
    assert torch.equal(completed(less), completed(replace(less, memo=None)))
    forget(data)


def test_the_imagination_stands_still_in_the_second_stage_and_learns_in_the_first() -> None:
    data = data_for()
    batch, method = rows_with_something(data), made(data)
    for learning in (True, False):
        method.train(learning)
        for name in ("answer", "imagine", "answer"):
            method.losses(batch, stage(method, name), torch.Generator().manual_seed(0))
            assert method.body.imagination.training == (learning and name == "imagine")
            assert method.body.backbone.training == learning
