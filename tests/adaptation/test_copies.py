"""Copies of an adapted network answer alike and share nothing; a pickle is refused with what to do instead."""

from __future__ import annotations

import copy
import pickle  # noqa: TID251  (refused)
from typing import Any

import pytest
import torch
from tests.adaptation.halves import adapted as halves
from tests.adaptation.halves import batches
from tests.adaptation.zoo import ZOO, adapted, patterns_of, rows, trained
from torch import nn

from absentia.adaptation.nested import tensors
from absentia.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")


def numbers(net: Any, arguments: dict[str, Any], pattern: str) -> list[torch.Tensor]:
    with net.present(pattern), torch.no_grad():
        torch.manual_seed(0)
        return [t.clone() for t in tensors(net(**arguments)) if t.is_floating_point()]


@pytest.mark.parametrize("name", list(ZOO))
def test_a_deep_copy_answers_alike_and_shares_nothing(name: str) -> None:
    net, arguments = trained(adapted(name)), rows(name)
    before = {pattern: numbers(net, arguments, pattern) for pattern in patterns_of(net)}
    other = copy.deepcopy(net)
    assert not {id(p) for p in net.parameters()} & {id(p) for p in other.parameters()}
    for pattern, known in before.items():
        assert all(map(torch.equal, numbers(other, arguments, pattern), known))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.5)
    for pattern, known in before.items():
        assert all(map(torch.equal, numbers(net, arguments, pattern), known))


def test_a_copy_learns_merges_moves_and_is_saved_by_itself(tmp_path: Any) -> None:
    net = halves()
    other = copy.deepcopy(net)
    train, loss = batches(slice(0, 320)), nn.functional.cross_entropy
    other.fit(train, loss=loss, epochs=2)
    assert not any(p.any() for p in net.adapters()) and any(p.any() for p in other.adapters())
    inputs = train[0][0]
    answer = other(left=inputs["left"], right=None)
    plain = other.merge("left")
    torch.testing.assert_close(plain(inputs["left"], torch.zeros_like(inputs["right"])), answer, atol=1e-4, rtol=1e-4)
    net.load(other.save(tmp_path / "adapters", precision="float32"))
    torch.testing.assert_close(net(left=inputs["left"], right=None), answer)
    wide = {name: x.double() for name, x in inputs.items()}
    assert copy.deepcopy(other).double()(left=wide["left"], right=None).dtype == torch.float64
    assert other.detach() is other.network and other.network is not net.network


def test_copies_of_a_whole_that_has_it_are_its_own() -> None:
    whole = nn.ModuleDict({"net": halves(), "more": nn.Linear(2, 2)})
    other = copy.deepcopy(whole)
    assert other["net"].network is not whole["net"].network
    assert other["net"].twin.head.weight is other["net"].network.head.weight


def test_a_network_that_cannot_be_copied_is_one_clear_error() -> None:
    net = halves()
    net.plan.signature.names.append(_Uncopied())  # type: ignore[arg-type]
    with pytest.raises(UserError, match="modules cannot be copied: not this one"):
        copy.deepcopy(net)


@pytest.mark.parametrize("how", [pickle.dumps, copy.copy])
def test_a_pickle_is_one_clear_error(how: Any) -> None:
    with pytest.raises(UserError, match=r"cannot be pickled; save\(path\) writes its adapters"):
        how(halves())


class _Uncopied:
    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("not this one")
