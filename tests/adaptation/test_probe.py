from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.adaptation.zoo import ZOO, adapted, animal, rows
from torch import Tensor, nn

import absentia
from absentia.adaptation.calls import Signature
from absentia.adaptation.probe import Fold, Probed, probed
from absentia.adaptation.sites import Filter, find_sites
from absentia.errors import UserError


def probe(name: str, example: dict[str, Any] | None = None) -> Probed:
    one, network = ZOO[name], animal(name)
    signature = Signature(network, list(one.modalities), one.inputs or {})
    bound = signature.bind([], example or rows(name))
    return probed(network, signature, find_sites(network, Filter())[0], bound)


@pytest.mark.parametrize("major", [True, False])
def test_a_fold_puts_patterns_where_the_rows_are(major: bool) -> None:
    ids = torch.tensor([4, 5])
    assert Fold(0, 3, major).rows(ids).ids.tolist() == ([4, 4, 4, 5, 5, 5] if major else [4, 5] * 3)
    assert Fold(1, 1, major).rows(ids).ids is ids


@pytest.mark.parametrize(
    ("name", "site", "expected"),
    [
        ("windows", "inner.0", Fold(0, 2, True)),
        ("windows", "attention.in_proj", Fold(0, 2, True)),
        ("frames", "inner.0", Fold(0, 2, False)),
        ("frames", "conv", Fold(0, 2, False)),
        ("frames", "head", Fold(0, 1, True)),
        ("rows last", "conv", Fold(2, 1, True)),
        ("encoder, rows second", "encoder.layers.0.linear1", Fold(1, 1, True)),
        ("gru, rows second", "rnn.l1", Fold(1, 1, True)),
        ("lstm, packed", "rnn.l0", None),
        ("gru, packed", "rnn.l0", None),
        ("mixing within", "head", None),
        ("batch statistics", "norm", None),
        ("words", "places", None),
    ],
)
def test_rows_are_found_where_they_are(name: str, site: str, expected: Fold | None) -> None:
    assert probe(name).folds[site] == expected


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_an_example_may_have_any_number_of_rows(count: int) -> None:
    one = probe("frames", rows("frames", count))
    assert one.folds["inner.0"] == Fold(0, 2, False)


@pytest.mark.parametrize(("name", "mixes"), [("mixing at the end", True), ("mixing within", True), ("dict", False)])
def test_rows_that_show_in_each_others_answers_are_seen(name: str, mixes: bool) -> None:
    assert probe(name).mixes is mixes


def test_sites_depend_on_what_reaches_them() -> None:
    found = probe("conv fusion").depends
    assert found["encoders.rgb.0"] == {"rgb"} and found["encoders.depth.1"] == {"depth"}
    assert found["fusion.linear1"] == found["head"] == {"rgb", "depth"}
    assert probe("words").depends["places"] == set()
    assert probe("shared").depends["first"] == {"a", "b"}


def test_a_network_is_in_the_mode_that_it_was_in_and_no_number_of_it_changed() -> None:
    network = animal("conv fusion").train()
    network.fusion.eval()  # type: ignore[union-attr,operator]
    modes = [m.training for m in network.modules()]
    state = {k: v.clone() for k, v in network.state_dict().items()}
    draws = torch.get_rng_state()
    adapted("conv fusion", network).detach()
    assert [m.training for m in network.modules()] == modes
    assert all(torch.equal(state[k], v) for k, v in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), draws)
    assert not any(m._forward_hooks for m in network.modules())


def test_a_network_that_fails_leaves_nothing_behind() -> None:
    class Failing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 2)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            raise ZeroDivisionError

    network = Failing().train()
    with pytest.raises(ZeroDivisionError):
        absentia.adapt(network, modalities=["a", "b"], example=rows("keywords"), say=None)
    assert network.training and network.a.weight.requires_grad and not network.a._forward_hooks


def test_rows_that_a_network_folds_by_itself_are_not_mistaken_for_columns() -> None:
    """As many channels, places and rows as the probe has rows."""

    class Square(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 3, 1), nn.Linear(3, 3)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.head(self.conv(a + b))

    x = torch.randn(3, 3, 3, 3)
    net = absentia.adapt(Square(), modalities=["a", "b"], example={"a": x, "b": x}, say=None)
    assert net.plan.folds == {"conv": Fold(0, 1, True), "head": Fold(0, 1, True)}


class Sorting(nn.Module):
    """Rows from the longest to the shortest inside, and as they were in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, a: Tensor, b: Tensor, lengths: Tensor) -> Tensor:
        order = lengths.argsort(descending=True, stable=True)
        inside = self.a(a[order]).tanh()
        return self.head(inside[order.argsort()] + self.b(b))


@pytest.mark.parametrize(
    ("lengths", "why"),
    [([6, 5, 4], "at 'a' rows look at"), ([6, 6, 4], "at 'a'"), ([4, 4, 4], "'lengths' is the same")],
)
def test_rows_that_are_sorted_inside_are_seen_though_the_example_is_in_order(lengths: list[int], why: str) -> None:
    example = {"a": torch.randn(3, 3), "b": torch.randn(3, 3), "lengths": torch.tensor(lengths)}
    net = absentia.adapt(Sorting(), modalities=["a", "b"], example=example, say=None)
    assert why in net.plan.why_not and not net.gathers
    with torch.no_grad():
        for parameter in net.adapters():
            parameter += torch.randn(parameter.shape)
    x, y, present = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([[True, False], [True, True]] * 2)
    with net.present(present):
        mixed = net(x, y, torch.tensor([1, 3, 2, 4]))
    alone = net(x[:1], None, torch.tensor([1]))
    torch.testing.assert_close(mixed[:1], alone)


@pytest.mark.parametrize(
    ("example", "words"),
    [
        ({"a": torch.zeros(3, 3), "b": torch.zeros(4, 3)}, "have \\[3, 4\\] rows"),
        ({"a": torch.zeros(0, 3), "b": torch.zeros(0, 3)}, "have \\[0\\] rows"),
        ({"a": torch.zeros(3, 3), "b": None}, "'b' is None; an example has a tensor"),
        ({"a": torch.zeros(3, 3)}, "'b' was not given"),
        ({"a": torch.zeros(3, 3), "b": 1.0}, "'b' is 1.0"),
        ({"a": torch.zeros(3, 3), "b": torch.tensor(1.0)}, "'b' is a single number"),
    ],
)
def test_an_example_that_shows_too_little_is_an_error(example: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        adapted("keywords", example=example)
