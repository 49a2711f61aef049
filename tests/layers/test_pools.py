from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from absentia.layers.pools import NAMES, SELECTIONS, ComponentPool

L, P, D, K = 2, 3, 12, 2


def pool_of(sessions: int = 1, **more: Any) -> ComponentPool:
    torch.manual_seed(0)
    pool = ComponentPool(**({"layers": L, "length": P, "width": D, "size": K} | more))
    for _ in range(sessions - 1):
        stir(pool)
        pool.open_session()
    return stir(pool)


def stir(pool: ComponentPool) -> ComponentPool:
    with torch.no_grad():
        for parameter in pool.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return pool


def everything(pool: ComponentPool, name: str) -> Tensor:
    return torch.cat([getattr(session, name) for session in pool.sessions], dim=1)


def in_words(pool: ComponentPool, queries: Tensor) -> Tensor:
    """Row by row, layer by layer, component by component."""
    components, keys, attention = (everything(pool, name) for name in NAMES)
    out = torch.zeros(L, len(queries), P, D)
    for layer in range(L):
        for row, query in enumerate(queries):
            seen = zip(attention[layer], keys[layer], strict=True)
            cosines = [F.cosine_similarity(query * a, k, dim=0) for a, k in seen]
            weights = torch.stack(cosines)
            if pool.selection == "softmax":
                weights = weights.softmax(0)
            if pool.selection == "top":
                weights = weights * (weights >= weights.sort().values[-pool.top])
            out[layer, row] = (weights[:, None, None] * components[layer]).sum(0)
    return out


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("sessions", [1, 3])
def test_prompts_are_sums_of_components_by_cosine(selection: str, sessions: int) -> None:
    pool, queries = pool_of(sessions, selection=selection, top=2), torch.randn(5, D)
    torch.testing.assert_close(pool(queries), in_words(pool, queries))
    assert pool(queries).shape == (L, 5, P, D) and pool(queries[:0]).shape == (L, 0, P, D)
    assert pool.weights(queries).shape == (L, 5, K * sessions) and pool.sizes == [K] * sessions


def test_gradients_are_those_of_the_words_and_reach_the_newest_session_alone() -> None:
    pool, queries = pool_of(3), torch.randn(5, D, requires_grad=True)
    weight = torch.randn(L, 5, P, D)
    found = torch.autograd.grad((pool(queries) * weight).sum(), [queries, *pool.parameters()])
    expected = torch.autograd.grad((in_words(pool, queries) * weight).sum(), [queries, *pool.parameters()])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert [name for name, _ in pool.named_parameters()] == [f"sessions.2.{name}" for name in NAMES]


def test_a_new_session_is_orthonormal_to_all_before() -> None:
    pool = pool_of(3)
    pool.open_session()
    for name in NAMES:
        new, old = getattr(pool.current, name).flatten(2), everything(pool, name).flatten(2)[:, :-K]
        torch.testing.assert_close(new @ new.mT, torch.eye(K).expand(L, K, K), atol=1e-5, rtol=0)
        torch.testing.assert_close(new @ old.mT, torch.zeros(L, K, 3 * K), atol=1e-5, rtol=0)


def test_without_room_components_are_of_length_one() -> None:
    pool = pool_of(size=7)
    pool.open_session()
    for name in ("keys", "attention"):
        new = getattr(pool.current, name)
        torch.testing.assert_close(new.norm(dim=-1), torch.ones(L, 7))
    new = pool.current.components.flatten(2)
    torch.testing.assert_close(new @ new.mT, torch.eye(7).expand(L, 7, 7), atol=1e-5, rtol=0)


def test_zeros_say_nothing_and_never_learn() -> None:
    pool, queries = pool_of(), torch.randn(4, D)
    before = pool(queries)
    pool.open_session(dead=True)
    torch.testing.assert_close(pool(queries), before)
    assert pool.shares(pool.weights(queries))[1] == 0 < pool.shares(pool.weights(queries))[0]
    (pool(queries) * torch.randn(L, 4, P, D)).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in pool.parameters())


def test_what_was_learned_stands_still_and_has_its_names() -> None:
    pool, queries = pool_of(2), torch.randn(4, D)
    names, kept = list(pool.state_dict()), {k: v.clone() for k, v in pool.state_dict().items()}
    assert names == [f"sessions.{s}.{name}" for s in range(2) for name in NAMES]
    pool.open_session()
    optimizer = torch.optim.AdamW(pool.parameters(), lr=0.1, weight_decay=0.5)
    pool(queries).square().sum().backward()
    optimizer.step()
    assert all(torch.equal(pool.state_dict()[name], tensor) for name, tensor in kept.items())


def test_a_loaded_pool_answers_the_same() -> None:
    pool, queries = pool_of(3), torch.randn(4, D)
    other = ComponentPool(layers=L, length=P, width=D, size=K)
    other.open_session()
    other.open_session()
    twin = copy.deepcopy(other)
    assert not torch.equal(other(queries), pool(queries))
    twin.load_state_dict(pool.state_dict())
    assert torch.equal(twin(queries), pool(queries))
    assert not torch.equal(other(queries), pool(queries)), "a copy is a pool of its own"


def test_the_penalty_is_the_distance_from_orthonormal() -> None:
    pool = pool_of(3)
    total = torch.tensor(0.0)
    for name in NAMES:
        rows = everything(pool, name).flatten(2)
        off = (rows @ rows.mT - torch.eye(3 * K)).square()
        off[:, : 2 * K, : 2 * K] = 0
        total = total + off.mean(dim=(1, 2)).sum()
    torch.testing.assert_close(pool.penalty(), total)
    pool.penalty().backward()
    assert all(p.grad is not None and p.grad.any() for p in pool.parameters())
    pool.open_session()
    torch.testing.assert_close(pool.penalty(), torch.tensor(0.0))


def test_autocast_does_not_blunt_it() -> None:
    pool, queries = pool_of(2), torch.randn(4, D)
    plain = pool(queries)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(pool(queries), plain)
        assert pool(queries.bfloat16()).dtype == pool.penalty().dtype == torch.float32
