"""Absent cells cost nothing: reading a table takes as long as what is there takes.

    python benchmarks/decode_cost.py            # 2,000 rows, a minute
    python benchmarks/decode_cost.py --smoke    # seconds, to see that it runs

A table of JPEG pictures and texts is read and batched under mask plans that hide 0, 50 and 90 % of all cells; the
cells stay in the table, encoded, and the plan alone says that they are absent. Every share is timed `--repeats`
times, in turn, and the fastest counts (CPU seconds of the process).

How to read it: `ratio` is the time over the time with nothing hidden, beside the share of cells that are `present`
(`photos_present`: of the photos alone, which take nearly all of the time). Where absent cells cost nothing the two
are equal; what `ratio` has more is the cost of a row, whatever it holds. `opened` counts the cells that were
decoded: exactly the `cells` that are present.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from _results import RESULTS, record, write
from PIL import Image as Pillow

from absentia.data.absence import MaskPlan
from absentia.data.absence_rules import Rule
from absentia.data.kinds import Decoder, Image, Text, Value
from absentia.data.rows import Rows
from absentia.data.schema import Schema
from absentia.data.table import Table, open_table

HIDDEN = (0.0, 0.5, 0.9)
BATCH = 64
WORDS = ("river", "stone", "lantern", "harbour", "meadow", "violin", "copper", "thunder", "orchard", "window")
LINE = "  hidden {hidden:.0%}  photos present {photos_present:.3f}  ratio {ratio:.3f}  {us_per_row:8.1f} µs a row"
SCHEMA = Schema(modalities={"photo": Image(size=64), "text": Text()}, id="id")


class Counting(Decoder):
    """A decoder that counts the cells it opens."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder, self.opened = decoder, 0

    def decode(self, cell: Any) -> Value:
        self.opened += 1
        return self.decoder.decode(cell)

    def collate(self, values: Any) -> Value:
        return self.decoder.collate(values)

    def blank(self) -> Value:
        return self.decoder.blank()

    def state(self) -> dict[str, Any]:
        return self.decoder.state()


def make(rows: int, side: int, seed: int) -> Table:
    """Photos (smooth noise as JPEG, `side` pixels square) and texts of thirty words."""
    draw = np.random.default_rng(seed)
    texts = [" ".join(draw.choice(WORDS, 30)) for _ in range(rows)]
    photos = [_jpeg(side, draw) for _ in range(rows)]
    return open_table(pa.table({"id": [str(i) for i in range(rows)], "photo": photos, "text": texts}))


def _jpeg(side: int, draw: np.random.Generator) -> bytes:
    coarse = Pillow.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize((side, side), Pillow.Resampling.BICUBIC).save(buffer, "jpeg", quality=90)
    return buffer.getvalue()


def decoders(table: Table) -> dict[str, Decoder]:
    """Fitted on the first rows."""
    head = table.take(np.arange(64))
    return {name: kind.fit(head.column(name).to_pylist()) for name, kind in SCHEMA.modalities.items()}


def presence_under(hidden: float, rows: int, seed: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """bool (N, M) as a plan leaves it that hides each modality with probability `hidden`."""
    ids, everything = [str(i) for i in range(rows)], np.ones((rows, len(SCHEMA.names)), dtype=np.bool_)
    rule = Rule(p_absent=dict.fromkeys(SCHEMA.names, hidden), allow_empty=True)
    plan = MaskPlan.draw(modalities=SCHEMA.names, splits="test", ids=ids, rules={"test": rule}, seed=seed)
    return plan.apply(ids, everything)


def once(table: Table, fitted: Mapping[str, Decoder], presence: np.ndarray[Any, Any]) -> tuple[float, int]:
    """Read every row and make every batch; CPU seconds and how many cells were opened."""
    counting = {name: Counting(decoder) for name, decoder in fitted.items()}
    index = np.arange(len(table))
    started = time.process_time()
    rows = Rows(
        take=table.take,
        schema=SCHEMA,
        decoders=counting,
        index=index,
        presence=presence.copy(),
        ids=[str(i) for i in index],
    )
    for _ in rows.read("error").batches(BATCH):
        pass
    return time.process_time() - started, sum(decoder.opened for decoder in counting.values())


def measure(*, rows: int, side: int, repeats: int, seed: int) -> list[dict[str, Any]]:
    """One row for each share hidden."""
    table = make(rows, side, seed)
    fitted = decoders(table)
    plans = {hidden: presence_under(hidden, rows, seed) for hidden in HIDDEN}
    runs = [{hidden: once(table, fitted, plan) for hidden, plan in plans.items()} for _ in range(repeats + 1)][1:]
    fastest = {hidden: min(run[hidden][0] for run in runs) for hidden in HIDDEN}
    found = []
    for hidden, plan in plans.items():
        row = {
            "hidden": hidden,
            "present": round(float(plan.mean()), 4),
            "photos_present": round(float(plan[:, 0].mean()), 4),
            "ratio": round(fastest[hidden] / fastest[0.0], 4),
            "cpu_seconds": round(fastest[hidden], 4),
            "us_per_row": round(1e6 * fastest[hidden] / rows, 1),
            "opened": runs[0][hidden][1],
            "cells": int(plan.sum()),
        }
        print(LINE.format(**row))
        found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Time to read and batch a table against the share of cells present.")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--side", type=int, default=256, help="pixels")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="200 small rows, to see that it runs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON")
    parser.add_argument("--record", action="store_true", help="a line in the ledger")
    asked = parser.parse_args()
    rows, side, repeats = (200, 64, 1) if asked.smoke else (asked.rows, asked.side, asked.repeats)
    found = measure(rows=rows, side=side, repeats=repeats, seed=asked.seed)
    path = write("decode_cost", found, asked.seed, asked.out)
    print(path)
    if asked.record:
        said = [f"{row['photos_present']:.1%} of photos present: {row['ratio']:.1%} of the time" for row in found]
        record("reading and batching JPEGs and texts, cells hidden", said, asked.seed, path)


if __name__ == "__main__":
    main()
