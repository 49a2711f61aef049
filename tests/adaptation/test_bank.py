from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.adaptation.zoo import adapted, difference, rows, trained
from torch import Tensor

from absentia.adaptation import Adapted
from absentia.errors import UserError


def answer(net: Adapted, pattern: str) -> Tensor:
    with net.present(pattern):
        found: Tensor = net(**rows("three"))
    return found


def values(net: Adapted, pattern: str, site: str = "mix.0", unknown: Any = None) -> dict[str, Tensor]:
    shown = torch.tensor([[name in pattern.split("+") for name in net.names]])
    one = next(s for s in net.bank.sites if s.name == site)
    found = net.bank.values_for(one, shown, unknown or net.unknown)
    return {} if found is None else {name: value[0].detach() for name, value in found.items()}


def test_a_branch_has_no_values_where_its_modality_is_absent() -> None:
    net = adapted("three")
    assert set(net.bank.set_names) == {"a", "b", "c", "a+b", "a+c", "b+c"}
    site = next(s for s in net.bank.sites if s.name == "a")
    assert site.owner == "a" and len(net.bank.raw(site)["scale"]) == 3
    assert values(net, "b+c", "a") == {} and values(net, "a", "a")


def test_a_pattern_without_adapters_is_an_error_that_names_the_others() -> None:
    net = adapted("three", patterns=["a", "b+c"])
    with pytest.raises(UserError, match=r"no adapters for the pattern 'a\+b', only for a, b\+c; adapt\(..., unknown="):
        answer(net, "a+b")
    assert difference(answer(net, "a+b+c"), net.network(**rows("three"))) == 0
    with pytest.raises(UserError, match="only for none"):
        answer(adapted("three", patterns=[]), "a+b")


@pytest.mark.parametrize("patterns", [[], ["a+b+c"], ["a"]])
def test_unknown_patterns_may_be_answered_by_the_base(patterns: list[str]) -> None:
    net = trained(adapted("three", patterns=patterns, unknown="base"))
    with net.present("b+c"):
        assert torch.equal(net(**rows("three")), net.base(**rows("three")))


@pytest.mark.parametrize(
    ("patterns", "asked", "expected"),
    [
        (["a", "b+c"], "a+b", "a"),
        (["a+b", "c"], "a", "a+b"),
        (["a", "a+b"], "b", "a+b"),
        (["a+b", "b+c"], "b", "a+b"),
        (["c", "a+c"], "a", "a+c"),
    ],
)
def test_the_nearest_pattern_has_what_the_row_has_if_it_can(patterns: list[str], asked: str, expected: str) -> None:
    net = trained(adapted("three", patterns=patterns, unknown="nearest"))
    found, wanted = values(net, asked), values(net, expected)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    answer(net, asked)


def test_a_compositional_kind_applies_one_modality_after_the_other() -> None:
    net = trained(adapted("three", kind="compositional"))
    assert net.bank.set_names == ["-a", "-b", "-c"]
    one, two, both = values(net, "b+c"), values(net, "a+c"), values(net, "c")
    scale = (1 + one["scale"]) * (1 + two["scale"]) - 1
    shift = one["shift"] * (1 + two["scale"]) + two["shift"]  # first that of a, then that of b
    assert torch.allclose(both["scale"], scale) and torch.allclose(both["shift"], shift)


def test_unknown_patterns_are_composed_of_those_that_lack_one_modality() -> None:
    net = trained(adapted("three", patterns=["a+b", "a+c", "b+c", "a"], unknown="compose"))
    one, two, both = values(net, "b+c"), values(net, "a+c"), values(net, "c")
    assert torch.allclose(both["scale"], (1 + one["scale"]) * (1 + two["scale"]) - 1)
    assert torch.allclose(both["shift"], one["shift"] * (1 + two["scale"]) + two["shift"])
    own = values(net, "a")
    net.unknown = "error"
    assert all(torch.equal(own[name], value) for name, value in values(net, "a").items())


def test_composing_works_on_mixed_rows_as_on_one_pattern_each() -> None:
    net = trained(adapted("three", patterns=["a+b", "a+c", "b+c", "a"], unknown="compose"))
    names = ["c", "a", "a+b+c", "b", "a+b"]
    presence = torch.tensor([[m in name.split("+") for m in net.names] for name in names])
    assert net.gathers
    with net.present(presence):
        together = net(**rows("three"))
    for row, name in enumerate(names):
        assert difference(together[row], answer(net, name)[row]) < 1e-12


def test_composing_without_a_part_is_an_error_that_names_it() -> None:
    net = trained(adapted("three", patterns=["a+b", "a"], unknown="compose"))
    with pytest.raises(UserError, match=r"unknown='compose' needs adapters for 'b\+c', and there are only some for a"):
        answer(net, "c")


def test_channels_that_are_not_kept_change_nothing_and_get_no_gradient() -> None:
    net = trained(adapted("three"))
    for site in net.bank.sites:
        net.bank.keep(site, torch.zeros(net.bank.raw(site)["scale"].shape, dtype=torch.bool))
    with net.present("a"):
        assert difference(net(**rows("three")), net.base(**rows("three"))) == 0
    assert [net.bank.count(n) for n in range(6)] == [0] * 6
    answer(net, "a").sum().backward()
    assert all(p.grad is None or not bool(p.grad.any()) for p in net.adapters())


def test_counts_are_of_what_one_set_holds() -> None:
    net = adapted("three")
    by_name = dict(zip(net.bank.set_names, map(net.bank.count, range(6)), strict=True))
    assert by_name["a+b"] == 2 * (4 + 4 + 6 + 3) and by_name["c"] == 2 * (4 + 6 + 3)
    assert sum(by_name.values()) == sum(p.numel() for p in net.adapters())


def test_the_same_seed_begins_with_the_same_numbers() -> None:
    one, two, three = (adapted("three", kind="low-rank", seed=seed) for seed in (1, 1, 2))
    alike = [all(map(torch.equal, one.adapters(), other.adapters())) for other in (two, three)]
    assert alike == [True, False]


def test_adapters_are_of_double_precision_only_where_the_network_is() -> None:
    assert {p.dtype for p in adapted("norms").adapters()} == {torch.float64}
    net = adapted("norms").float()
    assert {p.dtype for p in net.adapters()} == {torch.float32}
