"""The methods side by side on tables, through the command line alone: what a user would type, seed by seed.

    python benchmarks/methods.py --tables glyphs --protocol complete --methods ignore dropout
    python benchmarks/methods.py --tables glyphs --protocol training --methods ignore dropout dedicated
    python benchmarks/methods.py --tables mfeat leaves100 --protocol everywhere --data FOLDER
    python benchmarks/methods.py --smoke

The protocols say which rows a mask plan makes incomplete (70 % of them, proper patterns drawn evenly, a new draw for
each seed):

  complete     none: training never lacks anything, the test does
  training     those for training and validation; every pattern is tested on all test rows
  everywhere   test rows too, as in simple_peers.py: `as_given` is the score on test rows as the plan leaves them

Every method has the same settings and the same number of steps; `dedicated` has it for each pattern, `universal` for
its two stages together. Validation rows
choose the epoch, test rows are scored once. How to read it: `mean` and `worst` are over all patterns, `as_given` over
the rows as they are; accuracy, or for a number the mean absolute error (lower is better). Rows with `seeds` are means
and standard deviations over the seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from _results import RESULTS, absentia, epochs_of, record, write
from _tables import KNOWN, SMOKE, data_folder, encoder_folders, open_known, with_encoder

from absentia.errors import UserError

ROWS = {"complete": (), "training": ("train", "val"), "everywhere": ("train", "val", "test")}
INCOMPLETE = "0.7"
Row = dict[str, Any]


def main() -> None:
    """All trainings that were asked for, a few at once, and their means."""
    asked = _asked()
    encoders = encoder_folders(asked.encoder, data_folder(asked.data))
    jobs = [(t, m, s) for t in asked.tables for s in range(asked.seeds) for m in asked.methods]
    with tempfile.TemporaryDirectory(prefix="absentia-methods-") as folder, ThreadPoolExecutor(asked.workers) as pool:
        rows = list(pool.map(lambda job: _trained(*job, asked, encoders, Path(folder)), jobs))
    rows = [row for row in rows if row is not None]
    summary = [s for t in asked.tables for m in asked.methods if (s := _over_seeds(t, m, asked.protocol, rows))]
    name = f"methods-{asked.name or asked.protocol}"
    path = write(name, rows + summary, range(asked.seeds), asked.out)
    for line in summary:
        print(_said(line))
    if not asked.smoke:
        record(f"methods, {asked.protocol} rows", [_said(line) for line in summary], range(asked.seeds), path)


def _trained(
    table: str, method: str, seed: int, asked: argparse.Namespace, encoders: dict[str, str], folder: Path
) -> Row | None:
    """One `absentia mask` (where the protocol wants it) and one `absentia train`, in processes of their own."""
    out = folder / f"{table}-{method}-{seed}"
    try:
        source = _source(table, asked, folder)
    except UserError as error:
        print(f"skipped: {error}")
        return None
    declared = [f for flag in KNOWN[table].modalities for f in ("--modality", with_encoder(flag, encoders))]
    common = [source, *declared, "--target", KNOWN[table].target]
    train = ["train", *common, "--method", method, "--seed", str(seed), "--reference", "false", "--out", str(out)]
    train += ["--training.epochs", epochs_of(method, asked.epochs)]
    train += [part for flag in asked.set for part in ("--" + flag.partition("=")[0], flag.partition("=")[2])]
    if ROWS[asked.protocol]:
        plan = folder / f"{table}-{method}-{seed}.parquet"
        rates = ["--p_incomplete", INCOMPLETE, "--parts", *ROWS[asked.protocol]]
        absentia(["mask", *common, *rates, "--seed", str(seed), "--out", str(plan)])
        train += ["--plan", str(plan)]
    absentia(train)
    row = _row(json.loads((out / "report.json").read_text(encoding="utf-8")), table, method, seed, asked.protocol)
    figures = f"mean {row['mean']:.4f}, worst {row['worst']:.4f}, {row['seconds']:.0f} s"
    print(f"{table} {method} {seed}: {figures}", flush=True)
    return row


def _row(report: Row, table: str, method: str, seed: int, protocol: str) -> Row:
    return {
        "table": table,
        "protocol": protocol,
        "method": method,
        "seed": seed,
        "metric": report["metric"],
        "mean": report["mean"],
        "worst": report["worst"],
        "as_given": report["as_given"]["score"],
        "patterns": {line["pattern"]: line["score"] for line in report["patterns"]},
        "parameters": report["parameters"]["trained"],
        "seconds": report["seconds"]["train"],
        "notes": report["notes"],
        "plan_sha256": report["plan_sha256"],
    }


def _over_seeds(table: str, method: str, protocol: str, rows: Sequence[Row]) -> Row | None:
    mine = [row for row in rows if row["table"] == table and row["method"] == method]
    if not mine:
        return None
    out: Row = {"table": table, "protocol": protocol, "method": method, "metric": mine[0]["metric"]}
    out |= {"seeds": [row["seed"] for row in mine], "seconds": fmean(row["seconds"] for row in mine)}
    for key in ("mean", "worst", "as_given"):
        values = [row[key] for row in mine]
        out |= {key: fmean(values), f"{key}_std": stdev(values) if len(values) > 1 else 0.0}
    names = mine[0]["patterns"]
    return out | {"patterns": {name: fmean(row["patterns"][name] for row in mine) for name in names}}


def _said(line: Row) -> str:
    scale, digits = (100, 1) if line["metric"] != "mae" else (1, 0)
    parts = (
        f"{key.replace('_', ' ')} {line[key] * scale:.{digits}f} +- {line[key + '_std'] * scale:.{digits}f}"
        for key in ("mean", "worst", "as_given")
    )
    return f"{line['table']} {line['method']}: " + ", ".join(parts)


def _source(table: str, asked: argparse.Namespace, folder: Path) -> str:
    """What to write for a table on the command line."""
    if table == "glyphs":
        return table
    if table == SMOKE:
        path = folder / "smoke.parquet"
        if not path.exists():
            import pyarrow.parquet as pq

            pq.write_table(next(open_known(table, None).chunks(10_000)), path)
        return str(path)
    where = data_folder(asked.data)
    if where is None or not (where / table / "table.parquet").is_file():
        raise UserError(f"{table}: say --data FOLDER or set ABSENTIA_DATA, where {table}/table.parquet is")
    return str(where / table / "table.parquet")


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=["glyphs"], choices=list(KNOWN))
    parser.add_argument("--protocol", default="training", choices=list(ROWS))
    parser.add_argument("--methods", nargs="+", default=["ignore", "dropout", "dedicated"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="trainings at once, a thread each")
    parser.add_argument("--epochs", type=float, default=6.0, help="of each training")
    parser.add_argument("--set", nargs="*", default=[], help="further flags, such as training.lr=1e-3")
    parser.add_argument("--encoder", nargs="*", default=[], help="KIND=FOLDER or MODALITY=FOLDER")
    parser.add_argument("--data", type=Path, help="folder of the measured tables; else ABSENTIA_DATA")
    parser.add_argument("--name", help="ending of the result's name; the protocol by default")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the JSON")
    parser.add_argument("--smoke", action="store_true", help="seconds, on numbers made up here")
    asked = parser.parse_args()
    if asked.smoke:
        asked.tables, asked.methods, asked.seeds, asked.name = [SMOKE], ["ignore", "dropout"], 1, "smoke"
        asked.epochs, asked.set = 1.0, ["model.width=16", "model.depth=1"]
    return asked


if __name__ == "__main__":
    main()
