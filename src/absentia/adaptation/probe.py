"""What a few runs of the network show: which sites run, on whose input each depends, and where its rows are.

Nothing is assumed about the network; rows and modalities of an example are changed, and sites that notice are noted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from absentia.adaptation.calls import Arguments, Signature
from absentia.adaptation.forms import RowsOf
from absentia.adaptation.nested import tensors
from absentia.adaptation.sites import Site
from absentia.errors import UserError

__all__ = ["Fold", "Probed", "in_eval", "probed", "three_rows"]

ROWS = 3  # of the example; enough to tell rows apart, and odd enough not to look like two windows
SEED = 2310
ORDERS = ((0, 1, 2), (2, 0, 1))  # of the example's rows; a network that sorts its rows does not follow both


@dataclass(frozen=True)
class Fold:
    """Rows lie along `axis` of a site's output, `each` places for every row.

    major: whether a row's places stand together (row by row), or turns are taken (place by place).
    """

    axis: int
    each: int
    major: bool

    def rows(self, ids: Tensor) -> RowsOf:
        """Patterns of the rows of a call (B,) to those of the places."""
        if self.each == 1:
            return RowsOf(self.axis, ids)
        return RowsOf(self.axis, ids.repeat_interleave(self.each) if self.major else ids.repeat(self.each))


@dataclass(frozen=True)
class Probed:
    """order: names of the modules that ran, in order, once for each time.

    depends: per site the modalities that its output depends on.
    folds: per site where its rows are; None where that cannot be said, as where rows are mixed.
    mixes: whether rows look at each other somewhere, so that they show in each other's answers.
    answers: per tensor of the network's answer where its rows are.
    alike: arguments with a whole number for each row, such as lengths, that is the same in all rows of the example:
        whether the network sorts rows by it could not be seen.
    """

    order: list[str]
    depends: dict[str, set[str]]
    folds: dict[str, Fold | None]
    mixes: bool
    answers: list[Fold | None]
    alike: list[str]


def probed(network: nn.Module, signature: Signature, sites: Sequence[Site], example: Arguments) -> Probed:
    """Run the network on an example and on changes of it. It stays in its mode, and draws the same numbers each time.

    example: bound arguments with every modality present.
    """
    first, turned = (three_rows(example, signature, order) for order in ORDERS)
    with in_eval(network), torch.no_grad():
        base, order, _ = _outputs(network, signature, sites, first)
        depends: dict[str, set[str]] = {site.name: set() for site in sites}
        for name in signature.names:
            seen, _, _ = _outputs(network, signature, sites, _changed(first, signature, [name], range(ROWS)))
            for site in sites:
                if _differ(base[site.name], seen[site.name]):
                    depends[site.name].add(name)
        changed, answered = _by_row(network, signature, sites, first)
        again, _ = _by_row(network, signature, sites, turned)
    folds = {site.name: _fold(changed[site.name], again[site.name]) for site in sites}
    return Probed(
        order, depends, folds, any(map(_mixed, answered)), list(map(_fold, answered)), _alike(first, signature)
    )


def _alike(example: Arguments, signature: Signature) -> list[str]:
    known = {slot.argument for slots in signature.slots.values() for slot in slots}
    return [
        name
        for name, value in example.items()
        if name not in known and isinstance(value, Tensor) and value.shape == (ROWS,) and not value.is_floating_point()
        if bool((value == value[0]).all())
    ]


def _by_row(
    network: nn.Module, signature: Signature, sites: Sequence[Site], example: Arguments
) -> tuple[dict[str, list[Tensor]], list[list[Tensor]]]:
    """For each row of the example in turn the places, of every site and of every answer, that change with it."""
    base, _, answer = _outputs(network, signature, sites, example)
    changed: dict[str, list[Tensor]] = {site.name: [] for site in sites}
    answered: list[list[Tensor]] = [[] for _ in answer]
    for row in range(ROWS):
        seen, _, out = _outputs(network, signature, sites, _changed(example, signature, signature.names, [row]))
        for site in sites:
            changed[site.name].append(_where(site, base[site.name], seen[site.name]))
        for places, one, other in zip(answered, answer, out, strict=False):
            places.append(_moved(one, other) if one.shape == other.shape else torch.ones(1, dtype=torch.bool))
    return changed, answered


@contextmanager
def in_eval(network: nn.Module) -> Iterator[None]:
    """Within, every module is in eval mode; afterwards each is in the mode it was in."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _outputs(
    network: nn.Module, signature: Signature, sites: Sequence[Site], arguments: Arguments
) -> tuple[dict[str, list[Tensor]], list[str], list[Tensor]]:
    """What the module of each site made, every time it ran, the order of the sites, and the network's answer."""
    found: dict[str, list[Tensor]] = {site.name: [] for site in sites}
    order: list[str] = []

    def listen(site: Site) -> Callable[..., None]:
        def heard(module: nn.Module, args: Any, output: Any) -> None:
            order.append(site.name)
            made = tensors(output)
            if not made:
                raise UserError(f"{site.name!r} gives a {type(output).__name__}, not a tensor; exclude it")
            packed = isinstance(output, tuple) and isinstance(output[0], PackedSequence)
            first = made[0].detach().clone()
            found[site.name].append(first.view(1, -1) if packed else first)  # its rows have no axis of their own

        return heard

    handles = [site.module.register_forward_hook(listen(site)) for site in sites]
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            answer = signature.call(network, arguments)
    finally:
        for handle in handles:
            handle.remove()
    return found, order, [t.detach().clone() for t in tensors(answer)]


def _differ(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return len(one) != len(other) or any(a.shape != b.shape or not _same(a, b) for a, b in zip(one, other, strict=True))


def _same(a: Tensor, b: Tensor) -> bool:
    return bool(torch.equal(a, b) or torch.allclose(a, b, rtol=0, atol=0, equal_nan=True))


def _where(site: Site, one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """Places of a site's output that changed, bool, without the axis of the channels; of all runs together."""
    out = torch.zeros(0, dtype=torch.bool)
    for a, b in zip(one, other, strict=False):
        if a.shape != b.shape:
            return torch.ones(1, dtype=torch.bool)
        moved = _moved(a, b)
        channel = site.type.axis(site.module, a.ndim)
        moved = moved.any(dim=channel, keepdim=True)
        if out.numel() and out.shape != moved.shape:
            return torch.ones(1, dtype=torch.bool)
        out = moved if not out.numel() else out | moved
    return out


def _moved(a: Tensor, b: Tensor) -> Tensor:
    """Places that differ, bool."""
    return ((a != b) & ~(a.isnan() & b.isnan())).cpu()


def _mixed(changed: Sequence[Tensor]) -> bool:
    """Whether rows show in each other's places of an answer; a single number for all rows is nobody's place."""
    return bool(changed) and changed[0].ndim > 0 and any(bool(c.any()) for c in changed) and not _fits(changed)


def _fold(changed: Sequence[Tensor], *again: Sequence[Tensor]) -> Fold | None:
    """Where rows are, given which places each row changed, each time; None unless exactly one way explains it."""
    times = (changed, *again)
    if not all(bool(c.any()) for several in times for c in several):
        return None
    fits = [fold for fold in _fits(changed) if all(fold in _fits(other) for other in again)]
    return fits[0] if len(fits) == 1 else None


def _fits(changed: Sequence[Tensor]) -> list[Fold]:
    """All ways to lay out rows that would explain which places each row changed."""
    shape = changed[0].shape
    if not changed[0].numel() or any(c.shape != shape for c in changed):
        return []
    fits = []
    for axis, size in enumerate(shape):
        if size % ROWS or size == 0:
            continue
        each = size // ROWS
        lines = torch.stack([c.movedim(axis, 0).reshape(size, -1).any(dim=1) for c in changed])  # (rows, size)
        for major in (True, False) if each > 1 else (True,):
            place = torch.arange(size)
            row = place // each if major else place % ROWS
            if not (lines & (row != torch.arange(ROWS)[:, None])).any():
                fits.append(Fold(axis, each, major))
    return fits


def three_rows(example: Arguments, signature: Signature, order: Sequence[int] = ORDERS[0]) -> Arguments:
    """The first rows of an example in an order, repeated where there are too few."""
    sizes = {len(v) for name in signature.names for slot in signature.slots[name] for v in tensors(slot.read(example))}
    if len(sizes) != 1 or 0 in sizes:
        raise UserError(f"example: the modalities have {sorted(sizes)} rows; give some rows of the same number for all")
    size = sizes.pop()
    take = torch.tensor(order) % size
    return {name: _taken(value, size, take) for name, value in example.items()}


def _taken(value: Any, size: int, take: Tensor) -> Any:
    if isinstance(value, Tensor):
        return value[take.to(value.device)] if value.ndim and len(value) == size else value
    if isinstance(value, dict):
        return {k: _taken(v, size, take) for k, v in value.items()}
    return type(value)(_taken(v, size, take) for v in value) if isinstance(value, list | tuple) else value


def _changed(example: Arguments, signature: Signature, names: Sequence[str], rows: Sequence[int] | range) -> Arguments:
    """The example with other values of some modalities in some rows."""
    out = dict(example)
    draw = torch.Generator().manual_seed(SEED)
    for name in names:
        for slot in signature.slots[name]:
            value = slot.read(out)
            if isinstance(value, Tensor) and value.ndim and value.dtype != torch.bool:
                slot.write(out, _other(value, list(rows), draw))
    return out


def _other(value: Tensor, rows: list[int], draw: torch.Generator) -> Tensor:
    """Other values in these rows: noise on numbers, other positions of whole numbers."""
    new = value.clone()
    if value.is_floating_point():
        spread = value.std().clamp(min=1e-3) if value.numel() > 1 else value.new_tensor(1.0)
        noise = torch.randn(value[rows].shape, generator=draw).to(value)
        new[rows] = value[rows] + spread * noise
    else:
        rolled = value.roll(1, dims=-1) if value.ndim > 1 else value
        new[rows] = torch.where((rolled == value).all(), value.roll(1, dims=0), rolled)[rows]
    return new
