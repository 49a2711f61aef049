"""Variants of one piece of work that take turns in a process: their times, tokens and memory beside each other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from absentia.layers.packing import Packing
from absentia.models.fused import FusedOutput, FusedTransformer, Prompts

__all__ = ["Call", "take_turns"]

LINE = (
    "{case:<18}{variant:<9}{speedup:7.2f}x{cpu_seconds:9.3f} s CPU{seconds:9.3f} s wall{tokens:8} tokens  {peak_mb} MB"
)

Call = Callable[[], int | None]
"""Does the work; may say how many tokens it took, beside those of our own transformer."""


@dataclass
class Timed:
    """What was measured of a variant, a value for each repeat."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    tokens: int = 0
    peak: float | None = None


@contextmanager
def counted() -> Iterator[list[int]]:
    """Tokens of each of our passes, inserted ones included, twice if they go backward."""
    found: list[int] = []
    before = FusedTransformer.run

    def run(self: FusedTransformer, packing: Packing, prompts: Prompts | None = None, rows: Any = "all") -> FusedOutput:
        output = before(self, packing, prompts, rows)
        found.append((1 + int(output.packed.requires_grad)) * len(packing.sample))
        return output

    FusedTransformer.run = run  # type: ignore[method-assign]
    try:
        yield found
    finally:
        FusedTransformer.run = before  # type: ignore[method-assign]


def resident() -> dict[str, float]:
    """MB of this process now (VmRSS) and at its peak (VmHWM), where the system tells."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    return {
        line.partition(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith(("VmRSS", "VmHWM"))
    }


def first_time(call: Call) -> Timed:
    """Not timed: tokens, and how much the process grows."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5", encoding="ascii")  # the peak starts anew
    before = resident()
    with counted() as passes:
        said = call() or 0
    peak = round(resident()["VmHWM"] - before["VmRSS"], 1) if before else None
    return Timed(tokens=sum(passes) + said, peak=peak)


def take_turns(case: str, calls: Mapping[str, Call], repeats: int) -> list[dict[str, Any]]:
    """A line for each variant after a warm-up and `repeats` rounds, each in the other order; one is called plain."""
    found = {name: first_time(call) for name, call in calls.items()}
    for repeat in range(repeats):
        for name in list(calls) if repeat % 2 else reversed(calls):
            wall, cpu = time.perf_counter(), time.process_time()
            calls[name]()
            found[name].seconds.append(time.perf_counter() - wall)
            found[name].cpu.append(time.process_time() - cpu)
    return [_line(case, name, timed, found["plain"]) for name, timed in found.items()]


def _line(case: str, name: str, timed: Timed, plain: Timed) -> dict[str, Any]:
    cpu = statistics.median(timed.cpu)
    line = {
        "case": case,
        "variant": name,
        "speedup": round(statistics.median(plain.cpu) / cpu, 3),
        "cpu_seconds": round(cpu, 4),
        "seconds": round(statistics.median(timed.seconds), 4),
        "tokens": timed.tokens,
        "peak_mb": timed.peak,
    }
    print(LINE.format(**line), flush=True)
    return line
