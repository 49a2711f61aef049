"""Adapters learn: from labels, from the network itself, from statistics; and choose what may learn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.adaptation.halves import TEST, TRAIN, VALID, accuracy, adapted, batches, score, trained
from torch import Tensor, nn
from torch.nn import functional as F

from absentia.adaptation import KINDS, adapt
from absentia.adaptation.fit import Settings, losses_by_pattern
from absentia.adaptation.sensitivity import channel_scores, modality_importance, sensitive_sites
from absentia.errors import UserError


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_wins_back_a_part_of_what_filling_in_loses(kind: str) -> None:
    net = adapted(kind)
    before = score(net)
    assert before == score(net, base=True)
    history = net.fit(batches(TRAIN), loss=F.cross_entropy, epochs=8, lr=1e-2)
    assert len(history) == 8 and history[-1]["loss"] < history[0]["loss"]
    assert score(net) > before + 0.05


def test_scale_and_shift_win_thirty_points_back() -> None:
    net = adapted()
    before = score(net)
    net.fit(batches(TRAIN), loss=F.cross_entropy, epochs=20, lr=1e-2)
    assert score(net) >= before + 0.30


def test_fitting_leaves_every_bit_of_the_network_and_full_rows_as_they_were() -> None:
    network = trained()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    net, inputs = adapted(network=network), batches(TEST)[0][0]
    answers = network(**inputs)
    net.fit(batches(TRAIN), loss=F.cross_entropy, epochs=2)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert torch.equal(net(**inputs), answers)


def test_the_same_seed_gives_the_same_adapters_and_another_one_others() -> None:
    found = []
    for seed in (1, 1, 2):
        net = adapted()
        net.fit(batches(TRAIN), loss=F.cross_entropy, epochs=1, seed=seed)
        found.append(torch.cat([p.detach().flatten() for p in net.adapters()]))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_with_validation_rows_no_pattern_ends_worse_than_it_began() -> None:
    net = adapted()
    settings = Settings()
    before = losses_by_pattern(net, batches(VALID), F.cross_entropy, settings, net.bank.sets)
    history = net.fit(batches(TRAIN), loss=F.cross_entropy, validation=batches(VALID), epochs=4, lr=1.0)
    after = losses_by_pattern(net, batches(VALID), F.cross_entropy, settings, net.bank.sets)
    best = {name: min([before[name], *(line["validation"][name] for line in history)]) for name in before}
    assert after == pytest.approx(best, rel=1e-5)


def test_a_pattern_keeps_its_own_best_epoch() -> None:
    """A loss that punishes what the left view learns: left keeps the start, right learns."""
    net = adapted()

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output, target)

    spoilt = [(inputs | {"left": -inputs["left"]}, target) for inputs, target in batches(TRAIN)]
    net.fit(spoilt, loss=loss, validation=batches(VALID), epochs=3, lr=0.3)
    numbers = {name: number for number, name in enumerate(net.bank.set_names)}
    moved = {
        name: any(v.any() for values in net.bank.of_set(number).values() for v in values.values())
        for name, number in numbers.items()
    }
    assert moved["right"]


@pytest.mark.parametrize(
    ("epochs", "validations", "after"),
    [(6, None, [1, 2, 3, 4, 5, 6]), (6, 3, [2, 4, 6]), (5, 2, [3, 5]), (3, 9, [1, 2, 3]), (4, 1, [4])],
)
def test_validation_rows_are_scored_as_often_as_asked(epochs: int, validations: int | None, after: list[int]) -> None:
    net = adapted("head-only")
    history = net.fit(
        batches(TRAIN), loss=F.cross_entropy, validation=batches(VALID), epochs=epochs, validations=validations
    )
    assert [line["epoch"] for line in history if "validation" in line] == after


def test_unlabelled_rows_teach_by_the_networks_own_answers() -> None:
    net = adapted()
    before = score(net)
    unlabelled = [(inputs, torch.zeros(len(target))) for inputs, target in batches(TRAIN)]
    net.fit(unlabelled, distil=1.0, epochs=8, lr=1e-2)
    assert score(net) > before + 0.05


@pytest.mark.parametrize("more", [{"distil": 1.0, "distance": "mse"}, {"alike": 1.0, "features": "both"}])
def test_other_distances_to_the_network_itself_learn_too(more: dict[str, Any]) -> None:
    net = adapted()
    history = net.fit(batches(TRAIN), epochs=4, lr=1e-2, **more)
    assert history[-1]["loss"] < history[0]["loss"]


def test_rows_that_really_lack_something_practise_only_what_they_can_show() -> None:
    net = adapted()
    lacking = [(inputs | {"right": None}, target) for inputs, target in batches(TRAIN)]
    net.fit(lacking, loss=F.cross_entropy, epochs=1)
    left, right = (net.bank.set_names.index(name) for name in ("left", "right"))
    assert any(v.any() for values in net.bank.of_set(left).values() for v in values.values())
    assert not any(v.any() for values in net.bank.of_set(right).values() for v in values.values())


def test_presence_may_come_with_the_batch() -> None:
    net = adapted()
    present = torch.tensor([True, False])
    net.fit([(*batch, present) for batch in batches(TRAIN)], loss=F.cross_entropy, epochs=1)
    right = net.bank.set_names.index("right")
    assert not any(v.any() for values in net.bank.of_set(right).values() for v in values.values())


@pytest.mark.parametrize("filler", ["mean", "learned"])
def test_fillers_are_measured_or_learned_before_anything_else(filler: str) -> None:
    net = adapted(filler=filler)
    net.fit(batches(TRAIN), loss=F.cross_entropy, epochs=2)
    inputs = batches(TEST)[0][0]
    assert net(left=inputs["left"], right=None).isfinite().all()
    if filler == "mean":
        mean = torch.cat([inputs["right"] for inputs, _ in batches(TRAIN)]).mean(dim=0)
        torch.testing.assert_close(net.fillers.kept()["right"], mean)
    else:
        assert net.fillers.kept()["right"].abs().max() > 0


def test_calibrating_needs_no_labels_and_restores_the_moments_of_complete_rows() -> None:
    net = adapted()
    before = score(net)
    net.calibrate([(inputs, None) for inputs, _ in batches(TRAIN)])
    assert score(net) > before
    inputs = torch.cat([b["left"] for b, _ in batches(TRAIN)]), torch.cat([b["right"] for b, _ in batches(TRAIN)])
    seen: list[Tensor] = []
    for network in (net.network, net.twin):
        handle = network.get_submodule("both.0").register_forward_hook(lambda m, args, out: seen.append(out))
        network_call = net.network(*inputs) if network is net.network else net(left=inputs[0], right=None)
        assert network_call.isfinite().all()
        handle.remove()
    torch.testing.assert_close(seen[1].mean(0), seen[0].mean(0), atol=0.05, rtol=0)
    torch.testing.assert_close(seen[1].std(0), seen[0].std(0), atol=0.1, rtol=0.1)


def test_scale_is_found_where_it_is_known_in_closed_form() -> None:
    """y = a + b with b = c a: without b the best scale of the path of a is 1 + c."""

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.a(a) + self.b(b)  # type: ignore[no-any-return]

    network = Sum()
    nn.init.ones_(network.a.weight)
    nn.init.ones_(network.b.weight)
    a = torch.linspace(-1, 1, 64)[:, None]
    net = adapt(network, modalities={"a": "a", "b": "b"}, kind="scale", example=(a, 0.7 * a), say=None)
    net.fit([((a, 0.7 * a), 1.7 * a)], loss=F.mse_loss, epochs=400, lr=0.05)
    found = next(iter(net.bank.of_set(net.bank.set_names.index("a")).values()))
    assert found["scale"].item() == pytest.approx(0.7, abs=1e-3)


def test_the_most_sensitive_channels_win_more_back_than_the_least_sensitive_ones() -> None:
    found = {}
    for by in ("sensitivity", "lowest"):
        net = adapted()
        net.fit(batches(TRAIN), loss=F.cross_entropy, epochs=6, lr=1e-2, budget=0.1, choose=by)
        found[by] = score(net)
        whole = sum(site.channels for site in net.bank.sites if site.owner in (None, "left"))
        assert net.bank.count(net.bank.set_names.index("left")) == 2 * round(0.1 * whole)
    assert found["sensitivity"] > found["lowest"]


@pytest.mark.parametrize("by", ["sensitivity", "random", "lowest"])
def test_patterns_that_reach_only_some_sites_have_a_budget_too(by: Any) -> None:
    net = adapted(patterns=["left"])
    net.fit(batches(TRAIN), loss=F.cross_entropy, epochs=1, budget=0.1, choose=by)
    assert 0 < net.bank.count(0) <= 0.11 * adapted(patterns=["left"]).bank.count(0)
    net = adapted(owners="left")  # nothing belongs to the other pattern
    net.fit(batches(TRAIN), loss=F.cross_entropy, epochs=1, budget=0.5, choose=by)
    counts = dict(zip(net.bank.set_names, map(net.bank.count, range(2)), strict=True))
    assert counts["left"] > 0 == counts["right"]


def test_a_new_budget_forgets_the_channels_of_the_last_one() -> None:
    net, fresh = adapted(), adapted()
    whole = net.bank.count(0)
    net.fit(batches(TRAIN), loss=F.cross_entropy, epochs=1, budget=0.1)
    few = net.bank.count(0)
    net.fit(batches(TRAIN), loss=F.cross_entropy, epochs=1)
    assert net.bank.count(0) == few
    net.fit(batches(TRAIN), loss=F.cross_entropy, epochs=1, budget=0.5)
    fresh.fit(batches(TRAIN), loss=F.cross_entropy, epochs=1, budget=0.5)
    for mine, other in zip(net.bank.sites, fresh.bank.sites, strict=True):
        one, two = net.bank.mask(mine), fresh.bank.mask(other)
        assert one is not None and two is not None and torch.equal(one, two)
    net.fit(batches(TRAIN), loss=F.cross_entropy, epochs=1, budget=1)
    assert net.bank.count(0) == whole


def test_means_are_measured_before_channels_are_chosen_or_calibrated() -> None:
    for learn in (
        lambda net: net.fit(batches(TRAIN), loss=F.cross_entropy, epochs=1, budget=0.2),
        lambda net: net.calibrate(batches(TRAIN)),
    ):
        net = adapted(filler="mean")
        learn(net)
        means = torch.cat([inputs["left"] for inputs, _ in batches(TRAIN)]).mean(0)
        torch.testing.assert_close(net.fillers.kept()["left"], means)


def test_rows_without_labels_may_come_alone() -> None:
    alone, pairs = adapted(), adapted()
    rows = [inputs for inputs, _ in batches(TRAIN)]
    for net, loader in ((alone, rows), (pairs, batches(TRAIN))):
        net.fit(loader, distil=1.0, epochs=1, validation=loader)
        net.calibrate(loader)
    assert all(map(torch.equal, alone.adapters(), pairs.adapters()))
    with pytest.raises(UserError, match="expected \\(inputs, target\\)"):
        alone.fit(rows, loss=F.cross_entropy)


def test_a_loss_that_is_not_finite_ends_training_with_the_best_values() -> None:
    net, calls = adapted(), iter(range(1000))

    def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(output, target) / (0.0 if torch.is_grad_enabled() and next(calls) > 12 else 1.0)

    with pytest.raises(UserError, match="the loss of a batch is inf"):
        net.fit(batches(TRAIN), loss=loss, validation=batches(VALID), epochs=4, lr=1e-2)
    assert not net.training and all(p.isfinite().all() for p in net.adapters())
    assert score(net) > score(net, base=True)


def test_a_pattern_whose_validation_loss_is_no_number_keeps_its_best() -> None:
    net, before = adapted(), [p.detach().clone() for p in adapted().adapters()]
    net.fit(batches(TRAIN), loss=_worse_without_gradients(), validation=batches(VALID), epochs=2)
    assert all(map(torch.equal, before, net.adapters()))


def _worse_without_gradients() -> Any:
    """A loss that is fine in training, and for validation rows of adapters that learned nothing; then it is nan."""
    seen: list[int] = []

    def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            seen.append(1)
        value = F.cross_entropy(output, target)
        return value if torch.is_grad_enabled() or not seen else value * torch.nan

    return loss


def test_many_modalities_are_practised_one_gone_one_there_and_at_random() -> None:
    class Many(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = torch.nn.ModuleList(torch.nn.Linear(2, 3) for _ in range(10))

        def forward(self, **given: torch.Tensor) -> torch.Tensor:
            return sum(part(given[f"m{i}"]) for i, part in enumerate(self.parts))  # type: ignore[return-value]

    given = {f"m{i}": torch.randn(8, 2) for i in range(10)}
    owners = {f"m{i}": f"parts.{i}" for i in range(10)}
    net = adapt(Many(), modalities=owners, kind="compositional", example=given, say=None)
    history = net.fit([(given, torch.zeros(8, 3))], loss=F.mse_loss, validation=[(given, torch.zeros(8, 3))], epochs=1)
    shown = [name.count("+") + 1 for name in history[0]["validation"]]
    assert 100 < len(shown) < 256 and shown.count(1) == shown.count(9) == 10 and set(shown) == set(range(1, 10))


def test_the_whole_budget_is_no_restriction() -> None:
    weights = []
    for budget in ({}, {"budget": 1.0}):
        net = adapted()
        net.fit(batches(TRAIN), loss=F.cross_entropy, epochs=1, **budget)
        weights.append(torch.cat([p.detach().flatten() for p in net.adapters()]))
    assert torch.equal(*weights)


def test_a_sparse_file_is_small_and_comes_back_bit_by_bit(tmp_path: Any) -> None:
    net = adapted()
    net.fit(batches(TRAIN), loss=F.cross_entropy, epochs=1, budget=0.05)
    path = net.save(tmp_path / "sparse", precision="float32")
    again = adapted(network=net.network)
    again.load(path)
    inputs = batches(TEST)[0][0]
    assert torch.equal(again(left=inputs["left"], right=None), net(left=inputs["left"], right=None))
    assert [again.bank.count(n) for n in range(2)] == [net.bank.count(n) for n in range(2)]


def test_scores_of_channels_leave_what_was_learned_as_it_was() -> None:
    net = adapted()
    net.fit(batches(TRAIN), loss=F.cross_entropy, epochs=1)
    before = [p.detach().clone() for p in net.adapters()]
    scores = channel_scores(net, batches(TRAIN), F.cross_entropy)
    assert all(torch.equal(a, b) for a, b in zip(before, net.adapters(), strict=True))
    assert all(value.ndim == 2 and (value >= 0).all() for value in scores.values())


def test_the_sites_that_suffer_most_come_first() -> None:
    net = adapted()
    found = sensitive_sites(net, batches(TRAIN), F.cross_entropy)
    assert list(found) == net.bank.set_names
    for name, shares in found.items():
        other = "right" if name == "left" else "left"
        assert set(shares) == {site.name for site in net.bank.sites if site.owner != other}
        assert list(shares.values()) == sorted(shares.values(), reverse=True)
        assert sum(shares.values()) == pytest.approx(1)


def test_importance_is_what_the_network_loses_without_a_modality() -> None:
    net = adapted()
    found = modality_importance(net, batches(TEST), accuracy)
    inputs, target = batches(TEST, 80)[0]
    whole = accuracy(net.network(**inputs), target)
    without = accuracy(net.base(left=inputs["left"], right=None), target)
    assert found["right"] == pytest.approx(float(whole - without), abs=1e-6)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "nothing to learn from"),
        ({"loss": F.cross_entropy, "epochs": 0}, "at least 1"),
        ({"loss": F.cross_entropy, "epochs": 1.5}, "whole number"),
        ({"loss": F.cross_entropy, "epoch": 3}, "unknown setting 'epoch'; did you mean 'epochs'"),
        ({"loss": F.cross_entropy, "lr": -1.0}, "lr -1.0: must be above 0"),
        ({"loss": F.cross_entropy, "lr": float("nan")}, "lr nan"),
        ({"distil": 1.0, "temperature": 0.0}, "temperature 0.0"),
        ({"distil": -1.0, "loss": F.cross_entropy}, "distil -1.0"),
        ({"loss": lambda output, target: F.cross_entropy(output, target, reduction="none")}, "with one number"),
        ({"loss": lambda output, target: 1.0}, "not a float"),
        ({"loss": lambda output, target: F.cross_entropy(output.detach(), target)}, "does not depend on the adapters"),
        ({"loss": F.cross_entropy, "budget": 0.1, "choose": "sensitive"}, "did you mean 'sensitivity'"),
        ({"loss": F.cross_entropy, "budget": "0.1"}, "budget '0.1'"),
        ({"loss": F.cross_entropy, "patterns": ["centre"]}, "unknown modality 'centre'"),
        ({"loss": F.cross_entropy, "budget": 0.0}, "budget"),
        ({"distil": 1.0, "budget": 0.5}, "give one"),
        ({"alike": 1.0}, "features"),
        ({"alike": 1.0, "features": "nowhere"}, "no such module"),
        ({"distil": 1.0, "distance": "l1"}, "kl or mse"),
    ],
)
def test_a_mistake_is_one_clear_error(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        adapted().fit(batches(TRAIN), **asked)


@pytest.mark.parametrize(
    ("loader", "words"),
    [
        ([], "gave no batch"),
        ([torch.ones(3)], "expected \\(inputs, target\\)"),
        ([({"left": torch.ones(3, 6)}, torch.zeros(3))], "'right' was not given"),
        ([({"left": None, "right": None}, torch.zeros(3))], "nothing to answer from"),
    ],
)
def test_a_loader_that_gives_something_else_is_named(loader: list[Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        adapted().fit(loader, loss=F.cross_entropy)


@pytest.mark.parametrize("kind", ["head-only", "low-rank", "compositional", "scale"])
def test_kinds_without_scale_and_shift_per_pattern_cannot_be_calibrated(kind: str) -> None:
    with pytest.raises(UserError, match="no scale and shift per pattern"):
        adapted(kind).calibrate(batches(TRAIN))


@pytest.mark.parametrize("kind", ["scale-shift", "compositional"])
def test_what_no_validation_row_can_show_keeps_what_it_learned(kind: str) -> None:
    net, plain = adapted(kind), adapted(kind)
    lacking = [(inputs | {"right": None}, target) for inputs, target in batches(VALID)]
    net.fit(batches(TRAIN), loss=F.cross_entropy, validation=lacking, epochs=2, lr=1e-2)
    plain.fit(batches(TRAIN), loss=F.cross_entropy, epochs=2, lr=1e-2)
    sets = [net.bank.of_set(number) for number in range(2)]
    assert all(any(v.any() for values in one.values() for v in values.values()) for one in sets)
    if kind == "scale-shift":
        right = net.bank.set_names.index("right")
        for mine, last in zip(sets[right].values(), plain.bank.of_set(right).values(), strict=True):
            assert all(torch.equal(mine[name], last[name]) for name in mine)
