"""What a frozen encoder makes of a cell is computed once: the time to the first step, and of an epoch.

    python benchmarks/feature_cache.py            # 10,000 rows, some minutes
    python benchmarks/feature_cache.py --smoke    # seconds, to see that it runs

A table of JPEG pictures, two numbers and a label; a vision transformer with random weights, made here, reads the
pictures, frozen. `train_run` is called in processes of its own, with an empty cache and three times with a filled one,
and stopped after its first step (the clock starts when everything is imported; the fastest counts). Then one epoch of
`dropout` is timed on cached features and on raw inputs: pictures decoded and encoded in every step, 32 at a time (CPU
seconds).

How to read it: `seconds` is wall time, `cpu_seconds` that of the process, and `with_imports` that of the process since
it began, imports and all. `ratio` is an epoch on raw inputs over one on cached features. `alone` is what it costs to
encode every picture alone, which makes its features the same bits whoever stands beside it: CPU seconds per picture
one by one over those 32 at a time.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import transformers
from _results import RESULTS, record, write
from PIL import Image as Pillow

from absentia.config import Model, RunConfig, Training
from absentia.data.kinds import Value
from absentia.data.rows import Rows
from absentia.data.table import open_table
from absentia.jobs import Quiet, declared_schema, train_run
from absentia.learn.build import build_method, patterns_seen
from absentia.learn.folder import RunFolder
from absentia.learn.loop import Loop, Validation
from absentia.learn.prepare import prepare
from absentia.models.encoders.pretrained import FrozenEncoder

SIDE = 64  # pixels
WIDTH = 192
STARTS = {"empty": 1, "filled": 3}  # how often each is timed; the fastest counts
TOGETHER = 32
LAZY = ("AutoModel", "AutoImageProcessor", "ViTModel", "ViTImageProcessorPil")  # imported when first asked for


class FirstStep(BaseException):
    """Ends a run after its first step."""


class UntilFirstStep(Quiet):
    """Watches a run until then."""

    def step(self, loss: float) -> None:
        raise FirstStep


def make_encoder(folder: Path, width: int, seed: int) -> None:
    """A vision transformer of six layers for pictures of 64 x 64 in patches of 8, with its processor."""
    sizes = {"hidden_size": width, "num_attention_heads": max(1, width // 64), "intermediate_size": 4 * width}
    torch.manual_seed(seed)
    transformers.utils.logging.disable_progress_bar()
    transformers.ViTModel(
        transformers.ViTConfig(image_size=SIDE, patch_size=8, num_hidden_layers=6, **sizes)
    ).save_pretrained(folder)
    transformers.ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)


def make_table(path: Path, rows: int, seed: int) -> None:
    """Pictures of smooth noise around one of four shades, two numbers, and the shade as label; every fifth is val."""
    draw = np.random.default_rng(seed)
    shades = draw.integers(0, 4, rows)
    columns = {
        "id": [str(i) for i in range(rows)],
        "photo": [_jpeg(int(shade), draw) for shade in shades],
        "size": shades + draw.normal(size=rows),
        "weight": draw.normal(size=rows),
        "label": [f"shade {shade}" for shade in shades],
        "split": ["val" if i % 5 == 4 else "train" for i in range(rows)],
    }
    pq.write_table(pa.table(columns), path)


def _jpeg(shade: int, draw: np.random.Generator) -> bytes:
    coarse = Pillow.fromarray((draw.integers(0, 128, (8, 8, 3)) + 40 * shade).clip(0, 255).astype(np.uint8))
    buffer = io.BytesIO()
    coarse.resize((SIDE, SIDE), Pillow.Resampling.BICUBIC).save(buffer, "jpeg", quality=90)
    return buffer.getvalue()


def settings(folder: Path) -> RunConfig:
    """A run on the table with the encoder."""
    modality = {"photo": {"kind": "image", "encoder": str(folder / "encoder")}, "facts": "tabular@size,weight"}
    training = Training(epochs=1, validations=1, patience=None)
    return RunConfig(table=str(folder / "table.parquet"), modality=modality, target="label", training=training)


def first_step(folder: Path, out: str, answer: Any) -> None:
    """In a process of its own: seconds from the call of a run to its first step."""
    torch.set_num_threads(1)
    for name in LAZY:
        getattr(transformers, name)
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        train_run(settings(folder), folder / out, watcher=UntilFirstStep())
    except FirstStep:
        answer.put((time.perf_counter() - wall, time.process_time() - cpu, time.process_time()))


def started(folder: Path, out: str) -> tuple[float, float, float]:
    """Wall and CPU seconds to the first step of a fresh process, and its CPU seconds with imports."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=first_step, args=(folder, out, answer))
    process.start()
    found: tuple[float, float, float] = answer.get(timeout=3600)
    process.join()
    return found


def epoch(rows: Rows, fitted: Any, config: RunConfig, folder: Path) -> float:
    """CPU seconds of one pass over the training rows."""
    method = build_method("dropout", fitted, Model(), seed=0, seen=patterns_seen(rows.presence))
    folder.mkdir(parents=True, exist_ok=True)
    blind: Callable[..., Validation] = lambda *_: Validation(patterns={}, goodness=-np.inf)  # noqa: E731
    loop = Loop(
        method=method,
        rows=rows,
        settings=config.training,
        seed=0,
        folder=RunFolder(folder),
        validate=blind,
        run="epoch",
    )
    started = time.process_time()
    loop.fit()
    return time.process_time() - started


def raw(rows: Rows) -> Rows:
    """The same rows, decoded and encoded whenever they are asked for."""
    encoder = rows.transforms["photo"]
    assert isinstance(encoder, FrozenEncoder)
    return replace(rows, keep=0, caches={}, transforms={"photo": lambda values: together(encoder, values)}, _values={})


def together(frozen: FrozenEncoder, values: list[Value]) -> list[Value]:
    """Features of pictures that are encoded as one batch, as fast as it goes."""
    inputs = {key: torch.from_numpy(a) for key, a in frozen.decoder.collate(values).items()}
    with torch.inference_mode():
        return [{"features": row[None].numpy()} for row in frozen.encoder.pooled(**inputs)]


def cost_alone(rows: Rows, count: int) -> float:
    """CPU seconds one by one over those in batches, for the first pictures."""
    encoder = rows.transforms["photo"]
    assert isinstance(encoder, FrozenEncoder)
    cells = rows.take(rows.index[:count]).column("photo").to_pylist()
    values = [rows.decoders["photo"].decode(cell) for cell in cells]
    seconds = {}
    for name, make in {"warm": encoder, "alone": encoder, "together": lambda part: together(encoder, part)}.items():
        begun = time.process_time()
        for start in range(0, len(values), TOGETHER):
            make(values[start : start + TOGETHER])
        seconds[name] = time.process_time() - begun
    return seconds["alone"] / seconds["together"]


def measure(folder: Path, rows: int, width: int, seed: int) -> list[dict[str, Any]]:
    """One row for each way to start, and one for the epochs."""
    make_encoder(folder / "encoder", width, seed)
    make_table(folder / "table.parquet", rows, seed)
    found: list[dict[str, Any]] = []
    for cache, times in STARTS.items():
        wall, cpu, whole = min(started(folder, f"{cache}-{i}") for i in range(times))
        seconds = {"seconds": round(wall, 3), "cpu_seconds": round(cpu, 3), "with_imports": round(whole, 3)}
        found.append({"cache": cache, "cells": rows} | seconds)
        print(f"  first step, cache {cache}: {wall:.2f} s ({cpu:.2f} s of CPU; {whole:.2f} with imports)", flush=True)
    config, table = settings(folder), open_table(str(folder / "table.parquet"))
    schema = declared_schema(config, table, lambda line: None)
    data = prepare(table, schema, plan=None, on_bad="error")
    cached = epoch(data.rows["train"], data.fitted, config, folder / "cached")
    slow = epoch(raw(data.rows["train"]), data.fitted, config, folder / "raw")
    alone = cost_alone(data.rows["train"], min(rows, 256))
    row = {
        "rows": len(data.rows["train"]),
        "cached_epoch": round(cached, 3),
        "raw_epoch": round(slow, 3),
        "ratio": round(slow / cached, 1),
        "alone": round(alone, 3),
    }
    print("  epoch: {cached_epoch} s cached, {raw_epoch} s raw, ratio {ratio}; alone {alone}".format(**row))
    return [*found, row]


def main() -> None:
    parser = argparse.ArgumentParser(description="Time to the first step and of an epoch, with features kept on disk.")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=WIDTH, help="of the encoder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="200 rows and a tiny encoder, to see that it runs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON")
    parser.add_argument("--record", action="store_true", help="a line in the ledger")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows, width = (200, 32) if asked.smoke else (asked.rows, asked.width)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ABSENTIA_CACHE"] = str(Path(folder) / "cache")
        found = measure(Path(folder), rows, width, asked.seed)
    path = write("feature_cache" + (f"_{width}" if asked.width != WIDTH else ""), found, asked.seed, asked.out)
    print(path)
    if asked.record:
        empty, filled, epochs = found
        said = [
            f"first step after {filled['seconds']} s with a filled cache, {empty['seconds']} s with an empty one",
            f"an epoch takes {epochs['cached_epoch']} s of CPU on cached features, {epochs['raw_epoch']} s on raw "
            f"inputs: {epochs['ratio']} times",
            f"one by one costs {epochs['alone']} of batches of {TOGETHER}",
        ]
        record(
            f"{asked.rows:,} pictures behind a frozen encoder of width {width}, features kept", said, asked.seed, path
        )


if __name__ == "__main__":
    main()
