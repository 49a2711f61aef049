"""What is special to each method; what all of them promise is in test_laws.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests import tiny

from absentia.data.batch import Batch
from absentia.data.schema import pattern_name
from absentia.errors import UserError
from absentia.evaluate.patterns import answer
from absentia.layers.heads import probabilities, uncertainty_of
from absentia.layers.subsets import all_patterns, random_subsets
from absentia.learn.build import build_method, patterns_seen
from absentia.learn.prepare import Prepared
from absentia.methods import METHODS, Method, method_named
from absentia.methods.dedicated import Dedicated


@pytest.fixture(scope="module")
def data() -> Prepared:
    return tiny.prepared()


def batch_of(data: Prepared) -> Batch:
    batch = tiny.everything(data)
    return batch.select(~batch.empty, data.names)


def loss(method: Method, batch: Batch, draw: int = 0, stage: int = 0) -> float:
    torch.manual_seed(0)
    terms = method.losses(batch, method.stages()[stage], torch.Generator().manual_seed(draw))
    return sum(float(term.detach()) for term in terms.values())


# --- the registry, and how a method is built


def test_names_are_those_of_the_registry() -> None:
    assert {name: kind.name for name, kind in METHODS.items()} == {name: name for name in METHODS}
    assert method_named("dropout") is METHODS["dropout"]


def test_an_unknown_method_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'dropout'"):
        method_named("drop-out")


@pytest.mark.parametrize("name", METHODS)
def test_the_seed_decides_the_first_weights_and_nothing_else_does(name: str, data: Prepared) -> None:
    seen = patterns_seen(data.rows["train"].presence)
    before = torch.get_rng_state()
    one, same, other = (build_method(name, data.fitted, tiny.SMALL, seed=seed, seen=seen) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before), "the caller's generator is left alone"
    torch.rand(3)
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), same.parameters(), strict=True))
    assert not all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("target", tiny.TARGETS)
def test_a_fresh_method_answers_about_the_prior(name: str, target: str) -> None:
    data = tiny.prepared(target=target)
    method = tiny.method_of(name, data, stir=0)
    codec = data.fitted.codec
    shares = probabilities(method(batch_of(data)).scores, codec)
    assert (shares - torch.tensor(codec.prior)).abs().max() < 0.25


@pytest.mark.parametrize("name", METHODS)
def test_embeddings_are_those_of_present_rows(name: str, data: Prepared) -> None:
    method, batch = tiny.method_of(name, data), batch_of(data)
    found = method(batch).embeddings
    for m, modality in enumerate(data.names):
        rows = len(batch) if method.feeds_placeholders else int(batch.presence[:, m].sum())
        assert modality not in found or found[modality].shape == (rows, tiny.SMALL.width)


def test_patterns_seen_are_the_parts_of_what_training_rows_have() -> None:
    presence = np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=bool)
    assert patterns_seen(presence).astype(int).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]]
    wide = np.eye(9, dtype=bool)
    wide[1] = wide[0]
    assert patterns_seen(wide).sum() == len(patterns_seen(wide)) == 8, "many modalities: only what rows have"


# --- ignore


def test_ignore_sees_a_placeholder_as_if_it_were_there(data: Prepared) -> None:
    method, batch = tiny.method_of("ignore", data), batch_of(data)
    filled = batch.filled(method.parts.blanks)
    assert filled.presence.all()
    torch.testing.assert_close(method(batch).scores, method(filled).scores)


def test_ignore_depends_on_its_placeholders_and_the_others_do_not(data: Prepared) -> None:
    batch = batch_of(data)
    for name in METHODS:
        method = tiny.method_of(name, data)
        before = method(batch).scores
        for inputs in method.parts.blanks.values():
            for x in inputs.values():
                if x.is_floating_point():
                    x.fill_(3.0)
        assert torch.equal(method(batch).scores, before) != method.feeds_placeholders


# --- dropout


def test_dropout_hides_by_the_draw_alone(data: Prepared) -> None:
    method, batch = tiny.method_of("dropout", data), batch_of(data)
    assert loss(method, batch, draw=0) == loss(method, batch, draw=0) != loss(method, batch, draw=1)
    alone = batch.restrict(torch.tensor([False, True, False, False]), data.names)
    alone = alone.select(~alone.empty, data.names)
    assert loss(method, alone, draw=0) == loss(method, alone, draw=1), "the last modality stays"


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3).filter(any), min_size=1), st.integers(0, 999))
def test_a_random_subset_is_a_part_and_never_empty(rows: list[list[bool]], seed: int) -> None:
    presence = torch.tensor(rows)
    shown = random_subsets(presence, 0.25, torch.Generator().manual_seed(seed))
    assert (shown <= presence).all() and shown.any(dim=1).all()
    same = random_subsets(presence, 0.25, torch.Generator().manual_seed(seed))
    assert torch.equal(shown, same)


def test_random_subsets_practise_every_pattern_as_often_as_they_say() -> None:
    presence = torch.ones(30_000, 3, dtype=torch.bool)
    shown = random_subsets(presence, 0.25, torch.Generator().manual_seed(0))
    share = {size: float((shown.sum(dim=1) == size).float().mean()) for size in (1, 2, 3)}
    assert share == pytest.approx({1: 0.25, 2: 0.25, 3: 0.5}, abs=0.015)  # 0.75 spread evenly, and 0.25 keep all
    for pattern in all_patterns(3)[:6]:
        assert float((shown == torch.from_numpy(pattern)).all(dim=1).float().mean()) == pytest.approx(1 / 12, abs=0.01)


# --- dedicated


def test_dedicated_has_a_model_and_a_stage_for_each_pattern(data: Prepared) -> None:
    method = tiny.method_of("dedicated", data)
    patterns = patterns_seen(data.rows["train"].presence)
    names = [pattern_name(data.names, p.tolist()) for p in patterns]
    assert [stage.name for stage in method.stages()] == names
    one = sum(p.numel() for p in tiny.method_of("dropout", data).parameters())
    assert sum(p.numel() for p in method.parameters()) == one * len(patterns)
    learned = [id(p) for stage in method.stages() if stage.learns for p in stage.learns()]
    assert sorted(learned) == sorted(map(id, method.parameters())), "every parameter in exactly one stage"


def test_dedicated_answers_a_row_with_the_model_of_its_pattern(data: Prepared) -> None:
    method, batch = tiny.method_of("dedicated", data), batch_of(data)
    assert isinstance(method, Dedicated)
    before = method(batch).scores
    for number, pattern in enumerate(patterns_seen(data.rows["train"].presence)):
        with torch.no_grad():
            method.heads[number].together.bias += 1.0
        mine = (batch.presence == torch.from_numpy(pattern)).all(dim=1)
        assert torch.equal((method(batch).scores != before).any(dim=1), mine)
        before = method(batch).scores


def test_dedicated_learns_a_pattern_from_all_rows_that_have_it_and_shows_only_it(data: Prepared) -> None:
    method, batch = tiny.method_of("dedicated", data), batch_of(data)
    for number, stage in enumerate(method.stages()):
        pattern = patterns_seen(data.rows["train"].presence)[number]
        wanted = torch.from_numpy(stage.wants(batch.presence.numpy()))
        assert torch.equal(wanted, (batch.presence | ~torch.from_numpy(pattern)).all(dim=1))
        rows = batch.select(wanted, data.names)
        only = rows.restrict(torch.from_numpy(pattern), data.names)
        assert loss(method, rows, stage=number) == loss(method, only, stage=number)


@pytest.mark.parametrize("target", tiny.TARGETS)
def test_dedicated_takes_the_largest_part_it_knows_or_the_prior(target: str) -> None:
    data = tiny.prepared(target=target)
    seen = np.array([[0, 1, 0, 0], [0, 1, 1, 0]], dtype=bool)
    method, batch = tiny.method_of("dedicated", data, seen=seen), batch_of(data)
    output = method(batch)
    words, facts = batch.presence[:, 1], batch.presence[:, 2]
    for pattern, rows in ((seen[0], words & ~facts), (seen[1], words & facts)):
        expected = method(batch.restrict(torch.from_numpy(pattern), data.names)).scores
        assert rows.any()
        torch.testing.assert_close(output.scores[rows], expected[rows])
    assert (output.scores[~words] == method.prior).all() and (~words).any()
    assert (output.uncertainty[~words] == 1).all()


# --- uncertainty


def test_uncertainty_is_entropy_beside_the_priors(data: Prepared) -> None:
    codec = data.fitted.codec
    sure, prior = torch.tensor([[30.0, 0, 0]]), torch.tensor(codec.prior).log()[None]
    found = uncertainty_of(torch.cat([sure, prior]), codec)
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0]), atol=1e-5, rtol=0)


def test_more_unsure_than_the_prior_is_as_unsure(data: Prepared) -> None:
    rare = tiny.prepared([row for i, row in enumerate(tiny.rows()) if row["kind"] == "ant" or i % 2]).fitted.codec
    assert float(uncertainty_of(torch.zeros(1, 3), rare)) == 1.0
    answers = answer(tiny.method_of("dropout", data), data.rows["test"])
    assert (answers.uncertainty >= 0).all() and (answers.uncertainty <= 1).all()
