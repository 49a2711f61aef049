from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.adaptation.zoo import adapted, animal, rows, trained
from torch import Tensor, nn

import absentia
from absentia.errors import UserError


class Spy(nn.Module):
    """Remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)
        self.seen: dict[str, Any] = {}

    def forward(self, a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
        Spy.last = {"a": a, "b": b, "mask": mask}
        return self.head(a + b)

    last: dict[str, Any]


def spied(filler: Any, example: Any = None, **options: Any) -> Any:
    return absentia.adapt(Spy(), modalities=["a", "b"], filler=filler, example=example, say=None, **options)


X = torch.arange(12.0).view(4, 3) + 1
PRESENCE = torch.tensor([[True, True], [False, True], [False, True], [True, False]])


@pytest.mark.parametrize(
    ("filler", "row"),
    [
        ("zeros", [0.0, 0.0, 0.0]),
        ({"a": 0.5}, [0.5, 0.5, 0.5]),
        ({"a": -1}, [-1.0, -1.0, -1.0]),
        ({"a": torch.tensor([1.0, 2.0, 3.0])}, [1.0, 2.0, 3.0]),
        ({"a": [1.0, 2.0, 3.0]}, [1.0, 2.0, 3.0]),
        ({"a": {"a": 2.0}}, [2.0, 2.0, 2.0]),
        ({"a": "learned"}, [0.0, 0.0, 0.0]),
    ],
)
def test_absent_rows_are_replaced_and_others_stay(filler: Any, row: list[float]) -> None:
    net = spied(filler, {"a": X, "b": X}, mixing="gather")
    with net.present(PRESENCE):
        net(a=X, b=X)
    assert torch.equal(Spy.last["a"][[0, 3]], X[[0, 3]]) and Spy.last["a"][[1, 2]].tolist() == [row, row]
    with net.present("b"):
        net(a=X, b=X)
        hidden = Spy.last["a"]
        net(a=None, b=X)
    assert torch.equal(Spy.last["a"], hidden) and hidden.tolist() == [row] * 4


def test_the_mean_is_that_of_rows_that_are_there() -> None:
    net = spied({"a": "mean"}, {"a": X, "b": X})
    with pytest.raises(UserError, match=r"filler 'mean' of a: nothing was measured; call measure\(loader\)"):
        net(a=None, b=X)
    net.measure([({"a": X, "b": X}, None, PRESENCE), ({"a": None, "b": X}, None), ({"a": X[:1], "b": X[:1]}, None)])
    net(a=None, b=X)
    assert torch.allclose(Spy.last["a"][0], X[[0, 3, 0]].mean(0))


def test_a_learned_row_gets_gradients_and_is_among_what_learns() -> None:
    net = spied({"a": "learned"}, {"a": X, "b": X})
    row = next(iter(net.fillers.parameters()))
    assert any(p is row for p in net.adapters())
    with net.present(PRESENCE):
        net(a=X, b=X).sum().backward()
    assert row.grad is not None and bool(row.grad.any())


def test_the_shape_of_an_absent_input_does_not_depend_on_the_calls_before() -> None:
    class Long(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.head(a).sum(1) + self.head(b).sum(1)

    long = torch.ones(2, 5, 3)
    net = absentia.adapt(Long(), modalities=["a", "b"], example={"a": long, "b": long}, say=None)
    first = net(a=None, b=long)
    net(a=torch.ones(2, 9, 3), b=long)
    assert torch.equal(net(a=None, b=long), first)


def test_whole_numbers_are_filled_with_whole_numbers() -> None:
    net = trained(adapted("words", filler={"a": 3}))
    arguments = rows("words")
    threes = torch.full_like(arguments["a"], 3)
    assert torch.equal(net(a=None, b=arguments["b"]), _with(net, "b", {**arguments, "a": threes}))


def _with(net: Any, pattern: str, arguments: dict[str, Any]) -> Tensor:
    with net.present(pattern):
        answer: Tensor = net(**arguments)
    return answer


def test_a_mask_beside_an_input_goes_with_it() -> None:
    inputs = {"a": ["a", "mask"], "b": "b"}
    net = spied({"a": {"mask": 1}}, None, inputs=inputs)
    mask = torch.tensor([[True, False, True]] * 4)
    with net.present("b"):
        net(a=X, b=X, mask=mask)
    assert bool(Spy.last["mask"].all()) and Spy.last["mask"].dtype == torch.bool
    net(a=None, b=X, mask=None)
    assert bool(Spy.last["mask"].all())
    assert spied({}, None, inputs=inputs)(a=X, b=X, mask=None) is not None
    assert Spy.last["mask"] is None


@pytest.mark.parametrize(
    ("filler", "words"),
    [
        ("zero", "filler of a: 'zero' is none; did you mean 'zeros'"),
        ({"c": "zeros"}, "filler: unknown modality 'c'; known: a, b"),
        ({"a": {"x": 1.0}}, "filler: unknown input 'x'; known: a"),
        ({"a": float("nan")}, "values that are not finite"),
        ({"a": [1.0, "x"]}, "expected zeros, mean, learned, skip, a number or a tensor of one row, not"),
        ({"a": object()}, "a number or a tensor of one row"),
    ],
)
def test_a_filler_that_is_none_is_an_error(filler: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        spied(filler)


def test_a_row_of_another_shape_is_an_error() -> None:
    net = spied({"a": torch.zeros(4)})
    with pytest.raises(UserError, match=r"filler of a: a row is \(3,\), the filler \(4,\)"), net.present("b"):
        net(a=X, b=X)


def test_what_was_never_seen_cannot_be_made_up() -> None:
    with pytest.raises(UserError, match=r"a is None and no row of it was ever seen.*give adapt an example="):
        spied({})(a=None, b=X)
    with pytest.raises(UserError, match="no row was seen; give adapt an example="):
        spied({"a": "learned"})(a=None, b=X)


def test_words_cannot_be_learned_and_the_network_stays_as_it_was() -> None:
    network = animal("words").train()
    with pytest.raises(UserError, match=r"filler 'learned' of a: it holds torch.int64"):
        adapted("words", network, filler={"a": "learned"})
    assert network.training and all(p.requires_grad for p in network.parameters())
