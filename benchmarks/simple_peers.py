"""What people would do about absent modalities without us, with scikit-learn alone.

    python benchmarks/simple_peers.py --data FOLDER                        # every known table that is there
    python benchmarks/simple_peers.py --tables mfeat leaves100 --data FOLDER
    python benchmarks/simple_peers.py --tables fashion --data FOLDER --encoder image=FOLDER --encoder text=FOLDER
    python benchmarks/simple_peers.py --table FILE --modality NAME=KIND[@COLUMN,...] --modality ... --target COLUMN
    python benchmarks/simple_peers.py --smoke                              # seconds, on numbers made up here

Seven of ten rows of every split are incomplete: a mask plan hides modalities so that what remains of those rows
is each proper pattern equally often (the plan of `absentia mask TABLE --p-incomplete 0.7 --seed N`, with the same
hash). On the same masked rows, for each seed of the plan:

  late fusion   one logistic (ridge) regression for each modality, the mean of what those say that are present:
                of the logarithms of their probabilities, or of their numbers
  trees         gradient-boosted trees on all columns, NaN where a modality is absent
  imputation    training means for what is absent, a column for each modality that says so, one regression
  complete      late fusion and imputation where nothing is hidden, in training nor in test: what the masks cost

Strengths and the size and number of trees are chosen on validation rows, never on test rows; nothing is refitted
on both. Pictures are pixels, texts tf-idf, unless --encoder names a pretrained encoder that makes features.

How to read it: `score` is on the test rows as the plan leaves them, `patterns_mean` the mean over all patterns,
each on the test rows that have it, as in a robustness report; the rows with `seeds` are means and spreads
(standard deviations) over them. The score of a number is the mean absolute error in its own units, where lower is
better.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from _features import Part, parts_under, read_parts
from _peers import PEERS, Imputation, LateFusion, Peer
from _results import RESULTS, record, write
from _tables import KNOWN, SMOKE, Declared, data_folder, encoder_folders, open_known, schema_of

from absentia.data.absence import MaskPlan
from absentia.data.absence_rules import Rule
from absentia.data.table import Table, open_table
from absentia.errors import UserError
from absentia.evaluate.metrics import main_metric, score
from absentia.evaluate.patterns import chosen_patterns
from absentia.learn.prepare import Prepared, prepare

COMPLETE: tuple[type[Peer], ...] = (LateFusion, Imputation)
Row = dict[str, Any]


def measure(name: str, table: Table, declared: Declared, asked: argparse.Namespace) -> list[Row]:
    """All peers on one table, for every seed: one row each, then their means."""
    schema = schema_of(declared, table, encoder_folders(asked.encoder, data_folder(asked.data)))
    data = prepare(table, schema, plan=None, on_bad="error")
    if data.fitted.codec.target.kind == "labels":
        raise UserError(f"{name}: several labels are nothing that these peers can do")
    parts = read_parts(data)
    about = {
        "table": "/".join(Path(name).parts[-2:]),
        "metric": main_metric(data.fitted.codec),
        "features": _features(data),
    }
    everything = {split: part.presence for split, part in parts.items()}
    rows = list(_scored(COMPLETE, data, parts_under(parts, everything), 0, "complete, "))
    for seed in asked.seeds:
        plan = _plan(data, schema.names, asked.p_incomplete, seed)
        kept = {split: _kept(plan, part, split) for split, part in parts.items()}
        peers = [PEERS[peer] for peer in asked.peers]
        found = _scored(peers, data, parts_under(parts, kept), seed)
        rows += [row | {"plan_sha256": plan.sha256} for row in found]
    rows = [about | row for row in rows]
    return rows + list(_means(rows))


def _opened(name: str, asked: argparse.Namespace) -> tuple[Table, Declared]:
    if name == asked.table:
        return open_table(name), Declared(asked.modality, asked.target)
    return open_known(name, data_folder(asked.data)), KNOWN[name]


def _features(data: Prepared) -> dict[str, str]:
    """By modality what its numbers are: its kind, or the name of the encoder that made them."""
    kinds = data.fitted.schema.modalities.items()
    return {name: Path(kind.encoder).name if kind.encoder else kind.kind for name, kind in kinds}


def _plan(data: Prepared, names: Sequence[str], p_incomplete: float, seed: int) -> MaskPlan:
    """A plan over all declared modalities, also those that no training row has."""
    named = [(split, i) for split, rows in data.rows.items() for i in rows.ids]
    rule = Rule(p_incomplete=p_incomplete)
    return MaskPlan.draw(
        modalities=names,
        splits=[split for split, _ in named],
        ids=[i for _, i in named],
        rules=dict.fromkeys({split for split, _ in named}, rule),
        seed=seed,
    )


def _kept(plan: MaskPlan, part: Part, split: str) -> npt.NDArray[np.bool_]:
    """What the plan keeps of a part's modalities, bool (N, M)."""
    everything = np.ones((len(part.ids), len(plan.modalities)), dtype=np.bool_)
    return plan.apply(part.ids, everything, split)[:, [plan.modalities.index(name) for name in part.x]]


def _scored(
    peers: Sequence[type[Peer]], data: Prepared, parts: Mapping[str, Part], seed: int, prefix: str = ""
) -> Iterator[Row]:
    shown = {split: _with_something(part) for split, part in parts.items()}
    for kind in peers:
        started = time.monotonic()
        peer = kind(data.fitted.codec, seed).fit(shown["train"], shown["val"])
        row = {"peer": prefix + kind.name, "seed": seed, **_score(peer, parts["test"], data)}
        row["patterns_mean"] = _over_patterns(peer, parts["test"], data)
        row["seconds"] = round(time.monotonic() - started, 2)
        print("  {peer:<24} seed {seed}  {score:10.4f}  {seconds:6.1f} s".format(**row), flush=True)
        yield row


def _with_something(part: Part) -> Part:
    """The rows that have anything; nothing can be learned from others."""
    chosen = np.flatnonzero(part.presence.any(axis=1))
    x = {name: matrix[chosen] for name, matrix in part.x.items()}
    return Part(x=x, presence=part.presence[chosen], y=part.y[chosen], ids=[part.ids[i] for i in chosen])


def _score(peer: Peer, part: Part, data: Prepared) -> Row:
    found = score(peer.answer(part), part.y, part.ids, data.fitted.codec, interval=False)
    return {"score": found.score, "n": len(part.y), "metrics": found.metrics}


def _over_patterns(peer: Peer, part: Part, data: Prepared) -> float:
    shown = (part.under(pattern) for pattern in chosen_patterns(data.names, (), part.presence))
    return float(np.mean([_score(peer, each, data)["score"] for each in shown if len(each.y)]))


def _means(rows: Sequence[Row]) -> Iterator[Row]:
    for peer in dict.fromkeys(row["peer"] for row in rows):
        mine = [row for row in rows if row["peer"] == peer]
        summary = {key: mine[0][key] for key in ("table", "features", "metric")} | {"peer": peer, "seeds": len(mine)}
        for key in ("score", "patterns_mean"):
            values = [row[key] for row in mine]
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
            summary |= {key: float(np.mean(values)), f"{key}_spread": spread}
        each = {key: [row["metrics"][key] for row in mine] for key in mine[0]["metrics"]}
        yield summary | {"metrics": {key: float(np.mean(values)) for key, values in each.items() if None not in values}}


def _said(rows: Sequence[Row]) -> list[str]:
    """The means as lines for people."""
    return [
        f"{row['table']}: {row['peer']} {_number(row, 'score')}, over patterns {_number(row, 'patterns_mean')}"
        + (f", R² {row['metrics']['r2']:.2f}" if "r2" in row["metrics"] else "")
        for row in rows
        if "seeds" in row
    ]


def _number(row: Row, key: str) -> str:
    scale = 1 if row["metric"] == "mae" else 100
    spread = row[f"{key}_spread"]
    return f"{scale * row[key]:.1f}" + (f" ± {scale * spread:.1f}" if spread is not None else "")


def main() -> None:
    parser = argparse.ArgumentParser(description="Absent modalities with scikit-learn alone.")
    parser.add_argument("--tables", nargs="+", default=[name for name in KNOWN if name != SMOKE], help="known by name")
    parser.add_argument("--table", help="any other table: a file, a folder or a hub name")
    parser.add_argument("--modality", action="append", default=[], metavar="NAME=KIND", help="of --table, repeatable")
    parser.add_argument("--target", help="of --table: COLUMN or COLUMN=class|number|log")
    parser.add_argument("--data", type=Path, help="folder of NAME/table.parquet; else the variable ABSENTIA_DATA")
    parser.add_argument("--encoder", action="append", default=[], metavar="NAME=FOLDER", help="of a modality or a kind")
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=list(PEERS), help="trees are slow")
    parser.add_argument("--p-incomplete", type=float, default=0.7)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--smoke", action="store_true", help="a made-up table and one seed, to see that it runs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON")
    parser.add_argument("--name", default="simple_peers", help="of the JSON")
    parser.add_argument("--record", action="store_true", help="a line in the ledger")
    asked = parser.parse_args()
    if asked.smoke:
        asked.tables, asked.seeds = [SMOKE], [0]
    if asked.table and not (asked.modality and asked.target):
        parser.error("--table needs --modality (one or more) and --target")
    rows: list[Row] = []
    path = write(asked.name, rows, asked.seeds, asked.out)
    for name in [asked.table] if asked.table else asked.tables:
        print(name, flush=True)
        try:
            found = measure(name, *_opened(name, asked), asked)
        except UserError as error:
            print(f"  passed over: {error}", file=sys.stderr, flush=True)
            continue
        rows += found
        path = write(asked.name, rows, asked.seeds, asked.out)  # after each: the next may take long
        print("\n".join(_said(found)), flush=True)
        if asked.record:
            what = f"simple peers, {asked.p_incomplete:.0%} of rows incomplete"
            record(what, _said(found), asked.seeds, path)
    print(path)


if __name__ == "__main__":
    main()
