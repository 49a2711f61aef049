"""What modulation alone promises: complete rows see the network itself, and only adapters learn after it."""

from __future__ import annotations

import pytest
import torch
from tests import tiny
from tests.laws import data_for

from absentia.errors import UserError
from absentia.methods.modulation import Modulation


def method(**options: object) -> Modulation:
    made = tiny.method_of("modulation", data_for(), options=options)
    assert isinstance(made, Modulation)
    return made


def test_the_network_learns_first_and_the_adapters_after_it() -> None:
    data = data_for()
    one = method()
    names = [stage.name for stage in one.stages()]
    assert names == ["network", "adapt"]
    network, adapters = (list(stage.learns()) for stage in one.stages() if stage.learns)
    assert not {id(p) for p in network} & {id(p) for p in adapters}
    before = [p.detach().clone() for p in network]
    batch = tiny.everything(data, "train")
    batch = batch.select(~batch.empty, data.names)
    one.losses(batch, one.stages()[1], torch.Generator().manual_seed(0))["task"].backward()  # type: ignore[no-untyped-call]
    assert any(p.grad is not None and bool(p.grad.any()) for p in adapters)
    assert all(torch.equal(a, b) for a, b in zip(before, network, strict=True))


def test_complete_rows_are_answered_by_the_network_itself() -> None:
    data, one = data_for(), method()
    batch = tiny.everything(data, "train")
    full = batch.select(batch.presence.all(dim=1), data.names)
    with torch.no_grad():
        before = one(full).scores
        for parameter in one.bank.parameters():
            parameter.normal_(0, 0.5)
        assert torch.equal(one(full).scores, before)
        lacking = batch.select((~batch.presence).any(dim=1) & ~batch.empty, data.names)
        changed = one(lacking).scores
        for parameter in one.bank.parameters():
            parameter.zero_()
        assert not torch.equal(one(lacking).scores, changed)


@pytest.mark.parametrize("kind", ["scale", "shift", "bias", "norm", "compositional"])
def test_every_kind_of_adapter_answers(kind: str) -> None:
    data, one = data_for(), method(kind=kind)
    assert one(tiny.everything(data, "test")).scores.isfinite().all()


def test_a_kind_that_is_none_is_named() -> None:
    with pytest.raises(UserError, match=r"options\.kind 'scales'"):
        method(kind="scales")


def test_placeholders_give_other_answers_than_nothing() -> None:
    data = data_for()
    batch = tiny.everything(data, "test")
    nothing, fed = method(), method(absent="placeholder")
    fed.load_state_dict(nothing.state_dict())
    assert not torch.equal(nothing(batch).scores, fed(batch).scores)
