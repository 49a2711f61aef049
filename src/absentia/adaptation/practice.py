"""Rows to practise on: batches of a loader, each row with a pattern to be answered under."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from absentia.adaptation.nested import mapped
from absentia.adaptation.presence import presence_from
from absentia.errors import UserError

if TYPE_CHECKING:
    from absentia.adaptation.network import Adapted

__all__ = ["NO_GRADIENT", "Given", "Loss", "given_batches", "loss_of", "shared_out"]

NO_GRADIENT = (
    "the loss does not depend on the adapters: none belong to these patterns, or something between the network and the "
    "loss stops gradients (detach, no_grad, argmax)"
)

Loss = Callable[[Any, Any], Tensor]
"""The network's output and a batch's target to a mean over rows."""


@dataclass(frozen=True)
class Given:
    """A batch of a loader: the network's arguments, the target, and what rows really have, bool (B, M)."""

    arguments: dict[str, Any]
    target: Any
    presence: Tensor

    def rows(self, mine: Tensor) -> Given:
        """Some of its rows, long (n,)."""
        size = len(self.presence)

        def taken(value: Tensor) -> Tensor:
            return value.index_select(0, mine.to(value.device)) if value.ndim and len(value) == size else value

        arguments = {name: mapped(value, taken) for name, value in self.arguments.items()}
        return Given(arguments, mapped(self.target, taken), self.presence[mine])


def given_batches(net: Adapted, loader: Iterable[Any], *, labelled: bool = True) -> Iterator[Given]:
    """The batches of a loader: (inputs, target) or (inputs, target, present), or, unless `labelled`, a mapping alone.

    inputs: a mapping of the network's arguments, or a tuple of them in order; None is absent.
    present: as `Adapted.present` takes it. Raises `UserError` for anything else, and where there is no batch at all.
    """
    device = next((p.device for p in net.network.parameters()), torch.device("cpu"))
    count = 0
    for number, batch in enumerate(loader):
        if isinstance(batch, Mapping) and not labelled:
            batch = (batch, None)
        if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
            raise UserError(
                f"batch {number}: expected (inputs, target) or (inputs, target, present), not {_what(batch)}"
            )
        inputs, target = batch[0], batch[1]
        args, kwargs = ((), inputs) if isinstance(inputs, Mapping) else (_tuple(inputs), {})
        arguments = {
            name: mapped(value, lambda t: t.to(device)) for name, value in net.plan.signature.bind(args, kwargs).items()
        }
        presence = net.presence_of(arguments)
        if len(batch) == 3:
            presence = presence & presence_from(batch[2], net.names, len(presence), presence.device)
        yield Given(arguments, mapped(target, lambda t: t.to(device)), presence)
        count += 1
    if not count:
        raise UserError(
            "the loader gave no batch; a generator is empty when it is read again, a list or DataLoader is not"
        )


def shared_out(given: Given, patterns: Tensor, draw: torch.Generator) -> tuple[Given, Tensor]:
    """Deal patterns, bool (P, M), evenly to the rows that can show them; the others are left out.

    Returns the rows and what each shows, bool (n, M).
    """
    size = len(given.presence)
    order = torch.randperm(len(patterns), generator=draw).repeat(-(-size // len(patterns)))[:size]
    shown = patterns[order[torch.randperm(size, generator=draw)]].to(given.presence.device)
    able = (given.presence | ~shown).all(dim=1).nonzero()[:, 0]
    return given.rows(able), shown[able]


def loss_of(loss: Loss, output: Any, target: Any) -> Tensor:
    """The loss; raises `UserError` if it is no single number."""
    value = loss(output, target)
    if not isinstance(value, Tensor) or value.numel() != 1:
        what = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise UserError(f"loss: expected a tensor with one number, the mean over rows, not {what}")
    return value.reshape(())


def _tuple(inputs: Any) -> tuple[Any, ...]:
    return tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)


def _what(batch: Any) -> str:
    kind = type(batch).__name__
    return f"a {kind} of {len(batch)}" if isinstance(batch, tuple | list) else f"a {kind}"
