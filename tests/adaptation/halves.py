"""A problem that takes a second: two noisy views of a class, and a small network that was trained on both."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from absentia.adaptation import Adapted, adapt

CLASSES, ROWS = 4, 480
Batch = tuple[dict[str, Tensor], Tensor]


class Halves(nn.Module):
    """A perceptron with batch norm for each view, and one on their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16))
        self.right = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16))
        self.both = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16), nn.ReLU())
        self.head = nn.Linear(16, CLASSES)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """(B, 6) each to (B, CLASSES)."""
        return self.head(self.both(self.left(left) + self.right(right)))  # type: ignore[no-any-return]


@functools.cache
def rows() -> tuple[dict[str, Tensor], Tensor]:
    draw = torch.Generator().manual_seed(1)
    target = torch.randint(CLASSES, (ROWS,), generator=draw)
    centres = {name: torch.randn(CLASSES, 6, generator=draw) for name in ("left", "right")}
    noise = {name: torch.randn(ROWS, 6, generator=draw) for name in centres}
    return {name: centres[name][target] * 1.5 + noise[name] + 2 for name in centres}, target


def batches(part: slice, size: int = 40) -> list[Batch]:
    """Batches of some rows: train is slice(0, 320), the rest validates and tests."""
    inputs, target = rows()
    index = torch.arange(ROWS)[part]
    return [({name: x[some] for name, x in inputs.items()}, target[some]) for some in index.split(size)]


TRAIN, VALID, TEST = slice(0, 320), slice(320, 400), slice(400, 480)


@functools.cache
def _trained() -> dict[str, Tensor]:
    torch.manual_seed(0)
    network = Halves()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    for _ in range(15):
        for inputs, target in batches(TRAIN):
            optimizer.zero_grad()
            F.cross_entropy(network(**inputs), target).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return network.state_dict()


def trained() -> Halves:
    """The same trained network each time."""
    network = Halves()
    network.load_state_dict(_trained())
    return network.eval()


def adapted(kind: Any = "scale-shift", network: nn.Module | None = None, **more: Any) -> Adapted:
    """That network with adapters that learned nothing yet."""
    example = batches(TRAIN)[0][0]
    modalities = {"left": "left", "right": "right"}
    return adapt(network or trained(), modalities=modalities, kind=kind, example=example, say=None, **more)


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    return (output.argmax(dim=1) == target).float().mean()


def score(net: Adapted, *, base: bool = False) -> float:
    """Mean accuracy over both proper patterns on test rows."""
    inputs, target = batches(TEST, 80)[0]
    call = net.base if base else net
    with torch.no_grad():
        shown = ({"left": inputs["left"], "right": None}, {"left": None, "right": inputs["right"]})
        return sum(float(accuracy(call(**one), target)) for one in shown) / 2
