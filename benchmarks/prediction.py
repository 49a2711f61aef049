"""Does a predicted embedding help? Joint-embedding prediction beside what costs less, under one protocol.

    python benchmarks/prediction.py --tables leaves100 --data FOLDER --name leaves100 --record
    python benchmarks/prediction.py --tables fashion --data FOLDER --encoder image=FOLDER text=FOLDER --name fashion
    python benchmarks/prediction.py --tables fashion --vit image --tune biases --encoder text=FOLDER --name tuned
    python benchmarks/prediction.py --tables leaves100 --curve --name leaves100 --record
    python benchmarks/prediction.py --tables leaves100 --branches --name leaves100 --record
    python benchmarks/prediction.py --smoke

Seven of ten rows of every split are incomplete, proper patterns drawn evenly, a new plan for each seed.
`joint-embedding` trains encoders and heads for so many epochs and predictors for half as many. Rows marked "same
encoders" take these encoders and heads and only answer in another way, so nothing but the guess differs:

  joint-embedding   read-only prompts (the source's embedding where there are no layers to read), VICReg, guarded
  guard off         the same guesses everywhere                                               (same encoders)
  present only      late fusion of what is there                                              (same encoders)
  mean              the training rows' mean embedding                                         (same encoders)
  gaussian          the closed form                                                           (same encoders)
  nearest           the embedding of the training row most alike                              (same encoders)
  oracle            the true embedding of what is absent                                      (same encoders)
  pooled            prompts off: predictors read the source's embedding                       (same encoders)
  infonce           a contrast instead of VICReg                                              (same encoders)
  joint             encoders and predictors learn together, for as many steps
  joint, still      the same, and the objective moves no encoder
  present longer    present only, trained for as many steps as joint-embedding has in all
  single-branch     likewise, as many steps

How to read it: `patterns` has the score of each pattern on all test rows, `incomplete` the mean over the incomplete
ones, `as_given` the score on test rows as the plan leaves them. `closed` is (score - present only) / (oracle - present
only), for each pattern where the oracle is half a point better, and over their sum. `worst_difference` is the least of
score - present only over incomplete patterns. `say` is what the guard gave to the guesses of each pattern, 0 where it
switched them off, and `r2` how much of each embedding's variance is explained from each other modality alone, on test
rows. Accuracy; means and standard deviations over the seeds.

With --branches, one branch for all modalities (SBNet and SRMM) stands beside separate branches, `present only` and
dropout, trained on complete rows and on incomplete ones: `everything` is the score of test rows that lack nothing,
`as_given` of those that the plan makes incomplete. `found` has the recall at 1, 5, 10 and the equal error rate of each
modality's rows among those of each other one, on test rows.
With --asks val, all of it is of validation rows, on which settings may be chosen (the guard reads them as well).
With --vit, a small vision transformer is pretrained first on this modality's photos of the training rows, without
labels but with the photos that a plan hides, and is its encoder. With --tune, encoders learn this much: prompts look
into the layers of those that learn.
With --curve, so many of the training and validation rows are complete: 1, 5, 10, 30, 100 %.
"""

from __future__ import annotations

import argparse
import atexit
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import torch
from _prediction import (
    Bench,
    Trained,
    derived,
    explained,
    found_by_each_other,
    prepared,
    say_of_guesses,
    scores_of,
    trained,
)
from _results import RESULTS, record, write
from _tables import KNOWN, SMOKE, data_folder, encoder_folders, open_known, schema_of
from _vit import pretrained_vit

from absentia.config import Model, RunConfig, Training
from absentia.data.schema import modality_from_flag
from absentia.evaluate.gap import shares_closed
from absentia.evaluate.metrics import goodness_sign

INCOMPLETE = 0.7
COMPLETE = (0.01, 0.05, 0.1, 0.3, 1.0)
EPOCHS = {"glyphs": 4.0, "spoken_digits": 10.0, "fashion": 20.0, "leaves100": 60.0, SMOKE: 6.0}
USUAL = 20.0
Row = dict[str, Any]

# Rows that are trained: method, options, and epochs as multiples of those of encoders and heads.
TRAINED: Mapping[str, tuple[str, Mapping[str, Any], float]] = {
    "joint-embedding": ("joint-embedding", {}, 1.0),
    "pooled": ("joint-embedding", {"predictor": "pooled"}, 1.0),
    "infonce": ("joint-embedding", {"objective": "infonce"}, 1.0),
    "joint": ("joint-embedding", {"training": "joint"}, 1.5),
    "joint, still": ("joint-embedding", {"training": "joint", "target_grad": "none"}, 1.5),
    "present longer": ("joint-embedding", {"predictor": "none"}, 1.5),
    "single-branch": ("single-branch", {}, 1.5),
}
# Rows with the encoders and heads of `joint-embedding`.
SAME: Mapping[str, Mapping[str, Any]] = {
    "guard off": {"guard": False},
    "present only": {"predictor": "none"},
    "mean": {"predictor": "mean", "guard": False},
    "gaussian": {"predictor": "gaussian", "guard": False},
    "nearest": {"predictor": "nearest", "guard": False},
}
# One branch and what it is compared with, each for as many steps.
BRANCHES: Mapping[str, tuple[str, Mapping[str, Any], float]] = {
    "one branch": ("single-branch", {}, 1.5),
    "one branch, SBNet": (
        "single-branch",
        {"norm": "batch", "metric": "orthogonal", "scale": 1.0, "dropout": 0.5, "switching": "one", "reads": "tokens"},
        1.5,
    ),
    "one branch, pairs": ("single-branch", {"pairs": 1.0}, 1.5),
    "separate branches": ("single-branch", {"branches": "each"}, 1.5),
    "present only": ("joint-embedding", {"predictor": "none"}, 1.5),
    "dropout": ("dropout", {}, 1.5),
}
LOST = {"complete training rows": 0.0, "incomplete training rows": INCOMPLETE}
CURVE = ("joint-embedding", "guard off", "present only", "gaussian", "nearest", "oracle")
LEAST = 0.005  # a gap that is worth closing


class Case(NamedTuple):
    """taught: share of training and validation rows that are incomplete.  complete: of a curve, its place there."""

    name: str
    taught: float
    complete: float | None = None


def main() -> None:
    """All tables, seeds and rows that were asked for, then means, and a picture of the curve."""
    asked = _asked()
    torch.set_num_threads(1)
    rows: list[Row] = []
    study = "-curve" if asked.curve else "-branches" if asked.branches else ""
    name = f"prediction{study}" + (f"-{asked.name}" if asked.name else "")
    for table in asked.tables:
        for seed in range(asked.seeds):
            for case in _cases(asked):
                rows += _measured(table, seed, case, asked)
                write(name, rows, range(asked.seeds), asked.out)
    summary = list(_over_seeds(rows))
    path = write(name, rows + summary, range(asked.seeds), asked.out)
    for line in summary:
        print(_said(line))
    if asked.curve:
        _plot(summary, path.with_suffix(".png"))
    print(path)
    if asked.record:
        what = {"-curve": "predicted embeddings by complete training rows", "-branches": "one branch and several"}
        where = ", validation rows" if asked.asks == "val" else ""
        title = f"{what.get(study, 'predicted embeddings')}, {', '.join(asked.tables)}{where}"
        record(title, [_said(line) for line in summary], range(asked.seeds), path)


def _cases(asked: argparse.Namespace) -> list[Case]:
    """What training and validation rows are like."""
    if asked.curve:
        return [Case(f"{share:.0%} complete", 1 - share, share) for share in COMPLETE]
    if asked.branches:
        return [Case(name, share) for name, share in LOST.items()]
    return [Case("", INCOMPLETE)]


def _measured(table: str, seed: int, case: Case, asked: argparse.Namespace) -> list[Row]:
    """One row for each way of answering, on one table under one plan."""
    bench = _bench(table, seed, case, asked)
    epochs = asked.epochs or EPOCHS.get(table, USUAL)
    about: Row = {"table": table, "case": case.name, "complete": case.complete, "seed": seed}
    about["plan_sha256"] = bench.data.plan.sha256 if bench.data.plan else None
    rows = []
    made = _branches(bench, epochs, asked.rows) if asked.branches else _methods(bench, epochs, asked.rows)
    for name, one in made:
        patterns, given = scores_of(bench, one.method)
        row = about | {"row": name, "patterns": patterns, "as_given": given, "seconds": one.seconds}
        print(f"{table} {case.name} {seed} {name}: {fmean(patterns.values()):.4f}, {one.seconds} s", flush=True)
        found = found_by_each_other(bench, one.method) if asked.branches else {}
        guessed = {"say": say_of_guesses(bench, one.method), "r2": explained(bench, one.method)}
        rows.append(row | guessed | {"found": found})
    rows = [*rows, *_oracle(rows)]
    sign, reference = goodness_sign(bench.data.fitted.codec), next(r for r in rows if r["row"] == "present only")
    return [_beside(row, reference, sign) for row in rows if row["row"] in asked.rows]


def _branches(bench: Bench, epochs: float, asked: Sequence[str]) -> Iterator[tuple[str, Trained]]:
    for name, (method, options, share) in BRANCHES.items():
        if name in (*asked, "present only"):
            yield name, trained(bench, method, options, epochs * share)


def _bench(table: str, seed: int, case: Case, asked: argparse.Namespace) -> Bench:
    folder = data_folder(asked.data)
    opened = open_known(table, folder)
    encoders = encoder_folders(asked.encoder, folder)
    if asked.vit:
        encoders[asked.vit] = str(_pretrained(table, asked.vit, folder))
    schema = schema_of(KNOWN[table], opened, encoders, asked.tune)
    small = {"width": 16, "depth": 1, "heads": 2} if asked.smoke else {}
    training = Training(validations=asked.validations, patience=None)
    config = RunConfig(table=table, seed=seed, model=Model(**small), training=training)
    return prepared(opened, schema, config, {"train": case.taught, "val": case.taught, "test": INCOMPLETE}, asked.asks)


@cache
def _pretrained(table: str, name: str, data: Path | None) -> Path:
    """One for all seeds, for it reads no labels and no rows but those of training."""
    folder = Path(tempfile.mkdtemp(prefix="absentia-vit-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return pretrained_vit(open_known(table, data), name, folder)


def _methods(bench: Bench, epochs: float, asked: Sequence[str]) -> Iterator[tuple[str, Trained]]:
    """The rows one by one; those with the same encoders behind the one that trained these."""
    first = None
    for name, (method, options, share) in TRAINED.items():
        if name not in asked and name != "joint-embedding":
            continue
        made = trained(bench, method, options, epochs * share, first if share == 1.0 else None)
        yield name, made
        if name == "joint-embedding":
            first = made
            wanted = {other: changed for other, changed in SAME.items() if other in asked or other == "present only"}
            yield from ((other, derived(bench, made, changed)) for other, changed in wanted.items())


def _oracle(rows: Sequence[Row]) -> Iterator[Row]:
    """With the true embedding of what is absent, late fusion says what it says where nothing is."""
    for row in rows:
        if row["row"] == "present only":
            most = _complete(row["patterns"])
            patterns = dict.fromkeys(row["patterns"], row["patterns"][most])
            yield row | {"row": "oracle", "patterns": patterns, "as_given": row["patterns"][most]}


def _complete(patterns: Mapping[str, float]) -> str:
    return max(patterns, key=lambda name: name.count("+"))


def _beside(row: Row, reference: Row, sign: int) -> Row:
    """What is gained over answering from what is present alone, and the share of what there was to gain."""
    most = _complete(row["patterns"])
    plain, best = reference["patterns"], reference["patterns"][most]
    gains = {p: sign * (s - plain[p]) for p, s in row["patterns"].items() if p != most}
    gaps = {p: sign * (best - plain[p]) for p in gains}
    worth = [p for p in gains if gaps[p] >= LEAST]
    closed, in_all = shares_closed(gains, {p: gaps[p] for p in worth})
    return row | {
        "incomplete": fmean(row["patterns"][p] for p in gains),
        "everything": row["patterns"][most],
        "closed": closed,
        "closed_in_all": in_all,
        "worst_difference": min(gains.values()),
    }


def _over_seeds(rows: Sequence[Row]) -> Iterator[Row]:
    keys = dict.fromkeys((row["table"], row["case"], row["row"]) for row in rows)
    for table, case, name in keys:
        mine = [r for r in rows if (r["table"], r["case"], r["row"]) == (table, case, name)]
        out: Row = {"table": table, "case": case, "complete": mine[0]["complete"], "row": name}
        out["seeds"] = [row["seed"] for row in mine]
        for key in ("incomplete", "as_given", "everything", "closed_in_all", "worst_difference", "seconds"):
            values = [row[key] for row in mine if row[key] is not None]
            out[key] = fmean(values) if values else None
            out[f"{key}_std"] = stdev(values) if len(values) > 1 else 0.0
        for key in ("patterns", "closed", "say", "r2", "found"):
            names = dict.fromkeys(n for row in mine for n in row[key])
            out[key] = {n: fmean(row[key][n] for row in mine if n in row[key]) for n in names}
        yield out


def _said(line: Row) -> str:
    name = line["row"] + (f" ({line['case']})" if line["case"] else "")
    parts = [f"incomplete {100 * line['incomplete']:.1f} ± {100 * line['incomplete_std']:.1f}"]
    parts.append(f"as given {100 * line['as_given']:.1f} ± {100 * line['as_given_std']:.1f}")
    parts.append(f"everything {100 * line['everything']:.1f} ± {100 * line['everything_std']:.1f}")
    if line["closed_in_all"] is not None:
        parts.append(f"closed {100 * line['closed_in_all']:.0f} %")
    parts.append(f"worst difference {100 * line['worst_difference']:+.1f}")
    if line["found"]:
        keys = ("recall@1", "recall@10", "eer")
        means = {key: [v for k, v in line["found"].items() if k.endswith(key)] for key in keys}
        parts += [f"{key} {100 * fmean(values):.1f} %" for key, values in means.items() if values]
    return f"{line['table']} {name}: " + ", ".join(parts)


def _plot(summary: Sequence[Row], path: Path) -> None:
    """Over the share of complete training rows: the mean score of incomplete patterns, a picture for each table."""
    from matplotlib.figure import Figure

    tables = list(dict.fromkeys(line["table"] for line in summary))
    figure = Figure(figsize=(5 * len(tables), 4), layout="constrained")
    for axes, table in zip(figure.subplots(1, len(tables), squeeze=False)[0], tables, strict=True):
        for name in dict.fromkeys(line["row"] for line in summary):
            mine = [line for line in summary if (line["table"], line["row"]) == (table, name)]
            x, y = [100 * line["complete"] for line in mine], [100 * line["incomplete"] for line in mine]
            axes.errorbar(x, y, [100 * line["incomplete_std"] for line in mine], label=name, marker="o", capsize=2)
        axes.set(xscale="log", title=table, xlabel="complete training rows, %")
        axes.set_ylabel("accuracy over incomplete patterns, %")
        axes.set_xticks([100 * share for share in COMPLETE], [f"{100 * share:g}" for share in COMPLETE])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=150)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=["glyphs"], choices=list(KNOWN))
    known = [*TRAINED, *SAME, *(name for name in BRANCHES if name not in SAME), "oracle"]
    parser.add_argument("--rows", nargs="+", choices=known, help="all, or with --curve those without more training")
    parser.add_argument("--curve", action="store_true", help="over the share of complete training rows")
    parser.add_argument("--branches", action="store_true", help="one branch for all modalities beside separate ones")
    parser.add_argument("--asks", choices=["test", "val"], default="test", help="on which rows; val to choose settings")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, help="of encoders and heads; by default the table's own")
    parser.add_argument("--validations", type=int, default=8)
    parser.add_argument("--encoder", nargs="*", default=[], help="KIND=FOLDER or MODALITY=FOLDER")
    parser.add_argument("--vit", metavar="MODALITY", help="of photos, whose encoder is pretrained here")
    parser.add_argument("--tune", default=False, help="what of encoders learns: biases, lora, lora:RANK or full")
    parser.add_argument("--data", type=Path, help="folder of the measured tables; else ABSENTIA_DATA")
    parser.add_argument("--name", help="ending of the result's name")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the JSON")
    parser.add_argument("--record", action="store_true", help="a line in the ledger")
    parser.add_argument("--smoke", action="store_true", help="seconds, on numbers made up here")
    asked = parser.parse_args()
    if asked.smoke:
        asked.tables, asked.seeds = [SMOKE], 1
    if asked.curve and asked.branches:
        parser.error("--curve and --branches are two studies; run one after the other")
    for table in asked.tables if asked.vit else ():
        photos = [name for name, kind in map(modality_from_flag, KNOWN[table].modalities) if kind.kind == "image"]
        if asked.vit not in photos:
            parser.error(f"--vit {asked.vit}: the photos of {table} are {', '.join(photos) or 'none'}")
    if asked.tune and not (asked.vit or asked.encoder):
        parser.error("--tune says what of encoders learns: name some with --encoder or --vit")
    study = CURVE if asked.curve else (*BRANCHES, "oracle") if asked.branches else (*TRAINED, *SAME, "oracle")
    asked.rows = asked.rows or list(study)
    return asked


if __name__ == "__main__":
    main()
