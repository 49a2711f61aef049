"""Items computed one by one, each in a single thread, and as many side by side as torch has threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

__all__ = ["each_alone"]

T = TypeVar("T")
U = TypeVar("U")
ONE_AT_A_TIME = threading.Lock()  # the number of threads belongs to the whole process


def each_alone(make: Callable[[T], U], items: Sequence[T]) -> list[U]:
    """`make` of every item: the same bits whatever its neighbours are, and however many threads there are."""
    with _single_threaded() as threads:
        if threads == 1 or len(items) < 2:
            return [make(item) for item in items]
        with ThreadPoolExecutor(min(threads, len(items))) as pool:
            return list(pool.map(make, items))


@contextmanager
def _single_threaded() -> Iterator[int]:
    """Torch computes in one thread inside; gives how many it had."""
    with ONE_AT_A_TIME:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield threads
        finally:
            torch.set_num_threads(threads)
