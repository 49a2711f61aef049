"""Continual learning with absent modalities: methods side by side on streams, through the command line alone.

    python benchmarks/continual.py --tables glyphs-cmml --rows rebq finetune
    python benchmarks/continual.py --tables fashion leaves100 --data FOLDER --encoder image=FOLDER text=FOLDER
    python benchmarks/continual.py --smoke

For every table a backbone is pretrained once, without labels, on classes that no session has (`absentia pretrain`);
every method starts from it, with the same number of steps. Seven of ten rows of every split are incomplete, proper
patterns drawn evenly, with a new draw of masks and weights for each seed. Test rows are scored after every session
and chose nothing.

How to read it: `average_last` is the mean accuracy over all sessions' test rows after the last session,
`forgetting_first` what a session lost since it was new; means and standard deviations over the seeds. `bytes` is
the size of what the last session keeps. `joint` saw all rows of all sessions at once: the upper bound.
Of `rebq` there is also how far what its head reads of session 0 has moved by the end (`drift`, in the spread of these
features), and `average_held`, the average if every row were read with its own session's prompts: `_drift.py`.
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

from _drift import DRIFT, drift_of
from _results import RESULTS, absentia, record, write
from _streams import STREAMS, Stream, prepared_streams
from _tables import SMOKE, data_folder, encoder_folders

INCOMPLETE = "0.7"
FIGURES = ("average_last", "average_stages", "forgetting_first", "forgetting_max", "last")
FROZEN = ["--model.freeze", "true"]
Row = dict[str, Any]

# What each row of the table is called, and the flags that make it.
ROWS: dict[str, list[str]] = {
    "rebq": ["--method", "rebq", *FROZEN],
    "rebq released": ["--method", "rebq", "--options.variant", "released", *FROZEN],
    "rebq prompts off": ["--method", "rebq", "--options.prompts", "false", *FROZEN],
    "rebq ridge": ["--method", "rebq", "--options.head", "ridge", *FROZEN],
    "rebq gaussian": ["--method", "rebq", "--options.head", "gaussian", *FROZEN],
    "finetune": ["--method", "finetune"],
    "finetune session": ["--method", "finetune", "--options.among", "session"],
    "probe": ["--method", "probe", *FROZEN],
    "prototypes": ["--method", "prototypes", "--options.head", "mean", *FROZEN],
    "ridge": ["--method", "prototypes", "--options.head", "ridge", *FROZEN],
    "gaussian": ["--method", "prototypes", "--options.head", "gaussian", *FROZEN],
    "replay": ["--method", "replay"],
    "ewc": ["--method", "ewc"],
    "lwf": ["--method", "lwf"],
    "l2p": ["--method", "l2p", *FROZEN],
    "dualprompt": ["--method", "dualprompt", *FROZEN],
    "coda": ["--method", "coda", *FROZEN],
    "missing-aware": ["--method", "missing-aware", *FROZEN],
    "modulation": ["--method", "modulation", *FROZEN],
    "joint": ["--method", "joint"],
}

# Parts of RebQ switched on or off, each beside `rebq` as it is.
ABLATIONS: dict[str, list[str]] = {
    "rebq first": ["--options.reads", "first"],
    "rebq several": ["--options.several", "true"],
    "rebq orthogonal": ["--options.orthogonal", "0.1"],
    "rebq softmax": ["--options.selection", "softmax"],
    "rebq top": ["--options.selection", "top"],
    "rebq placeholder": ["--options.absent", "placeholder"],
    "rebq standardised": ["--options.queries", "standardised"],
    "rebq standardised gaussian": ["--options.queries", "standardised", "--options.head", "gaussian"],
    "rebq released gaussian": ["--options.variant", "released", "--options.head", "gaussian"],
}
ROWS |= {name: [*ROWS["rebq"], *flags] for name, flags in ABLATIONS.items()}


def main() -> None:
    """Backbones and streams first, then every training that was asked for, and their means."""
    asked = _asked()
    jobs = [(t, r, s) for t in asked.tables for s in range(asked.seeds) for r in asked.rows]
    encoders = encoder_folders(asked.encoder, data_folder(asked.data))
    asked.work.mkdir(parents=True, exist_ok=True)
    streams = prepared_streams(asked.tables, data_folder(asked.data), asked.work, encoders)
    backbones = {table: _pretrained(stream, asked) for table, stream in streams.items()}
    with ThreadPoolExecutor(asked.workers) as pool:
        rows: list[Row] = []
        for row in pool.map(lambda job: _learned(streams[job[0]], *job[1:], asked, backbones[job[0]]), jobs):
            rows.append(row)
            write(f"continual-{asked.name}", rows, range(asked.seeds), asked.out)  # the next may take long
    summary = [_over_seeds(t, r, rows) for t in asked.tables for r in asked.rows]
    path = write(f"continual-{asked.name}", rows + summary, range(asked.seeds), asked.out)
    for line in summary:
        print(_said(line))
    if asked.record:
        for table in asked.tables:
            figures = [_said(line) for line in summary if line["table"] == table]
            record(f"continual learning on {table}, 70 % of rows incomplete", figures, range(asked.seeds), path)


def _pretrained(stream: Stream, asked: argparse.Namespace) -> str | None:
    """The backbone of a stream, made once from rows whose classes no session has; None without such rows."""
    if stream.pretrain is None:
        return None
    out = asked.work / f"{stream.name}-backbone"
    if not (out / "config.json").exists():
        flags = [word for flag in stream.modality for word in ("--modality", flag)]
        absentia(["pretrain", stream.pretrain, *flags, *asked.pretraining, "--out", str(out)])
    return str(out)


def _learned(stream: Stream, label: str, seed: int, asked: argparse.Namespace, backbone: str | None) -> Row:
    """One `absentia mask` and one `absentia learn`, in processes of their own."""
    with tempfile.TemporaryDirectory(prefix="absentia-continual-") as folder:
        out, plan = Path(folder) / "run", Path(folder) / "plan.parquet"
        flags = [word for flag in stream.modality for word in ("--modality", flag)]
        common = [*flags, "--target", stream.target, "--id", "id", "--split", "split", "--seed", str(seed)]
        absentia(["mask", stream.table, *common, "--p_incomplete", INCOMPLETE, "--out", str(plan)])
        settings = [part for flag in asked.set for part in ("--" + flag.partition("=")[0], flag.partition("=")[2])]
        start = ["--model.backbone", backbone] if backbone else []
        words = ROWS[label] if backbone else [w for w in ROWS[label] if w not in FROZEN]
        absentia(
            [
                "learn",
                str(out),
                stream.table,
                *common,
                "--by",
                "session",
                "--plan",
                str(plan),
                *start,
                *words,
                *settings,
            ]
        )
        row = _row(json.loads((out / "report.json").read_text(encoding="utf-8")), stream.name, label, seed)
        row |= drift_of(out)
    print(f"{stream.name} {label} {seed}: " + ", ".join(f"{k} {row[k]:.4f}" for k in FIGURES), flush=True)
    return row


def _row(report: Row, table: str, label: str, seed: int) -> Row:
    sessions = report["sessions"]
    return {
        "table": table,
        "row": label,
        "seed": seed,
        **{key: report[key] for key in FIGURES},
        "matrix": report["matrix"],
        "by_pattern": {name: figures["average_last"] for name, figures in report["by_pattern_summary"].items()},
        "seconds": sum(session["seconds"] for session in sessions),
        "bytes": sessions[-1]["bytes"],
        "trained": report["parameters"]["trained"],
        "plan_sha256": report["plan_sha256"],
        "queries": {one["modality"]: [one["fit"], one["fit_shuffled"]] for one in report.get("queries", [])},
    }


def _over_seeds(table: str, label: str, rows: Sequence[Row]) -> Row:
    mine = [row for row in rows if row["table"] == table and row["row"] == label]
    out: Row = {"table": table, "row": label, "seeds": [row["seed"] for row in mine]}
    for key in (*FIGURES, *(key for key in DRIFT if key in mine[0]), "seconds", "bytes"):
        values = [row[key] for row in mine]
        out |= {key: fmean(values), f"{key}_std": stdev(values) if len(values) > 1 else 0.0}
    names = mine[0]["by_pattern"]
    return out | {"by_pattern": {name: fmean(row["by_pattern"][name] for row in mine) for name in names}}


def _said(line: Row) -> str:
    figures = ("average_last", "forgetting_first", "average_stages")
    parts = (f"{key} {100 * line[key]:.1f} ± {100 * line[f'{key}_std']:.1f}" for key in figures)
    held = f", held {100 * line['average_held']:.1f}, drift {line['drift']:.2f}" if "drift" in line else ""
    return f"{line['row']}: {', '.join(parts)}{held} ({line['seconds']:.0f} s)"


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=["glyphs-cmml"], choices=list(STREAMS))
    parser.add_argument("--rows", nargs="+", default=[r for r in ROWS if r not in ABLATIONS], choices=list(ROWS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="trainings at once, a thread each")
    parser.add_argument("--set", nargs="*", default=[], help="further flags of learn, such as training.epochs=8")
    parser.add_argument("--pretraining", nargs="*", default=[], help="further flags of pretrain")
    parser.add_argument("--encoder", nargs="*", default=[], help="KIND=FOLDER or MODALITY=FOLDER")
    parser.add_argument("--data", type=Path, help="folder of the measured tables; else ABSENTIA_DATA")
    parser.add_argument("--work", type=Path, default=Path("streams"), help="folder for streams and backbones")
    parser.add_argument("--name", default="streams", help="ending of the result's name")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the JSON")
    parser.add_argument("--record", action="store_true", help="a line in the ledger for each table")
    parser.add_argument("--smoke", action="store_true", help="seconds, on numbers made up here")
    asked = parser.parse_args()
    if asked.smoke:
        asked.tables, asked.rows, asked.seeds, asked.name = [SMOKE], ["rebq", "finetune"], 1, "smoke"
        asked.set = ["training.epochs=1"]
        asked.pretraining = ["--training.epochs", "1", "--model.width", "16", "--model.depth", "1"]
    return asked


if __name__ == "__main__":
    main()
