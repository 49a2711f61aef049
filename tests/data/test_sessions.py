from __future__ import annotations

import numpy as np
import pytest

from absentia.data.sessions import sessions_by_class, sessions_by_column
from absentia.errors import UserError

CELLS = ["b", "a", "c", "d", None, "a", "e", "b"]
TRAIN = np.asarray([True] * 6 + [False, True])


def test_values_of_a_column_are_sessions_in_their_order() -> None:
    found = sessions_by_column([10, 2, None, 2, 9], "day")
    assert found.names == ("2", "9", "10")
    assert found.number.tolist() == [2, 0, -1, 0, 1]
    assert sessions_by_column(["x10", "x2"], "day").names == ("x10", "x2")
    with pytest.raises(UserError, match="no value"):
        sessions_by_column([None], "day")


def test_classes_of_training_rows_are_shared_out() -> None:
    found = sessions_by_class(CELLS, train=TRAIN, count=2)
    assert found.classes == (("a", "b"), ("c", "d"))
    assert found.number.tolist() == [0, 0, 1, 1, -1, 0, -1, 0], "e is in no training row, None has no class"


def test_a_shuffled_order_is_the_seeds() -> None:
    orders = {sessions_by_class(CELLS, train=TRAIN, count=4, order="shuffled", seed=s).names for s in range(8)}
    assert len(orders) > 2
    one, same = (sessions_by_class(CELLS, train=TRAIN, count=4, order="shuffled", seed=3) for _ in range(2))
    assert one.names == same.names


@pytest.mark.parametrize("count", [0, 5, None])
def test_more_sessions_than_classes_are_refused(count: int | None) -> None:
    with pytest.raises(UserError, match="there are 4 classes"):
        sessions_by_class(CELLS, train=TRAIN, count=count)


def test_several_labels_have_no_single_class() -> None:
    with pytest.raises(UserError, match="say --by COLUMN"):
        sessions_by_class([["a", "b"]], train=np.asarray([True]), count=1)
