from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.adaptation.zoo import adapted, numbers, patterns_of, rows, trained
from torch import nn

from absentia.adaptation.calls import Signature, Slot
from absentia.errors import UserError


class Plain(nn.Module):
    def forward(self, x1: Any, x2: Any = None, *, scale: float = 1.0) -> Any:
        return x1, x2, scale


class Rest(nn.Module):
    def forward(self, first: Any, *more: Any, flag: bool = False, **others: Any) -> Any:
        return first, more, flag, others


class Places(nn.Module):
    def forward(self, first: Any, second: Any = 2, /, third: Any = 3, *rest: Any) -> Any:
        return first, second, third, rest


@pytest.mark.parametrize("text", ["x", "x[0]", "x[12]", "x['key']", 'x["a b"]', "x[:, 2]", "x[:, 0:3]", "x[:,1]"])
def test_a_slot_is_read_and_written_where_it_was_spelled(text: str) -> None:
    slot = Slot.spelled(text)
    wide = torch.arange(8.0).view(2, 4)
    value: Any = wide
    if slot.key is not None:
        value = {slot.key: wide} if isinstance(slot.key, str) else [None] * slot.key + [wide]
    arguments = {"x": value, "y": 3}
    old = slot.read(arguments)
    slot.write(arguments, old + 1)
    assert torch.equal(slot.read(arguments), old + 1)
    assert torch.equal(wide, torch.arange(8.0).view(2, 4)), "what the caller gave is not changed"
    assert Slot.spelled(str(slot)) == slot
    assert arguments["y"] == 3


@pytest.mark.parametrize("text", ["", "x[", "x[-1]", "x[:]", "x[:, a]", "x.y", "x[0][1]", "x[:, 1:]", "x['']", "x y"])
def test_what_is_no_slot_is_an_error(text: str) -> None:
    with pytest.raises(UserError, match="expected an argument x, an item"):
        Slot.spelled(text)


@pytest.mark.parametrize("text", ["x[:, 3:3]", "x[:, 3:1]"])
def test_no_channels_are_an_error(text: str) -> None:
    with pytest.raises(UserError, match="no channel is from 3"):
        Slot.spelled(text)


@pytest.mark.parametrize(
    ("text", "value", "words"),
    [
        ("x[2]", [1, 2], "has no item 2"),
        ("x['c']", {"a": 1}, "has no item 'c'"),
        ("x[1]", 3.0, "has no item 1"),
        ("x[:, 2:5]", torch.zeros(2, 4), r"no such channels, it is \(2, 4\)"),
        ("x[:, 0]", torch.zeros(2), "no such channels"),
        ("x[:, 0]", [1], "it is a list"),
    ],
)
def test_what_is_not_there_cannot_be_read(text: str, value: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Slot.spelled(text).read({"x": value})


def test_items_of_what_is_none_are_absent_and_can_be_written() -> None:
    for text, expected in (("x[1]", [None, 5]), ("x['k']", {"k": 5}), ("x", 5)):
        arguments: dict[str, Any] = {"x": None}
        assert Slot.spelled(text).read(arguments) is None
        Slot.spelled(text).write(arguments, 5)
        assert arguments["x"] == expected


def test_channels_cannot_be_none() -> None:
    slot = Slot.spelled("x[:, 0:1]")
    for arguments, value in (({"x": None}, torch.zeros(1)), ({"x": torch.zeros(2, 2)}, None)):
        with pytest.raises(UserError, match=r"present\(...\)"):
            slot.write(arguments, value)


@pytest.mark.parametrize(
    ("network", "args", "kwargs"),
    [
        (Plain(), (1, 2), {}),
        (Plain(), (1,), {"x2": 2, "scale": 3.0}),
        (Plain(), (), {"x2": 2, "x1": 1}),
        (Plain(), (), {"a": 1, "b": 2}),
        (Plain(), (1,), {"b": 2}),
        (Rest(), (1, 2), {}),
        (Rest(), (1, 2, 3), {"flag": True, "other": 5}),
        (Rest(), (), {"a": 1, "b": 2, "other": 5}),
        (Rest(), (1,), {"b": 2}),
        (Places(), (1, 2), {}),
        (Places(), (1, 2, 3, 4), {}),
        (Places(), (), {"a": 1, "b": 2}),
        (Places(), (1,), {"b": 2, "third": 4}),
    ],
)
def test_a_call_reaches_the_network_as_it_was_made(
    network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    signature = Signature(network, ["a", "b"], {})
    bound = signature.bind(args, kwargs)
    assert [signature.slots[n][0].read(bound) for n in ("a", "b")] == [1, 2]
    answer = signature.call(network, bound)
    rest = {name: value for name, value in kwargs.items() if name not in ("a", "b")}
    names = {Plain: ("x1", "x2"), Rest: ("first",), Places: ()}[type(network)]  # type: ignore[index]
    given = [1, 2, *args[2:]]
    known = dict(zip(names, given, strict=False))
    expected = network(**(rest | known)) if isinstance(network, Plain) else network(*given, **rest)
    assert answer == expected


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((), {}, "'a' was not given; say x1=None if it is absent"),
        ((1,), {}, "'b' was not given; say x2=None"),
        ((1, 2, 3), {}, "too many positional arguments"),
        ((1, 2), {"x1": 3}, "multiple values for argument 'x1'"),
        ((1, 2), {"a": 3}, "unexpected keyword argument 'a'"),
        ((1, 2), {"x": 3}, "unexpected keyword argument 'x'"),
        ((), {"a": 1, "x1": 1, "b": 2}, "unexpected keyword argument 'a'"),
    ],
)
def test_another_call_is_an_error_that_shows_the_signature(
    args: tuple[Any, ...], kwargs: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        Signature(Plain(), ["a", "b"], {}).bind(args, kwargs)


@pytest.mark.parametrize(
    ("names", "inputs", "words"),
    [
        (["a", "b", "c", "d"], {}, "no place for 'c'; say which argument"),
        (["x1", "b"], {}, "and no 'b'; say which argument it is by inputs={'b': ...}"),
        (["a"], {"b": "x1"}, "inputs: unknown modality 'b'; did you mean|known: a"),
        (["a"], {"a": "x3"}, "inputs of 'a': the network takes no 'x3'; known: x1, x2, scale"),
        (["a"], {"a": "x1["}, "expected an argument"),
        (["a"], {"a": []}, "none are given"),
        (["a", "b"], {"a": "x1", "b": "x1"}, "x1 of 'b' and x1 of 'a' are the same"),
        (["a", "b"], {"a": "x1", "b": "x1[0]"}, "are the same"),
        (["a", "b"], {"a": "x1[:, 0:3]", "b": "x1[:, 2:4]"}, "are the same"),
        (["a"], {"a": ["x1", "x1"]}, "are the same"),
    ],
)
def test_inputs_that_do_not_fit_are_an_error(names: list[str], inputs: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Signature(Plain(), names, inputs)


def test_parts_of_one_argument_that_do_not_meet_are_fine() -> None:
    Signature(Plain(), ["a", "b"], {"a": "x1[:, 0:3]", "b": "x1[:, 3]"})
    Signature(Plain(), ["a", "b"], {"a": "x1[0]", "b": "x1[1]"})


@pytest.mark.parametrize(
    "name", ["list", "mapping", "star", "half a star", "keywords", "any keywords", "position only"]
)
def test_none_in_its_place_is_what_present_says(name: str) -> None:
    net = trained(adapted(name))
    arguments = rows(name)
    for m, pattern in enumerate(("b", "a")):
        bound = net.plan.signature.bind([], arguments)
        net.plan.signature.slots[net.names[m]][0].write(bound, None)
        if name in ("list", "mapping"):
            given: dict[str, Any] = bound
        else:
            given = {**arguments, net.names[m]: None}
        with net.present(pattern):
            expected = net(**arguments)
        assert all(map(torch.equal, numbers(net(**given)), numbers(expected)))


def test_views_that_are_none_altogether_leave_nothing() -> None:
    with pytest.raises(UserError, match="every modality is None"):
        adapted("list")(views=None)
    with pytest.raises(UserError, match="has no item 1; say None there"):
        adapted("list")(views=[torch.zeros(2, 3, dtype=torch.float64)])


def test_what_is_given_stays_as_it_is() -> None:
    net = trained(adapted("mapping"))
    arguments = rows("mapping")
    views, copies = arguments["views"], {k: v.clone() for k, v in arguments["views"].items()}
    for pattern in patterns_of(net):
        with net.present(pattern):
            net(**arguments)
    assert views is arguments["views"] and all(torch.equal(views[k], copies[k]) for k in copies)


def test_a_network_without_a_readable_signature_is_an_error() -> None:
    class Built(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.forward = type  # type: ignore[assignment,method-assign]

    with pytest.raises(UserError, match="cannot be read"):
        Signature(Built(), ["a"], {})
