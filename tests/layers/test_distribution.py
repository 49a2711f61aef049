from __future__ import annotations

import numpy as np
import pytest
import torch

from absentia.layers.distribution import LOOKS, Adversary, Distribution, Judge, Moments, Sliced, unseen_pairs


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


JUDGES = {"moments": lambda: Moments(width=6), "sliced": lambda: Sliced(width=6)}


@pytest.mark.parametrize("name", JUDGES)
def test_the_same_samples_cost_nothing(name: str) -> None:
    judge, real = JUDGES[name](), torch.randn(200, 6, generator=draw())
    judge.see(real)
    assert float(judge(real, draw())) == pytest.approx(0, abs=1e-5)
    assert float(judge(real + 2, draw())) > 0.5
    assert float(judge(real * 3, draw())) > 0.5


@pytest.mark.parametrize("look", LOOKS)
def test_a_bias_is_trained_out(look: str) -> None:
    names = ("a", "b")
    torch.manual_seed(0)
    judged = Distribution(names=names, width=4, look=look, joint=False)  # type: ignore[arg-type]
    bias = torch.full((4,), 1.5, requires_grad=True)
    optimizer = torch.optim.Adam([bias, *judged.parameters()], lr=0.05)
    available = (torch.arange(64) % 2 == 0)[:, None] & torch.tensor([True, False]) | torch.tensor([False, True])
    for step in range(150):
        real = torch.randn(64, 2, 1, 4, generator=draw(step))
        made = torch.randn(64, 2, 1, 4, generator=draw(1000 + step)) + bias
        optimizer.zero_grad()
        judged(made, real, available, draw(step)).backward()
        optimizer.step()
    assert float(bias.detach().abs().max()) < 0.7, look


@pytest.mark.parametrize("look", LOOKS)
def test_what_is_absent_is_not_read_and_real_features_get_no_gradient(look: str) -> None:
    available = torch.rand(40, 3, generator=draw()) < 0.5
    outcomes = []
    for poison in (0.0, torch.nan):
        torch.manual_seed(0)
        judged = Distribution(names="abc", width=4, look=look)  # type: ignore[arg-type]
        real = torch.randn(40, 3, 2, 4, generator=draw(1))
        real[~available] = poison
        real.requires_grad_()
        made = torch.randn(40, 3, 2, 4, generator=draw(2)).requires_grad_()
        loss = judged(made, real, available, draw(3))
        loss.backward()
        assert real.grad is None and made.grad is not None
        assert not made.grad[available].any(), "what a row has is not made"
        assert made.grad[~available & available.any(dim=1, keepdim=True)].any()
        outcomes.append((loss.detach(), made.grad, judged.state_dict()))
    (loss, grad, state), (same_loss, same_grad, same_state) = outcomes
    assert torch.isfinite(loss) and torch.equal(loss, same_loss) and torch.equal(grad, same_grad)
    assert all(torch.equal(state[key], same_state[key]) for key in state)


def test_pairs_tell_what_marginals_cannot() -> None:
    """Made features of the right marginal that do not go with their neighbour are told apart by the joint judge."""
    real_n = torch.randn(200, 1, 4, generator=draw()).repeat(2, 1, 1)
    available = torch.ones(400, 2).bool()
    available[200:, 0] = False
    real = torch.stack([real_n, real_n], dim=1)
    unrelated = torch.stack([torch.randn(400, 1, 4, generator=draw(1)), real_n], dim=1)
    for look in ("moments", "sliced"):
        losses = {}
        for joint in (False, True):
            for name, made in (("right", real), ("unrelated", unrelated)):
                judged = Distribution(names="ab", width=4, look=look, joint=joint)  # type: ignore[arg-type]
                losses[joint, name] = float(judged(made, real, available, draw(2)))
        assert losses[True, "unrelated"] > 2 * losses[True, "right"], look
        assert losses[False, "unrelated"] < 0.1, f"{look}: but for chance marginals are the same"


@pytest.mark.parametrize("judge", [Moments(width=3), Sliced(width=3), Adversary(width=3)])
def test_nothing_seen_or_made_is_no_distance(judge: Judge) -> None:
    made = torch.randn(5, 3, requires_grad=True)
    assert judge(made, draw()).item() == 0
    judge.see(made)
    assert judge(made[:0], draw()).item() == 0
    before = {key: value.clone() for key, value in judge.state_dict().items()}
    judge.eval().see(torch.ones(4, 3))
    assert all(torch.equal(before[key], value) for key, value in judge.state_dict().items()), "only training notes"


def test_the_queue_keeps_the_last_ones() -> None:
    judge = Sliced(width=1, queue=4)
    for start in (0, 3, 6):
        judge.see(torch.arange(start, start + 3.0)[:, None])
    assert sorted(judge.queue[:, 0].tolist()) == [5, 6, 7, 8]


def test_the_order_of_modalities_does_not_matter() -> None:
    available = torch.rand(40, 3, generator=draw()) < 0.5
    made, real = (torch.randn(40, 3, 2, 4, generator=draw(i)) for i in (1, 2))
    order = [2, 0, 1]
    torch.manual_seed(0)
    one = Distribution(names="abc", width=4, look="sliced")
    torch.manual_seed(0)
    other = Distribution(names=[*"cab"], width=4, look="sliced")
    loss = one(made, real, available, draw(3))
    torch.testing.assert_close(other(made[:, order], real[:, order], available[:, order], draw(3)), loss)


def test_of_many_modalities_only_the_marginals_are_compared() -> None:
    few, many = (Distribution(names=[f"m{i}" for i in range(n)], width=3) for n in (8, 9))
    assert len(few.beside) == 56 and len(many.beside) == 0
    available = torch.rand(20, 9, generator=draw()) < 0.5
    made, real = (torch.randn(20, 9, 1, 3, generator=draw(i)) for i in (1, 2))
    assert torch.isfinite(many(made, real, available, draw(3)))


def test_pairs_that_nobody_has_together_are_named() -> None:
    presence = np.asarray([[True, True, False], [False, True, True], [True, False, False]])
    assert unseen_pairs(presence, ["x", "y", "z"]) == [("x", "z")]


def test_moments_follow_a_moving_mean_without_bias_from_the_start() -> None:
    judge, real = Moments(width=2, momentum=0.9), torch.tensor([[1.0, 4.0], [3.0, 4.0]])
    judge.see(real)
    mean, variance = judge.moments()
    torch.testing.assert_close(mean, torch.tensor([2.0, 4.0]))
    torch.testing.assert_close(variance, torch.tensor([1.0, 1e-3]))
