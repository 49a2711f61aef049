"""A table larger than memory should be: a million rows, inspected and answered while memory stays small.

    python benchmarks/million_rows.py                 # a million rows; some minutes
    python benchmarks/million_rows.py --rows 100000
    python benchmarks/million_rows.py --smoke         # 3,000 rows, to see that it runs

Makes a Parquet file of one row group (pictures of 16 x 16 pixels as PNG bytes, a few words, a number, three
classes, one cell in ten absent), trains a tiny model on its first rows, and then runs the commands that a user
would run: `absentia inspect` and `absentia predict`, each in a process of its own.

How to read it: `peak_mb` is the most memory that the process ever held (its resident set, interpreter and torch
included) and should be under 2,048 whatever the number of rows. `rows_per_second` is of the whole command, so on
few rows its start dominates; `cpu_seconds` is what to compare where others use the machine. `accuracy` only shows
that the answers are answers.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

LIMIT_MB = 2048
SMOKE_ROWS, SMOKE_TRAINED = 3000, 600
BLOCK = 10_000
CLASSES = ("left", "middle", "right")
WORDS = np.asarray(["alder", "aspen", "beech", "cedar", "elm", "hazel", "larch", "maple", "oak", "rowan"])
ABSENT = 0.1
COMMAND = "import sys; from absentia.cli import main; sys.exit(main())"
TRAINING = {"model.width": 32, "model.depth": 1, "training.epochs": 4, "training.batch": 16, "training.lr": 0.005}
MODALITIES = ["picture=image", "words=text", "size=tabular"]

LINE = "  {command:<18}{rows:>10,} rows {seconds:8.1f} s {rows_per_second:8.1f} rows/s {peak_mb:8.1f} MB"


def make(path: Path, rows: int, seed: int) -> None:
    """Write the table: each modality tells something of the class, none all."""
    blocks = [_block(start, min(BLOCK, rows - start), seed) for start in range(0, rows, BLOCK)]
    pq.write_table(pa.concat_tables(blocks), path, row_group_size=rows)


def _block(start: int, rows: int, seed: int) -> pa.Table:
    draw = np.random.default_rng((seed, start))
    label = draw.integers(0, len(CLASSES), rows)
    words = draw.choice(WORDS, (rows, 4))
    words[:, 0] = WORDS[label + draw.integers(0, 3, rows)]
    columns: dict[str, list[Any]] = {
        "picture": list(_pictures(label, draw)),
        "words": [" ".join(row) for row in words],
        "size": (label + draw.normal(size=rows)).tolist(),
    }
    for cells in columns.values():
        for row in np.flatnonzero(draw.random(rows) < ABSENT):
            cells[row] = None
    identity = [f"row-{number}" for number in range(start, start + rows)]
    return pa.table({"id": identity, **columns, "side": [CLASSES[k] for k in label]})


def _pictures(label: np.ndarray[Any, Any], draw: np.random.Generator) -> Iterator[bytes]:
    """PNG bytes of noise with a brighter third."""
    pixels = draw.integers(0, 200, (len(label), 16, 16), dtype=np.uint8)
    for picture, side in zip(pixels, label, strict=True):
        picture[:, 5 * side : 5 * side + 6] += 40
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "png", compress_level=1)
        yield buffer.getvalue()


def run(name: str, *words: str, rows: int) -> dict[str, Any]:
    """A command in its own process: how long it took and how much memory it held."""
    started = time.monotonic()
    child = subprocess.Popen([sys.executable, "-c", COMMAND, name, *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)  # unlike RUSAGE_CHILDREN, this one child alone
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"absentia {name} ended with {child.returncode}")
    seconds = time.monotonic() - started
    row = {
        "command": f"absentia {name}",
        "rows": rows,
        "seconds": round(seconds, 1),
        "rows_per_second": round(rows / seconds, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": round(usage.ru_maxrss / 1024, 1),
    }
    print(LINE.format(**row), flush=True)
    return row


def measure(folder: Path, *, rows: int, trained: int, seed: int) -> list[dict[str, Any]]:
    """Make, train, inspect, predict in `folder`."""
    table, few = folder / "table.parquet", folder / "first.parquet"
    # In a process of its own, like all that needs memory: a child's peak begins with what its parent held.
    maker = multiprocessing.get_context("spawn").Process(target=make, args=(table, rows, seed))
    maker.start()
    maker.join()
    print(f"  {table.stat().st_size / 1e6:.1f} MB of Parquet", flush=True)
    first = next(pq.ParquetFile(table).iter_batches(batch_size=trained))
    pq.write_table(pa.Table.from_batches([first]), few)
    schema = [word for flag in MODALITIES for word in ("--modality", flag)] + ["--target", "side"]
    out, answers = folder / "run", folder / "answers.parquet"
    settings = [word for key, value in TRAINING.items() for word in (f"--{key}", str(value))]
    train = [*schema, *settings, "--reference", "false", "--seed", str(seed)]
    found = [
        run("train", str(few), *train, "--out", str(out), rows=len(first)),
        run("inspect", str(table), *schema, rows=rows),
        run("predict", str(out), str(table), "--out", str(answers), rows=rows),
    ]
    found[-1]["accuracy"] = round(_accuracy(table, answers), 4)
    return found


def _accuracy(table: Path, answers: Path) -> float:
    truth, said = pq.read_table(table, columns=["side"])["side"], pq.read_table(answers, columns=["prediction"])
    return float(pc.mean(pc.equal(truth, said["prediction"])).as_py())


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory and speed on a table of a million rows.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--trained", type=int, default=2000, help="first rows that the tiny model learns from")
    parser.add_argument("--smoke", action="store_true", help=f"{SMOKE_ROWS} rows, to see that it runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder of the JSON; benchmarks/results by default")
    parser.add_argument("--record", action="store_true", help="a line in the ledger")
    asked = parser.parse_args()
    rows, trained = (SMOKE_ROWS, SMOKE_TRAINED) if asked.smoke else (asked.rows, asked.trained)
    with tempfile.TemporaryDirectory(prefix="absentia-rows-") as folder:
        found = measure(Path(folder), rows=rows, trained=min(trained, rows), seed=asked.seed)

    from _results import RESULTS, record, write  # with torch, which the peaks above must not begin with

    path = write("million_rows", found, asked.seed, asked.out or RESULTS)
    print(path)
    if asked.record:
        said = [
            f"{row['command']} {row['rows']:,} rows: {row['peak_mb']:.0f} MB, {row['rows_per_second']:.0f} rows/s "
            f"({row['rows'] / row['cpu_seconds']:.0f} per CPU second)"
            for row in found
        ]
        record("memory on a large table", said, asked.seed, path)
    if any(row["peak_mb"] > LIMIT_MB for row in found):
        raise SystemExit(f"more than {LIMIT_MB} MB")


if __name__ == "__main__":
    main()
