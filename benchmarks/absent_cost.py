"""What an absent modality costs in training: tokens that do not exist against placeholders that do.

    python benchmarks/absent_cost.py            # ViLT-B/32 size, some minutes on two cores
    python benchmarks/absent_cost.py --small    # seconds, to see that it runs

Seven of ten rows are incomplete, half of them without text, half without image. One step is forward, backward and
AdamW of all parameters, on the same random weights, in alternating order within one run:

  packed        only the tokens that are there
  placeholder   the same model fed a blank image or an empty padded text, every token computed, as dense models do
  transformers  `ViltModel` of that library on the same placeholders, what people would otherwise run

How to read it: `ratio` is the median packed step over the median of the other and should be at most 0.75. The ratio
of tokens is about 0.65; attention shrinks faster than that, AdamW and the word table do not shrink.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from _results import RESULTS, write
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ViltConfig, ViltModel

from absentia.models.fused import Segment
from absentia.models.vilt import Vilt, build_vilt

CLS, SEP, PAD = 1, 2, 0
CLASSES = 20
P_INCOMPLETE = 0.7
BASE = ViltConfig()
SMALL = ViltConfig(
    hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, image_size=96, vocab_size=500
)


class Rows(NamedTuple):
    """A batch in which everything is there, and which of it is in truth absent."""

    presence: Tensor  # bool (B, 2): text, image
    input_ids: Tensor
    pixel_values: Tensor
    target: Tensor


def draw(config: ViltConfig, size: int, seed: int) -> Rows:
    """Random rows; the odd one of the incomplete rows falls to text and image in turn."""
    own = torch.Generator().manual_seed(seed)
    incomplete = torch.randperm(size, generator=own)[: round(P_INCOMPLETE * size)]
    without_text = (len(incomplete) + seed % 2) // 2
    presence = torch.ones(size, 2, dtype=torch.bool)
    presence[incomplete[:without_text], 0] = False
    presence[incomplete[without_text:], 1] = False
    ids = torch.randint(3, config.vocab_size, (size, config.max_position_embeddings), generator=own)
    ids[:, 0] = CLS
    pixels = torch.randn(size, 3, config.image_size, config.image_size, generator=own)
    return Rows(presence, ids, pixels, torch.randint(0, CLASSES, (size,), generator=own))


def with_placeholders(rows: Rows) -> tuple[Tensor, Tensor]:
    """Empty texts and white images where a cell is absent."""
    ids, pixels = rows.input_ids.clone(), rows.pixel_values.clone()
    empty = torch.full_like(ids[0], PAD)
    empty[:2] = torch.tensor([CLS, SEP])
    ids[~rows.presence[:, 0]] = empty
    pixels[~rows.presence[:, 1]] = 1.0
    return ids, pixels


class Ours(nn.Module):
    """The fused transformer with a linear classifier on the mean of the [CLS] outputs that are there."""

    def __init__(self, vilt: Vilt) -> None:
        super().__init__()
        self.parts, self.vilt = vilt.parts(), vilt
        self.head = nn.Linear(vilt.transformer.width, CLASSES)
        self.tokens = 0

    def forward(self, ids: Tensor, pixels: Tensor, presence: Tensor) -> Tensor:
        """Word pieces and pixels of the rows that `presence` (B, 2) says have them -> (B, CLASSES)."""
        text = self.vilt.embedders["text"](ids, torch.ones_like(ids))
        image = self.vilt.embedders["image"](pixels)
        rows = [presence[:, m].nonzero()[:, 0] for m in (0, 1)]
        output = self.vilt.transformer([Segment(*text, rows[0]), Segment(*image, rows[1])], len(presence))
        self.tokens = len(output.packed)
        pooled = torch.zeros(len(presence), output.packed.shape[1])
        for m in (0, 1):
            pooled = pooled.index_add(0, rows[m], output.cls(m))
        return self.head(pooled / presence.sum(1, keepdim=True))  # type: ignore[no-any-return]


class Theirs(nn.Module):
    """`transformers.ViltModel` with a linear classifier; padding is masked, and computed all the same."""

    def __init__(self, model: ViltModel) -> None:
        super().__init__()
        self.model, self.head = model, nn.Linear(model.config.hidden_size, CLASSES)
        self.tokens = 0

    def forward(self, ids: Tensor, pixels: Tensor) -> Tensor:
        """Word pieces and pixels of all rows -> (B, CLASSES)."""
        mask = torch.ones(len(pixels), *pixels.shape[2:])
        output = self.model(input_ids=ids, attention_mask=(ids != PAD).long(), pixel_values=pixels, pixel_mask=mask)
        self.tokens = output.last_hidden_state.shape[:2].numel()
        return self.head(output.last_hidden_state[:, 0])  # type: ignore[no-any-return]


def variants(config: ViltConfig) -> dict[str, Callable[[Rows], tuple[float, float, int]]]:
    """Per variant a training step that says wall seconds, CPU seconds and tokens; inputs are ready before the clock."""
    reference = ViltModel(config)
    ours, theirs = Ours(build_vilt(config.to_dict(), reference.state_dict(), cls_id=CLS)), Theirs(reference)
    step_ours, step_theirs = stepper(ours), stepper(theirs)

    def packed(rows: Rows) -> tuple[float, float, int]:
        text, image = rows.presence.T
        return step_ours((rows.input_ids[text], rows.pixel_values[image], rows.presence), rows.target)

    def placeholder(rows: Rows) -> tuple[float, float, int]:
        return step_ours((*with_placeholders(rows), torch.ones_like(rows.presence)), rows.target)

    def transformers(rows: Rows) -> tuple[float, float, int]:
        return step_theirs(with_placeholders(rows), rows.target)

    return {"packed": packed, "placeholder": placeholder, "transformers": transformers}


def stepper(model: Ours | Theirs) -> Callable[[tuple[Tensor, ...], Tensor], tuple[float, float, int]]:
    """One training step of a model on inputs and target, timed."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step(inputs: tuple[Tensor, ...], target: Tensor) -> tuple[float, float, int]:
        wall, cpu = time.perf_counter(), time.process_time()
        F.cross_entropy(model(*inputs), target).backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - wall, time.process_time() - cpu, model.tokens

    return step


def measure(config: ViltConfig, *, size: int, repeats: int, seed: int) -> list[dict[str, Any]]:
    """A warm-up and `repeats` rounds of all variants on the same rows, each round in the other order."""
    torch.manual_seed(seed)
    steps = variants(config)
    found = []
    for repeat in range(-1, repeats):
        rows = draw(config, size, seed + 1 + repeat)
        for name in list(steps) if repeat % 2 else reversed(steps):
            wall, cpu, tokens = steps[name](rows)
            if repeat >= 0:
                found.append({"repeat": repeat, "variant": name, "seconds": wall, "cpu_seconds": cpu, "tokens": tokens})
                print(f"  {repeat}  {name:<13}{wall:8.3f} s wall {cpu:8.3f} s CPU {tokens:6d} tokens", flush=True)
    return found


def summary(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Packed against the others: the ratio of the median times and of all tokens."""

    def column(name: str, key: str) -> list[float]:
        return [row[key] for row in found if row["variant"] == name]

    def ratio(name: str, key: str) -> float:
        middle = statistics.fmean if key == "tokens" else statistics.median
        return round(middle(column("packed", key)) / middle(column(name, key)), 4)

    return [
        {
            "variant": f"packed / {name}",
            "ratio": ratio(name, "seconds"),
            "cpu_ratio": ratio(name, "cpu_seconds"),
            "tokens_ratio": ratio(name, "tokens"),
        }
        for name in ("placeholder", "transformers")
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Training step with absent modalities, packed against placeholders.")
    parser.add_argument("--small", action="store_true", help="a tiny model, to see that it runs")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    config = SMALL if asked.small else BASE
    found = measure(config, size=asked.batch, repeats=asked.repeats, seed=asked.seed)
    ratios = summary(found)
    for row in ratios:
        print(
            f"{row['variant']:<24} time {row['ratio']:.3f}  CPU {row['cpu_ratio']:.3f}"
            f"  tokens {row['tokens_ratio']:.3f}"
        )
    print(write("absent_cost", [*ratios, *found], asked.seed, asked.out))


if __name__ == "__main__":
    main()
