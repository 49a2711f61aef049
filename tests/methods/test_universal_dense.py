from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.ndimage import gaussian_filter
from tests import scans
from tests.laws import losses_and_gradients, same_bits

from absentia.config import Model, RunConfig, Training
from absentia.data.batch import Batch
from absentia.data.schema import Target
from absentia.data.target import TargetCodec
from absentia.jobs import train_run
from absentia.layers.subsets import all_patterns
from absentia.methods.base import Parts
from absentia.methods.counted import counted
from absentia.methods.universal import Universal
from absentia.methods.universal_dense import Dense
from absentia.models.dense import DenseBackbone

NAMES = ("one", "three", "two")
CHANNELS = (1, 2, 1)
SPACES = [(12, 16), (8, 8, 12)]


SMALL: dict[str, dict[str, Any]] = {
    "SegResNet": {
        "init_filters": 4,
        "blocks_down": (1, 1, 1),
        "blocks_up": (1, 1),
        "norm": ("GROUP", {"num_groups": 2}),
    },
    "FusionUNet": {"features": (4, 4, 8), "depth": 1, "heads": 2},
}


def made(
    space: Sequence[int],
    names: Sequence[str] = NAMES,
    *,
    stir: float = 0.1,
    network: str = "SegResNet",
    **options: Any,
) -> Universal:
    """A small model of contrasts with different numbers of channels."""
    channels = [CHANNELS[NAMES.index(name)] for name in names]

    def backbone(number: int = 0) -> DenseBackbone:
        torch.manual_seed(number)
        return DenseBackbone(channels=channels, dims=len(space), network=network, options=SMALL[network])

    codec = TargetCodec(target=Target(column="mask", kind="mask", classes=("core", "all")), prior=(0.1, 0.3))
    blanks = {name: {"voxels": torch.zeros(1, c, *space)} for name, c in zip(names, channels, strict=True)}
    torch.manual_seed(0)
    parts = Parts(
        names=names, codec=codec, backbone=backbone, blanks=blanks, seen=all_patterns(len(names)), options=options
    )
    method = Universal(parts=parts)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in sorted(method.named_parameters()):
            parameter += stir * torch.randn(parameter.shape, generator=draw)
    return method.eval()


def batch_of(space: Sequence[int], presence: torch.Tensor | None = None, names: Sequence[str] = NAMES) -> Batch:
    """Rows with every pattern, unless said otherwise."""
    presence = torch.from_numpy(all_patterns(len(names))) if presence is None else presence
    rows = len(presence)
    inputs = {}
    for m, name in enumerate(names):
        draw = torch.Generator().manual_seed(sum(map(ord, name)))
        whole = torch.rand(rows, CHANNELS[NAMES.index(name)], *space, generator=draw)
        if presence[:, m].any():
            inputs[name] = {"voxels": whole[presence[:, m]]}
    target = (torch.rand(rows, 2, *space, generator=torch.Generator().manual_seed(9)) < 0.3).float()
    return Batch(presence=presence, inputs=inputs, index=torch.arange(rows), target=target, space=tuple(space))


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("fill", ["reconstruction", "template"])
def test_every_pattern_gets_an_answer_of_every_voxel(space: Sequence[int], fill: str) -> None:
    method, batch = made(space, fill=fill), batch_of(space)
    output = method(batch)
    assert output.scores.shape == (7, 2, *space) and torch.isfinite(output.scores).all()
    for row in range(len(batch)):
        alone = batch.select(torch.arange(7) == row, NAMES)
        torch.testing.assert_close(method(alone).scores[0], output.scores[row], rtol=1e-4, atol=1e-4)
    shapes = {name: tuple(x.shape[1:]) for name, x in output.reconstructed.items()}
    expected = {name: (c, *space) for name, c in zip(NAMES, CHANNELS, strict=True)}
    assert shapes == (expected if fill == "reconstruction" else {})


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("template", ["scalar", "low", "full"])
@pytest.mark.parametrize("teacher", ["average", "apart", "shared", "copy"])
def test_both_stages_learn_and_leave_each_other_alone(space: Sequence[int], template: str, teacher: str) -> None:
    method, batch = made(space, template=template, teacher=teacher, patch=4), batch_of(space)
    for stage in method.stages():
        assert stage.learns is not None
        mine = {id(p) for p in stage.learns()}
        for training in (True, False):
            loss, grads = losses_and_gradients(method.train(training), batch, stage)
            assert torch.isfinite(loss).all()
            reached = {key for key, g in grads.items() if g is not None and g.any()}
            learns = {key for key, p in method.named_parameters() if id(p) in mine}
            assert reached <= learns, sorted(reached - learns)[:3]
            assert len(reached) > 0.6 * len(learns)


@pytest.mark.parametrize("look", ["moments", "sliced", "adversarial", "none"])
def test_poison_where_nothing_is_changes_no_bit(look: str) -> None:
    space = SPACES[0]
    full, hidden = batch_of(space, torch.ones(7, 3).bool()), torch.from_numpy(all_patterns(3))
    outcomes = []
    for poison in (0.0, torch.nan):
        inputs = {name: {"voxels": x["voxels"].clone()} for name, x in full.inputs.items()}
        for m, name in enumerate(NAMES):
            inputs[name]["voxels"][~hidden[:, m]] = poison
        batch = replace(full, inputs=inputs).restrict(hidden, NAMES)
        method = made(space, distribution=look, patch=4).train()
        grads = [losses_and_gradients(method, batch, stage) for stage in method.stages()]
        outcomes.append((grads, method.eval()(batch).scores))
    (first, scores), (second, same_scores) = outcomes
    assert torch.equal(scores, same_scores)
    for (loss, grads), (same_loss, same_grads) in zip(first, second, strict=True):
        assert torch.equal(loss, same_loss) and same_bits(grads, same_grads)


def test_what_is_truly_absent_is_learned_from_its_distribution_alone() -> None:
    space = SPACES[0]
    lacking = batch_of(space, torch.tensor([[False, True, True]] * 4))
    for look, reached in (("none", False), ("moments", True)):
        method = made(space, distribution=look, patch=4).train()
        stage = method.stages()[0]
        losses_and_gradients(method, batch_of(space), stage)
        _, grads = losses_and_gradients(method, lacking, stage)
        gradient = grads["body.imagination.say.bias"]
        assert gradient is not None and bool(gradient[0] != 0) == reached and gradient[1:].all()


def test_a_fresh_model_is_the_same_for_every_scenario() -> None:
    space = SPACES[0]
    batch, plain = batch_of(space), made(space, stir=0, generates="none")
    plain.body.head.scores.weight.data.normal_(generator=draw())  # type: ignore[union-attr,operator]
    for generates in ("all", "film", "residual", "head"):
        fresh = made(space, stir=0, generates=generates)
        fresh.load_state_dict(plain.state_dict(), strict=False)
        for pattern in all_patterns(3):
            scenario = torch.from_numpy(pattern).expand(len(batch), -1)
            expected, found = (m.body.see(batch, None, scenario).scores for m in (plain, fresh))
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        stirred = made(space, generates=generates)
        one, other = (
            stirred.body.see(batch, None, torch.tensor(s).expand(len(batch), -1)).scores
            for s in ([True, False, False], [True, True, True])
        )
        assert (one - other).abs().max() > 1e-4, generates


def test_what_a_row_has_is_kept_when_it_is_completed() -> None:
    space = SPACES[1]
    method, batch = made(space), batch_of(space)
    x, _ = method.body.imagination.voxels(batch)  # type: ignore[union-attr]
    completed = method.body.imagination.shown(batch, method.body.complete(batch))  # type: ignore[union-attr]
    there = batch.presence.repeat_interleave(torch.tensor(CHANNELS), dim=1)
    assert torch.equal(completed[there], x[there]) and completed[~there].abs().sum() > 0
    assert not method.body.complete(batch).requires_grad


def test_contrasts_in_another_order_give_the_same_losses() -> None:
    """Where a network has learned nothing about channels, order is a matter of names alone."""
    space, order = SPACES[0], [2, 0, 1]
    turned = [NAMES[m] for m in order]
    presence = torch.from_numpy(all_patterns(3))
    one, other = made(space, patch=4), made(space, turned, patch=4)
    columns = torch.arange(4).split(CHANNELS)
    places = torch.cat([columns[m] for m in order])
    for which in ("body.imagination.backbone", "body.backbone", "teacher.backbone"):
        first = f"{which}.net.convInit.conv.weight"
        other.get_parameter(first).data.copy_(one.get_parameter(first).data[:, places])
    for key in ("say.weight", "say.bias", "template.image"):
        name = f"body.imagination.{key}"
        other.get_parameter(name).data.copy_(one.get_parameter(name).data[places])
    batch, same = batch_of(space, presence), batch_of(space, presence[:, order], turned)
    torch.testing.assert_close(other(same).scores, one(batch).scores, rtol=1e-4, atol=1e-4)
    for stage, again in zip(one.stages(), other.stages(), strict=True):
        loss, _ = losses_and_gradients(one, batch, stage)
        same_loss, _ = losses_and_gradients(other, same, again)
        torch.testing.assert_close(same_loss, loss, rtol=1e-4, atol=1e-4)


def test_reconstructions_stand_beside_the_truth() -> None:
    found = made(SPACES[0]).reconstructions(batch_of(SPACES[0]))
    assert set(found) == set(NAMES)
    assert all(true.shape == guess.shape and len(true) == 1 for true, guess in found.values())


# ------------------------------------------------------------------------------------------------- what it is for


def told_by_another(rows: int, seed: int) -> pa.Table:
    """The mask is where A is bright; B tells A in part, turned round, and has something of its own. All is there."""
    rng = np.random.default_rng(seed)
    columns: dict[str, list[Any]] = {"split": [], "a": [], "b": [], "mask": []}
    for i in range(rows):
        one, own = (gaussian_filter(rng.normal(size=(16, 16)), 2, mode="wrap") for _ in range(2))
        one, own = one / one.std(), own / own.std()
        cells = {"a": 0.5 + 0.12 * one, "b": 0.5 - 0.12 * (0.85 * one + 0.53 * own), "mask": (one > 0.8).astype(int)}
        columns["split"].append("train" if i < rows // 2 else "val" if i < rows * 5 // 8 else "test")
        for name, cell in cells.items():
            columns[name].append(cell.tolist())
    return pa.table(columns)


def test_of_what_tells_it_in_part_more_is_made_than_by_zeros(tmp_path: Path) -> None:
    """Dice from B alone, of training rows that have both, against zeros in the place of A."""
    config = RunConfig(
        table="made",
        modality={"a": "volume", "b": "volume"},
        target="mask=mask",
        method="universal",
        model=Model(network_options={"features": [8] * 6}),
        training=Training(epochs=16, batch=12, validations=1, lr=1e-2),
    )
    report = train_run(config, tmp_path / "run", source=told_by_another(96, 0), page=False)
    scores = {line["pattern"]: (line["score"], line["reference"]) for line in report["patterns"]}
    assert scores["b"][0] > scores["b"][1] + 0.1
    assert scores["a"][0] > 0.6 and scores["a+b"][0] > 0.6


@pytest.mark.parametrize(("dims", "epochs", "teacher"), [(2, 2, "shared"), (3, 0.5, "apart")])
def test_it_learns_in_half_precision(dims: int, epochs: float, teacher: str, tmp_path: Path) -> None:
    data = scans.prepared(scans.rows(dims=dims, side=9))
    plain, half = (scans.method_of("universal", data, stir=0.0, imagine=0.5, teacher=teacher) for _ in range(2))
    for method, precision in ((plain, "no"), (half, "bf16")):
        settings = replace(scans.QUICK, epochs=epochs, precision=precision, lr=1e-3)
        scans.loop_of(method, data, tmp_path / precision, settings=settings).fit()
    for one, other in zip(plain.learned().values(), half.learned().values(), strict=True):
        assert one.dtype == other.dtype and torch.isfinite(other).all()
    scores = [m(scans.everything(data)).scores for m in (plain, half)]
    assert (scores[0] != scores[1]).any(), "it was half precision"
    assert (scores[0] - scores[1]).abs().max() < 0.2


@pytest.mark.parametrize("fill", ["template", "reconstruction"])
def test_of_voxels_too_what_only_training_needs_is_counted_apart(fill: str) -> None:
    """The template stays with what answers."""
    space = (8, 8)
    method, batch = made(space, fill=fill, distribution="adversarial").eval(), batch_of(space)
    found, scores = counted(method), method(batch).scores
    with torch.no_grad():
        for parameter in chain.from_iterable(method.scaffold().values()):
            parameter.fill_(torch.nan)
    assert torch.equal(scores, method(batch).scores)
    student = sum(p.numel() for p in method.body.answering())
    assert found["answering"] >= student + method.body.imagination.get_submodule("template").image.numel()  # type: ignore[union-attr, operator]
    assert set(found["scaffold"]) == {"imagination", "student"}


def test_where_contrasts_meet_late_a_template_is_none_of_them() -> None:
    """Answers and completions read what a row has; a network that sees all at once reads the template too."""
    space = (8, 8)
    batch = batch_of(space)
    for network, reads in (("FusionUNet", False), ("SegResNet", True)):
        method = made(space, network=network)
        assert isinstance(method.body, Dense)
        before = method(batch).scores, method.body.complete(batch)
        with torch.no_grad():
            for parameter in method.body.imagination.template.parameters():
                parameter += torch.randn(parameter.shape)
        for old, new in zip(before, (method(batch).scores, method.body.complete(batch)), strict=True):
            assert torch.equal(old, new) != reads


def test_where_contrasts_meet_late_a_reconstruction_is_read_as_one() -> None:
    """So do a teacher's rows differ from its student's, and a row of one contrast has a token of each."""
    space = (8, 8)
    batch = batch_of(space, torch.tensor([[True, False, False]]))
    method = made(space, network="FusionUNet", fill="reconstruction")
    assert isinstance(method.body, Dense)
    body, imagined = method.answerer, method.body.complete(batch)
    assert isinstance(body, Dense)
    one, other = (body.see(batch, x, batch.presence).scores for x in (imagined, imagined + 1))
    assert torch.equal(one, method(batch).scores)
    assert not torch.equal(one, other)
    assert not torch.equal(one, method.body.see(batch, None, batch.presence).scores)


@pytest.mark.parametrize("fill", ["template", "reconstruction"])
def test_where_contrasts_meet_late_both_stages_learn(fill: str) -> None:
    """Hidden patches of what is shown are the template's to fill, so it learns in stage 1."""
    space = (16, 16)
    method, batch = made(space, network="FusionUNet", fill=fill, whole=0.0).train(), batch_of(space)
    for stage in method.stages():
        losses, grads = losses_and_gradients(method, batch, stage)
        assert losses.isfinite().all()
        moved = grads["body.imagination.template.image"]
        assert (moved is not None and bool(moved.any())) == (stage.name == "imagine")
