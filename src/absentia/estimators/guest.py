"""Training inside somebody else's program: its random numbers and its Accelerate stay as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate.state import AcceleratorState
from rich.console import Console

from absentia.jobs import Quiet, Watcher
from absentia.watch import TerminalWatcher

__all__ = ["as_guest", "watching"]


@contextmanager
def as_guest() -> Iterator[None]:
    """A training leaves torch's generator where it was, and its precision does not bind the next one."""
    state = AcceleratorState._shared_state  # one for the whole process, and whoever comes first decides it
    before = dict(state)
    state.clear()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        state.clear()
        state.update(before)


@contextmanager
def watching(progress: bool) -> Iterator[Watcher]:
    """The progress of the command line, or silence."""
    if not progress:
        yield Quiet()
        return
    with TerminalWatcher(Console()) as watcher:
        yield watcher
