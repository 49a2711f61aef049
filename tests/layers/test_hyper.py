from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from absentia.errors import UserError
from absentia.layers.hyper import HyperHead, HyperNetwork, HyperResidual, affine, film, filmed
from absentia.layers.scenarios import SCENARIOS, Composed, Read, scenario_named, told
from absentia.layers.subsets import all_patterns

SPACES = [(), (5, 4), (3, 2, 4)]


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("space", SPACES)
def test_a_fresh_hyper_network_changes_nothing_and_a_trained_one_knows_the_scenario(
    name: str, space: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    scenario = scenario_named(name, names=("a", "b", "c"), width=12)  # type: ignore[arg-type]
    if isinstance(scenario, Read):
        scenario.write(torch.randn(7, 12, generator=draw()))
    residual, head = HyperResidual(channels=6, narrow=4), HyperHead(channels=6, narrow=4)
    sizes = {"film": 12, "residual": residual.size, "head": head.size(3)}
    hyper = HyperNetwork(code=12, context=6, hidden=16, sizes=sizes)
    patterns = torch.from_numpy(all_patterns(3))
    x = torch.randn(7, 6, *space, generator=draw(1))
    context = torch.zeros(7, 6)
    made = hyper(scenario(patterns), context)
    assert torch.equal(film(x, made["film"]), x)
    assert torch.equal(residual(x, made["residual"]), x)
    assert not head(x, made["head"]).any() and head(x, made["head"]).shape == (7, 3, *space)
    optimizer = torch.optim.Adam([*hyper.parameters(), *scenario.parameters()], lr=0.05)
    wanted = torch.randn(7, 12, generator=draw(2))
    for _ in range(60):
        optimizer.zero_grad()
        F.mse_loss(hyper(scenario(patterns), context)["film"], wanted).backward()
        optimizer.step()
    trained = hyper(scenario(patterns), context)["film"]
    distinct = len(torch.unique(trained.round(decimals=4), dim=0))
    assert distinct == (1 if name == "constant" else 7)


@pytest.mark.parametrize("space", SPACES)
def test_every_row_has_its_own_weights(space: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    residual = HyperResidual(channels=6, narrow=3)
    x, numbers = torch.randn(4, 6, *space), torch.randn(4, residual.size)
    together = residual(x, numbers)
    for i in range(4):
        torch.testing.assert_close(residual(x[i : i + 1], numbers[i : i + 1])[0], together[i])
    own = numbers[0].view(3, 4)
    inner = F.linear(residual.narrow(x[0].movedim(0, -1)), own[:, :3], own[:, 3])
    torch.testing.assert_close(together[0], x[0] + residual.widen(inner).movedim(-1, 0))
    scaled = film(x, numbers)
    torch.testing.assert_close(scaled[1].movedim(0, -1), x[1].movedim(0, -1) * (1 + numbers[1, :6]) + numbers[1, 6:12])


@pytest.mark.parametrize("space", SPACES[1:])
def test_one_matrix_for_each_row_is_the_same_as_layer_after_layer(space: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    residual = HyperResidual(channels=6, narrow=3).double()
    x, numbers, scaled = (torch.randn(4, n, *s).double() for n, s in ((6, space), (residual.size, ()), (12, ())))
    torch.testing.assert_close(affine(x, *residual.folded(numbers)), residual(x, numbers), rtol=0, atol=1e-12)
    both = affine(x, *filmed(*residual.folded(numbers), scaled))
    torch.testing.assert_close(both, film(residual(x, numbers), scaled), rtol=0, atol=1e-12)


def test_more_classes_stand_behind_the_known_ones() -> None:
    torch.manual_seed(0)
    head = HyperHead(channels=4, narrow=3)
    hyper = HyperNetwork(code=5, context=0, hidden=8, sizes={"head": head.size(2)})
    torch.nn.init.normal_(hyper.parts["head"].weight)  # type: ignore[arg-type]
    code, x = torch.randn(6, 5), torch.randn(6, 4)
    before = head(x, hyper(code)["head"])
    hyper.grow("head", head.size(5))
    after = head(x, hyper(code)["head"])
    assert after.shape == (6, 5) and not after[:, 2:].any()
    torch.testing.assert_close(after[:, :2], before)


@pytest.mark.parametrize("name", SCENARIOS)
def test_codes_do_not_depend_on_the_order_of_the_schema(name: str) -> None:
    patterns = torch.from_numpy(all_patterns(3))
    codes = []
    for names, order in ((("b", "a", "c"), [0, 1, 2]), (("c", "b", "a"), [2, 0, 1])):
        torch.manual_seed(0)
        scenario = scenario_named(name, names=names, width=8)  # type: ignore[arg-type]
        if isinstance(scenario, Read):
            scenario.write(torch.randn(7, 8, generator=draw()))
        codes.append(scenario(patterns[:, order]))
    assert torch.equal(*codes)


def test_many_modalities_are_put_together_and_not_enumerated() -> None:
    names = [f"m{i}" for i in range(30)]
    codes = Composed(names=names, width=8)(torch.rand(5, 30) < 0.5)
    assert codes.shape == (5, 8) and len(torch.unique(codes, dim=0)) == 5
    for name in ("table", "text"):
        with pytest.raises(UserError, match="say composed"):
            scenario_named(name, names=names, width=8)  # type: ignore[arg-type]


def test_a_sentence_says_what_is_there_and_what_is_not() -> None:
    words = "A scan with {present} available; {absent} missing."
    assert told(words, ["T1", "T2", "FLAIR"], [True, True, False]) == "A scan with T1 and T2 available; FLAIR missing."
    assert told(words, ["a", "b", "c", "d"], [True] * 4) == "A scan with a, b, c and d available; nothing missing."
    scenario = Read(names=("b", "a"), width=4)
    assert scenario.sentences("{present}") == ["a", "b", "a and b"] and not scenario.written
    with pytest.raises(UserError, match="text_width=7"):
        scenario.write(torch.randn(3, 7))
