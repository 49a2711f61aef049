"""Dense networks: any size, any of six architectures, levels that can be changed, and hidden voxels unread."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from absentia.data.batch import Batch
from absentia.errors import UserError
from absentia.models.dense import DenseBackbone, aligned

SMALL: dict[str, dict[str, Any]] = {
    "BasicUNet": {"features": (4, 4, 4, 8, 8, 4)},
    "SegResNet": {"init_filters": 8, "blocks_down": (1, 1), "blocks_up": (1,)},
    "DynUNet": {"filters": (4, 4, 8), "strides": (1, 2, 2), "kernel_size": (3, 3, 3), "upsample_kernel_size": (2, 2)},
    "UNETR": {"img_size": 32, "hidden_size": 12, "num_heads": 2, "mlp_dim": 12, "feature_size": 4},
    "SwinUNETR": {"depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "window_size": 3},
    "FusionUNet": {"features": (4, 4, 8), "depth": 1, "heads": 2},
}


@pytest.mark.parametrize("network", SMALL)
@pytest.mark.parametrize("space", [(17, 30), (9, 20, 13)])
def test_any_size_comes_back_as_it_went_in(network: str, space: tuple[int, ...]) -> None:
    net = DenseBackbone(channels=[1, 2], dims=len(space), network=network, options=SMALL[network]).eval()
    x = torch.randn(2, 3, *space)
    heard: dict[int, Tensor] = {}
    deep, features = net(x, lambda y, level: heard.setdefault(level, y))
    assert features.shape == (2, net.width, *space) and deep.shape[:2] == (2, net.deep)
    assert [heard[i].shape[1] for i in range(len(heard))] == net.levels and net.levels[-1] == net.width
    assert all(a > 1 for a in deep.shape[2:]), "a norm of one voxel would be nothing"
    torch.testing.assert_close(features, net(x)[1], msg="levels that stay what they are change nothing")


def test_each_level_can_be_changed() -> None:
    net = DenseBackbone(channels=[1], dims=2, options=SMALL["BasicUNet"]).eval()
    x = torch.randn(1, 1, 32, 32)
    plain = net(x)[1]
    for level in range(len(net.levels)):
        changed = net(x, lambda y, i, level=level: y * 2 if i == level else y)[1]
        assert not torch.allclose(changed, plain), level
    assert torch.equal(net(x)[1], plain), "nothing is left behind"
    assert torch.equal(copy.deepcopy(net)(x)[1], plain)


@pytest.mark.parametrize("network", SMALL)
def test_rows_are_answered_one_by_one_as_together_and_every_level_learns(network: str) -> None:
    net = DenseBackbone(channels=[1, 1], dims=2, network=network, options=SMALL[network])
    x = torch.randn(3, 2, 30, 26)
    together = net(x, lambda y, level: y)
    for row in range(3):
        alone = net(x[row : row + 1], lambda y, level: y)
        for one, all_ in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], all_[row], rtol=1e-4, atol=1e-4)
    levels: list[Tensor] = []
    _, features = net(x, lambda y, level: levels.append(y) or y)  # type: ignore[func-returns-value]
    found = torch.autograd.grad(features.square().mean(), levels, allow_unused=True)
    assert all(g is not None and g.any() for g in found), "what is tapped has a say in the answer"


def test_the_usual_network_is_small() -> None:
    for dims, most in ((2, 0.6e6), (3, 2e6)):
        assert 0.4e6 < sum(p.numel() for p in DenseBackbone(channels=[1] * 4, dims=dims).parameters()) < most


def test_aligned_writes_what_is_there_and_reads_nothing_else() -> None:
    presence = torch.tensor([[True, False], [False, True], [True, True], [False, False]])
    voxels = {"a": torch.randn(2, 1, 3, 4), "b": torch.randn(2, 2, 3, 4)}
    batch = Batch(
        presence=presence,
        inputs={name: {"voxels": x} for name, x in voxels.items()},
        index=torch.arange(4),
        space=(3, 4),
    )
    x, there = aligned(batch, ["a", "b"], torch.zeros(()), [1, 2])
    assert x.shape == (4, 3, 3, 4) and torch.equal(there, presence)
    assert torch.equal(x[[0, 2], :1], voxels["a"]) and torch.equal(x[[1, 2], 1:], voxels["b"])
    assert not x[3].any() and not x[0, 1:].any() and not x[1, :1].any()
    voxels["b"][0] = torch.nan
    hidden = batch.restrict(torch.tensor([True, False]), ["a", "b"])
    assert torch.isfinite(aligned(hidden, ["a", "b"], torch.zeros(()), [1, 2])[0]).all()


def test_networks_and_options_that_are_not_there() -> None:
    with pytest.raises(UserError, match="did you mean 'BasicUNet'"):
        DenseBackbone(channels=[1], dims=2, network="BasicUnet")
    with pytest.raises(UserError, match="BasicUNet has no option 'feature'; did you mean 'features'"):
        DenseBackbone(channels=[1], dims=2, options={"feature": (4,)})
    with pytest.raises(UserError, match="UNETR cannot be built"):
        DenseBackbone(channels=[1], dims=2, network="UNETR")
    for wrong, message in (
        ({"num_heads": (5, 5, 5, 5)}, "SwinUNETR does not run with"),
        ({"feature_size": 10}, "SwinUNETR cannot be built"),
        ({"use_hyena": True}, "SwinUNETR cannot be built .*nvsubquadratic"),
    ):
        with pytest.raises(UserError, match=message):
            DenseBackbone(channels=[1], dims=2, network="SwinUNETR", options=wrong)
    fixed = DenseBackbone(channels=[1], dims=2, network="UNETR", options=SMALL["UNETR"])
    with pytest.raises(UserError, match=r"takes at most 32 x 32, not 40 x 32; set masks\.window"):
        fixed(torch.zeros(1, 1, 40, 32))
