"""Learn the adapters: the network stands still, every row practises one pattern at a time.

The paper trains each pattern on its own with the task's loss. Patterns share no number here either, so practising them
side by side in one batch gives each of them the same gradients. Learning from the network's own answers to complete
rows (`distil`, `alike`) is an extension: it needs no labels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from absentia.adaptation.nested import tensors
from absentia.adaptation.practice import NO_GRADIENT, Given, Loss, given_batches, loss_of, shared_out
from absentia.adaptation.presence import MOST_ALL, parsed_all
from absentia.data.schema import pattern_name
from absentia.errors import UserError, nearest
from absentia.layers.subsets import random_subsets

if TYPE_CHECKING:
    from absentia.adaptation.network import Adapted

__all__ = ["Loss", "Settings", "fit_adapters", "losses_by_pattern", "settings_from"]

DRAWN = 256  # patterns that a composed kind of more than `MOST_ALL` modalities practises


@dataclass(frozen=True, kw_only=True)
class Settings:
    """See `Adapted.fit`."""

    patterns: str | Sequence[Any] = "all"
    epochs: int = 20
    lr: float = 3e-3
    weight_decay: float = 0.0
    warmup: float = 0.1
    validations: int | None = None
    distil: float = 0.0
    temperature: float = 2.0
    distance: Literal["kl", "mse"] = "kl"
    alike: float = 0.0
    features: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.epochs, Integral) or self.epochs < 1:
            raise UserError(f"epochs {self.epochs}: must be a whole number, at least 1")
        if self.validations is not None and self.validations < 1:
            raise UserError(f"validations {self.validations}: must be at least 1, or None for one after every epoch")
        for name in ("lr", "temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{name} {getattr(self, name)}: must be above 0")
        for name in ("weight_decay", "warmup", "distil", "alike"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name} {getattr(self, name)}: must be at least 0")
        if self.alike and not self.features:
            raise UserError("alike: say features=, the name of the module whose outputs shall be alike")
        if self.distance not in ("kl", "mse"):
            raise UserError(f"distance {self.distance!r}: expected kl or mse")

    def validates(self, epoch: int) -> bool:
        """Whether validation rows are scored after this epoch, from 0; always after the last."""
        wanted = min(self.validations or self.epochs, self.epochs)
        return (epoch + 1) * wanted // self.epochs > epoch * wanted // self.epochs


def settings_from(given: Mapping[str, Any]) -> Settings:
    """The settings of these names; raises `UserError` for a name that is none."""
    known = [field.name for field in fields(Settings)]
    for name in given:
        if name not in known:
            raise UserError(f"fit: unknown setting {name!r}; {nearest(name, known)}")
    return Settings(**given)


def fit_adapters(
    net: Adapted,
    loader: Iterable[Any],
    loss: Loss | None,
    settings: Settings,
    validation: Iterable[Any] | None,
    watch: Callable[[dict[str, Any]], Any] | None,
) -> list[dict[str, Any]]:
    """Train; returns one dict per epoch, with the mean loss and, where validation rows were scored, theirs.

    With validation rows every pattern keeps the values of its own best epoch, of none if nothing was better.
    """
    if loss is None and not settings.distil and not settings.alike:
        raise UserError("fit: nothing to learn from; give a loss, or distil= to learn from the network's own answers")
    patterns = _practised(net, settings)
    net.measure(loader)
    best = None if validation is None else _Best(net)
    net.train()
    try:
        return _trained(net, loader, loss, settings, validation, patterns, best, watch)
    finally:
        if best is not None:
            best.restore()
        net.eval()


def _trained(
    net: Adapted,
    loader: Iterable[Any],
    loss: Loss | None,
    settings: Settings,
    validation: Iterable[Any] | None,
    patterns: Tensor,
    best: _Best | None,
    watch: Callable[[dict[str, Any]], Any] | None,
) -> list[dict[str, Any]]:
    """All epochs; `best` sees the losses of validation rows."""
    parameters = [p for p in net.adapters() if p.numel()]
    if not parameters:
        raise UserError("fit: there is nothing to learn for these patterns, as no site has adapters for them")
    optimizer = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay)
    draw = torch.Generator().manual_seed(settings.seed)
    steps = settings.epochs * sum(1 for _ in given_batches(net, loader, labelled=loss is not None))
    rates = (settings.lr * _rate(step, steps, settings.warmup) for step in itertools.count())
    history: list[dict[str, Any]] = []
    for epoch in range(settings.epochs):
        if best is not None and not history:
            best.see(losses_by_pattern(net, validation or (), loss, settings, patterns))
        found = _epoch(net, loader, loss, settings, patterns, optimizer, rates, draw)
        line: dict[str, Any] = {"epoch": epoch + 1, "loss": found}
        if best is not None and settings.validates(epoch):
            line["validation"] = losses_by_pattern(net, validation or (), loss, settings, patterns)
            best.see(line["validation"])
        history.append(line)
        if watch is not None:
            watch(line)
    return history


def _epoch(
    net: Adapted,
    loader: Iterable[Any],
    loss: Loss | None,
    settings: Settings,
    patterns: Tensor,
    optimizer: torch.optim.Optimizer,
    rates: Iterator[float],
    draw: torch.Generator,
) -> float:
    """One pass over the rows; returns the mean loss. Raises `UserError` where nothing is learned, or nonsense."""
    total, count, taught = 0.0, 0, False
    for given in given_batches(net, loader, labelled=loss is not None):
        rate = next(rates)
        rows, shown = shared_out(given, patterns, draw)
        if not len(shown):
            continue
        value = objective(net, rows, shown, loss, settings)
        now = float(value.detach())
        if not math.isfinite(now):
            raise UserError(f"fit: the loss of a batch is {now}; look at it, or take a lower lr than {settings.lr:g}")
        total, count = total + now * len(shown), count + len(shown)
        if value.requires_grad:  # else no pattern of this batch has adapters
            taught = True
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    if not count:
        raise UserError("no training row can show any of the patterns that were asked for")
    if not taught:
        raise UserError(f"fit: {NO_GRADIENT}")
    return total / count


def objective(net: Adapted, given: Given, shown: Tensor, loss: Loss | None, settings: Settings) -> Tensor:
    """The loss of rows that show some of what they have, bool (n, M)."""
    with _heard(net, settings.features if settings.alike else None) as heard:
        output = net.answer(given.arguments, shown)
    terms = [] if loss is None else [loss_of(loss, output, given.target)]
    if not settings.distil and not settings.alike:
        return terms[0]
    with torch.no_grad(), _heard(net, settings.features if settings.alike else None, base=True) as taught:
        teacher = net.answer(given.arguments, given.presence, base=True)
    if settings.distil:
        terms.append(settings.distil * distance(tensors(output)[0], tensors(teacher)[0], settings))
    if settings.alike:
        terms.append(settings.alike * (1 - F.cosine_similarity(heard[0].flatten(1), taught[0].flatten(1))).mean())
    return torch.stack(terms).sum()


def distance(output: Tensor, teacher: Tensor, settings: Settings) -> Tensor:
    """T² KL(teacher || student) at temperature T over the last axis, or the mean square."""
    if settings.distance == "mse":
        return F.mse_loss(output, teacher)
    t = settings.temperature
    dim = 1 if output.ndim > 2 else -1
    said = F.log_softmax(output / t, dim=dim)
    return (
        t * t * F.kl_div(said, F.log_softmax(teacher / t, dim=dim), log_target=True, reduction="none").sum(dim).mean()
    )


@torch.no_grad()
def losses_by_pattern(
    net: Adapted, loader: Iterable[Any], loss: Loss | None, settings: Settings, patterns: Tensor
) -> dict[str, float]:
    """The mean loss per pattern, of the rows that can show it: nan if none can, infinite if it is not finite."""
    names = [pattern_name(net.names, row) for row in patterns.tolist()]
    totals, counts = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0)
    for given in given_batches(net, loader, labelled=loss is not None):
        for name, pattern in zip(names, patterns.to(given.presence.device), strict=True):
            able = (given.presence | ~pattern).all(dim=1).nonzero()[:, 0]
            if len(able):
                value = objective(net, given.rows(able), pattern.expand(len(able), -1), loss, settings)
                totals[name], counts[name] = totals[name] + float(value) * len(able), counts[name] + len(able)
    means = {name: totals[name] / counts[name] if counts[name] else 0.0 for name in names}
    return {n: (mean if math.isfinite(mean) else math.inf) if counts[n] else math.nan for n, mean in means.items()}


def _practised(net: Adapted, settings: Settings) -> Tensor:
    """bool (P, M): the patterns to practise; those of the bank unless some are asked for."""
    asked, everything = settings.patterns, settings.patterns == "all"
    if everything and net.bank.kind.composed and len(net.names) > MOST_ALL:
        return _drawn(len(net.names), settings.seed)
    own = everything and not net.bank.kind.composed
    patterns = net.bank.sets if own else parsed_all(asked, net.names)
    if not len(patterns):
        raise UserError("fit: no pattern to practise")
    if not net.bank.kind.composed:
        net.bank.sets_of(patterns, "error")
    return patterns


def _drawn(modalities: int, seed: int) -> Tensor:
    """bool (P, M): those that have or lack a single modality, and others of any size at random."""
    one = torch.eye(modalities, dtype=torch.bool)
    whole = torch.ones(max(0, DRAWN - 2 * modalities), modalities, dtype=torch.bool)
    found = torch.cat([one, ~one, random_subsets(whole, 0.0, torch.Generator().manual_seed(seed))])
    patterns: Tensor = torch.unique(found[~found.all(dim=1)], dim=0)
    return patterns


def _rate(step: int, steps: int, warmup: float) -> float:
    """Rises over the first steps, then falls as a cosine."""
    rise = max(1, int(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


@contextmanager
def _heard(net: Adapted, name: str | None, *, base: bool = False) -> Iterator[list[Tensor]]:
    """The output of one module while the network runs."""
    found: list[Tensor] = []
    if name is None:
        yield found
        return
    network = net.network if base else net.twin
    modules = dict(network.named_modules())
    if name not in modules:
        raise UserError(f"features {name!r}: the network has no such module")
    handle = modules[name].register_forward_hook(lambda module, args, output: found.append(tensors(output)[0]))
    try:
        yield found
    finally:
        handle.remove()


class _Best:
    """The values of each set at the lowest validation loss of its pattern; of a composed kind, of the mean.

    A pattern that no validation row can show keeps what it learned last.
    """

    def __init__(self, net: Adapted) -> None:
        self.net, self.bank = net, net.bank
        self.lowest = dict.fromkeys(self.bank.set_names, math.inf)
        self.kept = [p.detach().clone() for p in net.adapters()]

    def see(self, losses: dict[str, float]) -> None:
        """Keep the sets that are better than ever."""
        if self.bank.kind.composed:
            known = [loss for loss in losses.values() if not math.isnan(loss)]
            losses = dict.fromkeys(self.bank.set_names, sum(known) / len(known) if known else math.nan)
        better = [name for name in losses if name in self.lowest and not losses[name] >= self.lowest[name]]
        self.lowest |= {name: losses[name] for name in better}
        if better:
            self._copy(better, list(self.net.adapters()), self.kept)

    def restore(self) -> None:
        """Put the best values back."""
        self._copy(self.bank.set_names, self.kept, list(self.net.adapters()))

    @torch.no_grad()
    def _copy(self, names: Sequence[str], source: Sequence[Tensor], to: Sequence[Tensor]) -> None:
        numbers = [self.bank.set_names.index(name) for name in names]
        place = 0
        for site in self.bank.sites:
            rows = self.bank.rows[site.name][numbers]
            rows = rows[rows >= 0]
            for _ in self.bank.raw(site):
                to[place][rows] = source[place][rows]
                place += 1
        for one, other in zip(source[place:], to[place:], strict=True):
            other.copy_(one)
