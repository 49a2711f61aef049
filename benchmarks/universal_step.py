"""What a step of the universal model's second stage costs beside one of the plain network, and what masks cost.

    python benchmarks/universal_step.py            # some minutes on one core
    python benchmarks/universal_step.py --smoke    # seconds

A step is forward, backward and AdamW on the same rows, half of whose modalities are absent: `glyphs` (64 rows, picture,
name and properties, the usual transformer) and the cohort (8 planes of 48 x 48 in four contrasts, a small U-Net).

  plain        modality dropout: the network once
  universal    a student, and a teacher that is its running mean and learns nothing else
  filled       the same, where both answer from what the first stage makes of the rest
  apart        completion by the frozen first stage, a teacher that learns from it, and a student; what is made of rows
               of tokens stands beside them since the first time, as in training
  anew         the same, and it is made again
  student      without a teacher
  imagine      a step of the first stage

How to read it: `times` is the median CPU time of the variant over that of `plain`, variants in turns; expected at most
2.6 of `universal`. `peak_mb` is how much the process grew within the warm-up step. `masks` are drawn for batches of 32
rows of 4 modalities with 512 patches each, at once and by a loop over rows and modalities as M3AE's released code does.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import RESULTS, record, write
from _tables import KNOWN, SMOKE, open_known, schema_of
from _turns import Call, take_turns
from torch import nn

from absentia.config import Model
from absentia.data.batch import Batch
from absentia.data.catalog.cohort import CONTRASTS, subject
from absentia.data.schema import Target
from absentia.data.target import TargetCodec
from absentia.layers.masking import drop_modalities, keep_patches
from absentia.layers.subsets import all_patterns
from absentia.learn.build import build_method, patterns_seen
from absentia.learn.prepare import prepare
from absentia.methods import METHODS, Method, Stage
from absentia.methods.base import Parts
from absentia.models.dense import DenseBackbone

VARIANTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "plain": ("dropout", {}, "main"),
    "universal": ("universal", {}, "answer"),
    "filled": ("universal", {"fill": "reconstruction"}, "answer"),
    "apart": ("universal", {"teacher": "apart"}, "answer"),
    "student": ("universal", {"features": 0.0, "scores": 0.0}, "answer"),
    "imagine": ("universal", {}, "imagine"),
}


def main() -> None:
    """Steps of both kinds, then masks."""
    asked = _asked()
    torch.set_num_threads(asked.threads)
    lines: list[dict[str, Any]] = []
    for case, made in (("tokens", _tokens), ("planes", _planes)):
        lines += take_turns(case, made(asked), asked.repeats)
    for line in lines:
        line["times"] = round(1 / line["speedup"], 3)
    masks = _masks(asked)
    path = write("universal_step", [*lines, masks], 0, asked.out)
    told = [f"{x['case']}, {x['variant']}: {x['times']:.2f} times, {x['peak_mb']} MB" for x in lines]
    told.append(f"masks: {masks['at_once']:,.0f} rows a second at once, {masks['loop']:,.0f} by a loop")
    print("\n".join(told))
    if asked.record:
        record("a step of the universal model beside the plain network's", told, 0, path)


def _tokens(asked: argparse.Namespace) -> Mapping[str, Call]:
    name = SMOKE if asked.smoke else "glyphs"
    table = open_known(name, None)
    data = prepare(table, schema_of(KNOWN[name], table, {}), plan=None, on_bad="error")
    rows = data.rows["train"]
    rows.presence &= _half(len(rows), len(data.names)).numpy()
    batch = rows.batch(np.arange(min(64, len(rows))))
    batch = batch.select(~batch.empty, data.names)

    def method(kind: str, options: Mapping[str, Any]) -> Method:
        seen = patterns_seen(rows.presence)
        return build_method(kind, data.fitted, Model(), seed=0, seen=seen, options=options)

    anew = _step(method("universal", {"teacher": "apart"}), "answer", replace(batch, memo=None))
    steps = {name: _step(method(kind, options), stage, batch) for name, (kind, options, stage) in VARIANTS.items()}
    return steps | {"anew": anew}


def _planes(asked: argparse.Namespace) -> Mapping[str, Call]:
    side = 16 if asked.smoke else 48
    people = [subject(i, side=side) for i in range(8)]
    voxels = {name: np.stack([pictures[name][None] for pictures, _ in people]) for name in CONTRASTS}
    whole = Batch(
        presence=torch.ones(8, 4, dtype=torch.bool),
        inputs={name: {"voxels": torch.from_numpy(x)} for name, x in voxels.items()},
        index=torch.arange(8),
        target=torch.from_numpy(np.stack([labels[None] > 0 for _, labels in people])).float(),
        space=(side, side),
    )
    batch = whole.restrict(_half(8, 4), CONTRASTS)

    def backbone(number: int = 0) -> DenseBackbone:
        torch.manual_seed(number)
        return DenseBackbone(channels=[1] * 4, dims=2)

    def method(kind: str, options: Mapping[str, Any]) -> Method:
        codec = TargetCodec(target=Target(column="lesion", kind="mask", classes=("whole",)), prior=(0.1,))
        blanks = {name: {"voxels": torch.zeros(1, 1, side, side)} for name in CONTRASTS}
        parts = Parts(
            names=CONTRASTS, codec=codec, backbone=backbone, blanks=blanks, seen=all_patterns(4), options=options
        )
        return METHODS[kind](parts=parts)

    return {name: _step(method(kind, options), stage, batch) for name, (kind, options, stage) in VARIANTS.items()}


def _half(rows: int, modalities: int) -> torch.Tensor:
    """Which modalities are there: half of them, and one at least of each row."""
    shown = torch.rand(rows, modalities, generator=torch.Generator().manual_seed(0)) < 0.5
    return shown | (torch.arange(modalities) == torch.arange(rows)[:, None] % modalities)


def _step(method: Method, stage: str, batch: Batch) -> Call:
    """Forward, backward and update; of `universal` the weights are taken up before anything is timed."""
    asked = next((s for s in method.stages() if s.name == stage), Stage())
    learners = [p for p in (asked.learns() if asked.learns else method.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(learners, lr=1e-4, fused=True)
    draw = torch.Generator().manual_seed(0)
    method.train()

    def call() -> None:
        terms = method.losses(batch, asked, draw)
        torch.stack(list(terms.values())).sum().backward()
        nn.utils.clip_grad_norm_(learners, 1.0)
        optimizer.step()
        method.zero_grad(set_to_none=True)

    return call


def _masks(asked: argparse.Namespace) -> dict[str, Any]:
    full = torch.ones(32, 4, dtype=torch.bool)
    draw, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)

    def at_once() -> None:
        keep_patches(full, drop_modalities(full, draw), 512, 0.875, draw)

    def loop() -> None:
        for _ in range(len(full)):
            mask = np.ones((4, 512), dtype=bool)
            gone = rng.choice(4, size=int(rng.integers(4)), replace=False)
            left = [(m, p) for m in range(4) if m not in gone for p in range(512)]
            for m, p in [left[i] for i in rng.permutation(len(left))[:256]]:
                mask[m, p] = False

    rates = {"at_once": _rate(at_once, asked), "loop": _rate(loop, asked)}
    return {"case": "masks", **rates, "times": rates["at_once"] / rates["loop"]}


def _rate(call: Callable[[], None], asked: argparse.Namespace) -> float:
    """Rows a second of CPU time."""
    call()
    start, count = time.process_time(), 3 if asked.smoke else 200
    for _ in range(count):
        call()
    return 32 * count / max(time.process_time() - start, 1e-9)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the JSON")
    parser.add_argument("--record", action="store_true", help="add a line to the ledger")
    parser.add_argument("--smoke", action="store_true", help="seconds, on small inputs")
    asked = parser.parse_args()
    if asked.smoke:
        asked.repeats = 2
    return asked


if __name__ == "__main__":
    main()
