"""Pretraining as a method: what its losses see, and what they never see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests import tiny
from tests.poison import poison_tensors
from torch import Tensor

from absentia.config import Model
from absentia.data.batch import Batch
from absentia.data.table import open_table
from absentia.errors import UserError
from absentia.learn.build import make_method, patterns_seen
from absentia.learn.prepare import Prepared, prepare
from absentia.methods import METHODS, Stage
from absentia.methods.pretraining import Pretraining

STEADY = replace(tiny.SMALL, dropout=0.0)
SHOW_ALL = {"keep": 1.0, "whole": 0.0}


def unlabelled(content: tiny.Rows | None = None) -> Prepared:
    source = open_table(tiny.table(tiny.rows() if content is None else content))
    return prepare(source, replace(tiny.schema(), target=None), plan=None, on_bad="error", splits=("train", "val"))


def method_of(data: Prepared, model: Model = STEADY, **options: Any) -> Pretraining:
    seen = patterns_seen(data.rows["train"].presence)
    return make_method(Pretraining, data.fitted, model, seed=0, seen=seen, options=options).eval()


@pytest.fixture(scope="module")
def data() -> Prepared:
    return unlabelled()


def something(data: Prepared) -> Batch:
    batch = tiny.everything(data)
    return batch.select(~batch.empty, data.names)


def losses(method: Pretraining, batch: Batch, seed: int = 3) -> dict[str, Tensor]:
    return method.losses(batch, Stage(), torch.Generator().manual_seed(seed))


def gradients(method: Pretraining, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    method.zero_grad(set_to_none=True)
    torch.stack(list(terms.values())).sum().backward()
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


def test_it_is_not_among_the_methods_for_a_target() -> None:
    assert Pretraining.name not in METHODS


def test_every_modality_is_asked_about(data: Prepared) -> None:
    terms = losses(method_of(data), something(data))
    expected = {f"{what} {name}" for what in ("masked", "gist") for name in tiny.NAMES} | {"matching"}
    assert terms.keys() == expected
    assert all(torch.isfinite(t) and t.requires_grad for t in terms.values())


def test_repetition_counts_in_training_alone(data: Prepared) -> None:
    batch, method = something(data), method_of(data)
    assert "spread" not in losses(method, batch)
    one, other = (losses(m.train(), batch)["spread"] for m in (method, method_of(data, spread=0.2)))
    assert float(one.detach()) > 0
    torch.testing.assert_close(other, 2 * one)


def test_a_modality_that_no_row_has_is_not_asked_about(data: Prepared) -> None:
    batch = something(data).restrict(torch.tensor([True, False, True, False]), data.names)
    batch = batch.select(~batch.empty, data.names)
    method = method_of(data)
    terms = losses(method, batch)
    assert terms.keys() == {"masked photo", "gist photo", "masked facts", "gist facts", "matching"}
    reached = {name for name, g in gradients(method, terms).items() if g.any()}
    assert not [name for name in reached if "m_words" in name or "m_wave" in name]
    assert [name for name in reached if "m_photo" in name]


def test_the_same_draw_gives_the_same_bits(data: Prepared) -> None:
    batch, method = something(data), method_of(data)
    one, same, other = (losses(method, batch, seed) for seed in (3, 3, 4))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_poison_in_what_is_absent_changes_no_bit(data: Prepared) -> None:
    batch, method = something(data), method_of(data)
    shown = batch.presence & (torch.rand(batch.presence.shape, generator=torch.Generator().manual_seed(2)) < 0.6)
    poisoned = poison_tensors(batch, shown, data.names)
    views = [b.restrict(shown, data.names) for b in (batch, poisoned)]
    views = [view.select(~view.empty, data.names) for view in views]
    one, other = (losses(method, view) for view in views)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert_same(gradients(method, one), gradients(method, other))


def assert_same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_rows_with_one_modality_have_no_matching(data: Prepared) -> None:
    batch = something(data)
    turn = batch.presence.cumsum(dim=1) == 1
    single = batch.restrict(batch.presence & turn, data.names)
    terms = losses(method_of(data, **SHOW_ALL), single)
    assert float(terms["matching"].detach()) == 0
    assert sum(float(t.detach()) for name, t in terms.items() if name.startswith("masked")) > 0


def test_weights_and_shares_count(data: Prepared) -> None:
    batch = something(data)
    plain = losses(method_of(data), batch)
    heavy = losses(method_of(data, masked=3.0, gist=0.0), batch)
    for name in tiny.NAMES:
        torch.testing.assert_close(heavy[f"masked {name}"], 3 * plain[f"masked {name}"])
        assert float(heavy[f"gist {name}"].detach()) == 0
    bare = losses(method_of(data, share=0.0, whole=0.0), batch)
    assert all(float(bare[f"masked {name}"].detach()) == 0 for name in tiny.NAMES)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"share": 1.5}, "options.share 1.5: must be a number from 0 to 1"),
        ({"matching": -1.0}, "options.matching -1.0: must be a number from 0 to 1000"),
        ({"mask": 0.3}, "unknown key 'options.mask'; did you mean 'masked'"),
    ],
)
def test_what_cannot_be_asked(data: Prepared, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        method_of(data, **options)


def test_a_target_is_one_more_question() -> None:
    data = tiny.prepared()
    method, batch = method_of(data), something(data)
    terms = losses(method, batch)
    assert "supervised" in terms and float(terms["supervised"].detach()) > 0
    assert method(tiny.everything(data)).scores.shape == (len(tiny.everything(data)), 3)


def test_without_a_target_it_answers_with_embeddings(data: Prepared) -> None:
    output = method_of(data)(tiny.everything(data))
    assert output.scores.shape == (len(tiny.everything(data)), 1) and list(output.embeddings) == tiny.NAMES


def test_what_belongs_together_can_be_learned() -> None:
    """Two modalities that say the same: whether one was exchanged is soon known."""
    content = tiny.rows(60, holes=0.0)
    for i, row in enumerate(content):
        row |= {"split": "train", "wave": [float(i % 2)] * 6, "words": ("low", "high")[i % 2]}
    content[0]["split"] = "val"
    schema = replace(tiny.schema(names=["words", "wave"]), target=None)
    data = prepare(open_table(tiny.table(content)), schema, plan=None, on_bad="error", splits=("train", "val"))
    method = method_of(data, **SHOW_ALL, share=0.0).train()
    batch = tiny.everything(data)
    batch = batch.select(batch.presence.all(dim=1), data.names)
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-2)
    found = []
    for step in range(120):
        terms = losses(method, batch, step)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        found.append({name: float(term.detach()) for name, term in terms.items()})
    assert found[-1]["gist wave"] < 0.2 * found[0]["gist wave"]
    assert found[-1]["matching"] < 0.35
