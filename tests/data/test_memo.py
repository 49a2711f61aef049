from __future__ import annotations

import numpy as np
import torch
from tests import tiny
from torch import Tensor

from absentia.data.batch import Batch
from absentia.data.memo import Memo

DATA = tiny.prepared()
ROWS = DATA.rows["train"]


def test_what_is_kept_is_made_once_for_a_row_and_a_pattern() -> None:
    memo, seen = Memo(len(ROWS), ROWS.batch), Seen()
    assert torch.equal(asked(memo, seen), asked(memo, seen))
    assert sorted(seen.rows) == sorted(set(seen.rows)) and len(seen.rows) >= len(ROWS)


def test_what_may_outgrow_the_limit_is_made_anew_and_nothing_is_kept() -> None:
    patterns, width = 2 ** len(DATA.names) - 1, 3
    enough = len(ROWS) * patterns * width * 4
    for most, kept in ((enough, True), (enough - 1, False)):
        memo, seen = Memo(len(ROWS), ROWS.batch, most=most), Seen(width)
        expected = seen(shown(None))
        for _ in range(2):
            assert torch.equal(asked(memo, seen), expected)
        assert bool(memo._kept) == kept


def test_whether_something_is_kept_does_not_depend_on_what_was_asked_first() -> None:
    for places in ([0], list(range(len(ROWS)))):
        memo = Memo(len(ROWS), ROWS.batch, most=1)
        batch = shown(memo, places)
        batch.recall("key", Seen(), DATA.names)
        assert memo._too_large == {"key"}


def test_rows_as_they_stand_are_made_once_each_and_those_that_show_less_are_not_kept() -> None:
    memo, seen = Memo(len(ROWS), ROWS.batch, presence=ROWS.presence), Seen()
    for _ in range(2):
        assert torch.equal(shown(memo).recall_own("key", seen), Seen()(shown(None)))
    assert sorted(seen.rows) == sorted(Seen.of(shown(None))), "once each, with what it has"
    assert torch.equal(shown(memo, [3, 1]).recall_own("key", seen), Seen()(shown(None, [3, 1])))
    assert len(seen.rows) == len(ROWS)
    less = shown(memo).restrict(torch.arange(len(DATA.names)) == 0, DATA.names)
    assert torch.equal(less.recall_own("key", seen), Seen()(less)) and len(seen.rows) == 2 * len(ROWS)
    for unknown in (None, Memo(len(ROWS), ROWS.batch)):
        assert torch.equal(shown(unknown).recall_own("key", Seen()), Seen()(shown(None)))


def test_of_rows_as_they_stand_each_takes_its_place_once() -> None:
    for most, kept in ((4 * len(ROWS), True), (4 * len(ROWS) - 1, False)):
        memo = Memo(len(ROWS), ROWS.batch, presence=ROWS.presence, most=most)
        assert torch.equal(shown(memo).recall_own("key", Seen()), Seen()(shown(None)))
        assert bool(memo._kept) == kept


class Seen:
    """Makes a row's number and how much of it is there, and remembers for which rows."""

    def __init__(self, width: int = 1) -> None:
        self.width, self.rows = width, list[tuple[int, tuple[bool, ...]]]()

    @staticmethod
    def of(batch: Batch) -> list[tuple[int, tuple[bool, ...]]]:
        return list(zip(batch.index.tolist(), map(tuple, batch.presence.tolist()), strict=True))

    def __call__(self, batch: Batch) -> Tensor:
        self.rows += self.of(batch)
        return (batch.index + 10 * batch.presence.sum(dim=1)).float()[:, None].expand(-1, self.width)


def shown(memo: Memo | None, places: list[int] | None = None) -> Batch:
    batch = ROWS.batch(np.asarray(range(len(ROWS)) if places is None else places))
    batch.memo = memo
    return batch


def asked(memo: Memo, make: Seen) -> Tensor:
    return shown(memo).recall("key", make, DATA.names)
