"""Processes of their own that write features: some to their end, some until they are killed."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from absentia.data.features import FeatureStore

__all__ = ["LONG", "feature", "key", "run_apart", "write_and_die", "write_many", "write_until_full"]

Features = npt.NDArray[np.float32]
LONG = 40_000  # floats of a long record


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def feature(number: int, columns: int = 5) -> Features:
    """Features of another length for each number."""
    return np.random.default_rng(number).normal(size=(1 + number % 4, columns)).astype(np.float32)


def run_apart(work: Callable[..., None], *args: object, expect: int = 0) -> None:
    """Run `work` in another process and see how it ends."""
    process = start(work, *args)
    process.join(60)
    assert process.exitcode == expect


def start(work: Callable[..., None], *args: object) -> multiprocessing.process.BaseProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.writers"])
    process = context.Process(target=work, args=args)
    process.start()
    return process


def write_many(folder: Path, numbers: range) -> None:
    store = FeatureStore(folder, {})
    for number in numbers:
        store.keep(key(number), feature(number))
        assert store.recall(key(number)) is not None
    assert store.notes == []


def write_and_die(folder: Path, whole: int, part: int) -> None:
    """Keep `whole` features, then end by SIGKILL when `part` bytes of the next one are written."""
    store, real = FeatureStore(folder, {}), os.write
    for number in range(whole):
        store.keep(key(number), feature(number))

    def torn(file: int, content: bytes) -> int:
        real(file, content[:part])
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", torn)
        store.keep(key(whole), feature(whole))


def write_until_full(folder: Path) -> None:
    """A real limit of the system, in the middle of a record."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * 4 * LONG, 3 * 4 * LONG))
    store = FeatureStore(folder, {})
    for number in range(5):
        store.keep(key(number), feature(number, LONG))
    assert len(store.notes) == 1 and "File too large" in store.notes[0]
    np.testing.assert_array_equal(store.recall(key(0)), feature(0, LONG))
    assert store.recall(key(4)) is None
