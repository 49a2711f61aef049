"""Adapters in networks that are not ours: what each kind is worth for every pattern, beside what people would do.

    python benchmarks/adaptation.py --subjects digits glyphs scenes
    python benchmarks/adaptation.py --subjects mfeat gestures_imu fashion --data FOLDER
    python benchmarks/adaptation.py --smoke --subjects scenes

Each subject is a network trained here on complete rows (`_networks.py`). `base` is that network with zeros where a
modality is absent. Every kind of adapter has the same number of passes over the training rows, in each of which a row
shows one pattern; with validation rows a pattern keeps its own best pass. `fine-tuned` and `dedicated` are whole
networks, one for each pattern, with `--whole_epochs` passes on their pattern alone; above four modalities for the
patterns with one modality and with all but one. Test rows are scored once and chose nothing.

How to read it: `mean` and `worst` are over the patterns; `closed` is the share of the drop from the full pattern that
is won back, (mean - base) / (full - base); `ends` is the mean over those patterns that whole networks have. `share` is
what one pattern's adapters hold, of all parameters. `unseen` is for sets of four modalities or more: adapters that
learned half of the patterns, scored on the other half.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from _networks import EPOCHS, SCENES, SUBJECTS, subject
from _results import RESULTS, record, write

from absentia.adaptation import adapt
from absentia.adaptation.scores import score_patterns
from absentia.adaptation.study import Study, Subject, run_study
from absentia.data.schema import pattern_name
from absentia.layers.subsets import all_patterns

KINDS = (
    "base",
    "head-only",
    "bias",
    "shift",
    "norm",
    "scale",
    "scale-shift",
    "low-rank:1",
    "low-rank",
    "compositional",
)
ALL = (*KINDS, "calibrated", "fine-tuned", "dedicated")
PASSES = EPOCHS | {"fashion": 15, "lgg_mri": 20}
VALIDATIONS = {"gestures_imu": 8}  # instead of one after each pass; of 62 patterns each
SHARE = 0.02  # of the parameters of a network under a million, for "scale-shift sparse"
MANY = 4
Row = dict[str, Any]


def main() -> None:
    """Every subject and seed, and their means."""
    asked = _asked()
    torch.set_num_threads(1)
    rows: list[Row] = []
    for name in asked.subjects:
        for seed in range(asked.seeds):
            rows += _studied(name, seed, asked)
            write(asked.name, rows, range(asked.seeds), asked.out)
    summary = [
        _over_seeds(n, r, rows)
        for n in asked.subjects
        for r in dict.fromkeys(x["row"] for x in rows if x["subject"] == n)
    ]
    path = write(asked.name, rows + summary, range(asked.seeds), asked.out)
    for line in summary:
        print(_said(line))
    if asked.record:
        for name in asked.subjects:
            figures = [_said(line) for line in summary if line["subject"] == name]
            record(f"adapters in a network on {name}", figures, range(asked.seeds), path)


def _studied(name: str, seed: int, asked: argparse.Namespace) -> list[Row]:
    made = subject(name, seed, asked.data, asked.work)
    names, many = list(made.modalities), len(made.modalities) >= MANY
    kinds = [r for r in asked.rows if r not in ("fine-tuned", "dedicated")]
    common = {"epochs": asked.passes or PASSES[name], "whole_epochs": asked.whole_epochs or EPOCHS[name], "seed": seed}
    common["validations"] = VALIDATIONS.get(name)
    budget = _budget(made) if "scale-shift" in asked.rows else None
    report = run_study(made, Study(rows=kinds, budget=budget, **common), hear=_hear(name, seed))
    ends = _ends(names) if many else [line["pattern"] for line in report["rows"][0]["patterns"]]
    whole = [r for r in asked.rows if r in ("fine-tuned", "dedicated")]
    if whole:
        report["rows"] += run_study(made, Study(rows=whole, patterns=ends, **common), hear=_hear(name, seed))["rows"]
    rows = [_row(name, seed, report, line, ends) for line in report["rows"]]
    if many and "compositional" in asked.rows:
        rows += _unseen(name, seed, made, common)
    return rows


def _budget(made: Subject) -> float:
    """The share of the channels that keeps scale-shift within `SHARE` of the parameters."""
    net = adapt(made.network, modalities=made.modalities, example=next(iter(made.train))[0], say=None)
    most = max(net.bank.count(number) for number in range(len(net.bank.sets)))
    net.detach()
    return min(1.0, SHARE * sum(p.numel() for p in made.network.parameters()) / most)


def _row(name: str, seed: int, report: Row, line: Row, ends: Sequence[str]) -> Row:
    base = report["rows"][0]["mean"] if report["rows"][0]["row"] == "base" else float("nan")
    scores = {p["pattern"]: p["score"] for p in line["patterns"]}
    full = report["full"]["score"]
    return {
        "subject": name,
        "row": line["row"],
        "seed": seed,
        "full": full,
        "mean": line["mean"] if len(scores) >= len(report["rows"][0]["patterns"]) else None,
        "worst": line["worst"] if len(scores) >= len(report["rows"][0]["patterns"]) else None,
        "ends": fmean(scores[p] for p in ends),
        "closed": (line["mean"] - base) / (full - base) if len(scores) >= len(report["rows"][0]["patterns"]) else None,
        "cosine": line["cosine"],
        "share": line["numbers_per_set"] / report["parameters"],
        "bytes": line["bytes"],
        "seconds": line["seconds"],
        "patterns": scores,
    }


def _unseen(name: str, seed: int, made: Subject, common: Row) -> list[Row]:
    """Adapters that learned every second pattern in a drawn order, on the other half."""
    names = list(made.modalities)
    proper = torch.from_numpy(all_patterns(len(names))[:-1])
    order = torch.randperm(len(proper), generator=torch.Generator().manual_seed(seed))
    seen, unseen = (proper[part.sort().values] for part in order.tensor_split(2))
    words = [pattern_name(names, row) for row in seen.tolist()]
    out = []
    for row, kind, unknown in (
        ("unseen: base", "scale-shift", "base"),
        ("unseen: nearest", "scale-shift", "nearest"),
        ("unseen: compositional", "compositional", "error"),
    ):
        example = next(iter(made.train))[0]
        net = adapt(
            made.network,
            modalities=made.modalities,
            kind=kind,
            patterns=words,
            unknown=unknown,
            example=example,
            say=None,
        )
        if unknown != "base":
            net.fit(
                made.train,
                loss=made.loss,
                validation=made.validation,
                patterns=words,
                epochs=common["epochs"],
                validations=common["validations"],
                seed=seed,
            )
        scores = score_patterns(net, made.test, made.score, unseen, base=unknown == "base")
        net.detach()
        mean = fmean(s.score for s in scores)
        out.append({"subject": name, "row": row, "seed": seed, "mean": mean, "worst": min(s.score for s in scores)})
        print(f"{name} {seed} {row}: {mean:.4f}", flush=True)
    return out


def _ends(names: Sequence[str]) -> list[str]:
    """The patterns with one modality, and with all but one."""
    return [*names, *("+".join(n for n in names if n != gone) for gone in names)]


def _over_seeds(name: str, row: str, rows: Sequence[Row]) -> Row:
    mine = [r for r in rows if r["subject"] == name and r["row"] == row]
    out: Row = {"subject": name, "row": row, "seeds": [r["seed"] for r in mine]}
    for key in ("mean", "worst", "ends", "closed", "cosine", "full", "share", "bytes", "seconds"):
        values = [r[key] for r in mine if r.get(key) is not None]
        if values:
            out |= {key: fmean(values), f"{key}_std": stdev(values) if len(values) > 1 else 0.0}
    return out


def _said(line: Row) -> str:
    parts = [
        f"{key} {100 * line[key]:.1f} ± {100 * line[f'{key}_std']:.1f}"
        for key in ("mean", "worst", "closed", "ends")
        if key in line
    ]
    share = f" ({100 * line['share']:.2f} % of the parameters)" if "share" in line else ""
    return f"{line['subject']} {line['row']}: {', '.join(parts)}{share}"


def _hear(name: str, seed: int) -> Any:
    return lambda line: print(f"{name} {seed} {line}", flush=True) if ": mean " in line else None


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", nargs="+", choices=list(SUBJECTS), help="by default digits and glyphs")
    parser.add_argument("--rows", nargs="+", default=list(ALL), choices=list(ALL))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--passes", type=int, help="over the training rows, for adapters; by default the subject's")
    parser.add_argument("--whole_epochs", type=int, help="of whole networks; by default as many as the network had")
    parser.add_argument("--data", type=Path, help="folder of the measured tables; else ABSENTIA_DATA")
    parser.add_argument("--work", type=Path, default=Path("streams"), help="folder for encoded tables")
    parser.add_argument("--name", default="adaptation", help="of the JSON")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the JSON")
    parser.add_argument("--record", action="store_true", help="a line in the ledger for each subject")
    parser.add_argument("--smoke", action="store_true", help="one pass, one seed, of digits by default")
    asked = parser.parse_args()
    asked.subjects = asked.subjects or (["digits"] if asked.smoke else ["digits", "glyphs"])
    if asked.smoke:
        asked.seeds, asked.passes, asked.whole_epochs = 1, 1, 1
        asked.rows, asked.record = ["base", "scale-shift", "dedicated"], False
        EPOCHS.update(dict.fromkeys(asked.subjects, 2))
        SCENES.update(dict.fromkeys(SCENES, 128))
    return asked


if __name__ == "__main__":
    main()
