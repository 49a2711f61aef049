"""Texts of unlike lengths under a tuned encoder: groups of like length against one padded batch.

    python benchmarks/text_lengths.py            # a BERT of six layers, 256 texts, a few minutes on one core
    python benchmarks/text_lengths.py --smoke    # seconds, on a tiny one

Most texts are short and few are long: lengths are log-normal, at most 512 tokens. A step is forward and backward of the
whole encoder on a batch of random texts, both ways in turn on the same rows and weights.

  together   one batch, padded to its longest text
  alike      groups of like length, each padded to its own longest, as texts run in a training

How to read it: `tokens` are those that went through the encoder over those that are there, `ratio` is the CPU time of
`alike` over that of `together` for the same steps (of repeats the fastest), and `difference` the largest between the
gradients of the first step, beside the largest gradient. A frozen encoder is not here: it reads every text alone, once.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import process_time
from typing import Any

import torch
import transformers
from _results import RESULTS, record, write
from torch import Tensor

from absentia.layers.like_length import LengthGroups
from absentia.models.encoders.pretrained import PretrainedEncoder

SIZES = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6, "intermediate_size": 1536}
TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
WORDS, LONGEST = 1000, 512
MEDIAN, SPREAD = 24, 1.0  # of the lengths; the standard deviation of their logarithm
REPEATS = 3

Inputs = dict[str, Tensor]


class Together(PretrainedEncoder):
    """An encoder that runs padded rows as they come."""

    def groups(self, inputs: Mapping[str, Tensor]) -> LengthGroups | None:
        return None


def main() -> None:
    asked = _asked()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        _make(Path(folder), TINY if asked.smoke else SIZES, asked.seed)
        ways = {"together": Together, "alike": PretrainedEncoder}
        encoders = {name: kind(kind="text", source=folder).eval() for name, kind in ways.items()}
    texts = 32 if asked.smoke else asked.texts
    batches = _batches(texts, asked.batch, asked.seed)
    row = _compared(encoders, batches, 1 if asked.smoke else REPEATS)
    path = write("text_lengths", [{"batch": asked.batch, "texts": texts} | row], asked.seed, asked.out)
    said = [
        f"{row['tokens']['alike']:.2f} tokens computed for each that is there, not {row['tokens']['together']:.2f}",
        f"CPU time {row['ratio']:.2f} of that of one padded batch",
    ]
    print("; ".join(said))
    if asked.record:
        record(f"texts of unlike lengths in batches of {asked.batch}, in groups", said, asked.seed, path)


def _make(folder: Path, sizes: Mapping[str, int], seed: int) -> None:
    torch.manual_seed(seed)
    transformers.utils.logging.disable_progress_bar()
    config = transformers.BertConfig(vocab_size=WORDS, max_position_embeddings=LONGEST, **sizes)
    transformers.BertModel(config).save_pretrained(folder)


def _batches(texts: int, size: int, seed: int) -> list[Inputs]:
    """Random texts in batches, each padded to its longest."""
    draw = torch.Generator().manual_seed(seed)
    spread = (SPREAD * torch.randn(texts, generator=draw)).exp()
    lengths = (MEDIAN * spread).long().clamp(3, LONGEST)
    out = []
    for some in lengths.split(size):
        ids = torch.randint(1, WORDS, (len(some), int(some.max())), generator=draw)
        mask = torch.arange(ids.shape[1]) < some[:, None]
        out.append({"input_ids": ids * mask, "attention_mask": mask.long()})
    return out


def _compared(encoders: Mapping[str, PretrainedEncoder], batches: Sequence[Inputs], repeats: int) -> dict[str, Any]:
    gradients = {name: _gradients(encoder, batches[0]) for name, encoder in encoders.items()}
    seconds = {name: [] for name in encoders}
    for _ in range(repeats):
        for name, encoder in encoders.items():
            begun = process_time()
            for inputs in batches:
                _gradients(encoder, inputs)
            seconds[name].append(process_time() - begun)
    fastest = {name: min(found) for name, found in seconds.items()}
    there = sum(int(inputs["attention_mask"].sum()) for inputs in batches)
    apart = [(one - other).abs().max() for one, other in zip(*gradients.values(), strict=True)]
    return {
        "tokens": {name: _computed(encoder, batches) / there for name, encoder in encoders.items()},
        "ratio": fastest["alike"] / fastest["together"],
        "seconds": fastest,
        "difference": float(max(apart)),
        "largest": float(max(g.abs().max() for g in gradients["together"])),
    }


def _gradients(encoder: PretrainedEncoder, inputs: Inputs) -> list[Tensor]:
    """Of a step; those of parameters that have a say in it."""
    encoder.zero_grad()
    encoder.pooled(**inputs).square().sum().backward()
    return [p.grad.clone() for p in encoder.parameters() if p.grad is not None]


def _computed(encoder: PretrainedEncoder, batches: Sequence[Inputs]) -> int:
    """Tokens that go through an encoder, padding counted."""
    total = 0
    for inputs in batches:
        groups = encoder.groups(inputs)
        parts = [inputs] if groups is None else groups.split(inputs)
        total += sum(part["input_ids"].numel() for part in parts)
    return total


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Texts in groups of like length, beside one padded batch.")
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="32 texts and a tiny encoder, to see that it runs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON")
    parser.add_argument("--record", action="store_true", help="a line in the ledger")
    return parser.parse_args()


if __name__ == "__main__":
    main()
