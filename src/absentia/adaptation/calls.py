"""How a network is called: which of its arguments carry which modality, and how they are read and replaced.

A modality's input is an argument (`"x1"`), an item of one (`"views[0]"`, `"views['rgb']"`) or some channels of one
(`"x[:, 0]"`, `"x[:, 0:3]"`). The first axis of every such tensor is that of the rows.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from absentia.errors import UserError, nearest

__all__ = ["Arguments", "Signature", "Slot"]

Arguments = dict[str, Any]

SPELLED = re.compile(r"(?P<name>\w+)(?:\[(?::, *(?P<first>\d+)(?::(?P<last>\d+))?|(?P<key>\d+|'[^']+'|\"[^\"]+\"))\])?")


@dataclass(frozen=True)
class Slot:
    """Where one tensor of a modality is: an argument, perhaps an item or some channels of it."""

    argument: str
    key: int | str | None = None
    channels: tuple[int, int] | None = None

    def __str__(self) -> str:
        if self.channels is not None:
            return f"{self.argument}[:, {self.channels[0]}:{self.channels[1]}]"
        return self.argument if self.key is None else f"{self.argument}[{self.key!r}]"

    @classmethod
    def spelled(cls, text: str) -> Slot:
        """From "x", "x[0]", "x['key']", "x[:, 0]" or "x[:, 0:3]"; raises `UserError` for anything else."""
        found = SPELLED.fullmatch(text)
        if not found:
            raise UserError(f"input {text!r}: expected an argument x, an item x[0] or x['key'], or channels x[:, 0:3]")
        if found["first"]:
            first = int(found["first"])
            return cls(found["name"], channels=(first, int(found["last"] or first + 1)))
        key = found["key"]
        return cls(found["name"], None if key is None else int(key) if key.isdigit() else key[1:-1])

    def read(self, arguments: Mapping[str, Any]) -> Any:
        """The tensor, or None where it is absent."""
        value = arguments.get(self.argument)
        if value is None or (self.key is None and self.channels is None):
            return value
        if self.channels is not None:
            return value[:, self.channels[0] : self.channels[1]]
        try:
            return value[self.key]
        except (KeyError, IndexError):
            raise UserError(f"the argument {self.argument!r} has no item {self.key!r}") from None

    def write(self, arguments: Arguments, value: Any) -> None:
        """Put a value there; what the caller gave is copied, never changed."""
        old = arguments.get(self.argument)
        if self.channels is not None:
            assert isinstance(old, Tensor)
            new: Any = old.clone()
            new[:, self.channels[0] : self.channels[1]] = value
        elif self.key is not None:
            new = dict(old) if isinstance(old, Mapping) else list(old or [])
            new[self.key] = value
        else:
            new = value
        arguments[self.argument] = new


class Signature:
    """The arguments of a network's forward, and the slots of each modality among them.

    inputs: modality to one or more spelled slots; a modality that is not there has the argument of its own name, or,
        where no argument is called like any modality, the one at its own position.
    Raises `UserError` where that finds none.
    """

    def __init__(self, network: nn.Module, names: Sequence[str], inputs: Mapping[str, str | Sequence[str]]) -> None:
        for modality in inputs:
            if modality not in names:
                raise UserError(f"inputs: unknown modality {modality!r}; {nearest(modality, names)}")
        self.names = list(names)
        self.signature = inspect.signature(network.forward)
        self.kinds = {name: p.kind for name, p in self.signature.parameters.items()}
        self.slots = {name: self._slots(name, inputs) for name in names}

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Arguments:
        """What a call gives, by argument; a modality may be given by its own name.

        Raises `UserError` for a modality that is neither given nor None.
        """
        given = dict(kwargs)
        for name in self.names:
            slot = self.slots[name][0]
            if name in given and name not in self.kinds and slot.key is None and slot.channels is None:
                given[slot.argument] = given.pop(name)
        try:
            arguments = dict(self.signature.bind_partial(*args, **given).arguments)
        except TypeError as error:
            raise UserError(f"the network takes {self.signature}, and was called otherwise: {error}") from None
        arguments |= arguments.pop(self._rest, {}) if self._rest else {}
        for name in self.names:
            for slot in self.slots[name]:
                if slot.argument not in arguments and slot == self.slots[name][0]:
                    raise UserError(f"{name!r} was not given; say {slot.argument}=None if it is absent")
        return arguments

    def call(self, network: nn.Module, arguments: Mapping[str, Any]) -> Any:
        """Run the network on bound arguments."""
        args: list[Any] = []
        rest: dict[str, Any] = {}
        for name, value in arguments.items():
            kind = self.kinds.get(name)
            if kind is inspect.Parameter.VAR_POSITIONAL:
                args += value
            elif kind is inspect.Parameter.POSITIONAL_ONLY or (args and not rest and self._next_is(name, len(args))):
                args.append(value)
            else:
                rest[name] = value
        return network(*args, **rest)

    @property
    def _rest(self) -> str | None:
        return next((n for n, kind in self.kinds.items() if kind is inspect.Parameter.VAR_KEYWORD), None)

    def _next_is(self, name: str, position: int) -> bool:
        return list(self.kinds)[position : position + 1] == [name]

    def _slots(self, name: str, inputs: Mapping[str, str | Sequence[str]]) -> tuple[Slot, ...]:
        if name in inputs:
            spelled = inputs[name]
            slots = tuple(map(Slot.spelled, [spelled] if isinstance(spelled, str) else spelled))
            for slot in slots:
                if slot.argument not in self.kinds and not self._rest:
                    raise UserError(
                        f"inputs of {name!r}: {nearest(slot.argument, self.kinds)} There is no {slot.argument!r}"
                    )
            return slots
        positional = [
            n
            for n, kind in self.kinds.items()
            if kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        ]
        if name in self.kinds or (self._rest and not positional):
            return (Slot(name),)
        if any(n in self.kinds for n in self.names) or inputs:
            raise UserError(
                f"the network's forward has no argument {name!r}; say inputs={{{name!r}: ...}}: {self.signature}"
            )
        place = self.names.index(name)
        starred = [n for n in positional if self.kinds[n] is inspect.Parameter.VAR_POSITIONAL]
        if starred:
            return (Slot(starred[0], key=place - positional.index(starred[0])),)
        if place >= len(positional):
            raise UserError(
                f"the network's forward takes {self.signature}, which has no place for {name!r}; say inputs="
            )
        return (Slot(positional[place]),)
