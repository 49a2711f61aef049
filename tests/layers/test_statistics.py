"""What is computed from sums: ridge regression, Gaussian classes, class means, and the Fisher information."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.covariance import oas
from sklearn.linear_model import Ridge as SklearnRidge
from torch import Tensor
from torch.nn import functional as F

from absentia.data.schema import Target
from absentia.data.target import TargetCodec
from absentia.layers.class_means import ClassMeans
from absentia.layers.fisher import flat, pull, squared_gradients
from absentia.layers.gaussian import Gaussian, oracle_shrinkage
from absentia.layers.readout import mean_of_present
from absentia.layers.ridge import Ridge, columns_of, scores_of
from absentia.layers.standard import Standard
from absentia.layers.subsets import weighted_parts

CODEC = TargetCodec(target=Target(column="y", kind="class", classes=("a", "b", "c")), prior=(0.5, 0.25, 0.25))
LABELS = replace(CODEC, target=replace(CODEC.target, kind="labels"))
NUMBER = TargetCodec(target=Target(column="y", kind="number"), prior=(0.0,))
Summed = Ridge | ClassMeans | Gaussian


def problem(rows: int = 200, width: int = 6, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Features around three centres, their classes, weights."""
    draw = torch.Generator().manual_seed(seed)
    target = torch.arange(rows) % 3
    centres = 3 * torch.randn(3, width, generator=draw)
    features = 5 + centres[target] + torch.randn(rows, width, generator=draw)
    return features, target, 0.1 + torch.rand(rows, generator=draw)


def filled(make: Callable[[], Summed], order: Tensor, pieces: int) -> Summed:
    features, target, weight = problem()
    out = make()
    for part in order.chunk(pieces):
        out.add(features[part], columns_of(target[part], CODEC), weight[part])
    if not isinstance(out, ClassMeans):
        out.solve()
    return out


# --- ridge


@pytest.mark.parametrize("penalty", [1e-3, 1.0])
def test_ridge_is_ridge_regression(penalty: float) -> None:
    features, target, weight = problem()
    ridge = filled(lambda: Ridge(width=6, outputs=3, penalty=penalty), torch.arange(200), 3)
    assert isinstance(ridge, Ridge)
    w = weight.double()[:, None]
    centred = features.double() - (w * features).sum(dim=0) / w.sum()
    unit = float(torch.linalg.eigvalsh((w * centred).T @ centred).mean())
    known = SklearnRidge(alpha=penalty * unit)
    known.fit(features.double().numpy(), columns_of(target, CODEC).numpy(), sample_weight=weight.numpy())
    np.testing.assert_allclose(ridge(features).numpy(), known.predict(features.double().numpy()), atol=1e-4)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Ridge(width=6, outputs=3, size=50),
        lambda: ClassMeans(width=6, outputs=3),
        lambda: Gaussian(width=6, outputs=3, size=50),
        lambda: Gaussian(width=6, outputs=3, labels=True),
    ],
    ids=["ridge", "means", "gaussian", "gaussian labels"],
)
def test_rows_may_arrive_in_any_order(make: Callable[[], Summed]) -> None:
    features, target, _ = problem()
    straight = filled(make, torch.arange(200), 1)(features)
    turned = filled(make, torch.randperm(200, generator=torch.Generator().manual_seed(1)), 7)(features)
    torch.testing.assert_close(turned, straight, rtol=1e-4, atol=1e-5)
    assert float((straight.argmax(dim=1) == target).float().mean()) > 0.95


def test_cross_validation_shrinks_noise_and_not_what_is_sure() -> None:
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(60, 50, generator=draw)
    clear, noise = features[:, :1] * 2, torch.randn(60, 1, generator=draw)
    errors = []
    for target in (clear, noise):
        ridge = Ridge(width=50, outputs=1)
        ridge.add(features, target, torch.ones(60))
        ridge.solve()
        fresh = torch.randn(500, 50, generator=draw)
        errors.append(float((ridge(fresh) - (fresh[:, :1] * 2 if target is clear else 0)).square().mean()))
    assert errors[0] < 0.05 and errors[1] < 0.5


def test_weights_have_no_unit() -> None:
    features, target, weight = problem()
    found = []
    for unit in (1.0, 100.0):
        ridge = Ridge(width=6, outputs=3, size=40)
        ridge.add(features, columns_of(target, CODEC), unit * weight)
        ridge.solve()
        found.append(ridge(features))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)


def test_a_ridge_without_rows_says_nothing_and_one_row_its_target() -> None:
    ridge = Ridge(width=6, outputs=2, size=10)
    ridge.solve()
    assert not ridge(torch.randn(3, 6)).any()
    ridge.add(torch.randn(1, 6), torch.tensor([[1.0, 0.0]]), torch.ones(1))
    ridge.solve()
    torch.testing.assert_close(ridge(torch.randn(3, 6)), torch.tensor([[1.0, 0.0]]).repeat(3, 1))


def test_room_for_more_outputs_changes_none_of_the_others() -> None:
    features, _, weight = problem()
    ridge = filled(lambda: Ridge(width=6, outputs=3), torch.arange(200), 1)
    before = ridge(features)
    ridge.grow(5)
    torch.testing.assert_close(ridge(features), F.pad(before, (0, 2)))
    ridge.add(features[:9] + 9, F.one_hot(torch.full((9,), 4), 5).float(), weight[:9])
    assert isinstance(ridge, Ridge)
    ridge.solve()
    assert (ridge(features[:9] + 9).argmax(dim=1) == 4).all()


def test_scores_keep_the_order_of_estimates() -> None:
    estimates = torch.tensor([[0.7, 0.2, -0.1], [0.1, 0.2, 1.4]])
    for codec in (CODEC, LABELS):
        assert torch.equal(scores_of(estimates, codec).argsort(dim=1), estimates.argsort(dim=1))
    shares = torch.tensor([[0.6, 0.3, 0.1]])
    torch.testing.assert_close(scores_of(shares, CODEC).softmax(dim=1), shares, rtol=0.1, atol=0.02)
    torch.testing.assert_close(scores_of(shares, LABELS).sigmoid(), shares, rtol=0.1, atol=0.02)
    assert torch.equal(scores_of(estimates[:, :1], NUMBER), estimates[:, :1])


# --- Gaussian classes


def shrunk(covariance: Tensor, rows: float) -> Tensor:
    share = oracle_shrinkage(covariance, rows)
    return (1 - share) * covariance + share * covariance.diagonal().mean() * torch.eye(len(covariance))


def test_scores_are_log_posteriors_of_gaussians_with_one_covariance() -> None:
    features, target, weight = (part.double() for part in problem())
    found = filled(lambda: Gaussian(width=6, outputs=3), torch.arange(200), 4)(features)
    one_hot = F.one_hot(target.long(), 3).double() * weight[:, None]
    shares, means = one_hot.sum(dim=0) / weight.sum(), (one_hot.T @ features) / one_hot.sum(dim=0)[:, None]
    apart = features - means[target.long()]
    within = (apart * weight[:, None]).T @ apart / weight.sum()
    covariance = shrunk(within, float(weight.sum() ** 2 / weight.square().sum()))
    densities = [torch.distributions.MultivariateNormal(mean, covariance).log_prob(features) for mean in means]
    expected = torch.stack(densities, dim=1) + shares.log()
    torch.testing.assert_close(found.softmax(dim=1), expected.softmax(dim=1).float(), rtol=1e-4, atol=1e-6)


def test_labels_are_log_odds_of_one_gaussian_against_another() -> None:
    features, target, weight = (part.double() for part in problem(seed=1))
    marks = torch.stack([target == 0, target != 1], dim=1).double()
    gaussian = Gaussian(width=6, outputs=2, labels=True)
    gaussian.add(features, marks, weight)
    gaussian.solve()
    rows, centre = float(weight.sum() ** 2 / weight.square().sum()), weight @ features / weight.sum()
    whole = ((features - centre) * weight[:, None]).T @ (features - centre) / weight.sum()
    share = oracle_shrinkage(whole, rows)
    for label, mark in enumerate(marks.T):
        sides = [weight * mark, weight * (1 - mark)]
        means = [side @ features / side.sum() for side in sides]
        apart = [features - mean for mean in means]
        within = sum((a * s[:, None]).T @ a for a, s in zip(apart, sides, strict=True)) / weight.sum()
        covariance = (1 - share) * within + share * whole.diagonal().mean() * torch.eye(6)
        with_it, without = (torch.distributions.MultivariateNormal(m, covariance).log_prob(features) for m in means)
        odds = (sides[0].sum() / sides[1].sum()).log() + with_it - without
        torch.testing.assert_close(gaussian(features)[:, label], odds.float(), rtol=1e-4, atol=1e-4)


def test_shrinkage_is_that_of_scikit_learn() -> None:
    features = torch.randn(30, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * torch.arange(1, 9)
    centred = features - features.mean(dim=0)
    assert oracle_shrinkage(centred.T @ centred / 30, 30) == pytest.approx(oas(features.numpy())[1])
    assert oracle_shrinkage(torch.eye(4), 30) == oracle_shrinkage(torch.zeros(4, 4), 30) == 1.0


@pytest.mark.parametrize("labels", [False, True])
def test_a_class_without_rows_is_hardly_answered(labels: bool) -> None:
    features, target, weight = problem()
    gaussian = Gaussian(width=6, outputs=4, size=20, labels=labels)
    gaussian.solve()
    assert not gaussian(features).any(), "without any row nothing is said"
    gaussian.add(features, F.pad(columns_of(target, CODEC), (0, 1)), weight)
    gaussian.solve()
    said = gaussian(features)
    assert torch.isfinite(said).all()
    share = said.sigmoid() if labels else said.softmax(dim=1)
    assert float(share[:, 3].mean()) < 0.01


@pytest.mark.parametrize("labels", [False, True])
def test_one_row_and_rows_that_are_all_alike_are_answered(labels: bool) -> None:
    for features in (torch.randn(1, 6), torch.ones(5, 6)):
        gaussian = Gaussian(width=6, outputs=2, labels=labels)
        gaussian.add(features, torch.tensor([[1.0, 0.0]]).repeat(len(features), 1), torch.ones(len(features)))
        gaussian.solve()
        said = gaussian(features)
        assert torch.isfinite(said).all() and (said[:, 0] > said[:, 1]).all()


def test_gaussians_have_room_for_more_classes() -> None:
    features, _, weight = problem()
    gaussian = filled(lambda: Gaussian(width=6, outputs=3, size=20), torch.arange(200), 1)
    before = gaussian(features)
    gaussian.grow(5)
    torch.testing.assert_close(gaussian(features), F.pad(before, (0, 2)))
    gaussian.add(features[:9] + 9, F.one_hot(torch.full((9,), 4), 5).float(), weight[:9])
    assert isinstance(gaussian, Gaussian)
    gaussian.solve()
    assert (gaussian(features[:9] + 9).argmax(dim=1) == 4).all()


# --- vectors in units of their spread


def test_standardised_vectors_have_mean_nought_and_spread_one_where_they_are() -> None:
    draw = torch.Generator().manual_seed(0)
    values, there = 3 + 5 * torch.randn(60, 3, 4, generator=draw), torch.rand(60, 3, generator=draw) < 0.6
    there[:, 2] = False
    standard = Standard(count=3, width=4)
    for part in torch.arange(60).chunk(4):
        standard.add(values[part], there[part])
    found = standard(values)
    for kind in (0, 1):
        known = found[there[:, kind], kind]
        torch.testing.assert_close(known.mean(dim=0), torch.zeros(4), rtol=0, atol=1e-5)
        torch.testing.assert_close(known.std(dim=0, correction=0), torch.ones(4), rtol=1e-4, atol=0)
    assert torch.equal(found[:, 2], values[:, 2]), "what was never there stays as it is"


# --- class means


def test_a_class_without_rows_is_far_from_everything() -> None:
    means = ClassMeans(width=6, outputs=4)
    features, target, weight = problem()
    means.add(features, F.pad(columns_of(target, CODEC), (0, 1)), weight)
    assert (means(features)[:, 3] == -1).all() and not (means(features)[:, :3] == -1).any()


def test_what_all_features_share_does_not_count() -> None:
    features, target, weight = problem()
    near, far = ClassMeans(width=6, outputs=3), ClassMeans(width=6, outputs=3)
    near.add(features, columns_of(target, CODEC), weight)
    far.add(features + 7, columns_of(target, CODEC), weight)
    torch.testing.assert_close(far(features + 7), near(features), rtol=1e-4, atol=1e-4)


# --- Fisher information


def test_squared_gradients_are_those_of_single_rows_on_average() -> None:
    torch.manual_seed(0)
    layer, features, target = torch.nn.Linear(4, 3), torch.randn(20, 4), torch.arange(20) % 3
    parameters = list(layer.parameters())
    expected = torch.zeros_like(flat(parameters))
    for row in range(20):
        loss = F.cross_entropy(layer(features[row : row + 1]), target[row : row + 1])
        expected += flat(torch.autograd.grad(loss, parameters)).square()
    draw, total = torch.Generator().manual_seed(0), torch.zeros_like(expected)
    for _ in range(2000):
        scores = layer(features)
        total += flat(squared_gradients(scores, F.cross_entropy(scores, target), parameters, draw)) / 2000
    torch.testing.assert_close(total, expected, rtol=0.15, atol=0.01)


def test_what_is_behind_the_known_numbers_is_free() -> None:
    old, new = torch.ones(3), torch.full((2,), 5.0, requires_grad=True)
    held = pull([old, new], torch.tensor([0.0, 1.0, 1.0]), torch.tensor([2.0, 1.0, 1.0]))
    assert float(held) == 2.0


# --- parts of rows, and the read-out


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4).filter(any), min_size=1, max_size=6))
def test_each_part_of_a_row_has_its_weight(rows: list[list[bool]]) -> None:
    presence = torch.tensor(rows)
    total, by_size = torch.zeros(len(rows)), torch.zeros(len(rows), 5)
    for shown, weight in weighted_parts(presence):
        assert ((shown & presence)[weight > 0] == shown[weight > 0]).all(), "a part of what the row has"
        total += weight
        by_size[:, int(shown[0].sum())] += weight
    torch.testing.assert_close(total, torch.ones(len(rows)))
    have = presence.sum(dim=1)
    expected = torch.tensor([[1 / int(n) if 1 <= s <= n else 0.0 for s in range(5)] for n in have])
    torch.testing.assert_close(by_size, expected)


@given(st.lists(st.lists(st.booleans(), min_size=10, max_size=10).filter(any), min_size=1, max_size=6))
def test_many_modalities_have_their_ends_alone(rows: list[list[bool]]) -> None:
    presence = torch.tensor(rows)
    total, count = torch.zeros(len(rows)), torch.zeros(len(rows), dtype=torch.long)
    for shown, weight in weighted_parts(presence):
        part = (presence & shown).sum(dim=1)
        have = presence.sum(dim=1)
        assert ((part == 1) | (part >= have - 1))[weight > 0].all()
        total, count = total + weight, count + (weight > 0)
    torch.testing.assert_close(total, torch.ones(len(rows)))
    expected = [1 if n == 1 else 1 + n if n == 2 else 1 + 2 * n for n in presence.sum(dim=1).tolist()]
    assert count.tolist() == expected, "no part twice"


def test_a_row_is_the_mean_of_what_it_has() -> None:
    presence = torch.tensor([[True, False], [True, True], [False, True]])
    parts = {"a": torch.tensor([[1.0], [2.0]]), "b": torch.tensor([[4.0], [8.0]])}
    assert mean_of_present(parts, presence, ["a", "b"]).flatten().tolist() == [1.0, 3.0, 8.0]
    assert mean_of_present({"b": parts["b"]}, presence[:, 1:].flip(1)[1:], ["b"]).flatten().tolist() == [4.0, 8.0]
