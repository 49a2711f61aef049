from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from absentia.adaptation.nested import joined, mapped, tensors
from absentia.errors import UserError

Pair = namedtuple("Pair", "one two")


@dataclass(frozen=True)
class Frozen:
    one: Tensor
    more: list[Any] = field(default_factory=list)
    name: str = "x"


FORMS: dict[str, Any] = {
    "tensor": lambda t: t,
    "tuple": lambda t: (t, (t * 2, None)),
    "list": lambda t: [t, 3, "word"],
    "dict": lambda t: {"b": t, "a": {"c": t * 3}},
    "namedtuple": lambda t: Pair(t, t + 1),
    "dataclass": lambda t: Frozen(t, [t * 2, {"k": t}]),
    "dataclass in a tuple": lambda t: (1, Frozen(t), t),
    "dataclass in itself": lambda t: Frozen(t, [Frozen(t * 2)]),
    "of transformers": lambda t: BaseModelOutput(last_hidden_state=t, hidden_states=(t, t * 2)),
}


@pytest.mark.parametrize("form", FORMS)
def test_outputs_of_any_form_are_joined_by_rows(form: str) -> None:
    x = torch.arange(10.0).view(5, 2)
    groups = [torch.tensor([3, 0]), torch.tensor([1]), torch.tensor([4, 2])]
    whole = joined([FORMS[form](x[g]) for g in groups], groups)
    expected = FORMS[form](x)
    assert type(whole) is type(expected)
    assert len(tensors(whole)) == len(tensors(expected)) > 0
    assert all(map(torch.equal, tensors(whole), tensors(expected)))


@pytest.mark.parametrize("form", FORMS)
def test_every_tensor_is_changed_and_nothing_else(form: str) -> None:
    x = torch.arange(4.0).view(2, 2)
    before = FORMS[form](x)
    after = mapped(before, lambda t: t[1:])
    assert all(torch.equal(b, a[1:]) for a, b in zip(tensors(before), tensors(after), strict=True))
    assert all(len(t) == 2 for t in tensors(before))
    assert type(after) is type(before)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([torch.tensor(1.0), torch.tensor(2.0)], r"\(\) has no row for each of its 2 inputs"),
        ([torch.zeros(3, 2), torch.zeros(3, 2)], "no row for each"),
        ([torch.zeros(2, 3), torch.zeros(1, 4)], r"differ in shape from pattern to pattern \(\(2, 3\), \(1, 4\)\)"),
        ([(torch.zeros(2), 1.0), (torch.zeros(1), 2.0)], "holds 1.0 for one pattern and another value"),
        ([(torch.zeros(2), None), (torch.zeros(1), torch.zeros(1))], "holds None"),
        ([[torch.zeros(2)], [torch.zeros(1), torch.zeros(1)]], "differ in form"),
    ],
)
def test_what_has_no_rows_cannot_be_joined(parts: list[Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        joined(parts, [torch.tensor([0, 2]), torch.tensor([1])])


def test_rows_may_lie_along_another_axis_of_an_output() -> None:
    x, groups = torch.arange(32.0).view(2, 4, 4), [torch.tensor([3, 0]), torch.tensor([1, 2])]
    parts = [{"a": x[:, g], "b": 3, "c": x[:, :, g], "d": x.movedim(1, 0)[g]} for g in groups]
    whole = joined(parts, groups, (1, 2))
    assert torch.equal(whole["a"], x) and torch.equal(whole["c"], x)
    assert torch.equal(whole["d"], x.movedim(1, 0))
