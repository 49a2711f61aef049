"""The gate is the published one for two modalities, and lets what is absent say nothing, for any number of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from absentia.layers.gate import GatedFusion
from absentia.layers.shared_trunk import Trunk
from absentia.layers.subsets import all_patterns

D = 6
NAMES = ["a", "b", "c"]


def stirred(names: list[str], *, batch_norm: bool = False) -> GatedFusion:
    torch.manual_seed(0)
    gate = GatedFusion(names=names, width=D, batch_norm=batch_norm).double()
    for parameter in gate.parameters():
        nn.init.normal_(parameter)
    return gate


def rows(count: int, names: list[str]) -> tuple[dict[str, Tensor], Tensor]:
    """Unit vectors of rows in every pattern, and their presence."""
    patterns = torch.from_numpy(all_patterns(len(names)))
    presence = patterns[torch.arange(count) % len(patterns)]
    parts = {
        name: torch.randn(int(presence[:, m].sum()), D, dtype=torch.double, requires_grad=True)
        for m, name in enumerate(names)
        if presence[:, m].any()
    }
    return parts, presence


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_two_modalities_are_fused_as_published(batch_norm: bool, training: bool) -> None:
    """k tanh(a) + (1 - k) tanh(b), k = sigmoid(W2 relu(norm(W1 [a, b] + c1)) + c2), written out."""
    gate = stirred(["a", "b"], batch_norm=batch_norm).train(training)
    a, b = torch.randn(2, 9, D, dtype=torch.double)
    first, norm, _, last = gate.gate  # type: ignore[misc]
    x = torch.cat([a, b], dim=1) @ first.weight.T + first.bias  # type: ignore[operator]
    if batch_norm:
        mean, variance = (x.mean(0), x.var(0, unbiased=False)) if training else (0.0, torch.ones(D).double())
    else:
        mean, variance = x.mean(1, keepdim=True), x.var(1, unbiased=False, keepdim=True)
    x = (x - mean) / (variance + 1e-5).sqrt() * norm.weight + norm.bias  # type: ignore[operator]
    k = torch.sigmoid(x.clamp(min=0) @ last.weight.T + last.bias)  # type: ignore[operator]
    expected = k * torch.tanh(a) + (1 - k) * torch.tanh(b)
    found = gate({"a": a, "b": b}, torch.ones(9, 2, dtype=torch.bool), ["a", "b"])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_the_published_network_has_as_many_parameters() -> None:
    """Two branches of 128 units on 512 numbers, the gate, and a classifier of 901 people (released code)."""
    shape = {"inputs": 512, "width": 128, "depth": 1, "norm": "batch", "dropout": 0.5}
    parts = [Trunk(names=[name], **shape) for name in ("face", "voice")]  # type: ignore[arg-type]
    gate = GatedFusion(names=["face", "voice"], width=128, batch_norm=True)
    count = sum(p.numel() for module in (*parts, gate, nn.Linear(128, 901)) for p in module.parameters())
    assert count == 297_733


def test_a_modality_alone_is_its_tanh() -> None:
    gate, eye = stirred(NAMES), torch.eye(3).bool()
    parts = {name: torch.randn(1, D, dtype=torch.double) for name in NAMES}
    found = gate(parts, eye, NAMES)
    torch.testing.assert_close(found, torch.cat([torch.tanh(parts[name]) for name in NAMES]))
    lone = stirred(["a"])
    assert not list(lone.parameters())
    assert torch.equal(lone({"a": parts["a"]}, torch.ones(1, 1).bool(), ["a"]), torch.tanh(parts["a"]))


def test_a_row_is_the_same_whoever_shares_its_batch_and_in_any_order_of_modalities() -> None:
    gate, (parts, presence) = stirred(NAMES), rows(14, NAMES)
    whole = gate(parts, presence, NAMES)
    turned = [2, 0, 1]
    other = gate(parts, presence[:, turned], [NAMES[m] for m in turned])
    torch.testing.assert_close(other, whole, rtol=0, atol=1e-12)
    for i in range(len(presence)):
        own = {name: parts[name][int(presence[:i, m].sum())][None] for m, name in enumerate(NAMES) if presence[i, m]}
        torch.testing.assert_close(gate(own, presence[i : i + 1], NAMES)[0], whole[i], rtol=0, atol=1e-12)


def test_what_is_absent_has_no_say_and_gets_no_gradient() -> None:
    gate, (parts, presence) = stirred(NAMES), rows(14, NAMES)
    found = gate(parts, presence, NAMES)
    without_b = ~presence[:, 1]
    (gradient,) = torch.autograd.grad(found[without_b].sum(), parts["b"], allow_unused=True)
    assert gradient is None or not gradient.any()
    moved = parts | {"b": parts["b"] + 1}
    assert torch.equal(gate(moved, presence, NAMES)[without_b], found[without_b])
    assert not torch.equal(gate(moved, presence, NAMES)[~without_b], found[~without_b])
    weight = gate.gate[0].weight  # type: ignore[index, union-attr]
    (gradient,) = torch.autograd.grad(gate(parts, presence, NAMES)[without_b].sum(), weight)  # type: ignore[arg-type]
    assert not gradient[:, D : 2 * D].any() and gradient[:, :D].any()


def test_it_begins_as_the_mean() -> None:
    gate = GatedFusion(names=NAMES, width=D, batch_norm=False).double()
    parts, presence = rows(14, NAMES)
    found = gate(parts, presence, NAMES)
    for i in (0, 3, 6, 10):
        own = [parts[n][int(presence[:i, m].sum())] for m, n in enumerate(NAMES) if presence[i, m]]
        torch.testing.assert_close(found[i], torch.tanh(torch.stack(own)).mean(dim=0), rtol=0, atol=1e-12)
