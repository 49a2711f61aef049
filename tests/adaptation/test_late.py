"""Without an example the first complete rows serve: sites are tried out, merges are checked, and it is said once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.adaptation.halves import TEST, TRAIN, Halves, adapted, batches, trained
from torch import Tensor, nn
from torch.nn import functional as F

from absentia.adaptation import Adapted, adapt
from absentia.errors import UserError

PARTS = {"left": "left", "right": "right"}


class Unused(Halves):
    """With a layer that runs for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Linear(6, 6)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        self.idle(left)
        return super().forward(left, right)


class Fixed(Halves):
    """Of forty rows and no other number."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return super().forward(left.view(40, 6), right.view(40, 6))


class Tied(nn.Module):
    """Whose head reads the weight of an embedding, where no merge can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.numbers = nn.Embedding(12, 8), nn.Linear(6, 8)

    def forward(self, words: Tensor, numbers: Tensor) -> Tensor:
        return (self.words(words).mean(dim=1) + self.numbers(numbers)) @ self.words.weight.T


def without(network: nn.Module | None = None, heard: list[str] | None = None, **more: Any) -> Adapted:
    say = None if heard is None else heard.append
    return adapt(network or trained(), modalities=PARTS, say=say, **more)


def fitted(net: Adapted, **more: Any) -> Adapted:
    net.fit(batches(TRAIN), loss=F.cross_entropy, **({"epochs": 1} | more))
    return net


def test_the_first_batch_finds_what_an_example_finds() -> None:
    net, known = fitted(without(Unused().eval())), adapted(network=Unused().eval())
    moving = [site.name for site in known.bank.sites]
    assert [s.name for s in net.plan.sites] == moving and net.bank.still == {"idle"}
    assert net.plan.folds == known.plan.folds and net.plan.axes == known.plan.axes and net.gathers
    assert [net.bank.count(n) for n in range(2)] == [known.bank.count(n) for n in range(2)]
    idle = next(site for site in net.bank.sites if site.name == "idle")
    assert all(not p.requires_grad and not p.any() for p in net.bank.raw(idle).values())


def test_it_is_said_once() -> None:
    heard: list[str] = []
    net = without(Unused().eval(), heard)
    assert any("not tried out" in line for line in heard)
    inputs = batches(TEST)[0][0]
    net(**inputs)
    fitted(fitted(net))
    net(**inputs)
    assert sum("the first batch serves as the example" in line for line in heard) == 1
    assert sum("the first complete rows serve as the example" in line for line in heard) == 1
    assert sum("idle (Linear)" in line for line in heard) == 1


def test_answers_are_those_of_patterns_apart() -> None:
    net = fitted(without(), lr=0.1)
    inputs = batches(TEST)[0][0]
    shown = torch.tensor([[True, True], [True, False], [False, True], [True, False]]).repeat(10, 1)
    with torch.no_grad(), net.present(shown):
        together = net(**inputs)
        net.mixing = "group"
        torch.testing.assert_close(together, net(**inputs))


@pytest.mark.parametrize("seen", ["fit", "calibrate", "forward"])
def test_a_merge_that_answers_otherwise_is_refused(seen: str) -> None:
    rows = {"words": torch.arange(40).view(8, 5) % 12, "numbers": torch.randn(8, 6)}
    net = adapt(Tied(), modalities={"words": "words", "numbers": "numbers"}, say=None)
    if seen == "fit":
        net.fit([(rows, torch.arange(8))], loss=F.cross_entropy, epochs=1)
    elif seen == "calibrate":
        net.calibrate([rows])
    else:
        net(**rows)
    with torch.no_grad():
        for parameter in net.adapters():
            parameter += 0.5
    with pytest.raises(UserError, match="answers the example otherwise"):
        net.merge("words")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_incomplete_rows_and_recorded_calls_serve_for_nothing() -> None:
    net = without()
    inputs = batches(TEST)[0][0]
    net.base(**inputs)
    net(left=inputs["left"], right=None)
    torch.jit.trace(net, (inputs["left"], inputs["right"]), check_trace=False)
    assert net.plan.example is None
    net(**inputs)
    kept = net.plan.example
    assert kept is not None and all(len(value) == 3 for value in kept.values())
    inputs["left"].add_(1)
    assert not kept["left"].equal(inputs["left"][:3])
    net(**batches(TEST)[1][0])
    assert net.plan.example is kept and not net.plan.tried


def test_a_loader_without_complete_rows_learns_as_before() -> None:
    heard: list[str] = []
    net = without(heard=heard)
    part = [(x, y, {"left": True, "right": False}) for x, y in batches(TRAIN)]
    net.fit(part, loss=F.cross_entropy, patterns=["left"], epochs=1)
    assert any("no row of the loader has every modality" in line for line in heard)
    assert not net.bank.still and net.plan.example is None


def test_a_network_that_does_not_run_on_three_rows_learns_as_before() -> None:
    heard: list[str] = []
    net = without(Fixed().eval(), heard)
    net.calibrate(batches(TRAIN), rows=40)
    assert any("three rows of the first batch cannot serve as an example" in line for line in heard)
    assert not net.bank.still


def test_a_head_that_does_not_run_last_is_said() -> None:
    heard: list[str] = []
    net = without(Unused().eval(), heard, kind="head-only")  # its idle layer stands last
    with pytest.raises(UserError, match="does not depend on the adapters"):
        fitted(net)
    assert any("'head' is what kind 'head-only' should adapt" in line for line in heard)


def test_files_go_to_and_fro(tmp_path: Path) -> None:
    network = Unused().eval()
    inputs = batches(TEST)[0][0]
    net = fitted(without(network), lr=0.1)
    path = net.save(tmp_path / "adapters", precision="float32")
    other = without(network)
    other.load(path)
    for one in (net, other):
        one(**inputs)  # the shapes are known now
    known = net(left=inputs["left"], right=None)
    torch.testing.assert_close(other(left=inputs["left"], right=None), known)
    net.load(path)
    assert net.bank.still == {"idle"}
    torch.testing.assert_close(net(left=inputs["left"], right=None), known, rtol=0, atol=0)
