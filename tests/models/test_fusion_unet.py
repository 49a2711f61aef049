"""A network whose contrasts meet late: what is absent has no encoder, no token and no say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests import scans
from tests.laws import assert_close, assert_steps_are_their_patterns, by_pattern, same_bits, score_gradients
from tests.poison import poison_tensors
from torch import Tensor

from absentia.config import Model
from absentia.jobs import train_run
from absentia.layers.subsets import all_patterns
from absentia.learn.prepare import Prepared
from absentia.models.dense import DenseBackbone
from absentia.models.fusion_unet import FusionUNet
from absentia.pretrain import pretrain_run

SMALL: dict[str, Any] = {"features": [4, 4, 8], "depth": 1, "heads": 2}
FUSION = Model(network="FusionUNet", network_options=SMALL)
THERE = torch.from_numpy(all_patterns(3))


@pytest.fixture(scope="module")
def data() -> Prepared:
    return scans.prepared()


def network(dims: int = 2, channels: tuple[int, ...] = (1, 2, 1)) -> FusionUNet:
    torch.manual_seed(0)
    net = FusionUNet(channels=channels, dims=dims, features=(4, 4, 8), depth=1, heads=2)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return net


def contrasts(dims: int = 2, rows: int = 7, side: int = 8) -> Tensor:
    return torch.rand(rows, 4, *[side] * dims, generator=torch.Generator().manual_seed(1))


def hidden(x: Tensor, there: Tensor, by: float) -> Tensor:
    by_channel = there.repeat_interleave(torch.tensor([1, 2, 1]), dim=1)
    return x.masked_fill(~by_channel.view(*by_channel.shape, *[1] * (x.dim() - 2)), by)


@pytest.mark.parametrize("dims", [2, 3])
def test_what_is_absent_is_not_read(dims: int) -> None:
    outcomes = []
    for poison in (0.0, torch.nan):
        net = network(dims)
        out = net(hidden(contrasts(dims), THERE, poison), THERE)
        out.square().sum().backward()
        outcomes.append((out, {name: p.grad for name, p in net.named_parameters()}))
    (one, grads), (other, others) = outcomes
    assert torch.equal(one, other) and same_bits(grads, others) and torch.isfinite(one).all()


def test_rows_of_all_patterns_together_are_their_patterns_alone() -> None:
    net, x = network(), contrasts()
    together = net(x, THERE)
    for row in range(7):
        torch.testing.assert_close(net(x[row : row + 1], THERE[row : row + 1])[0], together[row], rtol=1e-4, atol=1e-5)
        left = [i for i in range(7) if i != row]
        torch.testing.assert_close(net(x[left], THERE[left]), together[left], rtol=1e-4, atol=1e-5)


def test_an_absent_contrast_costs_nothing_and_learns_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = network(), contrasts()
    seen: list[tuple[int, int]] = []
    for m, encoder in enumerate(net.encoders):
        encoder.register_forward_hook(lambda _, given, __, m=m: seen.append((m, len(given[0]))))
    there = torch.tensor([[True, False, False]] * 3 + [[True, False, True]] * 4)
    net(x, there).sum().backward()
    assert seen == [(0, 7), (2, 4)], "rows that have it, and no others"
    mine = [p for name, p in net.named_parameters() if name.split(".")[0] in ("encoders", "merges", "starts", "kinds")]
    gone = [p for name, p in net.named_parameters() if ".".join(name.split(".")[:2]) in ("encoders.1", "merges.1")]
    assert gone and all(p.grad is None for p in gone) and any(p.grad is not None for p in mine)


def test_the_order_of_contrasts_is_a_matter_of_names() -> None:
    net, x = network(), contrasts()
    order, channels = [2, 0, 1], [3, 0, 1, 2]
    turned = network(channels=(1, 1, 2))
    state = net.state_dict()
    for key in turned.state_dict():
        part, _, rest = key.partition(".")
        if part in ("encoders", "merges", "starts", "kinds"):
            m, dot, tail = rest.partition(".")
            state[key] = net.state_dict()[f"{part}.{order[int(m)]}{dot}{tail}"]
    turned.load_state_dict(state)
    torch.testing.assert_close(turned(x[:, channels], THERE[:, order]), net(x, THERE), rtol=1e-4, atol=1e-5)


def test_other_contrasts_have_a_say_through_the_transformer() -> None:
    """Beyond the mean of features: with those of the other contrast held still, its tokens still matter."""
    net, x = network(), contrasts()
    x.requires_grad_(True)
    both = torch.tensor([[True, False, True]] * 7)
    found = net(x, both)
    gradient = torch.autograd.grad(found.sum(), x)[0]
    assert gradient[:, 0].any() and gradient[:, 3].any() and not gradient[:, 1:3].any()
    assert not torch.allclose(found, net(x, torch.tensor([[True, False, False]] * 7)))
    assert torch.isfinite(net(x, torch.zeros(7, 3, dtype=torch.bool))).all(), "nothing at all reads everything"


def test_fewer_contrasts_in_another_order_are_given_to_their_own_encoders() -> None:
    torch.manual_seed(0)
    whole = DenseBackbone(channels=[1, 2, 1], dims=2, network="FusionUNet", options=SMALL).eval()
    x = contrasts()
    there = torch.tensor([[True, False, True]] * 7)
    expected = whole(x, there=there)
    part = whole.given([[3], [0]])
    for found in (part(x[:, [3, 0]]), part(x[:, [3, 0]], there=torch.ones(7, 2, dtype=torch.bool))):
        torch.testing.assert_close(found, expected)


def test_a_step_is_its_patterns_and_poison_changes_no_bit(data: Prepared) -> None:
    method, batch = scans.method_of("dropout", data, model=FUSION), scans.everything(data)
    whole = method(batch)
    for rows, part in by_pattern(batch, data.names):
        assert_close(method(part), whole, rows)
    assert_steps_are_their_patterns(method, data)
    batch = replace(batch, memo=None)
    shown = batch.presence & (torch.rand(batch.presence.shape, generator=torch.Generator().manual_seed(2)) < 0.5)
    bad = replace(poison_tensors(batch, shown, data.names), space=batch.space)
    weights = torch.randn(len(batch), 2, *batch.space, generator=torch.Generator().manual_seed(0))
    assert same_bits(*(score_gradients(method, b.restrict(shown, data.names), weights) for b in (batch, bad)))


@pytest.mark.parametrize("method", ["dropout", "ignore", "dedicated", "universal"])
def test_every_method_for_masks_takes_it(method: str, tmp_path: Path) -> None:
    config = scans.config(method, model=FUSION, reference=False)
    report = train_run(config, tmp_path / "run", source=scans.table(scans.rows()), page=False)
    assert len(report["patterns"]) == 7


def test_it_is_pretrained_and_taken_up(tmp_path: Path) -> None:
    pretrain_run(scans.config("universal", model=FUSION), tmp_path / "b", source=scans.table(scans.rows(dims=3)))
    config = scans.config("dropout", model=Model(backbone=str(tmp_path / "b"), freeze=True), reference=False)
    config = replace(config, modality={"flair": "volume", "t1": "volume"})
    report = train_run(config, tmp_path / "run", source=scans.table(scans.rows(dims=3)), page=False)
    assert report["backbone"]["sizes"]["network"] == "FusionUNet" and len(report["patterns"]) == 3
