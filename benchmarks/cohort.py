"""The universal model on the made-up cohort: contrasts are absent in training, and every subset is asked in the test.

    python benchmarks/cohort.py                          # three seeds, 10 rows each, on planes of 48 x 48
    python benchmarks/cohort.py --rows dropout universal --seeds 1
    python benchmarks/cohort.py --smoke                  # two rows, a few steps
    python benchmarks/cohort.py --people 1 --rows dropout universal universal:template=scalar,imagine=1
                                                         # other people, to choose settings on

Each contrast of each training and validation subject is absent with probability 0.5, drawn once per seed and kept; a
subject always keeps one. All test subjects are asked under all 15 subsets. Every row has the same number of steps
(the universal model's two stages together), the same batch, rate and network, and mirrors rows and varies their
brightness as M3AE does.

  ignore          zeros for what is absent, and nothing is hidden in training
  dropout         modality dropout on top of what is absent
  complete        the same as dropout, but nothing is absent in training: what incomplete training costs at most
  universal       reconstruct, then distil, made for the scenario (defaults)
  reconstruction  the same, answering from reconstructions in place of the learned template
  m3ae            M3AE's settings: template, two copies that agree, no distribution, no hyper-network
  apart           the universal model with a teacher that learns from completed rows and has weights of its own, and
                  is believed by as much as it is nearer to the truth
  no-distribution, no-distillation, no-hyper, no-mark, constant, sliced, adversarial
                  the universal model with this part off, or in this way
  universal:OPTION=VALUE,...
                  the universal model with these options

How to read it: `mean` and `worst` are Dice over the 15 subsets (mean over regions and 40 subjects), in per cent;
`singles` is the mean over the four subsets of one contrast, `full` the Dice with everything there.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from _results import RESULTS, absentia, epochs_of, record, write

from absentia.data.catalog.cohort import CONTRASTS, DECLARATION, build

Row = dict[str, Any]
REGIONS = DECLARATION["masks"]["regions"]
M3AE = (
    "fill=template",
    "template=full",
    "ratio=0.875",
    "whole=0",
    "keep=0",
    "distribution=none",
    "teacher=copy",
    "features=0.1",
    "scores=0",
    "ramp=0",
    "generates=none",
)
ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ignore": ("ignore", ()),
    "dropout": ("dropout", ()),
    "complete": ("dropout", ()),
    "universal": ("universal", ()),
    "reconstruction": ("universal", ("fill=reconstruction",)),
    "m3ae": ("universal", M3AE),
    "apart": ("universal", ("teacher=apart", "selective=true")),
    "no-distribution": ("universal", ("distribution=none",)),
    "no-distillation": ("universal", ("features=0", "scores=0")),
    "no-hyper": ("universal", ("generates=none",)),
    "no-mark": ("universal", ("mark=false",)),
    "constant": ("universal", ("scenario=constant",)),
    "sliced": ("universal", ("distribution=sliced",)),
    "adversarial": ("universal", ("distribution=adversarial",)),
}
USUAL = [name for name in ROWS if name not in ("sliced", "adversarial", "constant")]
VARIED = ("--masks.flips", "true", "--masks.intensity", "0.1")


def main() -> None:
    """All rows of all seeds, and their means."""
    asked = _asked()
    rows: list[Row] = []
    result = f"cohort{asked.name and '-' + asked.name}"
    with tempfile.TemporaryDirectory(prefix="absentia-cohort-") as folder:
        asked.declared = _people(asked, Path(folder)) if asked.people else [asked.table]
        for seed in range(asked.seeds):
            for name in asked.rows:
                rows.append(_trained(name, seed, asked, Path(folder)))
                write(result, rows, range(asked.seeds), asked.out)  # a run that is stopped leaves what it has
                print(_said(rows[-1] | {"seeds": [seed]}), f"({rows[-1]['seconds']:.0f} s)", flush=True)
    summary = [_over_seeds([row for row in rows if row["row"] == name]) for name in asked.rows]
    path = write(result, rows + summary, range(asked.seeds), asked.out)
    print("\n".join(map(_said, summary)))
    if asked.record:
        who = f"{asked.table}{f' of people {asked.people}' if asked.people else ''}"
        what = f"{who}, half of the contrasts absent in training"
        record(what, [_said(line) for line in summary], range(asked.seeds), path)


def _people(asked: argparse.Namespace, folder: Path) -> list[str]:
    """A table of other people as the catalog would build it, and the flags that say what its columns mean."""
    path = folder / f"people-{asked.people}.parquet"
    build(dims=3 if asked.table == "cohort-volumes" else 2, seed=asked.people).to_parquet(path)
    modalities = [word for modality in DECLARATION["modality"] for word in ("--modality", modality)]
    roles = [word for role in ("target", "id", "split") for word in (f"--{role}", DECLARATION[role])]
    return [str(path), *modalities, *roles]


def _options_of(name: str) -> tuple[str, Sequence[str]]:
    """The method and options of a row; of `universal:OPTION=VALUE,...` they stand in its name."""
    method, _, said = name.partition(":")
    return (method, said.split(",")) if said else ROWS[name]


def _trained(name: str, seed: int, asked: argparse.Namespace, folder: Path) -> Row:
    """One `absentia mask` and one `absentia train`, in processes of their own."""
    method, options = _options_of(name)
    plan, out = folder / f"plan-{seed}.parquet", folder / f"{asked.rows.index(name)}-{seed}"
    if not plan.exists():
        rates = [word for contrast in CONTRASTS for word in ("--p_absent", f"{contrast}={asked.rate}")]
        absentia(["mask", *asked.declared, *rates, "--parts", "train", "val", "--seed", str(seed), "--out", str(plan)])
    words = ["train", *asked.declared, "--method", method, "--seed", str(seed), "--reference", "false"]
    words += ["--out", str(out), *(["--masks.regions", json.dumps(REGIONS)] if asked.people else [])]
    words += ["--training.epochs", epochs_of(method, asked.epochs, options), "--training.batch", str(asked.batch)]
    words += ["--training.lr", str(asked.lr), "--training.validations", "8", *VARIED]
    words += [] if name == "complete" else ["--plan", str(plan)]
    words += [part for option in options for part in ("--options." + option.split("=")[0], option.split("=")[1])]
    absentia(words)
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    patterns = {line["pattern"]: line["score"] for line in report["patterns"]}
    regions = {line["pattern"]: line["metrics"] for line in report["patterns"]}
    return {
        "row": name,
        "seed": seed,
        "mean": report["mean"],
        "worst": report["worst"],
        "singles": fmean(patterns[contrast] for contrast in CONTRASTS),
        "full": patterns["+".join(CONTRASTS)],
        "patterns": patterns,
        "regions": regions,
        "parameters": report["parameters"]["trained"],
        "seconds": report["seconds"]["train"],
        "notes": report["notes"],
    }


def _over_seeds(mine: Sequence[Row]) -> Row:
    out: Row = {"row": mine[0]["row"], "seeds": [row["seed"] for row in mine]}
    for key in ("mean", "worst", "singles", "full", "seconds"):
        values = [row[key] for row in mine]
        out |= {key: fmean(values), f"{key}_std": stdev(values) if len(values) > 1 else 0.0}
    return out | {"patterns": {p: fmean(row["patterns"][p] for row in mine) for p in mine[0]["patterns"]}}


def _said(line: Row) -> str:
    parts = [f"{key} {100 * line[key]:.1f} +- {100 * line.get(f'{key}_std', 0.0):.1f}" for key in FIGURES]
    return f"{line['row']}: {', '.join(parts)}"


FIGURES = ("mean", "worst", "singles", "full")


def _row_named(word: str) -> str:
    if word not in ROWS and not word.startswith("universal:"):
        raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(ROWS)} and no universal:OPTION=VALUE")
    return word


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", default="cohort", choices=["cohort", "cohort-volumes"])
    parser.add_argument("--rows", nargs="+", default=USUAL, type=_row_named)
    parser.add_argument("--people", type=int, default=0, help="another number: other people than those of the catalog")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=0.5, help="of absence, of each contrast in training")
    parser.add_argument("--epochs", type=float, default=100.0, help="of 12 steps; of both stages together")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--name", default="", help="ending of the result's name")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the JSON")
    parser.add_argument("--record", action="store_true", help="add a line to the ledger")
    parser.add_argument("--smoke", action="store_true", help="two rows, a few steps")
    asked = parser.parse_args()
    if asked.smoke:
        asked.rows, asked.seeds, asked.epochs, asked.name = ["dropout", "universal"], 1, 0.3, ""
    return asked


if __name__ == "__main__":
    main()
