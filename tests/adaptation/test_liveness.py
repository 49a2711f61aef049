from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.adaptation.zoo import ZOO, adapted, difference, rows
from torch import Tensor, nn
from torch.nn import functional as F

import absentia
from absentia.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("name", [name for name in ZOO if name != "vilt"])
def test_every_site_moves_the_output_with_gradients_and_without(name: str, grad: bool) -> None:
    net = adapted(name)
    pattern = "+".join(net.names[:1])
    for site in net.bank.sites:
        with net.present(pattern), torch.set_grad_enabled(grad):
            before = net(**rows(name))
            values = [v.data for v in net.bank.raw(site).values()]
            for value in values:
                value += 0.5
            moved = difference(before, net(**rows(name)))
            for value in values:
                value -= 0.5
        assert (moved > 1e-6) == (site.owner in (None, net.names[0])), site.name


class Bypassing(nn.Module):
    """Sites that are there, learn, or even run, and change nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(3, 4)
        self.around = nn.Linear(4, 4)
        self.lost, self.unused, self.constant = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.fast, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        x = self.a(a).tanh() + self.b(b)
        x = F.linear(x, self.around.weight)
        self.lost(x)
        x = x + self.constant(x).detach() * 0
        x = self.fast(x) if torch.is_grad_enabled() else F.linear(x, self.fast.weight, self.fast.bias)
        return self.head(x)


def test_sites_that_change_nothing_are_listed_with_the_reason() -> None:
    heard: list[str] = []
    x = torch.randn(4, 3)
    net = absentia.adapt(Bypassing(), modalities=["a", "b"], example={"a": x, "b": x}, say=heard.append)
    assert [site.name for site in net.bank.sites] == ["a", "b", "head"]
    reasons = {one.name: one.reason for one in net.plan.left}
    assert reasons["around"] == reasons["unused"] == "never runs on the example"
    assert reasons["lost"] == reasons["constant"] == "runs, but the output does not depend on it"
    assert reasons["fast"] in ("without gradients the network goes around it", "never runs on the example")
    assert all(any(name in line for line in heard) for name in reasons)


@pytest.mark.parametrize("kind", ["scale-shift", "low-rank", "compositional", "bias"])
def test_torchs_fused_encoder_does_not_go_around_adapters(kind: str) -> None:
    for name in ("encoder, relu", "encoder, gelu", "encoder, padding"):
        assert not [one for one in adapted(name, kind=kind).plan.left if "goes around" in one.reason]


def test_a_network_that_answers_whole_numbers_alone_has_no_site_that_moves_it() -> None:
    class Deciding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 4)

        def forward(self, a: Tensor, b: Tensor) -> Any:
            return self.a(a + b).argmax(-1)

    with pytest.raises(
        UserError, match=r"no site moves the output of the network on the example: a \(Linear\), runs, but"
    ):
        absentia.adapt(Deciding().double(), modalities=["a", "b"], example=rows("any keywords"), say=None)


def test_a_site_that_gives_no_tensor_is_an_error() -> None:
    class Odd(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            return {"x": super().forward(x), "nothing": 3}

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = Odd(3, 4)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.a(a + b)["x"]  # type: ignore[no-any-return]

    with pytest.raises(UserError, match="'a' gives a dict, not a tensor; exclude it"):
        absentia.adapt(Network(), modalities=["a", "b"], example={n: torch.randn(3, 3) for n in "ab"}, say=None)
    net = absentia.adapt(Network(), modalities=["a", "b"], say=None)
    with pytest.raises(UserError, match="exclude it"), net.present("a"):
        net(a=torch.zeros(3, 3), b=torch.zeros(3, 3))
