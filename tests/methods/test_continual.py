"""Sessions by hand, for every registered method; and what is special to the baselines of continual learning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests import streams, tiny
from tests.laws import same_bits
from torch import Tensor

from absentia.data.batch import Batch
from absentia.errors import UserError
from absentia.layers.heads import probabilities
from absentia.learn.loop import Loop
from absentia.methods import METHODS, Method
from absentia.methods.counted import counted
from absentia.methods.ewc import EWC
from absentia.methods.lwf import LwF
from absentia.models.fused import FusedTransformer, Prompts

FROZEN = ("probe", "prototypes", "missing-aware", "l2p", "dualprompt", "coda")
PROMPTS = ("missing-aware", "l2p", "dualprompt", "coda")
DATA = streams.sessions()


def scores(method: Method, number: int = 0) -> Tensor:
    with torch.no_grad():
        return method.eval()(streams.shown(DATA[number])).scores


def batch_of(number: int = 0) -> Batch:
    batch = tiny.everything(DATA[number])
    return batch.select(~batch.empty, DATA[number].names)


def stirred(name: str, count: int = 2, options: dict[str, Any] | None = None) -> Method:
    """A method with sessions open and weights as a training leaves them."""
    method = streams.build(name, DATA, options)
    torch.manual_seed(0)
    for number in range(count):
        if number:
            streams.begin(method, DATA, number)
        with torch.no_grad():
            for p in method.parameters():
                if p.requires_grad:
                    p += 0.3 * torch.randn_like(p)
    return method


@pytest.mark.parametrize(
    ("name", "options", "settles"),
    [
        ("rebq", {}, True),
        ("rebq", {"head": "ridge"}, False),
        ("rebq", {"head": "gaussian"}, False),
        ("coda", {}, True),
        ("coda", {"aware": True}, False),
        ("coda", {"among": "all"}, False),
        ("probe", {}, True),
        ("l2p", {}, False),
        ("prototypes", {}, False),
        ("finetune", {}, False),
    ],
)
def test_only_what_stands_still_is_said_to(name: str, options: dict[str, Any], settles: bool) -> None:
    """Rows of known classes alone, in a later session: what moves is what the method says moves."""
    method = streams.build(name, DATA, options)
    for number in range(2):
        if number:
            streams.begin(method, DATA, number)
        method.close_session(lambda number=number: iter([batch_of(number)]))
    known = {key: tensor.clone() for key, tensor in method.learned().items() if key != "prior"}
    streams.begin(method, DATA, 2)
    for stage in method.stages():
        sum(method.losses(batch_of(0), stage, torch.Generator()).values()).backward()
        torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], weight_decay=0.1).step()
    method.close_session(lambda: iter([batch_of(0)]))
    assert method.settles == settles
    assert same_bits(known, {key: method.learned()[key] for key in known}) == settles


# --- a stream of three sessions, whatever the method


@pytest.mark.parametrize("kind", ["class", "labels", "number"])
@pytest.mark.parametrize("name", METHODS)
def test_a_stream_can_be_put_down_after_any_session(name: str, kind: str, tmp_path: Path) -> None:
    """What was learned answers the same bit for bit, and goes on to the same weights, in another process."""
    data = streams.sessions(kind)
    method = streams.build(name, data)
    learned = streams.learn(method, data, tmp_path / "whole", range(streams.COUNT))
    for number in range(streams.COUNT) if kind == "class" else [1]:
        again = streams.opened(name, data, number + 1)
        again.restore(learned[number])
        if number == streams.COUNT - 1:
            batch = streams.shown(data[0])
            assert torch.equal(again.eval()(batch).scores, method(batch).scores)
        else:
            after = streams.learn(again, data, tmp_path / str(number), range(number + 1, streams.COUNT))
            assert all(same_bits(one, other) for one, other in zip(after, learned[number + 1 :], strict=True))


@pytest.mark.parametrize("name", METHODS)
def test_a_session_that_is_killed_goes_on_to_the_same_weights(name: str, tmp_path: Path) -> None:
    method = streams.build(name, DATA)
    first, whole = streams.learn(method, DATA, tmp_path / "whole", (0, 1))
    if not method.stages():
        return
    for killed in (True, False):
        again = streams.opened(name, DATA, 1)
        again.restore(first)
        streams.begin(again, DATA, 1)
        heard = tiny.killer(1) if killed else None
        loop = tiny.loop_of(again, DATA[1], tmp_path / "again", settings=tiny.BRIEF, listener=heard)
        _run(loop, killed)
    tiny.close(again, DATA[1])
    assert same_bits(again.learned(), whole)


def _run(loop: Loop, killed: bool) -> None:
    if killed:
        with pytest.raises(tiny.Killed):
            loop.fit()
    else:
        loop.fit()


@pytest.mark.parametrize("name", FROZEN)
def test_a_frozen_backbone_moves_in_no_session_and_is_not_kept(name: str, tmp_path: Path) -> None:
    method = streams.build(name, DATA)
    before = {key: tensor.clone() for key, tensor in method.state_dict().items() if key.startswith("backbone.")}
    streams.learn(method.train(), DATA, tmp_path, (0, 1))
    assert same_bits(before, {key: method.state_dict()[key] for key in before})
    assert not any(key.startswith("backbone.") for key in method.learned())
    assert not method.train().backbone.training  # type: ignore[union-attr]


# --- which classes compete


@pytest.mark.parametrize("name", ["finetune", "probe", "l2p"])
def test_classes_of_other_sessions_compete_or_do_not(name: str) -> None:
    batch = batch_of(1)
    for among in ("all", "session"):
        method = stirred(name, options={"among": among})
        low, high = (_task(method, batch, bias) for bias in (0.0, 5.0))
        assert (high > low + 1) == (among == "all")


def _task(method: Method, batch: Batch, bias: float) -> float:
    with torch.no_grad():
        method.classifier.blocks[0].bias += bias  # type: ignore[union-attr,index,operator]
        return float(method.losses(batch, method.stages()[0], torch.Generator())["task"])


@pytest.mark.parametrize("name", METHODS)
def test_settings_that_do_not_fit_are_named(name: str) -> None:
    wrong: dict[str, list[dict[str, Any]]] = {
        "finetune": [{"among": "sesion"}],
        "prototypes": [{"head": "means"}, {"projected": -1}, {"penalty": -1.0}],
        "replay": [{"memory": 0}],
        "ewc": [{"strength": -1.0}, {"decay": 2.0}],
        "lwf": [{"temperature": 0.0}],
        "missing-aware": [{"length": 3}, {"position": "inside"}, {"layers": 0}],
        "l2p": [{"pool": 3}, {"top": 0}, {"pull": -1.0}],
        "dualprompt": [{"length": 5}, {"general": -1}, {"expert": 0}],
        "coda": [{"components": 0}, {"orthogonality": -1.0}],
    }
    for options in wrong.get(name, []):
        with pytest.raises(UserError, match=f"options.{next(iter(options))}"):
            streams.build(name, DATA, options)


# --- prototypes


@pytest.mark.parametrize("head", ["mean", "ridge", "gaussian"])
@pytest.mark.parametrize("kind", ["class", "labels", "number"])
def test_prototypes_do_not_depend_on_the_order_of_sessions(kind: str, head: str, tmp_path: Path) -> None:
    if head != "ridge" and kind == "number":
        with pytest.raises(UserError, match="a number has no classes"):
            streams.build("prototypes", streams.sessions(kind), {"head": head})
        return
    answers = []
    data = streams.sessions(kind)
    for order in ((0, 1, 2), (0, 2, 1)):  # the first session fits what all the others are read with
        turned = streams.sessions(kind, order)
        method = streams.build("prototypes", turned, {"head": head})
        streams.learn(method, turned, tmp_path, range(3))
        classes = turned[2].fitted.codec.target.classes
        found = torch.cat([method(streams.shown(turned[order.index(s)])).scores for s in range(3)])
        known = data[2].fitted.codec.target.classes
        answers.append(found[:, [classes.index(c) for c in known]] if known else found)
    there = torch.cat([~streams.shown(data[s]).empty for s in range(3)])
    torch.testing.assert_close(answers[0][there], answers[1][there], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("head", ["mean", "ridge", "gaussian"])
def test_prototypes_of_all_sessions_at_once_are_those_of_one_after_the_other(head: str, tmp_path: Path) -> None:
    one = streams.build("prototypes", DATA, {"head": head})
    streams.learn(one, DATA, tmp_path, range(3))
    at_once = streams.opened("prototypes", DATA, 3, {"head": head})
    for data in DATA[::-1]:
        tiny.close(at_once, data)
    torch.testing.assert_close(scores(at_once), scores(one), rtol=1e-3, atol=1e-4)


def test_prototypes_learn_the_classes(tmp_path: Path) -> None:
    """On features that nobody has trained, the rows it has seen, which tells that they have been counted right."""
    method = streams.build("prototypes", DATA, {"head": "ridge", "patterns": False, "penalty": 1e-6})
    streams.learn(method, DATA, tmp_path, range(3))
    for number in range(3):
        batch = batch_of(number)
        assert batch.target is not None
        right = method(batch).scores.argmax(dim=1) == batch.target
        assert float(right.float().mean()) > 0.9


def test_prototypes_count_parts_of_rows_unless_told_not_to() -> None:
    counted = {}
    for patterns in (True, False):
        method = streams.build("prototypes", DATA, {"head": "ridge", "patterns": patterns})
        tiny.close(method, DATA[0])
        counted[patterns] = method.learned()
    for name in ("head.count", "head.means"):
        torch.testing.assert_close(counted[True][name], counted[False][name])
    assert not torch.allclose(counted[True]["head.gram"], counted[False]["head.gram"])


# --- replay, EWC, LwF


def test_replay_says_how_many_rows_it_wants() -> None:
    assert streams.build("replay", DATA, {"memory": 7}).remembers == 7
    assert streams.build("joint", DATA).remembers > 10**12
    assert streams.build("finetune", DATA).remembers == 0


def test_ewc_holds_what_mattered(tmp_path: Path) -> None:
    moved = {}
    for strength in (0.0, 1e6):
        method = streams.build("ewc", DATA, {"strength": strength})
        assert isinstance(method, EWC)
        before = streams.learn(method, DATA, tmp_path / f"{strength}", (0,))[0]
        mattered = before["fisher"] > before["fisher"].quantile(0.9)
        assert (before["fisher"] >= 0).all() and mattered.any()
        streams.begin(method, DATA, 1)
        assert len(method.fisher) == len(method.anchor) > len(before["fisher"])
        tiny.loop_of(method, DATA[1], tmp_path / f"{strength}-1", settings=replace(tiny.QUICK, epochs=8)).fit()
        now = torch.cat([p.detach().flatten() for p in method._learners()])[: len(mattered)]
        moved[strength] = float((now - before["anchor"])[mattered].abs().mean())
    assert moved[1e6] < 0.5 * moved[0.0]


def test_ewc_adds_up_the_fisher_information() -> None:
    method = stirred("ewc", 1)
    tiny.close(method, DATA[0])
    once = method.learned()["fisher"].clone()
    tiny.close(method, DATA[0])
    torch.testing.assert_close(method.learned()["fisher"], 2 * once)


def test_lwf_keeps_to_the_model_before_and_does_not_store_it(tmp_path: Path) -> None:
    method = streams.build("lwf", DATA)
    assert isinstance(method, LwF)
    streams.learn(method, DATA, tmp_path, (0,))
    batch = batch_of(1)
    said = method(batch).scores.detach()
    streams.begin(method, DATA, 1)
    assert not any(key.startswith("before.") for key in method.learned())
    terms = method.losses(batch, method.stages()[0], torch.Generator())
    assert float(terms["distilled"].detach()) == pytest.approx(0, abs=1e-6), "nothing has moved yet"
    tiny.loop_of(method, DATA[1], tmp_path / "1", settings=tiny.BRIEF).fit()
    assert method.before is not None
    assert list(counted(method)["scaffold"]) == ["model before"]
    torch.testing.assert_close(method.before(batch), said, rtol=1e-5, atol=1e-5)
    assert float(method.losses(batch, method.stages()[0], torch.Generator())["distilled"].detach()) > 0


def empty(number: int) -> Tensor:
    return tiny.everything(DATA[number]).empty


# --- prompts


def test_prompts_can_be_left_out() -> None:
    """A linear probe remains."""
    probe = streams.build("probe", DATA)
    for name in PROMPTS:
        off = streams.build(name, DATA, {"prompts": False})
        assert off.learned().keys() == probe.learned().keys()
        torch.testing.assert_close(scores(off), scores(probe))


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts_have_a_say(name: str) -> None:
    method = stirred(name)
    off = streams.opened(name, DATA, 2, {"prompts": False})
    off.load_state_dict(method.state_dict(), strict=False)
    assert not torch.allclose(scores(method), scores(off))


def given(method: Method, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> Prompts:
    """The prompts that the transformer gets."""
    caught: list[Prompts] = []
    before = FusedTransformer.forward

    def forward(self: FusedTransformer, segments: Any, size: int, prompts: Any = None, rows: Any = "all") -> Any:
        caught.extend([prompts] if prompts else [])
        return before(self, segments, size, prompts, rows)

    with monkeypatch.context() as patch:
        patch.setattr(FusedTransformer, "forward", forward)
        method(batch)
    return caught[-1]


@pytest.mark.parametrize("name", ["l2p", "dualprompt", "coda"])
def test_missing_aware_prompts_join_the_others(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, both = (stirred(name, options={"aware": aware}) for aware in (False, True))
    batch = batch_of()
    alone, joined = given(plain, batch, monkeypatch), given(both, batch, monkeypatch)
    assert (alone.keys is None) == (name == "l2p") == (alone.inserted is not None)
    assert joined.keys is not None and joined.inserted is not None
    own = joined.inserted if name == "l2p" else joined.keys
    assert own.shape == (alone.inserted if name == "l2p" else alone.keys).shape  # type: ignore[union-attr]


@pytest.mark.parametrize("position", ["input", "attention"])
def test_missing_aware_prompts_depend_on_the_pattern_alone(position: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = stirred("missing-aware", options={"position": position}), batch_of()
    prompts = given(method, batch, monkeypatch)
    found = prompts.inserted if position == "input" else prompts.keys
    assert found is not None and found.shape == (1, len(batch), 16 if position == "input" else 8, tiny.SMALL.width)
    for one, first in zip(batch.presence, found[0], strict=True):
        same = (batch.presence == one).all(dim=1)
        assert torch.equal((found[0] == first).flatten(1).all(dim=1), same)


def test_l2p_draws_the_keys_it_picks() -> None:
    method, batch = stirred("l2p", options={"pool": 6, "top": 2}), batch_of()
    method.losses(batch, method.stages()[0], torch.Generator())["pull"].backward()
    keys = method.get_parameter("keys")
    assert keys.grad is not None
    query = method.features(batch)  # type: ignore[operator]
    near = torch.nn.functional.cosine_similarity(query[:, None], keys.detach()[None], dim=2)
    picked = near.topk(2, dim=1).indices.unique()
    assert torch.equal(keys.grad.any(dim=1).nonzero()[:, 0], picked)


def test_dualprompt_answers_with_the_expert_whose_key_is_nearest() -> None:
    method = stirred("dualprompt", 3)
    first, batch = scores(method), batch_of()
    with torch.no_grad():
        for number, sign in enumerate((1.0, -1.0, -1.0)):
            method.get_submodule(f"experts.{number}").key.copy_(sign * method.features(batch).mean(dim=0))  # type: ignore[operator,union-attr]
    used = method.usage(batch)["experts"]
    assert used.tolist() == [1.0, 0.0, 0.0] and not torch.equal(scores(method), first)
    terms = method.losses(batch, method.stages()[0], torch.Generator())
    terms["task"].backward()
    assert method.get_parameter("experts.2.prompts").grad is not None, "training uses the session's own"


def test_a_new_expert_changes_no_answer() -> None:
    method = stirred("dualprompt", 1)
    before = scores(method)
    streams.begin(method, DATA, 1)
    some = ~empty(0)
    torch.testing.assert_close(scores(method)[some, :2], before[some])


@pytest.mark.parametrize("name", METHODS)
def test_shares_are_shares(name: str) -> None:
    method = stirred(name)
    for shares in method.usage(batch_of()).values():
        assert shares.shape == (2,) and (shares >= 0).all()
    found = probabilities(scores(method), method.parts.codec)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(len(found)))
