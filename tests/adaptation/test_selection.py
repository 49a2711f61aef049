from __future__ import annotations

import contextvars
import threading

import pytest
import torch

from absentia.adaptation.presence import rows_of
from absentia.adaptation.selection import Selection, chosen, running
from absentia.errors import UserError


def test_what_was_chosen_is_of_its_owner_and_ends_with_its_block() -> None:
    one, two = object(), object()
    with chosen(one, "outer"), chosen(two, "other"):
        with pytest.raises(ZeroDivisionError), chosen(one, "inner"):
            assert running(one) == "inner" and running(two) == "other"
            raise ZeroDivisionError
        assert running(one) == "outer"
    assert running(one) is None and running(two) is None


def test_another_thread_does_not_see_it_unless_it_is_given_the_context() -> None:
    owner, seen = object(), []
    with chosen(owner, 3):
        copied = contextvars.copy_context()
        for work in (lambda: seen.append(running(owner)), lambda: seen.append(copied.run(running, owner))):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
    assert seen == [None, 3]


def test_where_nothing_was_chosen_is_an_error_if_that_would_be_wrong() -> None:
    with pytest.raises(UserError, match="another thread"):
        running(object(), strict=True)

    class Asking(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
            return x * 1

        @staticmethod
        def backward(ctx: object, g: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            running(object())
            return g

    with pytest.raises(UserError, match="gradient checkpointing"):
        Asking.apply(torch.ones(1, requires_grad=True)).sum().backward()  # type: ignore[no-untyped-call]


def test_values_are_looked_up_once_in_a_call() -> None:
    class Named:
        name = "x"

    asked = []
    selection = Selection(rows_of(torch.ones(3, 2, dtype=torch.bool)), lambda site: asked.append(site))  # type: ignore[func-returns-value]
    assert selection.values(Named()) is None and selection.values(Named()) is None  # type: ignore[arg-type]
    assert len(asked) == 1 and selection.rows_at(Named(), (3, 4)) is None  # type: ignore[arg-type]
