"""What a step and an answer of RebQ cost: ours beside the released code's way, on the same weights in the same run.

    python benchmarks/rebq_step.py            # ViLT-B/32 size with random weights, 10 to 15 minutes on one core
    python benchmarks/rebq_step.py --smoke    # seconds, on a tiny model

A step is forward, backward and AdamW for four rows, [complete, no text, no image, no text], at 384 pixels and texts of
40 or 256 word pieces; an answer is for [complete, no text, no image, complete]. The queries of the frozen backbone are
kept beside the rows, as in every epoch but the first.

  plain    the released code's way (`_plain_rebq.py`): every row padded through all three passes
  exact    `absent="placeholder"`, `reads="first"`: equal to `plain` in losses and gradients, which is checked
  default  an absent modality is its [CLS] alone
  first    `default` where nothing is kept yet, as in the first epoch
  bf16     `default` under autocast to bfloat16; fast where the processor has instructions for it
  late     `default` in session 20 (three pools with 20 times the components)

How to read it: `speedup` is the median CPU time of `plain` over that of the variant; variants take turns within one
run. `tokens` counts each token once forward and once more if it goes backward. Expected of a step with 40 word pieces:
exact 1.6 or more, default 2.2; with 256: 2.2 and 2.6; of an answer: 3.8 and 5; `late` at most 1.1 times `default`.
`peak_mb` is how much the process grew within the warm-up step, where the system tells.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _plain_rebq import CLS, SEP, Plain, Rows
from _results import RESULTS, record, write
from _turns import Call, take_turns
from transformers import ViltConfig, ViltModel

from absentia.data.batch import Batch
from absentia.data.memo import Memo
from absentia.data.schema import Target
from absentia.data.target import TargetCodec
from absentia.methods.base import Parts, Stage
from absentia.methods.rebq import RebQ
from absentia.models.backbone import FusedBackbone
from absentia.models.vilt import build_vilt

CLASSES, SESSIONS = 10, 20
STEP = ((True, True), (False, True), (True, False), (False, True))
ANSWER = ((True, True), (False, True), (True, False), (True, True))
BASE = ViltConfig(max_position_embeddings=256)
SMALL = ViltConfig(
    hidden_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=128,
    image_size=96,
    vocab_size=100,
    max_position_embeddings=64,
)
PLACEHOLDER = {"absent": "placeholder", "reads": "first"}
STEPS = ("plain", "exact", "default", "first", "bf16")
ANSWERS = ("plain", "exact", "default", "first")


def backbone_of(config: ViltConfig) -> FusedBackbone:
    """Random weights, shared by all variants."""
    vilt = build_vilt(config.to_dict(), ViltModel(config).state_dict(), cls_id=CLS)
    return FusedBackbone(embedders=vilt.embedders, transformer=vilt.transformer)


def method_of(backbone: FusedBackbone, side: int, options: Mapping[str, Any], sessions: int = 1) -> RebQ:
    """A method in its so-manieth session; pictures are `side` pixels wide."""
    ids, white = torch.tensor([[CLS, SEP]]), torch.ones(1, 3, side, side)
    blanks = {"text": {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, "image": {"pixel_values": white}}
    seen = np.ones((1, 2), dtype=np.bool_)
    parts = Parts(("text", "image"), codec_of(1), lambda number=0: backbone, blanks, seen, options=options)
    method = RebQ(parts=parts)
    for session in range(2, sessions + 1):
        method.open_session(codec_of(session))
    return method.train()


def codec_of(sessions: int) -> TargetCodec:
    """The classes of so many sessions."""
    names = tuple(f"{number:03}" for number in range(CLASSES * sessions))
    return TargetCodec(target=Target("y", "class", classes=names), prior=(1 / len(names),) * len(names))


def draw(config: ViltConfig, presence: Sequence[Sequence[bool]], words: int, seed: int) -> Rows:
    """Random rows."""
    own = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, config.vocab_size, (len(presence), words), generator=own)
    ids[:, 0] = CLS
    pixels = torch.randn(len(presence), 3, config.image_size, config.image_size, generator=own)
    target = torch.randint(0, CLASSES, (len(presence),), generator=own)
    return Rows(torch.tensor(presence), ids, pixels, target)


def batch_of(rows: Rows, method: RebQ, *, keep: bool) -> Batch:
    """The rows as our methods take them; with `keep` their queries are there already."""
    ids = rows.input_ids[rows.presence[:, 0]]
    inputs = {
        "text": {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
        "image": {"pixel_values": rows.pixel_values[rows.presence[:, 1]]},
    }
    index = torch.arange(len(rows.target))
    target = rows.target + CLASSES * (len(method.classifier.blocks) - 1)
    batch = Batch(rows.presence, inputs, index, target, Memo(len(index)) if keep else None, index)
    if keep:
        method.prepare(lambda: iter([batch]))
    return batch


def step_of(name: str, method: RebQ, rows: Rows) -> Call:
    """A training step of a variant."""
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=1e-4)
    batch = batch_of(rows, method, keep=name not in ("plain", "first"))

    def call() -> int | None:
        plain = Plain(method)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=name == "bf16"):
            terms = plain.losses(rows) if name == "plain" else method.losses(batch, Stage(), torch.Generator())
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        return plain.tokens

    return call


def answer_of(name: str, method: RebQ, rows: Rows) -> Call:
    """An answer of a variant."""
    batch = batch_of(rows, method, keep=name not in ("plain", "first"))

    @torch.inference_mode()
    def call() -> int | None:
        plain = Plain(method)
        _ = plain.scores(rows) if name == "plain" else method(batch)
        return plain.tokens

    return call


def difference(method: RebQ, rows: Rows) -> float:
    """The largest difference of losses and gradients between a method and its plain rendition, beside the largest."""
    with torch.no_grad():  # a classifier of zeros would give no gradient to the prompts
        for parameter in method.classifier.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    found = []
    batch = batch_of(rows, method, keep=True)
    for terms in (Plain(method).losses(rows), method.losses(batch, Stage(), torch.Generator())):
        method.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        grads = [p.grad.clone() for p in method.parameters() if p.grad is not None]
        found.append([*(term.detach() for term in terms.values()), *grads])
    method.zero_grad()
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(*found, strict=True))


def everything(config: ViltConfig, lengths: Sequence[int], repeats: int, seed: int) -> list[dict[str, Any]]:
    """All cases, the check before them."""
    torch.manual_seed(seed)
    backbone, side = backbone_of(config), config.image_size
    options: dict[str, dict[str, Any]] = {"plain": PLACEHOLDER, "exact": PLACEHOLDER}
    methods = {name: method_of(backbone, side, options.get(name, {})) for name in STEPS}
    started = time.process_time()
    methods["late"] = method_of(backbone, side, {}, SESSIONS)
    opened = time.process_time() - started
    found: list[dict[str, Any]] = []
    short = draw(config, STEP, lengths[0], seed)
    found.append({"case": "check", "difference": difference(method_of(backbone, side, PLACEHOLDER), short)})
    print(f"exact and plain differ by {found[0]['difference']:.1e}; {SESSIONS} sessions open in {opened:.1f} s CPU")
    for words in lengths:
        rows = draw(config, STEP, words, seed)
        names = [*STEPS, "late"] if words == lengths[0] else STEPS
        found += take_turns(f"step, {words} words", {n: step_of(n, methods[n], rows) for n in names}, repeats)
    rows = draw(config, ANSWER, lengths[0], seed)
    answers = {n: answer_of(n, methods[n].eval(), rows) for n in ANSWERS}
    return found + take_turns(f"answer, {lengths[0]} words", answers, repeats)


def said(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """The figures of a line in the ledger."""
    lines = [row for row in found if "variant" in row]
    cases: dict[str, list[str]] = {}
    for row in lines:
        if row["variant"] not in ("plain", "late"):
            cases.setdefault(row["case"], []).append(f"{row['variant']} {row['speedup']:.2f}x")
    late, usual = (next(r["cpu_seconds"] for r in lines if r["variant"] == name) for name in ("late", "default"))
    out = [f"{case}: {', '.join(figures)}" for case, figures in cases.items()]
    return [*out, f"session {SESSIONS} / session 1: {late / usual:.3f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description="A step and an answer of RebQ, ours beside the released code's way.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a tiny model, to see that it runs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON")
    parser.add_argument("--record", action="store_true", help="a line in the ledger")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    config, lengths, repeats = (SMALL, (8, 24), 1) if asked.smoke else (BASE, (40, 256), asked.repeats)
    found = everything(config, lengths, repeats, asked.seed)
    path = write("rebq_step", found, asked.seed, asked.out)
    print(path)
    if asked.record:
        record(
            "a step and an answer of RebQ against the released code's way (ViLT-B/32 size)",
            said(found),
            asked.seed,
            path,
        )


if __name__ == "__main__":
    main()
