"""What people would do about absent modalities without us, with scikit-learn alone.

    python benchmarks/simple_peers.py --data FOLDER                        # every known table that is there
    python benchmarks/simple_peers.py --tables mfeat leaves100 --data FOLDER
    python benchmarks/simple_peers.py --tables fashion --data FOLDER --encoder image=FOLDER --encoder text=FOLDER
    python benchmarks/simple_peers.py --smoke                              # seconds, on numbers made up here

Seven of ten rows of every split are incomplete: a mask plan hides modalities so that what remains of those rows
is each proper pattern equally often. On the same masked rows, for each seed of the plan:

  late fusion   one logistic (ridge) regression for each modality, the mean of the answers of those that are present
  trees         gradient-boosted trees on all columns, NaN where a modality is absent
  imputation    training means for what is absent, a column for each modality that says so, one regression
  complete      late fusion and imputation where nothing is hidden, in training nor in test: what the masks cost

Strengths, the way of averaging (probabilities or their logarithms) and the size of leaves are chosen on validation rows.
Pictures are pixels, texts tf-idf, unless --encoder names a pretrained one that makes features of them.

How to read it: `score` is on the test rows as the plan leaves them, `patterns_mean` the mean over all patterns, each on the
test rows that have it, as in a robustness report; the last rows are mean and spread (standard deviation) over seeds.
A number's score is the mean absolute error in its own units: lower is better there.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _features import Part, parts_under, read_parts
from _peers import PEERS, Imputation, LateFusion, Peer
from _results import RESULTS, record, write
from _tables import KNOWN, SMOKE, data_folder, open_known, schema_of

from absentia.data.absence import MaskPlan
from absentia.data.absence_rules import Rule
from absentia.errors import UserError
from absentia.evaluate.metrics import main_metric, score
from absentia.evaluate.patterns import chosen_patterns
from absentia.learn.prepare import Prepared, prepare

COMPLETE: tuple[type[Peer], ...] = (LateFusion, Imputation)


def measure(name: str, folder: Path | None, encoders: Mapping[str, str], asked: argparse.Namespace) -> list[dict[str, Any]]:
    """All peers on one table, for every seed: one row each, then their means."""
    table = open_known(name, folder)
    data = prepare(table, schema_of(KNOWN[name], table, encoders), plan=None, on_bad="error")
    if data.fitted.codec.target.kind == "labels":
        raise UserError(f"{name}: several labels are nothing that these peers can do")
    parts = read_parts(data)
    about = {"table": name, "features": {m: k.encoder is not None for m, k in data.fitted.schema.modalities.items()}}
    everything = {split: part.presence for split, part in parts.items()}
    rows = list(_scored(COMPLETE, data, parts_under(parts, everything), 0, patterns=False, prefix="complete, "))
    for seed in asked.seeds:
        plan = _plan(data, asked.p_incomplete, seed)
        kept = {split: plan.apply(part.ids, part.presence, split) for split, part in parts.items()}
        rows += _scored(PEERS, data, parts_under(parts, kept), seed, patterns=True)
    rows = [about | {"metric": main_metric(data.fitted.codec)} | row for row in rows]
    return rows + list(_means(rows))


def _plan(data: Prepared, p_incomplete: float, seed: int) -> MaskPlan:
    named = [(split, i) for split, rows in data.rows.items() for i in rows.ids]
    rule = Rule(p_incomplete=p_incomplete)
    return MaskPlan.draw(
        modalities=data.names,
        splits=[split for split, _ in named],
        ids=[i for _, i in named],
        rules=dict.fromkeys({split for split, _ in named}, rule),
        seed=seed,
    )


def _scored(
    peers: Sequence[type[Peer]], data: Prepared, parts: Mapping[str, Part], seed: int, *, patterns: bool, prefix: str = ""
) -> Iterator[dict[str, Any]]:
    shown = {split: _with_something(part) for split, part in parts.items()}
    for kind in peers:
        started = time.monotonic()
        peer = kind(data.fitted.codec, seed).fit(shown["train"], shown["val"])
        given = _score(peer, parts["test"], data)
        each = _by_pattern(peer, parts["test"], data) if patterns else []
        row = {"peer": prefix + kind.name, "seed": seed, **given, "patterns_mean": float(np.mean(each)) if each else None}
        yield row | {"seconds": round(time.monotonic() - started, 2)}
        print(f"  {row['peer']:<24} seed {seed}  {row['score']:10.4f}  {time.monotonic() - started:6.1f} s", flush=True)


def _with_something(part: Part) -> Part:
    """The rows that have anything; nothing can be learned from others."""
    chosen = np.flatnonzero(part.presence.any(axis=1))
    x = {name: matrix[chosen] for name, matrix in part.x.items()}
    return Part(x=x, presence=part.presence[chosen], y=part.y[chosen], ids=[part.ids[i] for i in chosen])


def _score(peer: Peer, part: Part, data: Prepared) -> dict[str, Any]:
    found = score(peer.answer(part), part.y, part.ids, data.fitted.codec, interval=False)
    return {"score": found.score, "n": len(part.y), "metrics": found.metrics}


def _by_pattern(peer: Peer, part: Part, data: Prepared) -> list[float]:
    patterns = chosen_patterns(data.names, (), part.presence)
    shown = [part.under(pattern) for pattern in patterns]
    return [float(_score(peer, each, data)["score"]) for each in shown if len(each.y)]


def _means(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for peer in dict.fromkeys(row["peer"] for row in rows):
        mine = [row for row in rows if row["peer"] == peer]
        summary = {key: mine[0][key] for key in ("table", "features", "metric")} | {"peer": peer, "seeds": len(mine)}
        for key in ("score", "patterns_mean"):
            values = [row[key] for row in mine if row[key] is not None]
            if values:
                spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
                summary |= {key: float(np.mean(values)), f"{key}_spread": spread}
        yield summary


def _said(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The summaries as lines for people."""
    lines = []
    for row in (row for row in rows if "seeds" in row):
        scale, unit = (1, "") if row["metric"] == "mae" else (100, " %")
        spread = f" ± {scale * row['score_spread']:.1f}" if row.get("score_spread") is not None else ""
        mean = f", over patterns {scale * row['patterns_mean']:.1f}" if "patterns_mean" in row else ""
        lines.append(f"{row['table']}: {row['peer']} {scale * row['score']:.1f}{spread}{unit}{mean}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="Absent modalities with scikit-learn alone.")
    parser.add_argument("--tables", nargs="+", default=[name for name in KNOWN if name != SMOKE], help="known by name")
    parser.add_argument("--data", type=Path, help="folder of NAME/table.parquet; else the variable ABSENTIA_DATA")
    parser.add_argument("--encoder", action="append", default=[], metavar="NAME=FOLDER", help="of a modality or a kind")
    parser.add_argument("--p-incomplete", type=float, default=0.7)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--smoke", action="store_true", help="a made-up table and one seed, to see that it runs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON")
    parser.add_argument("--name", default="simple_peers", help="of the JSON")
    parser.add_argument("--record", action="store_true", help="a line in the ledger")
    asked = parser.parse_args()
    if asked.smoke:
        asked.tables, asked.seeds = [SMOKE], [0]
    encoders = dict(flag.split("=", 1) for flag in asked.encoder)
    rows: list[dict[str, Any]] = []
    for name in asked.tables:
        print(name, flush=True)
        try:
            rows += measure(name, data_folder(asked.data), encoders, asked)
        except UserError as error:
            print(f"  passed over: {error}", file=sys.stderr, flush=True)
    print("\n".join(_said(rows)))
    path = write(asked.name, rows, asked.seeds, asked.out)
    print(path)
    if asked.record and rows:
        record("scikit-learn peers, 70 % of rows incomplete", _said(rows), asked.seeds, path)


if __name__ == "__main__":
    main()
