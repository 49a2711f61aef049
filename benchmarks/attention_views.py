"""How attention should read samples of different lengths: four ways to do the same, forward and backward.

    python benchmarks/attention_views.py

  padded   one rectangle for the whole batch, with a mask
  grouped  what `absentia.layers.packing` does: rectangles of like-long samples, padded by 5 % or 8 tokens at most
  exact    one group for every length, never any padding; the number of groups grows with the batch
  nested   torch's jagged nested tensors

How to read it: median CPU milliseconds of attention alone (queries, keys and values of packed tokens in, packed tokens
out) and the number of groups; the ways take turns within one run. Exact is the floor;
the grouped way should stay near it, with a number of groups that does not grow with the batch.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _results import RESULTS, write
from torch import Tensor
from torch.nn import functional as F

from absentia.layers.attention import Prompts, View, views
from absentia.layers.packing import Grid, Packing, Segment

CPU = torch.device("cpu")
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def vilt_lengths(size: int, own: torch.Generator) -> Tensor:
    """A third of the samples complete, a third without text, a third without image; texts of 5 to 40 tokens."""
    text = torch.randint(5, 41, (size,), generator=own)
    kind = torch.arange(size) % 3
    return torch.where(kind == 0, 145 + text, torch.where(kind == 1, 145, text))


def small_lengths(size: int, own: torch.Generator) -> Tensor:
    """Three modalities of 17, 4 to 11 and 9 tokens, every pattern equally often."""
    pattern = torch.randint(1, 8, (size,), generator=own)
    text = torch.randint(4, 12, (size,), generator=own)
    return (pattern & 1) * 17 + (pattern >> 1 & 1) * text + (pattern >> 2) * 9


CASES = {  # name: lengths, width, heads
    "ViLT-B/32, 16 samples": (vilt_lengths, 16, 768, 12),
    "ViLT-B/32, 64 samples": (vilt_lengths, 64, 768, 12),
    "width 96, 256 samples": (small_lengths, 256, 96, 4),
    "width 96, 16 samples": (small_lengths, 16, 96, 4),
}


def by_grids(lengths: list[list[int]], heads: int) -> Attend:
    """Attention over these groups of samples."""
    grids = [Grid.of(group, CPU) for group in lengths]
    masks = [None if (f := grid.filled()) is None else f[:, None, None] for grid in grids]
    return View(heads, grids, grids, masks).attend


def grouped(lengths: Tensor, heads: int) -> tuple[Attend, int]:
    """The groups that the package makes."""
    valid = torch.arange(int(lengths.max())) < lengths[:, None]
    segment = Segment(torch.empty(*valid.shape, 0), valid, torch.arange(len(lengths)))
    packing = Packing.of([segment], len(lengths), CPU)
    return views(packing, Prompts(), heads=heads, depth=1)[0].attend, len(packing.groups)


def nested(lengths: Tensor, heads: int) -> Attend:
    """Jagged nested tensors, where this build of torch has them."""
    offsets = F.pad(lengths.cumsum(0), (1, 0))
    longest, shortest = int(lengths.max()), int(lengths.min())

    def jagged(packed: Tensor) -> Tensor:
        split = packed.view(len(packed), heads, -1)
        return torch.nested.nested_tensor_from_jagged(
            split, offsets, min_seqlen=shortest, max_seqlen=longest
        ).transpose(1, 2)

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        read = F.scaled_dot_product_attention(jagged(query), jagged(key), jagged(value))
        return read.transpose(1, 2).values().flatten(1)

    return attend


def ways(lengths: Tensor, heads: int) -> dict[str, tuple[Attend, int]]:
    """Per way its attention and the number of groups; `lengths` ascend."""
    every = lengths.tolist()
    same = [[length] * count for length, count in Counter(every).items()]
    return {
        "padded": (by_grids([every], heads), 1),
        "grouped": grouped(lengths, heads),
        "exact": (by_grids(same, heads), len(same)),
        "nested": (nested(lengths, heads), 1),
    }


def measure(name: str, repeats: int, seed: int) -> list[dict[str, Any]]:
    """One case, all ways in turn, after a warm-up that also checks that they agree."""
    draw, size, width, heads = CASES[name]
    lengths = draw(size, torch.Generator().manual_seed(seed)).sort().values
    inputs = [torch.randn(int(lengths.sum()), width, requires_grad=True) for _ in range(3)]
    weight = torch.randn(int(lengths.sum()), width)
    rivals = ways(lengths, heads)
    seconds: dict[str, list[float]] = {way: [] for way in rivals}
    for repeat in range(-1, repeats):
        for way in list(rivals) if repeat % 2 else reversed(rivals):
            start = time.process_time()
            out = rivals[way][0](*inputs)
            (out * weight).sum().backward()
            if repeat >= 0:
                seconds[way].append(time.process_time() - start)
            elif way == "padded":
                expected = out.detach()
            else:
                torch.testing.assert_close(out.detach(), expected, atol=1e-4, rtol=1e-4)
    return [
        {
            "case": name,
            "way": way,
            "cpu_milliseconds": round(1e3 * statistics.median(taken), 3),
            "groups": rivals[way][1],
        }
        for way, taken in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Attention over samples of different lengths, four ways.")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(asked.seed)
    rows = []
    for case in CASES:
        with warnings.catch_warnings(action="ignore"):  # nested tensors announce that they are a prototype
            rows += measure(case, asked.repeats, asked.seed)
        found = "  ".join(f"{row['way']} {row['cpu_milliseconds']:.2f} ms ({row['groups']})" for row in rows[-4:])
        print(f"{case}: {found}", flush=True)
    print(write("attention_views", rows, asked.seed, asked.out))


if __name__ == "__main__":
    main()
