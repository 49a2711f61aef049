"""What joint-embedding prediction alone promises: own embeddings stay, the guard guards, every option answers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests import checkpoints, tiny
from tests.laws import data_for, in_double, losses_and_gradients, rows_with_something

from absentia.errors import UserError
from absentia.layers.guard import SAYS, Guard
from absentia.layers.predictors import Predicted
from absentia.learn.session import rows_to_close
from absentia.methods.joint_embedding import JointEmbedding
from absentia.methods.joint_embedding_guesses import directed_pairs
from absentia.methods.joint_embedding_objectives import Pair, pair_loss
from absentia.methods.joint_embedding_options import JointEmbeddingOptions
from absentia.models.encoders.pretrained import PretrainedEncoder
from absentia.models.tuning import tune


def method(**options: Any) -> JointEmbedding:
    made = tiny.method_of("joint-embedding", data_for(), options=options)
    assert isinstance(made, JointEmbedding)
    tiny.close(made, data_for())
    made.predicting.fill_(True)
    return made


def checked(made: JointEmbedding) -> list[str]:
    return made.check(partial(rows_to_close, data_for().rows["val"]))


@pytest.mark.parametrize("predictor", ["prompts", "pooled", "gaussian", "nearest", "mean", "none"])
def test_every_predictor_answers_and_says_what_it_made(predictor: str) -> None:
    made, batch = method(predictor=predictor), tiny.everything(data_for(), "test")
    output = made(batch)
    assert output.scores.isfinite().all()
    lacking = (~batch.presence[~batch.empty]).sum(dim=0)
    if predictor == "none":
        assert output.reconstructed == {}
    for m, name in enumerate(data_for().names):
        if predictor != "none":
            assert output.reconstructed[name].shape == (int(lacking[m]), made.width)


@pytest.mark.parametrize("objective", ["vicreg", "mse", "cosine", "infonce"])
@pytest.mark.parametrize("training", ["two", "joint"])
def test_every_objective_has_a_loss_and_gradients(objective: str, training: str) -> None:
    made = method(objective=objective, training=training, moments=0.1)
    for stage in made.stages():
        loss, gradients = losses_and_gradients(made, rows_with_something(data_for()), stage)
        assert loss.isfinite().all()
        learns = {id(p) for p in (stage.learns() if stage.learns else made.parameters())}
        names = {name for name, p in made.named_parameters() if id(p) in learns}
        assert any(gradients[name] is not None and bool(gradients[name].any()) for name in names)  # type: ignore[union-attr]


def test_two_stages_leave_encoders_alone_while_predictors_learn() -> None:
    made = method()
    encode, predict = made.stages()
    assert not {id(p) for p in predict.learns()} & {id(p) for p in encode.learns()}  # type: ignore[misc]
    _, gradients = losses_and_gradients(made, rows_with_something(data_for()), predict)
    assert all(g is None for name, g in gradients.items() if name.startswith("encoders."))
    assert any(g is not None for name, g in gradients.items() if ".prompts." in name)


@pytest.mark.parametrize(("flows", "expected"), [("full", True), ("none", False)])
def test_gradients_flow_to_the_target_only_where_the_option_says_so(flows: str, expected: bool) -> None:
    made = method(training="joint", target_grad=flows, alone=0.0, labels=0.0, predictor="pooled")
    batch = rows_with_something(data_for())
    encoded = made._encoded(batch, listen=True)
    own = {name: one.rows.detach().requires_grad_() for name, one in encoded.items()}
    found = []
    nothing = torch.zeros(0, made.width)
    for pair in directed_pairs(batch.presence, made._predicted(encoded), own, made.parts.names, nothing):
        found.append(pair_loss(pair, made.options))
    torch.stack(found).sum().backward()  # type: ignore[no-untyped-call]
    assert any(x.grad is not None and bool(x.grad.any()) for x in own.values()) is expected


def test_a_present_modalitys_embedding_is_the_same_whatever_is_predicted_from_it() -> None:
    batch = tiny.everything(data_for(), "test")
    batch = batch.select(~batch.empty, data_for().names)
    with_prompts, without = method(), method()
    without.predicting.fill_(False)
    one, other = with_prompts.answer(batch).embeddings, without.answer(batch).embeddings
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_complete_rows_are_never_touched_by_guesses() -> None:
    batch = tiny.everything(data_for(), "train")
    full = batch.select(batch.presence.all(dim=1), data_for().names)
    made, plain = method(), method(predictor="none")
    plain.load_state_dict(made.state_dict(), strict=False)
    torch.testing.assert_close(made(full).scores, plain(full).scores)


def test_where_guesses_do_not_help_the_guard_leaves_them_out_and_says_so() -> None:
    made = method()
    with torch.no_grad():
        for name, parameter in made.predictors.named_parameters():
            if "networks" in name:
                parameter.normal_(0, 3)  # guesses that mislead
    notes = checked(made)
    assert any("does not help" in note for note in notes)
    batch = tiny.everything(data_for(), "test")
    plain = method(predictor="none", calibrate=False)
    plain.load_state_dict(made.state_dict(), strict=False)
    plain.guard.temperature.copy_(made.guard.temperature)
    off = (made.guard.says(made._sorted(batch.presence)) == 0) & ~batch.empty
    torch.testing.assert_close(made(batch).scores[off], plain(batch).scores[off])


def test_without_a_guard_nothing_is_switched_off() -> None:
    made = method(guard=False)
    checked(made)
    full = made.guard.patterns.all(dim=1)
    assert (made.guard.says(made.guard.patterns[~full]) == 1).all()


def test_what_can_be_predicted_is_said_for_every_pair() -> None:
    notes = checked(method())
    said = next(note for note in notes if "explains" in note)
    names = data_for().names
    assert said.count(" from ") == len(names) * (len(names) - 1)


def test_pairs_that_never_occur_together_are_named() -> None:
    made = method()
    presence = torch.eye(len(data_for().names), dtype=torch.bool).numpy()
    (remark,) = made.remarks(presence)
    assert "together" in remark and "labels alone" in remark
    (remark,) = method(moments=0.1).remarks(presence)
    assert "labels and moments alone teach" in remark
    (remark,) = method(labels=0.0).remarks(presence)
    assert "nothing teaches" in remark
    assert method(predictor="none").remarks(presence) == []
    assert "count as unrelated" in method(predictor="gaussian").remarks(presence)[0]


@pytest.mark.parametrize("predictor", ["prompts", "none"])
def test_how_many_modalities_a_row_has_does_not_show_where_all_say_the_same(predictor: str) -> None:
    made, batch = method(predictor=predictor), rows_with_something(data_for())
    said = torch.tensor([2.0, -1.0, 0.5])
    with torch.no_grad():
        for head in made.heads.modules():
            if isinstance(head, torch.nn.Linear):
                head.weight.zero_()
                head.bias.copy_(said)
    assert len(batch.presence.sum(dim=1).unique()) > 2
    torch.testing.assert_close(made(batch).scores, said.expand(len(batch), 3))


def test_temperatures_are_chosen_by_pattern_and_keep_the_order_of_answers() -> None:
    guard = Guard(modalities=2)
    target = torch.randint(3, (400,), generator=torch.Generator().manual_seed(0))
    scores = 8 * torch.nn.functional.one_hot(target, 3).float()
    scores[:200] = scores[:200].roll(1, dims=1)  # sure, and wrong half of the time
    pattern = torch.tensor([True, False])
    prior = torch.zeros(3)
    loss = partial(torch.nn.functional.cross_entropy, target=target, reduction="none")
    assert guard.decide(pattern, scores[None], prior, loss, says=(0.0,), sharpen=True) == 0
    cooled = guard.tempered(scores, pattern.expand(400, 2), prior)
    assert cooled.abs().max() < scores.abs().max()
    assert torch.equal(cooled.argsort(dim=1), scores.argsort(dim=1))
    other = torch.tensor([False, True]).expand(400, 2)
    assert torch.equal(guard.tempered(scores, other, prior), scores)


def test_guesses_get_the_say_that_held_out_rows_want() -> None:
    guard, pattern, prior = Guard(modalities=2), torch.tensor([True, False]), torch.zeros(3)
    target = torch.arange(60) % 3
    right = torch.nn.functional.one_hot(target, 3).float()
    loss = partial(torch.nn.functional.cross_entropy, target=target, reduction="none")
    scores = torch.stack([0 * right, right, 3 * right, -right])
    assert guard.decide(pattern, scores, prior, loss, says=SAYS, sharpen=False) == 0.5
    assert guard.says(torch.tensor([[True, False], [False, True]])).tolist() == [0.5, 1.0]
    assert guard.decide(pattern, 0 * scores, prior, loss, says=SAYS, sharpen=False) == 0, "of equal ones the least"


def test_guesses_have_no_say_unless_held_out_rows_are_sure_and_no_fewer_of_them_right() -> None:
    guard, pattern, prior = Guard(modalities=2), torch.tensor([True, False]), torch.zeros(2)
    target = torch.zeros(100, dtype=torch.long)
    loss = partial(torch.nn.functional.cross_entropy, target=target, reduction="none")

    def chosen(gains: torch.Tensor, right: bool = False) -> float:
        """Of two says the first leaves rows undecided; the other adds so much for their class."""
        scores = torch.stack([torch.zeros(100, 2), torch.stack([gains, -gains], dim=1)])
        rightly = (lambda x: x.argmax(dim=1) == target) if right else None
        return guard.decide(pattern, scores, prior, loss, says=(0.0, 1.0), sharpen=False, right=rightly)

    noise = torch.linspace(-0.5, 0.5, 100)
    assert chosen(noise + 0.12) == 1.0
    assert chosen(noise + 0.05) == 0.0, "the gain is within its standard error"
    most = torch.full((100,), 0.5)
    most[:10] = -0.1
    assert chosen(most) == 1.0
    assert chosen(most, right=True) == 0.0, "ten rows that were right are not any more"


def test_a_pretrained_text_encoder_is_read_by_prompts_and_tuned_by_its_biases(tmp_path: Path) -> None:
    encoder = PretrainedEncoder(kind="text", source=str(checkpoints.bert(tmp_path / "bert")))
    tune(encoder, "biases")
    learning = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert learning and all(name.endswith("bias") for name in learning)
    assert not any(".key." in name for name in learning) and any(".query." in name for name in learning)
    tune(encoder, "frozen")
    assert not any(p.requires_grad for p in encoder.parameters())


@pytest.mark.parametrize("bad", [{"predictor": "none", "training": "joint"}, {"prompts": 0}, {"objective": "triplet"}])
def test_options_that_cannot_be_are_one_clear_error(bad: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="options"):
        method(**bad)


@pytest.mark.parametrize("reaches", [True, False])
def test_prediction_reaches_the_sources_encoder_only_where_the_option_says_so(reaches: bool) -> None:
    made = method(training="joint", tokens_grad_from_prediction=reaches, target_grad="none", labels=0.0, alone=0.0)
    batch = rows_with_something(data_for())
    made.zero_grad(set_to_none=True)
    terms = made.losses(batch, made.stages()[0], torch.Generator().manual_seed(0))
    terms["predict"].backward()  # type: ignore[no-untyped-call]
    assert any(p.grad is not None and bool(p.grad.any()) for p in made.encoders.parameters()) is reaches


@pytest.mark.parametrize("flows", ["var_cov_only", "full"])
def test_it_does_not_pay_to_let_true_embeddings_shrink(flows: str) -> None:
    draw = torch.Generator().manual_seed(0)
    mixing = torch.randn(5, 5, generator=draw, dtype=torch.double)
    true = (torch.randn(30, 5, generator=draw, dtype=torch.double) @ mixing).requires_grad_()
    guess = Predicted(torch.randn(30, 5, generator=draw, dtype=torch.double), torch.zeros(30, dtype=torch.double))
    every = torch.ones(30, dtype=torch.bool)
    centre, spread = true.detach().mean(dim=0), true.detach().std(dim=0)
    made = Predicted(centre + spread * guess.mean, guess.log_variance)
    loss = pair_loss(Pair(made, true, every, every), JointEmbeddingOptions(target_grad=flows))
    (gradient,) = torch.autograd.grad(loss, true)
    along = (gradient * (true - centre)).sum(dim=0).detach()  # of each dimension's own size
    assert gradient.abs().max() > 1e-3
    torch.testing.assert_close(along, torch.zeros_like(along), rtol=0, atol=1e-10)


@pytest.mark.parametrize("training", ["two", "joint"])
@pytest.mark.parametrize("through", [True, False])
def test_parts_of_a_step_have_the_gradient_of_the_whole_step(training: str, through: bool) -> None:
    found = []
    for micro in (None, 4, 1):
        options = {"training": training, "tokens_grad_from_prediction": through, "target_grad": "full", "micro": micro}
        made = method(**options).double()
        stage = made.stages()[-1]
        found.append(losses_and_gradients(made, in_double(rows_with_something(data_for())), stage))
    for loss, gradients in found[1:]:
        torch.testing.assert_close(loss, found[0][0], rtol=0, atol=1e-10)
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, found[0][1][name], rtol=0, atol=1e-10)
