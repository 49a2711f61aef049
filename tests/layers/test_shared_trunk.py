from __future__ import annotations

import pytest
import torch
from torch import Tensor

from absentia.layers.shared_trunk import NORMS, Norm, Trunk

NAMES = ["face", "voice"]


def trunk(norm: Norm = "layer", *, inputs: int = 6, width: int = 4, dropout: float = 0.0) -> Trunk:
    torch.manual_seed(0)
    return Trunk(inputs=inputs, width=width, depth=2, names=NAMES, norm=norm, dropout=dropout)


def parts(rows: int = 5) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(1)
    return {name: torch.randn(rows + i, 6, generator=draw) for i, name in enumerate(NAMES)}


def test_its_size_is_that_of_the_released_network() -> None:
    """198,917 with its classifier of 901 identities."""
    count = sum(p.numel() for p in trunk("batch", inputs=512, width=128).parameters())
    assert count + 128 * 901 + 901 == 198_917


@pytest.mark.parametrize("norm", NORMS)
def test_rows_are_unit_vectors_whatever_the_order_of_modalities(norm: Norm) -> None:
    one = trunk(norm).eval()
    there = parts()
    units = one(there)
    turned = one(dict(reversed(there.items())))
    for name in NAMES:
        torch.testing.assert_close(units[name].norm(dim=1), torch.ones(len(there[name])))
        torch.testing.assert_close(turned[name], units[name])
        torch.testing.assert_close(one({name: there[name]})[name], units[name])


def test_the_weights_are_the_same_for_every_modality() -> None:
    one, x = trunk().eval(), parts()["face"]
    assert torch.equal(one({"face": x})["face"], one({"voice": x})["voice"])


def test_a_layer_norm_keeps_rows_apart_and_a_batch_norm_does_not() -> None:
    there = parts()
    for norm, apart in (("layer", True), ("batch", False)):
        one = trunk(norm).train()  # type: ignore[arg-type]
        assert torch.allclose(one({"face": there["face"]})["face"], one(there)["face"], atol=1e-6) == apart


def test_statistics_of_a_modality_are_its_own() -> None:
    one = trunk("modality").train()
    one({"face": parts()["face"]})
    moved = {key: bool(x.any()) for key, x in one.state_dict().items() if key.endswith("running_mean")}
    assert len(moved) == 4 and all(there == ("m_face" in key) for key, there in moved.items())


@pytest.mark.parametrize("norm", NORMS)
def test_one_row_is_enough_to_train_on(norm: Norm) -> None:
    one = trunk(norm).train()
    units = one({"face": parts()["face"][:1]})["face"]
    units.sum().backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in one.parameters())
