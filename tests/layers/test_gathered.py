"""Rows of two processes: a loss of all of them has the gradient that one process with all rows has."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed, multiprocessing

from absentia.layers.gathered import gathered
from absentia.layers.predictors import Predicted
from absentia.methods.joint_embedding_objectives import Pair, gathered_pair, pair_loss
from absentia.methods.joint_embedding_options import JointEmbeddingOptions

OPTIONS = JointEmbeddingOptions(training="joint", target_grad="full")
SIZES = (7, 0)  # the second process has no row of the pair


def data() -> tuple[Tensor, Tensor, Tensor]:
    """Rows (11, 4), of which the pair has the first ones; the weights of source and target."""
    draw = torch.Generator().manual_seed(0)
    return tuple(torch.randn(*shape, generator=draw, dtype=torch.double) for shape in ((11, 4), (4, 3), (4, 3)))  # type: ignore[return-value]


def loss_of(rows: Tensor, both: Tensor, source: Tensor, target: Tensor) -> Tensor:
    guess = Predicted(rows @ source, (rows @ source).mean(dim=1))
    return pair_loss(gathered_pair(Pair(guess, rows @ target, both, both), OPTIONS), OPTIONS)


def work(rank: int, folder: str) -> None:
    """One of two processes: its rows, its gradient, averaged as `DistributedDataParallel` does."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    rows, source, target = data()
    mine = slice(0, 7) if rank == 0 else slice(7, 11)
    both = (torch.arange(11) < SIZES[0])[mine]
    weights = [source.requires_grad_(), target.requires_grad_()]
    loss_of(rows[mine], both, *weights).backward()  # type: ignore[no-untyped-call]
    for weight in weights:
        assert weight.grad is not None
        distributed.all_reduce(weight.grad)
    save_file({str(i): w.grad / 2 for i, w in enumerate(weights) if w.grad is not None}, f"{folder}/{rank}.safetensors")
    empty = gathered(torch.zeros(rank, 2), learns=False)
    assert empty.shape == (1, 2)
    distributed.destroy_process_group()


def test_two_processes_have_the_gradient_of_one(tmp_path: Path) -> None:
    multiprocessing.spawn(work, args=(str(tmp_path),), nprocs=2)  # type: ignore[no-untyped-call]
    rows, source, target = data()
    weights = [source.requires_grad_(), target.requires_grad_()]
    loss_of(rows, torch.arange(11) < SIZES[0], *weights).backward()  # type: ignore[no-untyped-call]
    for rank in (0, 1):
        for found, weight in zip(load_file(tmp_path / f"{rank}.safetensors").values(), weights, strict=True):
            torch.testing.assert_close(found, weight.grad, rtol=0, atol=1e-10)


def test_one_process_keeps_what_it_has() -> None:
    x = torch.randn(3, 2)
    assert gathered(x) is x
