"""Masks of organs when contrasts are absent: methods side by side, through the command line alone.

    python benchmarks/segmentation.py --tables lgg_mri --data FOLDER
    python benchmarks/segmentation.py --tables ms_lesions --seeds 1 --data FOLDER
    python benchmarks/segmentation.py --smoke

  lgg_mri     866 slices of 110 patients, three contrasts of which some patients truly lack one, a mask of the tumour,
              its own split by patient. Every pattern is tested on the rows that can show it.
  ms_lesions  three patients, four contrasts, 91 x 109 x 91 voxels: leave one patient out, all 15 patterns. Far too few
              for a claim; it shows that volumes go all the way. A training patient stands in for validation.

Every method has the same network, settings and number of steps (the two stages of `universal` together). How to read
it: Dice in %, the slices of a patient as one volume, mean over patients; `mean` and `worst` are over patterns,
`as_given` is on test rows with the holes they came with, `hd95` the mean over patterns in mm (in pixels for lgg_mri).
Rows with `seeds` are means and standard deviations over seeds (and folds).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pandas as pd
from _results import RESULTS, absentia, epochs_of, record, write
from _tables import data_folder

KNOWN: dict[str, list[str]] = {
    "lgg_mri": ["t1_pre", "flair", "t1_post"],
    "ms_lesions": ["t1", "t1post", "t2", "flair"],
    "smoke": ["t1", "flair"],
}
TARGETS = {"lgg_mri": "mask", "ms_lesions": "lesions", "smoke": "mask"}
FLAGS = {
    "lgg_mri": [
        *("training.batch=8", "training.lr=3e-3", "training.validations=6"),
        *("masks.crop=[64]", "masks.around=0.5", "masks.window=[128]"),
    ],
    "ms_lesions": [
        *("training.batch=2", "training.validations=1"),
        *("masks.crop=[48]", "masks.around=0.7", "masks.window=[64]", "masks.overlap=0.25"),
    ],
    "smoke": ["training.batch=4", 'model.network_options={"features": [4, 4, 4, 4, 4, 4]}'],
}
EPOCHS = {"lgg_mri": 12.0, "ms_lesions": 150.0, "smoke": 1.0}
Row = dict[str, Any]


def main() -> None:
    """All trainings that were asked for, one after the other, and their means."""
    asked = _asked()
    rows: list[Row] = []
    result = asked.name or "segmentation"
    with tempfile.TemporaryDirectory(prefix="absentia-segmentation-") as folder:
        for table in asked.tables:
            for seed in range(asked.seeds):
                for fold, source in enumerate(_sources(table, asked, Path(folder))):
                    for method in asked.methods:
                        rows.append(_trained(table, source, method, seed, fold, asked, Path(folder)))
                        write(result, rows, range(asked.seeds), asked.out)  # a run that is stopped leaves what it has
    summary = [_over_seeds(t, m, rows) for t in asked.tables for m in asked.methods if _of(t, m, rows)]
    path = write(result, rows + summary, range(asked.seeds), asked.out)
    for line in summary:
        print(_said(line))
    if asked.record:
        record("masks when contrasts are absent", [_said(line) for line in summary], range(asked.seeds), path)


def _trained(
    table: str, source: Path, method: str, seed: int, fold: int, asked: argparse.Namespace, folder: Path
) -> Row:
    out = folder / f"{table}-{method}-{seed}-{fold}"
    words = ["train", str(source), "--target", f"{TARGETS[table]}=mask", "--id", "patient", "--split", "split"]
    words += [part for name in KNOWN[table] for part in ("--modality", f"{name}=volume")]
    words += ["--method", method, "--seed", str(seed), "--reference", "false", "--out", str(out)]
    flags = [f"training.epochs={epochs_of(method, asked.epochs or EPOCHS[table])}", *FLAGS[table], *asked.set]
    words += [part for flag in flags for part in ("--" + flag.partition("=")[0], flag.partition("=")[2])]
    absentia(words)
    row = _row(json.loads((out / "report.json").read_text(encoding="utf-8")), table, method, seed, fold)
    print(
        f"{table} {method} {seed}/{fold}: mean {row['mean']:.4f}, worst {row['worst']:.4f}, {row['seconds']:.0f} s",
        flush=True,
    )
    return row


def _row(report: Row, table: str, method: str, seed: int, fold: int) -> Row:
    far = [line["metrics"]["hd95"] for line in report["patterns"] if line["metrics"].get("hd95") is not None]
    return {
        "table": table,
        "method": method,
        "seed": seed,
        "fold": fold,
        "metric": report["metric"],
        "mean": report["mean"],
        "worst": report["worst"],
        "as_given": report["as_given"]["score"],
        "hd95": fmean(far) if far else None,
        "patterns": {line["pattern"]: line["score"] for line in report["patterns"]},
        "parameters": report["parameters"]["trained"],
        "seconds": report["seconds"]["train"],
        "notes": report["notes"],
    }


def _of(table: str, method: str, rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["table"] == table and row["method"] == method]


def _over_seeds(table: str, method: str, rows: Sequence[Row]) -> Row:
    mine = _of(table, method, rows)
    out: Row = {"table": table, "method": method, "metric": "dice", "seeds": sorted({row["seed"] for row in mine})}
    for key in ("mean", "worst", "as_given"):
        values = [row[key] for row in mine]
        out |= {key: fmean(values), f"{key}_std": stdev(values) if len(values) > 1 else 0.0}
    names = mine[0]["patterns"]
    return out | {
        "patterns": {name: fmean(row["patterns"][name] for row in mine) for name in names},
        "seconds": fmean(row["seconds"] for row in mine),
    }


def _said(line: Row) -> str:
    parts = (
        f"{key.replace('_', ' ')} {100 * line[key]:.1f} ± {100 * line[key + '_std']:.1f}"
        for key in ("mean", "worst", "as_given")
    )
    return f"{line['table']} {line['method']}: " + ", ".join(parts) + f" ({line['seconds']:.0f} s)"


# ------------------------------------------------------------------------------------------------ the tables


def _sources(table: str, asked: argparse.Namespace, folder: Path) -> list[Path]:
    """The files to train on, one for each fold."""
    if table == "smoke":
        return [_smoke(folder)]
    where = data_folder(asked.data)
    if where is None or not (where / table).is_dir():
        raise SystemExit(f"{table}: say --data FOLDER or set ABSENTIA_DATA, where {table} is")
    if table == "lgg_mri":
        return [where / table / "table.parquet"]
    return _folds(pd.read_csv(where / table / "table.csv"), where / table, folder)[: asked.folds]


def _folds(table: pd.DataFrame, root: Path, folder: Path) -> list[Path]:
    """Each patient is left out once; the first of the others is shown again as validation."""
    files = [*KNOWN["ms_lesions"], TARGETS["ms_lesions"]]
    table[files] = table[files].map(lambda name: str(root / name))
    paths = []
    for patient in table["patient"]:
        rest = table[table["patient"] != patient]
        parts = {"train": rest, "val": rest.head(1), "test": table[table["patient"] == patient]}
        made = pd.concat([part.assign(split=split) for split, part in parts.items()])
        paths.append(folder / f"without_{patient}.csv")
        made.to_csv(paths[-1], index=False)
    return paths


def _smoke(folder: Path) -> Path:
    """Bright squares that only one of two contrasts shows well."""
    draw = np.random.default_rng(0)
    rows = []
    for i in range(24):
        mask = np.zeros((16, 16), dtype=np.int64)
        a, b = draw.integers(0, 10, 2)
        mask[a : a + 6, b : b + 6] = 1
        scans = {name: (draw.integers(1, 40, (16, 16)) + s * mask).tolist() for name, s in (("t1", 30), ("flair", 200))}
        rows.append(
            {"patient": f"p{i}", "split": ("train", "train", "val", "test")[i % 4], **scans, "mask": mask.tolist()}
        )
    path = folder / "smoke.parquet"
    pd.DataFrame(rows).to_parquet(path)
    return path


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=["lgg_mri"], choices=list(KNOWN))
    parser.add_argument("--methods", nargs="+", default=["ignore", "dropout"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=3, help="patients of ms_lesions that are left out")
    parser.add_argument("--set", nargs="*", default=[], help="further flags, such as training.lr=1e-3")
    parser.add_argument("--epochs", type=float, help="of each training, all stages together")
    parser.add_argument("--data", type=Path, help="folder of the measured tables; else ABSENTIA_DATA")
    parser.add_argument("--name", help="of the result; segmentation by default")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the JSON")
    parser.add_argument("--record", action="store_true", help="add a line to the ledger")
    parser.add_argument("--smoke", action="store_true", help="seconds, on squares made up here")
    asked = parser.parse_args()
    if asked.smoke:
        asked.tables, asked.seeds = ["smoke"], 1
    return asked


if __name__ == "__main__":
    main()
