"""What the single branch alone promises: pairs of a row and a modality, shared weights, and its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from tests import tiny
from tests.backbones import prepared_with, with_backbone, write_backbone
from tests.laws import assert_close, by_pattern, data_for, losses_and_gradients, rows_with_something
from tests.poison import packed_tokens
from torch import Tensor

from absentia.data.batch import Batch
from absentia.errors import UserError
from absentia.layers.heads import row_losses, uncertainty_of
from absentia.layers.pair_losses import alike_and_unlike, orthogonal_projection
from absentia.learn.loop import Loop
from absentia.methods import Stage
from absentia.methods.single_branch import SingleBranch
from absentia.methods.single_branch_options import Metric

FOP: dict[str, Any] = {"branches": "each", "fuse": "gated", "together": 1.0, "alone": 0.0}
FOP |= {"depth": 1, "norm": "batch", "scale": 1.0, "metric": "orthogonal"}
VARIED: list[dict[str, Any]] = [
    {"reads": "tokens"},
    {"reads": "transformer"},
    {"adapter": "none"},
    {"branches": "each"},
    {"width": 24, "depth": 1},
    {"norm": "batch", "scale": 1.0},
    {"norm": "modality"},
    {"fuse": "sum", "together": 1.0},
    {"fuse": "gated", "together": 1.0, "branches": "each"},
    {"fuse": "gated", "together": 1.0, "alone": 0.0, "metric": "none"},
    FOP,
    {"pairs": 1.0},
    {"switching": "half", "whole": 0.5},
    {"switching": "one"},
    {"order": "pairs"},
    {"order": "turns", "first": "words"},
    *({"metric": metric} for metric in get_args(Metric)),
]


def method(target: str = tiny.TARGETS[0], **options: Any) -> SingleBranch:
    made = tiny.method_of("single-branch", data_for(target), options=options)
    assert isinstance(made, SingleBranch)
    return made


def terms(one: SingleBranch, batch: Batch, draw: int = 0) -> dict[str, Tensor]:
    return one.losses(batch, one.stages()[0], torch.Generator().manual_seed(draw))


def full_rows(target: str = tiny.TARGETS[0]) -> Batch:
    batch = tiny.everything(data_for(target))
    return batch.select(batch.presence.all(dim=1), data_for(target).names)


@pytest.mark.parametrize("options", VARIED, ids=str)
@pytest.mark.parametrize("target", tiny.TARGETS)
def test_every_option_learns_and_answers_any_pattern(options: Mapping[str, Any], target: str) -> None:
    data, one = data_for(target), method(target, **options)
    batch = tiny.everything(data)
    whole = one(batch)
    assert whole.scores.isfinite().all()
    for rows, part in by_pattern(batch, data.names):
        assert_close(one(part), whole, rows)
    loss, gradients = losses_and_gradients(one.train(), rows_with_something(data), one.stages()[0])
    assert loss.isfinite().all()
    unused = {k for k, p in one.named_parameters() if p.requires_grad and gradients[k] is None}
    assert not unused or options.get("switching") in ("one", "half"), unused


def test_the_loss_is_that_of_pairs_of_a_row_and_a_modality() -> None:
    data, one = data_for(), method(metric="none")
    batch = rows_with_something(data)
    assert batch.target is not None
    total = torch.zeros(len(batch))
    for m in range(len(data.names)):
        here = batch.presence[:, m]
        lone = batch.select(here, data.names).restrict(torch.arange(len(data.names)) == m, data.names)
        lost = row_losses(one(lone).scores, batch.target[here], one.parts.codec)
        total[here] += lost / batch.presence[here].sum(dim=1)
    found = terms(one, batch)
    assert list(found) == ["alone"]
    torch.testing.assert_close(found["alone"], total.mean())


def test_an_embedding_is_the_same_whatever_else_a_row_has() -> None:
    data, one, batch = data_for(), method(), full_rows()
    whole = one(batch).embeddings
    for m, name in enumerate(data.names):
        lone = one(batch.restrict(torch.arange(len(data.names)) == m, data.names)).embeddings
        torch.testing.assert_close(lone[name], whole[name])
        torch.testing.assert_close(whole[name].norm(dim=1), torch.ones(len(batch)))


@pytest.mark.parametrize("fuse", ["mean", "sum", "surest"])
def test_what_is_present_is_fused(fuse: str) -> None:
    data, one, batch = data_for(), method(fuse=fuse), full_rows()
    eye = torch.eye(len(data.names)).bool()
    each = torch.stack([one(batch.restrict(shown, data.names)).scores for shown in eye])
    if fuse == "surest":
        unsure = torch.stack([uncertainty_of(scores, one.parts.codec) for scores in each])
        expected = each[unsure.argmin(dim=0), torch.arange(len(batch))]
    else:
        bias = one.classifier(torch.zeros(1, 16))
        expected = each.mean(dim=0) if fuse == "mean" else (each - bias).sum(dim=0) + bias
    torch.testing.assert_close(one(batch).scores, expected, rtol=1e-4, atol=1e-4)


def test_the_published_metric_compares_the_rows_of_a_step() -> None:
    one, batch = method(metric="orthogonal", alpha=0.5, apart=0.3), full_rows()
    units = torch.cat(list(one(batch).embeddings.values()))
    marks = torch.nn.functional.one_hot(batch.target, 3).float().repeat(4, 1)  # type: ignore[arg-type]
    expected = 0.5 * orthogonal_projection(units, *alike_and_unlike(marks), apart=0.3)
    torch.testing.assert_close(terms(one, batch)["metric"], expected)


def test_fop_learns_from_fused_rows_alone() -> None:
    """Cross-entropy and the orthogonal projection loss of what is fused (FOP, released code), for any pattern."""
    data, one = data_for(), method(**FOP, alpha=0.7)
    batch = rows_with_something(data)
    assert batch.target is not None and one.gate is not None
    found = terms(one, batch)
    assert list(found) == ["together", "fused"]
    fused = one.gate(one(batch).embeddings, batch.presence, data.names)
    said = torch.nn.functional.cross_entropy(one.classifier(fused), batch.target)
    marks = torch.nn.functional.one_hot(batch.target, 3).float()
    units = torch.nn.functional.normalize(fused, dim=1)
    torch.testing.assert_close(found["together"], said)
    torch.testing.assert_close(found["fused"], 0.7 * orthogonal_projection(units, *alike_and_unlike(marks)))
    torch.testing.assert_close(one(batch).scores, one.classifier(fused))


def test_a_gate_is_there_where_it_is_asked_for_and_weighs_what_is_present() -> None:
    data, one, batch = data_for(), method(fuse="gated", together=1.0), full_rows()
    assert method().gate is None
    whole = one(batch)
    eye = torch.eye(len(data.names)).bool()
    for shown in eye:
        lone = one(batch.restrict(shown, data.names))
        (units,) = lone.embeddings.values()
        torch.testing.assert_close(lone.scores, one.classifier(one.options.scale * torch.tanh(units)))
    mean = torch.stack([torch.tanh(units) for units in whole.embeddings.values()]).mean(dim=0)
    assert not torch.allclose(whole.scores, one.classifier(one.options.scale * mean), atol=1e-3)


@pytest.mark.parametrize("options", [{"fuse": "gated"}, {"alone": 0.0}])
def test_what_would_learn_from_nothing_is_said(options: Mapping[str, Any]) -> None:
    with pytest.raises(UserError, match=r"options\.(fuse gated|alone 0): nothing teaches .*; say options.together 1"):
        method(**options)


def test_one_branch_has_one_set_of_weights() -> None:
    def size(**options: Any) -> int:
        return sum(p.numel() for p in method(**options).branches.parameters())

    assert size(branches="each") == 4 * size()


def test_a_branch_on_tokens_keeps_no_transformer() -> None:
    one = method(reads="tokens")
    assert not [key for key in one.learned() if "transformer" in key]
    assert [key for key in method().learned() if "transformer" in key]


def test_a_number_has_no_metric_and_nothing_sure() -> None:
    one, batch = method("weight=number"), full_rows("weight=number")
    assert list(terms(one, batch)) == ["alone"]
    with pytest.raises(UserError, match=r"options\.fuse surest"):
        method("weight=number", fuse="surest")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reads", "token"),
        ("norm", "group"),
        ("metric", "opl"),
        ("switching", "s1"),
        ("fuse", "max"),
        ("depth", 0),
        ("width", 0),
        ("scale", 0),
        ("dropout", 1.0),
        ("whole", 1.5),
        ("temperature", 0),
        ("alpha", -1),
    ],
)
def test_a_bad_option_is_named(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"options\.{name} "):
        method(**{name: value})


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"order": "sorted"}, "order"),
        ({"order": "turns", "first": "smell"}, "first 'smell'.*words"),
        ({"order": "pairs", "first": "words"}, "first.*order turns"),
        ({"order": "pairs", "switching": "half"}, "order pairs.*options.switching half"),
        ({"order": "turns", "pairs": 1.0}, "order turns.*options.pairs 1.0"),
        ({"order": "turns", "per_class": 2}, "order turns.*options.per_class 2"),
        ({"order": "pairs", "fuse": "gated", "together": 1.0}, "order pairs.*options.fuse gated"),
        ({"per_class": 0}, "per_class 0"),
        ({"per_class": 2, "reshuffle": False}, "reshuffle false"),
    ],
    ids=str,
)
def test_orders_that_cannot_be_are_one_clear_error(bad: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=f"options.{named}"):
        method(**bad)


@pytest.mark.parametrize("target", tiny.TARGETS[1:])
def test_rows_by_class_need_classes(target: str) -> None:
    with pytest.raises(UserError, match=r"options\.per_class.*kind"):
        method(target, per_class=2)


def shown_in_training(folder: Path, epochs: float = 2, **options: Any) -> list[Batch]:
    """The batches of a training."""
    one, seen = method(**options), []
    losses = one.losses

    def watched(batch: Batch, stage: Stage, draw: torch.Generator) -> dict[str, Tensor]:
        seen.append(batch)
        return losses(batch, stage, draw)

    one.losses = watched  # type: ignore[method-assign]
    tiny.loop_of(one, data_for(), folder, settings=replace(tiny.BRIEF, epochs=epochs, batch=12)).fit()
    return seen


@pytest.mark.parametrize("first", [None, "words"])
def test_modalities_take_turns(first: str | None, tmp_path: Path) -> None:
    batches = shown_in_training(tmp_path, epochs=4, order="turns", first=first)
    assert all((batch.presence.sum(dim=1) == 1).all() for batch in batches)
    names = data_for().names
    shown = [names[m] for batch in batches for m in batch.presence.long().argmax(dim=1).tolist()]
    there = dict(zip(names, data_for().rows["train"].presence.sum(axis=0).tolist(), strict=True))
    turns = sorted(names, key=lambda name: (name != first, name))
    expected = [name for name in turns for _ in range(there[name])]
    assert shown[: len(expected)] == expected[: len(shown)]
    assert len({*shown}) > 2


def test_every_pair_enters_once_in_a_pass(tmp_path: Path) -> None:
    batches = shown_in_training(tmp_path, epochs=8, order="pairs")
    pairs = [(int(i), int(m)) for b in batches for i, m in zip(b.index, b.presence.long().argmax(dim=1), strict=True)]
    count = int(data_for().rows["train"].presence.sum())
    assert len(pairs) >= 2 * count
    assert len(set(pairs[:count])) == count and set(pairs[count : 2 * count]) == set(pairs[:count])
    assert pairs[count : 2 * count] != pairs[:count]
    fixed = shown_in_training(tmp_path / "fixed", epochs=8, order="pairs", reshuffle=False)
    rows = [int(i) for batch in fixed for i in batch.index]
    assert rows[count : 2 * count] == rows[:count]


def test_a_step_has_rows_of_each_class(tmp_path: Path) -> None:
    for batch in shown_in_training(tmp_path, per_class=4, metric="contrast"):
        assert batch.target is not None
        assert torch.bincount(batch.target, minlength=3).tolist() == [4, 4, 4]
        assert batch.presence.sum(dim=1).max() > 1, "rows show all that they have"


def test_a_table_with_too_few_classes_is_told_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"asks for 6 classes.*have 3.*per_class 4, or training\.batch 6"):
        shown_in_training(tmp_path, per_class=2, metric="contrast")


@pytest.mark.parametrize("options", [{"order": "turns"}, {"order": "pairs"}, {"per_class": 4}], ids=str)
def test_a_killed_training_goes_on_in_the_same_order(options: dict[str, Any], tmp_path: Path) -> None:
    def loop(folder: str, listener: tiny.Heard | None = None) -> Loop:
        one = tiny.method_of("single-branch", data_for(), stir=0, options=options)
        settings = replace(tiny.QUICK, batch=12)
        return tiny.loop_of(one, data_for(), tmp_path / folder, settings=settings, listener=listener)

    whole, killed, resumed = loop("whole"), loop("killed", tiny.killer(5)), loop("killed")
    whole.fit()
    with pytest.raises(tiny.Killed):
        killed.fit()
    resumed.fit()
    one, other = whole.method.learned(), resumed.method.learned()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_training_makes_modalities_of_a_class_alike(tmp_path: Path) -> None:
    data = data_for()
    one = tiny.method_of("single-branch", data, stir=0)
    tiny.loop_of(one, data, tmp_path, settings=tiny.QUICK).fit()
    units = one(full_rows()).embeddings
    target = full_rows().target
    assert target is not None
    cosines = units["words"] @ units["facts"].T
    same = target[:, None] == target[None]
    assert cosines[same].mean() > cosines[~same].mean()


@pytest.mark.parametrize("reads", ["both", "transformer", "tokens"])
def test_what_a_frozen_backbone_makes_of_a_modality_is_kept(reads: str, tmp_path: Path) -> None:
    folder = write_backbone(tmp_path / "backbone")
    data = prepared_with(folder)
    frozen, tuned = (
        tiny.method_of("single-branch", data, stir=0, model=model, options={"reads": reads})
        for model in (with_backbone(folder, freeze=True), with_backbone(folder))
    )
    batch = tiny.everything(data)
    with packed_tokens() as passes:
        first, again = frozen(batch), frozen(batch)
    assert torch.equal(first.scores, again.scores)
    assert len(passes) == (len(batch.presence[~batch.empty].unique(dim=0)) if reads != "tokens" else 0)
    assert_close(tuned(batch), first, torch.ones(len(batch)).bool())
    assert not [key for key in frozen.learned() if key.startswith("backbone")]
