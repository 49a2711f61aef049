"""What adapters cost: forward and training step of a network of ViT-B size, beside the network without them.

    python benchmarks/modulation.py            # ViT-B size with random weights, batch 8; some minutes on one core
    python benchmarks/modulation.py --smoke    # seconds, on a tiny network

The network has four modalities (strips of a picture, 49 patches each, an embedding of their own) and 12 layers of width
768 that are not ours. Adapters are scale and shift after every linear layer, norm and convolution.

Forward, without gradients, eight rows:
  plain    the network with zeros where modalities are absent
  one      one pattern for all rows, adapters beside the weights
  merged   the same pattern in the weights
  mixed    eight patterns, one for each row, in one pass
  grouped  the same eight rows, pattern by pattern

The same in a network of width 64, 4 layers and 16 tokens, where a pass costs more than its arithmetic.

Training step, forward and backward and AdamW, the same eight rows:
  plain    the whole network learns
  one, mixed, grouped  adapters learn
  peft     LoRA of rank 4 on the linear layers, by peft, one pattern

How to read it: `speedup` is the median CPU time of `plain` over that of the variant; variants take turns in one run.
Expected: forward `one` at least 0.91 (1.10 times the time), `merged` 1.00, `mixed` at most 1.10 times `one` and 1.4
times as fast as `grouped`; a training step at least 1.33 (0.75 times the time).
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import torch
from _results import RESULTS, record, write
from _turns import Call, take_turns
from torch import Tensor, nn
from torch.nn import functional as F

from absentia.adaptation import Adapted, adapt

STRIPS = ("north", "east", "south", "west")
ROWS = torch.tensor(
    [[1, 1, 1, 0], [1, 1, 0, 1], [1, 0, 1, 1], [0, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, 0], [0, 0, 0, 1]]
).bool()
ONE = "north+east+south"


class Layer(nn.Module):
    """One pre-LN layer of a vision transformer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D)"""
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))  # type: ignore[no-any-return]


class Strips(nn.Module):
    """A vision transformer over the patches of four strips."""

    def __init__(self, width: int, depth: int, heads: int, patches: int, classes: int = 100) -> None:
        super().__init__()
        self.embed = nn.ModuleDict({name: nn.Conv2d(3, width, 16, 16) for name in STRIPS})
        self.place = nn.Parameter(torch.randn(4 * patches, width) * 0.02)
        self.layers = nn.Sequential(*(Layer(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, north: Tensor, east: Tensor, south: Tensor, west: Tensor) -> Tensor:
        """(B, 3, h, w) each to (B, K)."""
        strips = dict(zip(STRIPS, (north, east, south, west), strict=True))
        tokens = [self.embed[name](x).flatten(2).mT for name, x in strips.items()]
        return self.head(self.norm(self.layers(torch.cat(tokens, dim=1) + self.place)).mean(dim=1))  # type: ignore[no-any-return]


def main() -> None:
    """Forward, training step and sizes."""
    asked = _asked()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(asked.seed)
    small = _adapted(Strips(64, 4, 4, 4), _rows(32))
    net, rows = small if asked.smoke else _adapted(Strips(768, 12, 12, 49), _rows(112))
    lines = take_turns("forward", _forward(net, rows), asked.repeats)
    lines += take_turns("forward, width 64", _forward(*small), 10 * asked.repeats)
    lines += take_turns("training step", _steps(net, rows), asked.repeats)
    lines.append(_sizes(net))
    path = write("modulation", lines, asked.seed, asked.out)
    if asked.record:
        told = [f"{x['case']} {x['variant']}: {x['speedup']:.2f}x" for x in lines if "speedup" in x]
        told += [f"{x['case']}: {x['says']}" for x in lines if "says" in x]
        record("adapters in a network of ViT-B size, batch 8", told, asked.seed, path)


def _adapted(network: nn.Module, rows: list[Tensor]) -> tuple[Adapted, list[Tensor]]:
    """A network with adapters that do something, and rows for it."""
    net = adapt(network, modalities={n: f"embed.{n}" for n in STRIPS}, example=[r[:3] for r in rows], say=None)
    with torch.no_grad():
        for parameter in net.adapters():
            parameter.normal_(0, 0.01)
    return net, rows


def _rows(side: int) -> list[Tensor]:
    """Eight rows of each strip; of 112 pixels and patches of 16 there are 49."""
    return [torch.randn(8, 3, side, side) for _ in STRIPS]


def _forward(net: Adapted, rows: list[Tensor]) -> dict[str, Call]:
    plain = net.merge(ONE)
    zeros = [*rows[:3], torch.zeros_like(rows[3])]

    def run(what: Any, inputs: list[Tensor], present: Any = None, mixing: Any = "auto") -> Call:
        def call() -> None:
            net.mixing = mixing
            with torch.no_grad():
                if present is None:
                    what(*inputs)
                else:
                    with net.present(present):
                        what(*inputs)

        return call

    return {
        "plain": run(net.network, zeros),
        "one": run(net, rows, ONE),
        "merged": run(plain, zeros),
        "mixed": run(net, rows, ROWS),
        "grouped": run(net, rows, ROWS, "group"),
    }


def _steps(net: Adapted, rows: list[Tensor]) -> dict[str, Call]:
    target = torch.randint(100, (8,))
    zeros = [*rows[:3], torch.zeros_like(rows[3])]
    whole = copy.deepcopy(net.network).requires_grad_(True).train()

    def step(what: nn.Module, inputs: list[Tensor], present: Any = None, mixing: Any = "auto") -> Call:
        optimizer = torch.optim.AdamW([p for p in what.parameters() if p.requires_grad], lr=1e-5)

        def call() -> None:
            net.mixing = mixing
            if present is None:
                loss = F.cross_entropy(what(*inputs), target)
            else:
                with net.present(present):
                    loss = F.cross_entropy(what(*inputs), target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        return call

    calls = {
        "plain": step(whole, zeros),
        "one": step(net, rows, ONE),
        "mixed": step(net, rows, ROWS),
        "grouped": step(net, rows, ROWS, "group"),
    }
    lora = _lora(net.network)
    return calls if lora is None else calls | {"peft": step(lora, zeros)}


def _lora(network: nn.Module) -> nn.Module | None:
    """A copy with LoRA by peft; None where peft is not installed."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        return None
    config = LoraConfig(r=4, lora_alpha=4, target_modules=["qkv", "proj", "fc1", "fc2"])
    return get_peft_model(copy.deepcopy(network), config)  # type: ignore[arg-type]


def _sizes(net: Adapted) -> dict[str, Any]:
    """Bytes of a file, by pattern."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        size = net.save(Path(folder) / "adapters", values=False).stat().st_size
    sets, total = len(net.bank.sets), sum(p.numel() for p in net.network.parameters())
    most = max(net.bank.count(number) for number in range(sets))
    return {
        "case": "size",
        "variant": "file",
        "bytes": size,
        "sets": sets,
        "share": most / total,
        "says": f"{size / sets / 2**20:.2f} MiB a pattern in half precision, {100 * most / total:.2f} % of {total:,}",
    }


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a tiny network, to see that it runs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON")
    parser.add_argument("--record", action="store_true", help="a line in the ledger")
    return parser.parse_args()


if __name__ == "__main__":
    main()
