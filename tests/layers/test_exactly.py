"""Under autocast: losses are those of float32 bit by bit, and networks stay within what bf16's 8 bits allow.

A number in bf16 is off by at most 2^-9 (0.002) of itself. Errors are told as shares of the root mean square of what is
true. Over four seeds, all subjects and ways to read the largest were 0.0061 of prompts and 0.0198 of their gradients by
        found = torch.autograd.grad(made, given, allow_unused=True)
        grads.append((made.detach(), *(g for g in found if g is not None)))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.layers.test_side_stream import SUBJECTS, masked_pass
from torch import Tensor

from absentia.layers.class_directions import ClassDirections
from absentia.layers.exactly import exact, exactly
from absentia.layers.pair_losses import (
    alike_and_unlike,
    cross_modal_contrast,
    orthogonal_projection,
    supervised_contrast,
)
from absentia.layers.predictors import Predicted, combined
from absentia.layers.shared_trunk import NORMS, Trunk
from absentia.layers.side_stream import READS, KeysValues, Reads, heard, side_layers, side_stream
from absentia.layers.vicreg import covariance, invariance, variance, vicreg
from absentia.methods.joint_embedding_objectives import Pair, moment_distance, pair_loss
from absentia.methods.joint_embedding_options import JointEmbeddingOptions

SIDE, SLOPE, TRUNK = 0.0125, 0.04, 0.014


def bf16() -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16)


def off(found: Tensor, true: Tensor) -> float:
    """The root mean squared difference in root mean squares of what is true."""
    found, true = found.detach().double(), true.detach().double()
    return float((found - true).square().mean().sqrt() / true.square().mean().sqrt())


@pytest.mark.parametrize("reads", READS)
@pytest.mark.parametrize("name", SUBJECTS)
def test_the_side_stream_is_as_close_to_the_truth_as_the_masked_pass(name: str, reads: Reads) -> None:
    torch.manual_seed(0)
    subject = SUBJECTS[name]()
    embedded = subject.embed().detach().float()
    layers = side_layers(subject.model.float())
    assert layers is not None
    for parameter in subject.model.parameters():  # fresh ones of 0.02 would leave prompts almost as they are
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    prompts = torch.randn(6, 16, requires_grad=True)
    weight = torch.randn(4, 6, 16)

    def joint() -> Tensor:
        return masked_pass(layers, embedded, subject.valid, prompts, reads, group=3)[1]

    def beside() -> Tensor:
        n, count = subject.valid.shape
        with heard(layers) as found:
            masked_pass(layers, embedded, subject.valid, prompts[:0], reads, group=3)
        split = [tuple(part.view(n, count, 2, -1).transpose(1, 2) for part in pair) for pair in found]
        there = [KeysValues(keys, values, subject.valid) for keys, values in split]
        return side_stream(layers, there, prompts, reads=reads, group=3)

    true = joint()
    (slope,) = torch.autograd.grad((true * weight).sum(), prompts)
    errors = []
    for run in (beside, joint):
        with bf16():
            made = run()
        errors.append(off(made, true))
        (found,) = torch.autograd.grad((made * weight).sum(), prompts)
        assert found.dtype == torch.float32 and off(found, slope) < SLOPE
    assert max(errors) < SIDE and errors[0] < 1.25 * errors[1]


def losses() -> dict[str, Callable[[Tensor, Tensor], Any]]:
    options = JointEmbeddingOptions()
    every = torch.ones(12, dtype=torch.bool)
    marks = torch.eye(3).repeat(4, 1)
    directions = ClassDirections(classes=3, width=8)

    def pair(x: Tensor, y: Tensor) -> Pair:
        return Pair(Predicted(x, x[:, 0]), y, every, every)

    found: dict[str, Callable[[Tensor, Tensor], Any]] = {
        "vicreg": vicreg,
        "invariance": invariance,
        "variance": lambda x, y: variance(x),
        "covariance": lambda x, y: covariance(x),
        "covariance by rows": lambda x, y: covariance(x[:5]),
        "moments": lambda x, y: moment_distance(pair(x, y)),
        "contrast": lambda x, y: cross_modal_contrast(x, y, temperature=0.1),
        "supervised": lambda x, y: supervised_contrast(x, alike_and_unlike(marks)[0], temperature=0.1),
        "orthogonal": lambda x, y: orthogonal_projection(x, *alike_and_unlike(marks)),
        "directions": lambda x, y: directions.orthogonal(x, marks).sum(),
        "git": lambda x, y: directions.git(x, marks).sum(),
    }
    for objective in ("vicreg", "mse", "cosine", "infonce"):
        asked = JointEmbeddingOptions(objective=objective)  # type: ignore[arg-type]
        found[f"pair {objective}"] = lambda x, y, asked=asked: pair_loss(pair(x, y), asked)
    assert options.objective == "vicreg"
    return found


@pytest.mark.parametrize("name", losses())
def test_losses_of_rows_are_float32_to_the_bit(name: str) -> None:
    torch.manual_seed(0)
    loss = losses()[name]
    x, y = (torch.randn(12, 8).bfloat16() for _ in range(2))
    grads = []
    torch.manual_seed(1)
    for context, widen in ((bf16(), False), (torch.autocast("cpu", enabled=False), True)):
        given = [(z.float() if widen else z).clone().requires_grad_() for z in (x, y)]
        with context:
            made = loss(*given)
        assert made.dtype == torch.float32 and made.isfinite()
        found = torch.autograd.grad(made, given, allow_unused=True)
        grads.append((made.detach(), *(g for g in found if g is not None)))
    assert torch.equal(grads[0][0], grads[1][0])
    for half, full in zip(grads[0][1:], grads[1][1:], strict=True):
        torch.testing.assert_close(half.float(), full, rtol=2**-7, atol=2**-9)  # added up in the type of what came


def test_close_rows_are_told_apart() -> None:
    """What 8 bits would lose: rows whose differences are a hundredth of where they are."""
    torch.manual_seed(0)
    x = 10 + 0.01 * torch.randn(64, 8)
    with bf16():
        found = variance(x, gamma=0.1)
        lost = torch.relu(0.1 - (x.bfloat16().var(dim=0) + 1e-4).sqrt()).mean()
    torch.testing.assert_close(found, variance(x, gamma=0.1), rtol=0, atol=0)
    assert abs(float(lost) / float(found) - 1) > 0.01


@pytest.mark.parametrize("norm", NORMS)
def test_the_branch_gives_unit_vectors(norm: Any) -> None:
    torch.manual_seed(0)
    trunk = Trunk(inputs=12, width=16, depth=2, names=["a", "b"], norm=norm, dropout=0.0)
    parts = {name: torch.randn(9, 12) for name in ("a", "b")}
    true = trunk(parts)
    with bf16():
        made = trunk(parts)
    for name, units in made.items():
        assert units.dtype == torch.float32
        torch.testing.assert_close(units.norm(dim=1), torch.ones(9), rtol=0, atol=1e-6)
        assert off(units, true[name]) < TRUNK


def test_guesses_of_several_sources_are_weighed_in_float32() -> None:
    torch.manual_seed(0)
    means, log_variances = torch.randn(2, 5, 4).bfloat16(), torch.randn(2, 5).bfloat16()
    there = torch.ones(2, 5, dtype=torch.bool)
    with bf16():
        made = combined(means, log_variances, there)
    torch.testing.assert_close(made, combined(means.float(), log_variances.float(), there), rtol=0, atol=1e-6)


def test_doubles_stay_and_other_things_pass() -> None:
    assert exact(torch.zeros(1, dtype=torch.double)).dtype == torch.double
    assert exact(torch.zeros(1).half()).dtype == torch.float32

    @exactly
    def product(x: Tensor, times: int, *, y: Tensor) -> Tensor:
        return times * (x @ y)

    with bf16():
        assert product(torch.eye(2), 3, y=torch.eye(2).bfloat16()).dtype == torch.float32
        assert (torch.eye(2) @ torch.eye(2)).dtype == torch.bfloat16, "autocast is on again"
