"""The laws of the design as one tester: a class of tests that any registered method passes without code of its own.

A test class inherits from `Laws` and is parametrised with `name`, the method's name in the registry.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests import tiny
from tests.damage import DAMAGE, write_run
from tests.poison import count_opened, hide_some, packed_tokens, poison_tensors, tokens_there
from torch import Tensor, nn

from absentia.config import Training
from absentia.data.absence import MaskPlan
from absentia.data.absence_rules import Rule
from absentia.data.batch import Batch
from absentia.data.kinds.series import SeriesDecoder
from absentia.data.memo import Memo
from absentia.data.presence import natural_presence
from absentia.data.rows import OnBad
from absentia.errors import UserError
from absentia.evaluate.patterns import answer, answer_patterns
from absentia.jobs import train_run
from absentia.layers.heads import probabilities
from absentia.layers.subsets import all_patterns
from absentia.learn.build import fitted_to, patterns_seen
from absentia.learn.prepare import Prepared, rows_of
from absentia.learn.run import load_run
from absentia.methods import METHODS, Method, Output, Stage
from absentia.methods.counted import counted
from absentia.models.backbone import FusedBackbone

CLOSE = 1e-5
Gradients = dict[str, Tensor | None]


# --- what the laws are tried on


@functools.cache
def data_for(target: str = tiny.TARGETS[0], names: tuple[str, ...] = tuple(tiny.NAMES)) -> Prepared:
    return tiny.prepared(target=target, names=names)


def rows_with_something(data: Prepared, split: str = "train") -> Batch:
    batch = tiny.everything(data, split)
    return batch.select(~batch.empty, data.names)


def stage_batches(method: Method, data: Prepared, batch: Batch) -> Iterator[tuple[Stage, Batch]]:
    """Of each stage the rows that it wants."""
    for stage in method.stages():
        wanted = torch.from_numpy(stage.wants(batch.presence.numpy())) & ~batch.empty
        if wanted.any():
            yield stage, batch.select(wanted, data.names)


def losses_and_gradients(method: Method, batch: Batch, stage: Stage, draw: int = 3) -> tuple[Tensor, Gradients]:
    method.zero_grad(set_to_none=True)
    torch.manual_seed(5)
    terms = method.losses(batch, stage, torch.Generator().manual_seed(draw))
    stacked = torch.stack(list(terms.values()))
    stacked.sum().backward()
    return stacked.detach(), gradients(method)


def gradients(method: Method) -> Gradients:
    return {name: None if p.grad is None else p.grad.clone() for name, p in method.named_parameters()}


def score_gradients(method: Method, batch: Batch, weights: Tensor) -> Gradients:
    """Gradients of a weighted sum of the scores (B, K)."""
    method.zero_grad(set_to_none=True)
    scores = method(batch).scores
    if scores.requires_grad:
        (scores * weights).sum().backward()
    return gradients(method)


def same_bits(left: Mapping[str, Tensor | None], right: Mapping[str, Tensor | None]) -> bool:
    return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)


def _same(left: Tensor | None, right: Tensor | None) -> bool:
    if left is None or right is None:
        return left is right
    return torch.equal(left, right)


def total(parts: Sequence[Gradients], shares: Sequence[float]) -> dict[str, Tensor | float]:
    """The weighted sum of gradients, where None is nothing."""
    return {
        name: sum((p[name] * share for p, share in zip(parts, shares, strict=True) if p[name] is not None), 0.0)
        for name in parts[0]
    }


def assert_near(whole: Gradients, parts: Mapping[str, Tensor | float]) -> None:
    for name, gradient in whole.items():
        found, expected = torch.as_tensor(0.0 if gradient is None else gradient), torch.as_tensor(parts[name])
        scale = max(1.0, float(expected.abs().max()))
        assert float((found - expected).abs().max()) <= CLOSE * scale, name


def by_pattern(batch: Batch, names: Sequence[str]) -> Iterator[tuple[Tensor, Batch]]:
    """The rows of each pattern, bool (B,), and their own batch."""
    for pattern in torch.unique(batch.presence, dim=0):
        rows = (batch.presence == pattern).all(dim=1)
        yield rows, batch.select(rows, names)


def one_each(batch: Batch, names: Sequence[str]) -> Batch:
    """Every row with only one of what it has, turn by turn: nothing is left that a method could hide."""
    turn = torch.arange(len(batch))[:, None] % batch.presence.sum(dim=1, keepdim=True)
    return batch.restrict(batch.presence & (batch.presence.cumsum(dim=1) - 1 == turn), names)


def drawn_plan(content: tiny.Rows, names: Sequence[str] = tiny.NAMES[1:]) -> MaskPlan:
    return MaskPlan.draw(
        modalities=names,
        splits=[row["split"] for row in content],
        ids=[row["id"] for row in content],
        rules={"train": Rule(p_incomplete=0.7), "test": Rule(p_absent={"wave": 0.5})},
    )


def learn(method: Method, data: Prepared, folder: Path, settings: Training = tiny.BRIEF, **more: Any) -> None:
    """A session: the training, and what a method computes when it ends."""
    tiny.loop_of(method, data, folder, settings=settings, **more).fit()
    tiny.close(method, data)


class Laws:
    """Nine laws. `name` is the method's name in the registry."""

    @pytest.fixture
    def opened(self, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
        """How many cells of each modality were decoded so far."""
        return count_opened(monkeypatch)

    # 1. What is absent or masked is never opened.

    @pytest.mark.parametrize("target", tiny.TARGETS)
    def test_poison_changes_no_bit_of_answers_losses_and_gradients(
        self, name: str, target: str, tmp_path: Path
    ) -> None:
        clean, poisoned, plan = hide_some(tiny.rows(), tmp_path)
        before = tiny.prepared(clean, target, plan=plan)
        after = tiny.prepared(poisoned, target, plan=plan)
        assert fitted_to(before.fitted) == fitted_to(after.fitted)
        one, other = tiny.method_of(name, before), tiny.method_of(name, after)
        for split in tiny.SPLITS:
            assert _same_output(one(tiny.everything(before, split)), other(tiny.everything(after, split)))
        for mode in (False, True):
            pairs = zip(
                stage_batches(one.train(mode), before, tiny.everything(before)),
                stage_batches(other.train(mode), after, tiny.everything(after)),
                strict=True,
            )
            for (stage, batch), (same_stage, same_batch) in pairs:
                loss, grads = losses_and_gradients(one, batch, stage)
                same_loss, same_grads = losses_and_gradients(other, same_batch, same_stage)
                assert torch.equal(loss, same_loss)
                assert same_bits(grads, same_grads)

    def test_training_on_poison_ends_in_the_same_weights(self, name: str, tmp_path: Path) -> None:
        names = ("photo", "facts")
        clean, poisoned, plan = hide_some(tiny.rows(60), tmp_path, names)
        learned = []
        for number, content in enumerate((clean, poisoned)):
            data = tiny.prepared(content, names=names, plan=plan)
            method = tiny.method_of(name, data, stir=0)
            learn(method, data, tmp_path / str(number))
            learned.append(method.learned())
        assert same_bits(*learned)

    def test_poison_in_what_a_batch_hides_changes_no_bit(self, name: str) -> None:
        data = data_for()
        method, batch = tiny.method_of(name, data), replace(tiny.everything(data), memo=None)
        shown = batch.presence & (torch.rand(batch.presence.shape, generator=torch.Generator().manual_seed(2)) < 0.5)
        poisoned = poison_tensors(batch, shown, data.names)
        weights = torch.randn(len(batch), 3, generator=torch.Generator().manual_seed(0))
        views = [b.restrict(shown, data.names) for b in (batch, poisoned)]
        assert _same_output(*(method(view) for view in views))
        assert same_bits(*(score_gradients(method, view, weights) for view in views))

    # 2. One batch, many patterns, also in training.

    @pytest.mark.parametrize("target", tiny.TARGETS)
    def test_a_mixed_batch_equals_its_patterns_one_by_one(self, name: str, target: str) -> None:
        data = data_for(target)
        method, batch = tiny.method_of(name, data), tiny.everything(data)
        whole = method(batch)
        for rows, part in by_pattern(batch, data.names):
            assert_close(method(part), whole, rows)
        for row in range(0, len(batch), 5):
            alone = torch.arange(len(batch)) == row
            assert_close(method(batch.select(alone, data.names)), whole, alone)

    def test_gradients_of_a_mixed_batch_are_those_of_its_patterns(self, name: str) -> None:
        data = data_for()
        method, batch = tiny.method_of(name, data), tiny.everything(data)
        weights = torch.randn(len(batch), 3, generator=torch.Generator().manual_seed(0))
        whole = score_gradients(method, batch, weights)
        parts = [score_gradients(method, part, weights[rows]) for rows, part in by_pattern(batch, data.names)]
        assert_near(whole, total(parts, [1.0] * len(parts)))

    def test_a_mixed_training_step_equals_its_patterns_one_by_one(self, name: str) -> None:
        """Where nothing is drawn the loss of a step is the mean over its rows, whatever their patterns."""
        data = data_for()
        assert_steps_are_their_patterns(tiny.method_of(name, data), data)

    def test_gradients_reach_only_what_the_patterns_of_a_batch_use(self, name: str) -> None:
        """An absent modality may contribute its [CLS], never what embeds inputs."""
        if METHODS[name].feeds_placeholders:
            pytest.skip("placeholders are inputs to it")
        data = data_for()
        method, batch = tiny.method_of(name, data), rows_with_something(data)
        weights = torch.ones(len(batch), 3)
        for m, modality in enumerate(data.names):
            having = batch.presence[:, m]
            alone = batch.select(having, data.names).restrict(torch.arange(len(data.names)) == m, data.names)
            found = [score_gradients(method, alone, weights[having])]
            found += [losses_and_gradients(method, b, s)[1] for s, b in stage_batches(method, data, alone)]
            for grads in found:
                learns = [key for key in _embedding(method, modality) if method.get_parameter(key).requires_grad]
                learns = learns or [key for key, p in method.named_parameters() if p.requires_grad]
                assert not learns or any(grads[key] is not None for key in learns), "something is learned"
                for other in data.names:
                    reached = [grads[key] for key in _embedding(method, other) if grads[key] is not None]
                    assert other == modality or not any(g.any() for g in reached if g is not None), other

    # 3. Absent costs nothing.

    def test_cells_are_opened_where_they_are_present_and_nowhere_else(
        self, name: str, opened: Counter[str], tmp_path: Path
    ) -> None:
        names = ("photo", "wave")
        _, poisoned, plan = hide_some(tiny.rows(60), tmp_path, names)
        data = tiny.prepared(poisoned, names=names, plan=plan)
        there = np.concatenate([data.rows[split].presence for split in tiny.SPLITS]).sum(axis=0)
        assert opened == dict(zip(data.names, there.tolist(), strict=True))
        method = tiny.method_of(name, data)
        learn(method, data, tmp_path / "run")
        answer_patterns(method, data.rows["test"], all_patterns(len(data.names)))
        assert opened == dict(zip(data.names, there.tolist(), strict=True)), "they were in memory"

    def test_without_memory_a_batch_opens_its_present_cells(self, name: str, opened: Counter[str]) -> None:
        data = data_for()
        method = tiny.method_of(name, data)
        seen = data.rows["test"].presence
        rows = rows_of(
            tiny.table(tiny.rows()),
            data.fitted,
            on_bad="error",
            presence=seen,
            index=data.rows["test"].index,
        )
        opened.clear()
        rows._values.clear()
        rows.memo = None
        answer(method, rows, size=4)
        assert opened == dict(zip(data.names, seen.sum(axis=0).tolist(), strict=True))

    def test_the_transformer_packs_the_tokens_that_are_there(self, name: str) -> None:
        """As many passes as the method likes, each over exactly these tokens and those that it says join them."""
        if METHODS[name].feeds_placeholders:
            pytest.skip("it feeds placeholders, and says so")
        data = data_for()
        method, batch = tiny.method_of(name, data), replace(rows_with_something(data), memo=None)
        full = batch.select(batch.presence.all(dim=1), data.names)
        with packed_tokens() as passes:
            method(full)
        each, rest = divmod(sum(passes), tokens_there(full, steps_in_a_token(data)))
        assert each >= 1 and rest == 0
        for shown in [torch.ones(len(data.names)).bool(), *map(torch.from_numpy, all_patterns(len(data.names)))]:
            view = batch.restrict(shown, data.names)
            view = view.select(~view.empty, data.names)
            with packed_tokens() as passes:
                method(view)
            assert sum(passes) == tokens_said(method, view, data, each)
        with packed_tokens() as passes:
            method(batch.restrict(torch.zeros(len(data.names)).bool(), data.names))
        assert sum(passes) == 0

    def test_placeholders_are_said_to_be_fed(self, name: str) -> None:
        """A method that feeds placeholders costs as if nothing were absent; one that does not, does not."""
        data = data_for()
        method, batch = tiny.method_of(name, data), replace(rows_with_something(data), memo=None)
        lone = batch.restrict(torch.arange(len(data.names)) == 0, data.names)
        with packed_tokens() as passes:
            method(lone)
        said = tokens_said(method, lone.select(~lone.empty, data.names), data, max(1, len(passes)))
        assert (sum(passes) > said) == METHODS[name].feeds_placeholders

    # 4. Order does not matter.

    def test_shuffled_rows_get_the_same_answers(self, name: str) -> None:
        data = data_for()
        method, rows = tiny.method_of(name, data), data.rows["train"]
        order = np.random.default_rng(1).permutation(len(rows))
        straight, shuffled = method(rows.batch(np.arange(len(rows)))), method(rows.batch(order))
        assert_close(shuffled, straight, torch.from_numpy(order))
        for rows_in_batch in (3, 7):
            answers = answer(method, rows, size=rows_in_batch)
            expected = probabilities(straight.scores, data.fitted.codec)
            torch.testing.assert_close(torch.from_numpy(answers.probabilities).float(), expected, rtol=0, atol=CLOSE)

    def test_a_shuffled_table_has_the_same_masks_and_answers(self, name: str) -> None:
        content, names = tiny.rows(), tiny.NAMES[1:]
        turned = [content[i] for i in np.random.default_rng(2).permutation(len(content))]
        plan, again = drawn_plan(content), drawn_plan(turned, names[::-1])
        assert again.sha256 == plan.sha256
        data = tiny.prepared(content, names=names, plan=plan)
        other = tiny.prepared(turned, names=names, plan=again)
        method = tiny.method_of(name, data)
        for split in tiny.SPLITS:
            rows, shuffled = data.rows[split], other.rows[split]
            place = {key: i for i, key in enumerate(rows.ids)}
            index = np.asarray([place[key] for key in shuffled.ids])
            assert (rows.presence[index] == shuffled.presence).all()
            shuffled.decoders = data.fitted.decoders  # the same fitted numbers to the last bit
            np.testing.assert_allclose(
                answer(method, shuffled).probabilities, answer(method, rows).probabilities[index], atol=CLOSE
            )

    @pytest.mark.parametrize("target", tiny.TARGETS)
    def test_modalities_in_another_order_give_the_same_answers(self, name: str, target: str) -> None:
        """The same weights, by name; what a method lays out by modality it lays out anew."""
        data, order = data_for(target), [2, 0, 3, 1]
        turned = data_for(target, tuple(tiny.NAMES[m] for m in order))
        seen = patterns_seen(data.rows["train"].presence)
        method = tiny.method_of(name, data, seen=seen)
        other = tiny.method_of(name, turned, stir=0, seen=seen[:, order])
        other.load_state_dict(dict(method.named_parameters()), strict=False)
        if not other.stages():
            tiny.close(other, turned)
        for split in tiny.SPLITS:
            batch, same = tiny.everything(data, split), tiny.everything(turned, split)
            assert torch.equal(batch.presence[:, order], same.presence)
            assert_close(other(same), method(batch), torch.ones(len(batch)).bool())
        for (stage, batch), (same_stage, same) in zip(
            stage_batches(method, data, one_each(rows_with_something(data), data.names)),
            stage_batches(other, turned, _like(rows_with_something(turned), data, turned)),
            strict=True,
        ):
            loss, grads = losses_and_gradients(method, batch, stage)
            same_loss, same_grads = losses_and_gradients(other, same, same_stage)
            torch.testing.assert_close(loss, same_loss, rtol=CLOSE, atol=CLOSE)
            assert_near(grads, {k: 0.0 if g is None else g for k, g in same_grads.items()})

    # 5. All absent is an answer too.

    @pytest.mark.parametrize("target", tiny.TARGETS)
    def test_nothing_present_gets_the_prior_and_full_uncertainty(self, name: str, target: str) -> None:
        data = data_for(target)
        method, batch = tiny.method_of(name, data), tiny.everything(data)
        nothing = batch.restrict(torch.zeros(len(data.names)).bool(), data.names)
        prior = torch.tensor(data.fitted.codec.prior)
        mixed = batch.restrict(torch.arange(len(batch))[:, None] % 2 == 0, data.names)
        for view in (nothing, mixed, batch, nothing.select(torch.arange(len(batch)) == 0, data.names)):
            output = method(view)
            shares = probabilities(output.scores, data.fitted.codec)
            assert output.scores.shape == (len(view), data.fitted.codec.target.size)
            assert torch.isfinite(output.scores).all() and torch.isfinite(output.uncertainty).all()
            assert ((output.uncertainty >= 0) & (output.uncertainty <= 1)).all()
            assert view.empty.any()
            torch.testing.assert_close(shares[view.empty], prior.expand(int(view.empty.sum()), -1), rtol=0, atol=1e-6)
            assert (output.uncertainty[view.empty] == 1).all()

    def test_training_rows_with_nothing_are_no_trouble(self, name: str, tmp_path: Path) -> None:
        content = tiny.rows(45, holes=0.6)
        plan = tiny.plan_of(content, {i: tiny.NAMES[1:] for i in range(0, 45, 2)}, tiny.NAMES[1:])
        data = tiny.prepared(content, names=tiny.NAMES[1:], plan=plan)
        assert (~data.rows["train"].presence.any(axis=1)).sum() > 5
        method = tiny.method_of(name, data)
        learn(method, data, tmp_path)
        assert all(torch.isfinite(p).all() for p in method.parameters())
        assert (answer(method, data.rows["val"]).uncertainty[~data.rows["val"].presence.any(axis=1)] == 1).all()

    # 6. What is learned is small and safe.

    @pytest.mark.parametrize("target", tiny.TARGETS)
    def test_what_is_saved_answers_the_same_bit_for_bit(self, name: str, target: str, tmp_path: Path) -> None:
        data = data_for(target)
        method = tiny.method_of(name, data)
        run = write_run(method, data, tmp_path / "run")
        loaded = load_run(run.path)
        assert same_bits(method.learned(), loaded.method.learned())
        assert fitted_to(loaded.fitted) == json.loads(json.dumps(fitted_to(data.fitted)))
        rows = rows_of(
            tiny.table(tiny.rows()),
            loaded.fitted,
            on_bad="error",
            presence=data.rows["test"].presence,
            index=data.rows["test"].index,
        )
        assert _same_output(loaded.method(rows.batch(np.arange(len(rows)))), method(tiny.everything(data, "test")))

    @pytest.mark.parametrize("damage", DAMAGE)
    def test_a_damaged_run_is_refused_with_a_sentence(self, name: str, damage: str, tmp_path: Path) -> None:
        data = data_for()
        run = write_run(tiny.method_of(name, data), data, tmp_path / "run")
        DAMAGE[damage](run)
        with pytest.raises(UserError, match=r"weights\.safetensors|schema\.json"):
            load_run(run.path)

    def test_weights_of_another_run_are_refused(self, name: str, tmp_path: Path) -> None:
        mine = write_run(tiny.method_of(name, data_for()), data_for(), tmp_path / "mine")
        other_data = tiny.prepared(tiny.rows(seed=1))
        other = write_run(tiny.method_of(name, other_data), other_data, tmp_path / "other")
        mine.weights().write_bytes(other.weights().read_bytes())
        with pytest.raises(UserError, match="another run"):
            load_run(mine.path)

    def test_only_what_was_learned_is_kept(self, name: str) -> None:
        method = tiny.method_of(name, data_for())
        frozen = next(method.parameters())
        frozen.requires_grad_(False)
        names = [key for key, p in method.named_parameters() if p is frozen]
        assert names and not set(names) & method.learned().keys()
        fresh = tiny.method_of(name, data_for(), stir=0)
        next(fresh.parameters()).requires_grad_(False)
        fresh.restore(method.learned())
        assert same_bits(fresh.learned(), method.learned())

    def test_no_answer_reads_what_is_counted_as_there_for_training(self, name: str) -> None:
        """What a method names as its scaffold may be lost: answers keep every bit, and numbers add up."""
        data = data_for()
        method = tiny.method_of(name, data).eval()
        batch = rows_with_something(data)
        found = counted(method)
        before = method(batch)
        assert found["answering"] + sum(found["scaffold"].values()) == found["total"]
        with torch.no_grad():
            for parameter in chain.from_iterable(method.scaffold().values()):
                parameter.fill_(torch.nan)
        assert _same_output(before, method(batch))

    # 7. A killed run loses nothing.

    def test_a_training_killed_at_any_step_ends_in_the_same_weights(self, name: str, tmp_path: Path) -> None:
        data = data_for(names=("words", "facts"))
        whole = tiny.method_of(name, data, stir=0)
        heard = tiny.Heard()
        learn(whole, data, tmp_path / "whole", tiny.QUICK, listener=heard)
        forget(data)
        assert len(heard.losses) > 3 or not whole.stages()
        for kill in range(1, len(heard.losses) + 1, max(1, len(heard.losses) // 5)):
            folder, often = tmp_path / str(kill), replace(tiny.QUICK, checkpoint_seconds=0 if kill % 2 else 1e6)
            killed, method = (tiny.method_of(name, data, stir=0) for _ in range(2))
            with pytest.raises(tiny.Killed):
                tiny.loop_of(killed, data, folder, settings=often, listener=tiny.killer(kill)).fit()
            forget(data)
            learn(method, data, folder, often)
            assert same_bits(whole.learned(), method.learned()), f"killed in step {kill}"
            assert tiny.metrics(folder) == tiny.metrics(tmp_path / "whole"), f"killed in step {kill}"

    def test_the_same_seed_gives_the_same_weights_and_another_does_not(self, name: str, tmp_path: Path) -> None:
        data = data_for(names=("words", "facts"))
        learned = []
        for number, seed in enumerate((0, 0, 1)):
            torch.manual_seed(number)
            method = tiny.method_of(name, data, stir=0)
            learn(method, data, tmp_path / str(number), seed=seed)
            learned.append(method.learned())
        assert same_bits(learned[0], learned[1])
        assert same_bits(learned[0], learned[2]) == (not method.stages()), "without a training nothing is drawn"

    def test_a_stage_leaves_alone_what_it_does_not_learn(self, name: str, tmp_path: Path) -> None:
        data = data_for(names=("words", "facts"))
        method = tiny.method_of(name, data, stir=0)
        stages = method.stages()
        for number, stage in enumerate(stages):
            if stage.learns is None:
                continue
            mine = {id(p) for p in (*stage.learns(), *stage.follows())}
            before = {key: p.detach().clone() for key, p in method.named_parameters() if id(p) not in mine}
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(method, "stages", lambda stage=stage: [stage])
                learn(method, data, tmp_path / str(number))
            after = {key: p for key, p in method.named_parameters() if key in before}
            assert same_bits(before, after), stage.name

    def test_a_session_keeps_what_was_learned(self, name: str) -> None:
        """New classes come behind the known ones, whose scores stay but for what the new parameters say.

        Of a method that settles all that was learned stands still; of any other the known classes go on learning.
        """
        data = data_for()
        method, batch = tiny.method_of(name, data), tiny.everything(data)
        before, codec = method(batch).scores.detach(), data.fitted.codec
        known = {key: tensor.clone() for key, tensor in method.learned().items() if key != "prior"}
        target = replace(codec.target, classes=(*codec.target.classes, "dog", "eel"))
        wider = replace(codec, target=target, prior=(*(0.8 * p for p in codec.prior), 0.1, 0.1))
        method.open_session(wider)
        output, answered = method(batch), ~batch.empty
        assert output.scores.shape == (len(batch), 5)
        fresh = new_parameters(method, known)
        still = torch.allclose(output.scores[answered, :3], before[answered], rtol=CLOSE, atol=CLOSE)
        quiet = output.scores if still else without(fresh, method, batch)
        torch.testing.assert_close(quiet[answered, :3], before[answered], rtol=CLOSE, atol=CLOSE)
        shares = probabilities(output.scores, wider)
        torch.testing.assert_close(shares[batch.empty][0], torch.tensor(wider.prior), rtol=0, atol=1e-6)
        assert (output.uncertainty[batch.empty] == 1).all()
        classes = 3 + torch.arange(len(batch)) % 2 if method.settles else torch.arange(len(batch)) % 5
        taught = replace(batch, target=classes).select(answered, data.names)
        start = {key: p.detach().clone() for key, p in fresh.items()}
        steps = list(stage_batches(method, data, taught))
        if any(list(stage.follows()) for stage, _ in steps):  # in training alone, and a step behind
            method.train()
            steps *= 2
        for stage, rows in steps:
            losses_and_gradients(method, rows, stage)
            torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], weight_decay=0.1).step()
        method.eval().close_session(lambda: iter([taught]))
        assert not [key for key, p in fresh.items() if torch.equal(p, start[key])], "all that is new learns"
        moved = (method(batch).scores != output.scores)[answered].any(dim=0)
        assert moved[3:].all(), "every new class is learned"
        if method.settles:
            assert same_bits(known, {key: method.learned()[key] for key in known})
        else:
            assert moved.all(), "the known ones go on learning"
        other = tiny.method_of(name, data, stir=0)
        other.open_session(wider)
        other.restore(method.learned())
        assert _same_output(other(batch), method(batch))

    def test_a_session_does_not_mix_up_known_classes(self, name: str) -> None:
        method, codec = tiny.method_of(name, data_for()), data_for().fitted.codec
        turned = replace(codec.target, classes=("dog", *codec.target.classes))
        with pytest.raises(ValueError, match="behind the known ones"):
            method.open_session(replace(codec, target=turned, prior=(0.25,) * 4))

    # 8. Numbers have names.

    def test_the_report_names_its_numbers(self, name: str, tmp_path: Path) -> None:
        content = tiny.rows()
        plan = drawn_plan(content)
        report = train_run(tiny.config(name), tmp_path / "run", source=tiny.table(content), plan=plan, page=False)
        assert json.loads((tmp_path / "run" / "report.json").read_text()) == json.loads(json.dumps(report))
        assert report.keys() >= REPORT_KEYS
        assert report["method"] == name and report["plan_sha256"] == plan.sha256
        assert MaskPlan.load(tmp_path / "run" / "plan.parquet").sha256 == plan.sha256
        assert len(report["patterns"]) == 7
        for line in report["patterns"]:
            assert line.keys() >= PATTERN_KEYS
            assert line["pattern"] == "+".join(n for n, there in line["present"].items() if there)
            assert line["low"] <= line["score"] <= line["high"]
        scores = [line["score"] for line in report["patterns"]]
        assert scores == sorted(scores) and report["worst"] == scores[0]
        assert report["mean"] == pytest.approx(np.mean(scores))
        assert (report["reference_method"] is None) == (name == "ignore")
        assert (report["reference_mean"] is None) == (name == "ignore")
        asked, realised = report["plan"]["asked"], report["plan"]["realised"]
        assert asked["train"]["p_incomplete"] == 0.7 and asked["test"]["p_absent"]["wave"] == 0.5
        for split, found in report["splits"].items():
            assert found["p_absent"] == pytest.approx(realised[split]["p_absent"])
            assert found["p_incomplete"] == pytest.approx(realised[split]["p_incomplete"])
            assert sum(found["patterns"].values()) == found["rows"]
        assert realised["train"]["p_incomplete"] > 0.7, "what the plan hides, and what was not there"
        assert not [p for p in (tmp_path / "run").iterdir() if p.name.startswith((".", "checkpoint"))]

    # 9. Nothing fails silently.

    @pytest.mark.parametrize("policy", ["error", "absent", "skip"])
    def test_bad_cells_are_counted_and_listed(self, name: str, policy: str, tmp_path: Path) -> None:
        content = tiny.rows()
        bad = {10: {"wave": [1.0, float("nan")]}, 20: {"height": float("inf")}, 34: {"wave": []}}
        for row, cells in bad.items():
            content[row] |= cells
        settings = tiny.config(name, on_bad=policy, reference=False, training={"epochs": 0.3})
        run = functools.partial(train_run, settings, tmp_path / "run", page=False)
        if policy == "error":
            with pytest.raises(UserError, match=r"row \d+, column '(wave|height)'"):
                run(source=tiny.table(content))
            return
        report = run(source=tiny.table(content))
        found = report["bad_cells"]
        assert found["policy"] == policy and found["count"] == 3
        assert {(c["row"], c["column"]) for c in found["cells"]} == {(10, "wave"), (20, "height"), (34, "wave")}
        assert all(cell["reason"] and cell["became"] == policy for cell in found["cells"])
        gone = 3 if policy == "skip" else 0
        assert sum(report["splits"][split]["rows"] for split in tiny.SPLITS) == len(content) - gone

    @pytest.mark.parametrize("policy", ["absent", "skip"])
    def test_a_bad_cell_changes_no_other_row(self, name: str, policy: OnBad) -> None:
        """A row is never replaced by another."""
        data, content = data_for(), tiny.rows()
        method, bad = tiny.method_of(name, data), {3: {"wave": []}, 10: {"photo": {"bytes": b"no", "path": None}}}
        for row, cells in bad.items():
            content[row] |= cells
        table, presence = tiny.table(content), natural_presence(tiny.table(content), data.fitted.schema)
        rows = rows_of(table, data.fitted, on_bad=policy, presence=presence)
        clean = rows_of(tiny.table(tiny.rows()), data.fitted, on_bad="error", presence=presence)
        assert [record.row for record in rows.bad] == sorted(bad)
        assert rows.index.tolist() == [i for i in range(len(content)) if policy == "absent" or i not in bad]
        same = {int(i): p for i, p in zip(clean.index, answer(method, clean).probabilities, strict=True)}
        hidden = {3: ["wave"], 10: ["photo"]}
        for i, found in zip(rows.index.tolist(), answer(method, rows).probabilities, strict=True):
            if i in hidden:
                shown = torch.tensor([n not in hidden[i] for n in data.names])
                alone = clean.batch(np.asarray([i])).restrict(shown, data.names)
                same[i] = probabilities(method(alone).scores, data.fitted.codec)[0].detach().double().numpy()
            np.testing.assert_allclose(found, same[i], atol=CLOSE)


REPORT_KEYS = {
    "metric", "higher_is_better", "plan_sha256", "method", "reference_method", "seed", "target", "modalities",
    "patterns", "as_given", "mean", "worst", "reference_mean", "reference_worst", "splits", "plan", "bad_cells",
    "notes", "examples", "command", "versions", "hardware", "seconds", "parameters", "created",
}  # fmt: skip
PATTERN_KEYS = {
    "pattern", "present", "n", "score", "low", "high", "drop", "reference", "reference_low", "reference_high",
    "metrics", "trained_rows", "note",
}  # fmt: skip


def _same_output(left: Output, right: Output) -> bool:
    return torch.equal(left.scores, right.scores) and torch.equal(left.uncertainty, right.uncertainty)


def in_double(batch: Batch) -> Batch:
    """What is read, and what is asked for, in float64."""

    def wide(x: Tensor) -> Tensor:
        return x.double() if x.is_floating_point() else x

    inputs = {name: {key: wide(x) for key, x in one.items()} for name, one in batch.inputs.items()}
    return replace(batch, inputs=inputs, target=None if batch.target is None else wide(batch.target))


def assert_close(part: Output, whole: Output, rows: Tensor) -> None:
    torch.testing.assert_close(part.scores, whole.scores[rows], rtol=CLOSE, atol=CLOSE)
    torch.testing.assert_close(part.uncertainty, whole.uncertainty[rows], rtol=CLOSE, atol=CLOSE)


def assert_steps_are_their_patterns(method: Method, data: Prepared) -> None:
    """Where nothing is drawn, loss and gradients of a step are the mean over its rows, whatever their patterns."""
    batch = rows_with_something(data)
    for rows in (batch, one_each(batch, data.names)):
        for stage, wanted in stage_batches(method, data, rows):
            loss, whole = losses_and_gradients(method, wanted, stage, draw=3)
            if not torch.equal(loss, losses_and_gradients(method, wanted, stage, draw=4)[0]):
                continue
            parts = [losses_and_gradients(method, part, stage) for _, part in by_pattern(wanted, data.names)]
            shares = [len(part) / len(wanted) for _, part in by_pattern(wanted, data.names)]
            expected = torch.stack([x * share for (x, _), share in zip(parts, shares, strict=True)]).sum(dim=0)
            torch.testing.assert_close(loss, expected, rtol=CLOSE, atol=CLOSE)
            assert_near(whole, total([grads for _, grads in parts], shares))


def tokens_said(method: Method, batch: Batch, data: Prepared, each: int) -> int:
    """How many tokens may go through a transformer for an answer, as the method says; else `each` pass has them all."""
    patch, said = steps_in_a_token(data), method.passes(batch.presence)
    if said is None:
        return each * tokens_there(batch, patch)
    own = [n * tokens_there(batch.select(said[0] == n, data.names), patch) for n in torch.unique(said[0]).tolist()]
    assert (said[1] <= 3 * (~batch.presence).sum(dim=1)).all(), "an absent modality is its [CLS] at most"
    return sum(own) + int(said[1].sum())


def forget(data: Prepared) -> None:
    """What was kept beside the rows is gone, as in another process."""
    for rows in data.rows.values():
        rows.memo = Memo(len(rows), rows.batch, presence=rows.presence)


def new_parameters(method: Method, known: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    """What learns and was not there before."""
    return {key: p for key, p in method.named_parameters() if p.requires_grad and key not in known}


@torch.no_grad()
def without(parameters: Mapping[str, nn.Parameter], method: Method, batch: Batch) -> Tensor:
    """The scores of a batch as if these parameters were zero."""
    kept = {key: p.clone() for key, p in parameters.items()}
    for p in parameters.values():
        p.zero_()
    scores = method(batch).scores
    for key, p in parameters.items():
        p.copy_(kept[key])
    return scores


def steps_in_a_token(data: Prepared) -> int:
    decoder = data.fitted.decoders["wave"]
    assert isinstance(decoder, SeriesDecoder)
    return decoder.patch


def _embedding(method: Method, modality: str) -> list[str]:
    """The parameters that read a modality's inputs, in all backbones of a method; not its [CLS] and type."""
    inside = {
        id(p)
        for backbone in method.modules()
        if isinstance(backbone, FusedBackbone)
        for key, p in backbone.embedder(modality).named_parameters()
        if key not in ("cls_token", "modality_type")
    }
    return [key for key, p in method.named_parameters() if id(p) in inside]


def _like(batch: Batch, data: Prepared, turned: Prepared) -> Batch:
    """The rows of a turned table with the same one modality each as `one_each` leaves in the straight one."""
    straight = one_each(rows_with_something(data), data.names).presence
    shown = straight[:, [data.names.index(name) for name in turned.names]]
    return batch.restrict(shown, turned.names)
