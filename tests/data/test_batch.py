"""Batches: taking rows and modalities away, filling holes, and never touching what is there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from absentia.data.batch import Batch, tensors

NAMES = ["image", "text", "facts"]


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Each cell of a batch holds its own row and modality number."""
    size = draw(st.integers(0, 6))
    there = draw(st.lists(st.booleans(), min_size=3 * size, max_size=3 * size))
    presence = torch.tensor(there).reshape(size, 3).bool()
    inputs = {}
    for m, name in enumerate(NAMES):
        rows = presence[:, m].nonzero()[:, 0]
        if len(rows):
            inputs[name] = cells(name, rows + 1, draw(st.integers(0, 4)))
    return Batch(presence=presence, inputs=inputs, index=torch.arange(size) + 100, target=torch.arange(size))


def cells(name: str, marks: Tensor, length: int) -> dict[str, Tensor]:
    if name == "image":
        return {"pixels": marks.to(torch.uint8)[:, None, None].expand(-1, 2, 2).contiguous()}
    if name == "text":
        mask = torch.arange(length)[None] < (marks % (length + 1))[:, None]
        return {"ids": marks[:, None].expand(-1, length) * mask, "mask": mask}
    return {"numbers": marks[:, None].float() / 3, "holes": marks[:, None] % 2 == 0}


BLANKS = {
    "image": {"pixels": torch.zeros(1, 2, 2, dtype=torch.uint8)},
    "text": {"ids": torch.zeros(1, 0, dtype=torch.long), "mask": torch.zeros(1, 0, dtype=torch.bool)},
    "facts": {"numbers": torch.zeros(1, 1), "holes": torch.ones(1, 1, dtype=torch.bool)},
}
LONG = {**BLANKS, "text": {"ids": torch.full((1, 7), 9), "mask": torch.ones(1, 7, dtype=torch.bool)}}


def row(batch: Batch, m: int, b: int) -> dict[str, Tensor]:
    """What modality `m` holds in row `b`."""
    spot = int(batch.presence[:b, m].sum())
    return {key: x[spot] for key, x in batch.inputs[NAMES[m]].items()}


def check(batch: Batch) -> None:
    """Inputs belong to the rows that have them, and to no others."""
    assert set(batch.inputs) == {n for m, n in enumerate(NAMES) if batch.presence[:, m].any()}
    for name, inputs in batch.inputs.items():
        assert {len(x) for x in inputs.values()} == {int(batch.presence[:, NAMES.index(name)].sum())}
    assert len(batch) == len(batch.presence) == len(batch.index)


@given(batches(), st.data())
def test_restricting_takes_modalities_away(batch: Batch, data: st.DataObject) -> None:
    per_row = data.draw(st.booleans())
    shape = (len(batch), 3) if per_row else (3,)
    count = len(batch) * 3 if per_row else 3
    allowed = torch.tensor(data.draw(st.lists(st.booleans(), min_size=count, max_size=count))).reshape(shape).bool()
    before = batch.presence.clone()
    less = batch.restrict(allowed, NAMES)
    check(less)
    assert (less.presence == (before & allowed)).all() and (batch.presence == before).all()
    assert (less.index == batch.index).all() and less.target is batch.target
    for b, m in less.presence.nonzero().tolist():
        for key, x in row(less, m, b).items():
            assert torch.equal(x, row(batch, m, b)[key])


@given(batches(), st.data())
def test_selecting_keeps_rows_whole(batch: Batch, data: st.DataObject) -> None:
    rows = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(batch), max_size=len(batch)))).bool()
    less = batch.select(rows, NAMES)
    check(less)
    kept = rows.nonzero()[:, 0].tolist()
    assert less.index.tolist() == [100 + b for b in kept] and less.target is not None
    assert less.target.tolist() == kept and torch.equal(less.presence, batch.presence[rows])
    for new, old in enumerate(kept):
        for m in batch.presence[old].nonzero()[:, 0].tolist():
            assert all(torch.equal(x, row(batch, m, old)[key]) for key, x in row(less, m, new).items())


@given(batches(), st.sampled_from([BLANKS, LONG]))
def test_filling_keeps_what_is_there_to_the_bit(batch: Batch, blanks: Any) -> None:
    full = batch.filled(blanks)
    assert full.presence.all() and full.presence.shape == batch.presence.shape
    assert list(full.inputs) == NAMES
    for b in range(len(batch)):
        for m, name in enumerate(NAMES):
            there = bool(batch.presence[b, m])
            wanted = row(batch, m, b) if there else {k: x[0] for k, x in blanks[name].items()}
            for key, x in row(full, m, b).items():
                part = x[: len(wanted[key])] if x.dim() else x
                assert x.dtype == wanted[key].dtype and torch.equal(part, wanted[key])
                assert not x[len(wanted[key]) :].any()  # padding, and the mask says so


@given(batches())
def test_empty_rows(batch: Batch) -> None:
    assert batch.empty.tolist() == [not any(p) for p in batch.presence.tolist()]


@given(batches())
def test_moving_changes_no_value(batch: Batch) -> None:
    moved = batch.to("cpu")
    check(moved)
    assert torch.equal(moved.presence, batch.presence) and torch.equal(moved.index, batch.index)
    meta = batch.to(torch.device("meta"))
    assert {x.device.type for inputs in meta.inputs.values() for x in inputs.values()} <= {"meta"}
    assert meta.presence.device.type == meta.index.device.type == "meta"
    assert Batch(presence=batch.presence, inputs={}, index=batch.index).to("cpu").target is None


def test_arrays_in_any_layout_become_tensors() -> None:
    found = tensors({"a": np.zeros((3, 4), np.float32).T, "b": np.zeros(3, bool)[::-1]})
    assert found["a"].shape == (4, 3) and found["b"].dtype == torch.bool


@pytest.mark.parametrize("size", [0, 3])
def test_a_batch_of_nothing_is_filled(size: int) -> None:
    batch = Batch(presence=torch.zeros(size, 3, dtype=torch.bool), inputs={}, index=torch.arange(size))
    assert {len(x) for inputs in batch.filled(BLANKS).inputs.values() for x in inputs.values()} == {size}
    assert batch.empty.all() and batch.restrict(torch.ones(3, dtype=torch.bool), NAMES).inputs == {}
