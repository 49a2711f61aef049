"""Read-only prompts beside a frozen encoder: as a narrow second stream, and as the masked pass of tokens and prompts.

    python benchmarks/side_stream.py            # a ViT-B-size encoder, 197 and 512 tokens, 16 prompts; some minutes
    python benchmarks/side_stream.py --smoke    # seconds, on a tiny one

A training step is forward and backward of prompts alone, the encoder frozen, on the same rows and weights.

  masked   tokens and prompts as one sequence under a mask that hides prompts from all
  side     the tokens alone, without gradients; the prompts read each layer's keys and values

How to read it: `time` and `saved` are those of `side` over those of `masked`, the median CPU time of repeats in turn,
and the bytes of activations that autograd keeps for the backward pass. Expected: at most 0.6 and 0.35. `difference` is
the largest between the gradients of the prompts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import torch
from _results import RESULTS, record, write
from torch import Tensor, nn

from absentia.layers.packing import Segment
from absentia.layers.side_stream import KeysValues, SideLayer, heard, side_layers, side_stream
from absentia.models.fused import FusedTransformer

SIZES = {"width": 768, "depth": 12, "heads": 12, "mlp": 3072}
TINY = {"width": 32, "depth": 2, "heads": 2, "mlp": 64}


def main() -> None:
    """Both ways at every number of tokens."""
    asked = _asked()
    torch.set_num_threads(asked.threads)
    lines = [_compared(count, asked) for count in ((9, 17) if asked.smoke else (197, 512))]
    path = write("side_stream", lines, asked.seed, asked.out)
    told = [f"{x['tokens']} tokens: time {x['time']:.2f}, saved {x['saved']:.2f}" for x in lines]
    print("\n".join(told))
    if asked.record:
        record("a step of read-only prompts, side stream over masked pass", told, asked.seed, path)


def _compared(count: int, asked: argparse.Namespace) -> dict[str, Any]:
    torch.manual_seed(asked.seed)
    model = FusedTransformer(**(TINY if asked.smoke else SIZES)).requires_grad_(False).eval()
    layers = side_layers(model)
    assert layers is not None
    tokens = torch.randn(asked.batch, count, model.width)
    prompts = (0.02 * torch.randn(asked.prompts, model.width)).requires_grad_()
    calls = {
        "masked": lambda: _masked(layers, tokens, prompts),
        "side": lambda: _side(model, layers, tokens, prompts),
    }
    gradients = {name: torch.autograd.grad(call().square().sum(), prompts)[0] for name, call in calls.items()}
    saved = {name: _saved(call, model) for name, call in calls.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(asked.repeats):
        for name, call in calls.items():
            start = process_time()
            torch.autograd.grad(call().square().sum(), prompts)
            seconds[name].append(process_time() - start)
    medians = {name: median(values) for name, values in seconds.items()}
    return {
        "tokens": count,
        "prompts": asked.prompts,
        "batch": asked.batch,
        "time": medians["side"] / medians["masked"],
        "saved": saved["side"] / saved["masked"],
        "seconds": medians,
        "saved_mb": {name: size / 2**20 for name, size in saved.items()},
        "difference": float((gradients["side"] - gradients["masked"]).abs().max()),
    }


def _masked(layers: list[SideLayer], tokens: Tensor, prompts: Tensor) -> Tensor:
    """(B, K, D)"""
    n, count, _ = tokens.shape
    x = torch.cat([tokens, prompts.expand(n, -1, -1)], dim=1)
    mask = torch.zeros(x.shape[1], x.shape[1])
    mask[:, count:] = -torch.inf
    for layer in layers:
        h = layer.norm1(x)
        q, k, v = (p(h).unflatten(2, (layer.heads, -1)).transpose(1, 2) for p in (layer.query, layer.key, layer.value))
        read = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + layer.out(read.transpose(1, 2).flatten(2))
        x = x + layer.mlp(layer.norm2(x))
    return x[:, count:]


def _side(model: FusedTransformer, layers: list[SideLayer], tokens: Tensor, prompts: Tensor) -> Tensor:
    """(B, K, D)"""
    n, count, _ = tokens.shape
    valid = torch.ones(n, count, dtype=torch.bool)
    with torch.no_grad(), heard(layers) as found:
        model([Segment(tokens, valid, torch.arange(n))], n, rows="cls")
    split = [[part.view(n, count, model.heads, -1).transpose(1, 2) for part in pair] for pair in found]
    return side_stream(layers, [KeysValues(*pair) for pair in split], prompts)


def _saved(call: Callable[[], Tensor], model: nn.Module) -> int:
    """Bytes that autograd keeps, every storage once and without the model's own."""
    kept: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        made = call()
    assert made.requires_grad
    return sum(kept.values())


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a tiny encoder, to see that it runs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON")
    parser.add_argument("--record", action="store_true", help="a line in the ledger")
    return parser.parse_args()


if __name__ == "__main__":
    main()
