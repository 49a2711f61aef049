"""Which patterns the rows of the call that is running have: an argument of the call, never a state of the network.

A context variable carries it from the call to the hooks, so that two threads may run different patterns at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from absentia.adaptation.forms import RowsOf, Values
from absentia.adaptation.presence import Rows
from absentia.adaptation.sites import Site
from absentia.errors import UserError

__all__ = ["Selection", "chosen", "in_backward", "running"]

Layout = Callable[[Site, tuple[int, ...], Tensor], RowsOf]
"""A site, the shape of its output and the pattern of each row of the call, to the pattern of each row there."""


@dataclass(frozen=True)
class Selection:
    """The patterns of the rows of a call, and the values for them.

    find: a site to its values per pattern (U, ...); None where they change nothing.
    layout: where the rows are in a site's output; only asked where patterns are mixed.
    """

    rows: Rows
    find: Callable[[Site], Values | None]
    layout: Layout | None = None
    _found: dict[str, Values | None] = field(default_factory=dict)

    def values(self, site: Site) -> Values | None:
        """The values at a site per pattern; a module may run several times in a call."""
        if site.name not in self._found:
            self._found[site.name] = self.find(site)
        return self._found[site.name]

    def rows_at(self, site: Site, shape: tuple[int, ...]) -> RowsOf | None:
        """The patterns of the rows of a site's output; None if all rows have the same."""
        if not self.rows.mixed:
            return None
        assert self.layout is not None
        return self.layout(site, shape, self.rows.ids)


_RUNNING: ContextVar[dict[int, Any]] = ContextVar("absentia_adaptation", default={})  # noqa: B039  (never changed)


@contextmanager
def chosen(owner: object, what: Any) -> Iterator[None]:
    """Within, hooks of `owner` find `what`."""
    token = _RUNNING.set(_RUNNING.get() | {id(owner): what})
    try:
        yield
    finally:
        _RUNNING.reset(token)


def running(owner: object, *, strict: bool = False) -> Any:
    """What was chosen for `owner`; None outside of its calls.

    Raises `UserError` where that would be silently wrong: within backward, and if `strict` everywhere else too.
    """
    found = _RUNNING.get().get(id(owner))
    if found is not None:
        return found
    if in_backward():
        raise UserError(
            "a layer of an adapted network runs again inside backward (gradient checkpointing), where its patterns are "
            "not known; switch checkpointing off"
        )
    if strict:
        raise UserError(
            "a layer of an adapted network runs in another thread than the call to it, where its patterns are not "
            "known; let the network run in one thread"
        )
    return None


def in_backward() -> bool:
    """Whether autograd is running this code."""
    return torch._C._current_graph_task_id() != -1
