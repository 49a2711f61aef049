"""Where adapters fail silently: cases that are hard to adapt, as peft has them today and as `absentia.adapt` has them.

    python benchmarks/peft_today.py            # some seconds
    python benchmarks/peft_today.py --smoke    # the same

Every case has random numbers in its adapters and compares two answers that ought to be the same:

  fused kernel     in eval mode without gradients, and with torch's fused encoder layer switched off
  rows, training   rows with adapters of their own in training mode, and each kind of row alone (LoRA)
  rows, scales     the same in eval mode, with scales (IA3)
  windows          the same where two windows of each row are folded into the batch (LoRA)
  batch norm       the network before training, and afterwards with adapters off
  weight read      the merged network and the one with adapters, where a weight is read by its layer and elsewhere
  other weights    a file on a network of the same shape with other weights, which ought to be refused

How to read it: `says` is "right", "wrong by ..." with nothing said about it, or "refused: ..." with the message. A
refusal is never silent.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from _results import RESULTS, record, write
from torch import Tensor, nn

from absentia.adaptation import Adapted, adapt
from absentia.errors import UserError

SAME = 1e-5
ROWS = torch.tensor([[True, False], [True, True]] * 2)
Case = Callable[[], float]


class Fused(nn.Module):
    """A token of each input, and an encoder layer that torch may fuse."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(B, 8) each to (B, 8)."""
        return self.encoder(torch.stack([a, b], dim=1)).mean(dim=1)  # type: ignore[no-any-return]


class Windows(nn.Module):
    """Two windows of each row side by side in the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(B, 8) each to (B, 8)."""
        return self.linear((a + b).view(-1, 4)).tanh().view(-1, 8)  # type: ignore[no-any-return]


class Normed(nn.Module):
    """A linear layer and a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(8, 8), nn.BatchNorm1d(8)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(B, 8) each to (B, 8)."""
        return self.norm(self.linear(a + b))  # type: ignore[no-any-return]


class Read(nn.Module):
    """A weight that is read by its layer and, turned round, by the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(B, 8) each to (B, 8)."""
        return self.linear(a + b).tanh() @ self.linear.weight  # type: ignore[no-any-return]


def main() -> None:
    """All cases, both ways."""
    asked = _asked()
    torch.set_num_threads(1)
    rows = [
        {"case": case, "variant": who, "version": version(who), "says": _outcome(run)}
        for who, cases in (("peft", _peft()), ("absentia", _ours()))
        for case, run in cases
    ]
    path = write("peft_today", rows, 0, asked.out)
    for row in rows:
        print(f"{row['case']:16} {row['variant']:9} {row['says']}")
    if asked.record:
        told = [f"{x['case']}, {x['variant']}: {x['says']}" for x in rows]
        record("adapters where they fail silently", told, 0, path)


def _outcome(run: Case) -> str:
    torch.manual_seed(0)
    try:
        off = run()
    except (ValueError, TypeError, RuntimeError, UserError) as error:
        words = re.sub(r"\S*/", "", str(error)).split()
        return f"refused: {' '.join(words)[:100]}"
    return "right" if off < SAME else f"wrong by {off:.2g}"


def _inputs() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(4, 8, generator=draw), torch.randn(4, 8, generator=draw)


def _off(one: Tensor, other: Tensor) -> float:
    return float((one - other).detach().abs().max())


def _fused(run: Callable[[Tensor, Tensor], Tensor]) -> float:
    """What torch's fused layer changes."""
    with torch.no_grad():
        fused = run(*_inputs())
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            return _off(fused, run(*_inputs()))
        finally:
            torch.backends.mha.set_fastpath_enabled(True)


def _peft() -> Iterator[tuple[str, Case]]:
    try:
        import peft
    except ImportError:
        return

    def lora(network: nn.Module, *targets: str) -> Any:
        config = peft.LoraConfig(r=2, target_modules=list(targets), init_lora_weights=False)
        return peft.get_peft_model(network, config, "first").eval()  # type: ignore[arg-type]

    def scales(network: nn.Module, *targets: str) -> Any:
        config = peft.IA3Config(target_modules=list(targets), feedforward_modules=[], init_ia3_weights=False)
        return peft.get_peft_model(network, config, "first").eval()  # type: ignore[arg-type]

    def by_row(model: Any) -> float:
        a, b = _inputs()
        mixed = model(a, b, adapter_names=["first", "__base__"] * 2)
        with model.disable_adapter():
            base = model(a, b)
        return max(_off(mixed[::2], model.eval()(a, b)[::2]), _off(mixed[1::2], base[1::2]))

    def norms() -> float:
        network = Normed().eval()
        before, model = network(*_inputs()), lora(network, "linear")
        model.train()(*_inputs())
        with model.eval().disable_adapter():
            return _off(before, model(*_inputs()))

    def read() -> float:
        model = lora(Read(), "linear")
        before = model(*_inputs())
        return _off(before, model.merge_and_unload()(*_inputs()))

    def other() -> float:
        model = lora(Normed(), "linear")
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            again = peft.PeftModel.from_pretrained(Normed(), Path(folder) / "first", "first").eval()  # type: ignore[arg-type]
            return _off(model(*_inputs()), again(*_inputs()))

    yield "fused kernel", lambda: _fused(lora(Fused(), "linear1", "linear2"))
    yield "rows, training", lambda: by_row(lora(Normed(), "linear").train())
    yield "rows, scales", lambda: by_row(scales(Normed(), "linear"))
    yield "windows", lambda: by_row(lora(Windows(), "linear"))
    yield "batch norm", norms
    yield "weight read", read
    yield "other weights", other


def _ours() -> Iterator[tuple[str, Case]]:
    def adapted(network: nn.Module, kind: str = "low-rank:2", include: str = "*") -> Adapted:
        net = adapt(network, modalities=["a", "b"], kind=kind, include=include, example=_inputs(), say=None)
        with torch.no_grad():
            for parameter in net.adapters():
                parameter.normal_(0, 0.3)
        return net.eval()

    def by_row(net: Adapted) -> float:
        a, b = _inputs()
        with net.present(ROWS):
            mixed = net(a, b)
        return max(_off(mixed[::2], net(a, None)[::2]), _off(mixed[1::2], net.network(a, b)[1::2]))

    def norms() -> float:
        network = Normed().eval()
        before, net = network(*_inputs()), adapted(network)
        net.train()(_inputs()[0], None)
        return _off(before, net.detach()(*_inputs()))

    def read() -> float:
        net = adapted(Read(), "scale-shift")
        a, b = _inputs()
        return _off(net(a, None), net.merge("a")(a, torch.zeros_like(b)))

    def other() -> float:
        net, again = adapted(Normed()), adapted(Normed())
        with tempfile.TemporaryDirectory() as folder:
            again.load(net.save(Path(folder) / "adapters"))
        return _off(net(_inputs()[0], None), again(_inputs()[0], None))

    def fused() -> float:
        net = adapted(Fused(), include="*linear[12]")
        return _fused(lambda a, b: net(a, None))  # type: ignore[no-any-return]

    yield "fused kernel", fused
    yield "rows, training", lambda: by_row(adapted(Normed()).train())
    yield "rows, scales", lambda: by_row(adapted(Normed(), "scale"))
    yield "windows", lambda: by_row(adapted(Windows()))
    yield "batch norm", norms
    yield "weight read", read
    yield "other weights", other


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="the same; there is nothing to leave out")
    parser.add_argument("--record", action="store_true", help="add a line to the ledger")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    return parser.parse_args()


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of peft's own making
        main()
