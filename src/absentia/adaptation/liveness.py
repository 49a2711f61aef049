"""Whether every site moves the network's output, with gradients and without: the one test for all silent failures.

A fused kernel that goes around a module, a branch that is never used, a consumer that is constant: each of them lets a
site train and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from absentia.adaptation.calls import Arguments, Signature
from absentia.adaptation.forms import Form
from absentia.adaptation.hooks import Attached
from absentia.adaptation.nested import tensors
from absentia.adaptation.presence import Rows
from absentia.adaptation.probe import SEED, in_eval
from absentia.adaptation.selection import Selection, chosen
from absentia.adaptation.sites import LeftOut, Site

__all__ = ["dead_sites"]

SMALL = 1e-7  # a gradient below this share of the largest one is looked into
MOVED = 1e-5  # an output that moved by less, relative to its size, did not move
PUSH = 0.3

Stand = dict[str, dict[str, Tensor]]


def dead_sites(
    network: nn.Module, signature: Signature, sites: Sequence[Site], form: Form, example: Arguments
) -> tuple[list[Site], list[LeftOut]]:
    """The sites that move the output, and those that do not. The network is left as it was."""
    with in_eval(network):
        trial = _Trial(network, signature, sites, form, example)
        attached = Attached(trial, form, sites)
        try:
            doubtful = trial.without_gradient()
            dead = [s for s in doubtful if not trial.moves(s, grad=True)]
            fused = [] if trial.same_without_grad() else [s for s in sites if not trial.moves(s, grad=False)]
        finally:
            attached.remove()
    left = [LeftOut(s.name, type(s.module).__name__, "runs, but the output does not depend on it") for s in dead]
    left += [
        LeftOut(s.name, type(s.module).__name__, "without gradients the network goes around it")
        for s in fused
        if s not in dead
    ]
    gone = {one.name for one in left}
    return [site for site in sites if site.name not in gone], left


class _Trial:
    """Runs of the example with values of our own at the sites."""

    def __init__(
        self, network: nn.Module, signature: Signature, sites: Sequence[Site], form: Form, example: Arguments
    ) -> None:
        self.network, self.signature, self.sites, self.form, self.example = network, signature, sites, form, example
        draw = torch.Generator().manual_seed(SEED)
        self.pushed: Stand = {}
        for site in sites:
            shapes = form.shapes(site).items()
            self.pushed[site.name] = {n: (PUSH * torch.randn(1, *s, generator=draw)).to(site.like) for n, s in shapes}
        with torch.no_grad():
            self.base = self.run({})

    def run(self, values: Mapping[str, dict[str, Tensor]]) -> list[Tensor]:
        """The output's tensors of numbers."""
        rows = Rows(torch.zeros(1, 1, dtype=torch.bool), torch.zeros(1, dtype=torch.long))
        with torch.random.fork_rng(devices=[]), chosen(self, Selection(rows, lambda site: values.get(site.name))):
            torch.manual_seed(SEED)
            out: Any = self.signature.call(self.network, self.example)
        return [t for t in tensors(out) if t.is_floating_point()]

    def without_gradient(self) -> list[Site]:
        """Sites whose values get no gradient to speak of, by one backward pass."""
        small = {n: {k: (v * 0.1).requires_grad_() for k, v in w.items()} for n, w in self.pushed.items()}
        with torch.enable_grad():
            outputs = [t for t in self.run(small) if t.requires_grad]
            if not outputs:
                return list(self.sites)
            draw = torch.Generator().manual_seed(SEED)
            total = sum((t * torch.randn(t.shape, generator=draw).to(t)).sum() for t in outputs)
            flat = [(name, v) for name, w in small.items() for v in w.values()]
            found = torch.autograd.grad(total, [v for _, v in flat], allow_unused=True)  # type: ignore[arg-type]
        size: dict[str, float] = {}
        for (name, _), gradient in zip(flat, found, strict=True):
            now = 0.0 if gradient is None else float(gradient.abs().nan_to_num().max())
            size[name] = max(size.get(name, 0.0), now)
        most = max(size.values())
        return [site for site in self.sites if size[site.name] <= SMALL * most]

    def moves(self, site: Site, *, grad: bool) -> bool:
        """Whether a push at one site moves the output."""
        with torch.set_grad_enabled(grad):
            seen = self.run({site.name: self.pushed[site.name]})
        return not _near(self.base, seen, MOVED)

    def same_without_grad(self) -> bool:
        """Whether pushes everywhere do the same with gradients and without."""
        mild = {name: {k: v * 0.1 for k, v in w.items()} for name, w in self.pushed.items()}
        with torch.enable_grad():
            with_grad = self.run(mild)
        with torch.no_grad():
            without = self.run(mild)
        return _near(with_grad, without, 1e-3)


def _near(one: Sequence[Tensor], other: Sequence[Tensor], share: float) -> bool:
    for a, b in zip(one, other, strict=True):
        size = float(a.detach().abs().nan_to_num().max()) if a.numel() else 0.0
        if a.shape != b.shape or float((a - b).detach().abs().nan_to_num().max() if a.numel() else 0.0) > share * max(
            size, 1e-12
        ):
            return False
    return True
