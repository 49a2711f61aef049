"""Windows that slide over rows: what they see, that they add up, and how much is answered at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests import scans
from torch import Tensor

from absentia.data.batch import Batch
from absentia.evaluate.windows import WINDOWS, dense_scores
from absentia.learn.prepare import Prepared
from absentia.methods import Method, Output


class Pointwise(torch.nn.Module):
    """A network of one voxel: windows change nothing about it. It notes what it was shown."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.parts, self.prior, self.method = method.parts, method.prior, method
        self.seen: list[Batch] = []

    def forward(self, batch: Batch) -> Output:
        self.seen.append(batch)
        if batch.empty.all():
            return self.method(batch)
        total: Tensor = sum(x["voxels"] for x in batch.inputs.values())  # type: ignore[assignment]
        return Output(scores=total.repeat(1, 2, *(1 for _ in batch.space)), uncertainty=torch.zeros(len(batch)))


@pytest.fixture(scope="module")
def data() -> Prepared:
    return scans.prepared(window=[5], overlap=0.5)


def test_windows_add_up_to_the_whole_and_begin_where_they_say(data: Prepared) -> None:
    net, rows = Pointwise(scans.method_of("dropout", data)), data.rows["train"]
    batch = rows.batch(np.asarray([0]))
    heard: list[int] = []
    scores, uncertainty = dense_scores(net, batch, advance=lambda: heard.append(1))  # type: ignore[arg-type]
    expected = sum(x["voxels"] for x in batch.inputs.values())
    torch.testing.assert_close(scores, expected.repeat(1, 2, 1, 1))  # type: ignore[union-attr]
    assert uncertainty.shape == (1,)
    for seen in net.seen:
        assert seen.space == (5, 5) and 1 <= len(seen) <= WINDOWS and seen.corner is not None
        for i, corner in enumerate(seen.corner.tolist()):
            part = batch.inputs["t1"]["voxels"][0, :, corner[0] : corner[0] + 5, corner[1] : corner[1] + 5]
            assert torch.equal(seen.inputs["t1"]["voxels"][i], part)
    assert len(heard) >= sum(len(seen) for seen in net.seen) > 4


def test_a_window_shows_what_its_row_has_and_nothing_else(data: Prepared) -> None:
    net, rows = Pointwise(scans.method_of("dropout", data)), data.rows["train"]
    batch = rows.batch(np.arange(len(rows)))
    scores, uncertainty = dense_scores(net, batch)  # type: ignore[arg-type]
    assert scores.shape == (len(rows), 2, 12, 12) and (uncertainty[batch.empty] == 1).all()
    patterns = {tuple(seen.presence[0].tolist()) for seen in net.seen}
    assert patterns == {tuple(row) for row in rows.presence.tolist()}
    for seen in net.seen:
        assert set(seen.inputs) == {n for n, there in zip(data.names, seen.presence[0], strict=True) if there}


def test_a_row_within_the_window_is_answered_at_once() -> None:
    data = scans.prepared(window=[12])
    net = Pointwise(scans.method_of("dropout", data))
    dense_scores(net, data.rows["train"].batch(np.asarray([0, 1])))  # type: ignore[arg-type]
    assert len(net.seen) == 1 and net.seen[0].corner is None


def test_hidden_voxels_are_in_no_window(data: Prepared) -> None:
    method, rows = scans.method_of("dropout", data), data.rows["train"]
    batch = replace(rows.batch(np.asarray([0])), memo=None)
    clean = dense_scores(method, batch.restrict(torch.tensor([True, False, True]), data.names))
    batch.inputs["t2"]["voxels"][:] = torch.nan
    poisoned = dense_scores(method, batch.restrict(torch.tensor([True, False, True]), data.names))
    assert torch.equal(clean[0], poisoned[0]) and torch.isfinite(poisoned[0]).all()
