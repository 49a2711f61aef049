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
BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

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
            last = int(found["last"] or first + 1)
            if last <= first:
                raise UserError(f"input {text!r}: no channel is from {first} to before {last}")
            return cls(found["name"], channels=(first, last))
        key = found["key"]
        return cls(found["name"], None if key is None else int(key) if key.isdigit() else key[1:-1])

    def read(self, arguments: Mapping[str, Any]) -> Any:
        """The tensor, or None where it is absent."""
        value = arguments.get(self.argument)
        if value is None or (self.key is None and self.channels is None):
            return value
        if self.channels is not None:
            if not isinstance(value, Tensor) or value.ndim < 2 or value.shape[1] < self.channels[1]:
                what = tuple(value.shape) if isinstance(value, Tensor) else f"a {type(value).__name__}"
                raise UserError(f"{self}: the argument {self.argument!r} has no such channels, it is {what}")
            return value[:, self.channels[0] : self.channels[1]]
        try:
            return value[self.key]
        except (KeyError, IndexError, TypeError):
            raise UserError(
                f"the argument {self.argument!r} has no item {self.key!r}; say None there if it is absent"
            ) from None

    def overlaps(self, other: Slot) -> bool:
        """Whether something is in both."""
        if self.argument != other.argument:
            return False
        if self.channels and other.channels:
            return self.channels[0] < other.channels[1] and other.channels[0] < self.channels[1]
        return self.key is None or other.key is None or self.key == other.key

    def write(self, arguments: Arguments, value: Any) -> None:
        """Put a value there; what the caller gave is copied, never changed."""
        old = arguments.get(self.argument)
        if self.channels is not None:
            if value is None or not isinstance(old, Tensor):
                raise UserError(
                    f"{self} cannot be None, as it is a part of {self.argument!r}; give numbers and say what is absent "
                    "with present(...), and take another filler than skip"
                )
            new: Any = old.clone()
            new[:, self.channels[0] : self.channels[1]] = value
        elif isinstance(self.key, str) or isinstance(old, Mapping):
            new = dict(old or {}) | {self.key: value}
        elif self.key is not None:
            new = [*(old or []), *[None] * (self.key + 1 - len(old or []))]
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
        try:
            self.signature = inspect.signature(network.forward)
        except (TypeError, ValueError) as error:
            raise UserError(f"the arguments of the network's forward cannot be read: {error}") from None
        self.kinds = {name: p.kind for name, p in self.signature.parameters.items()}
        self.slots = {name: self._slots(name, inputs) for name in names}
        self._check_apart()

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Arguments:
        """What a call gives, by argument; a modality may be given by its own name.

        Raises `UserError` for a modality that is neither given nor None.
        """
        args, given = self._placed(args, kwargs)
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
        rest = dict(arguments)
        starred = any(rest.get(n) for n, kind in self.kinds.items() if kind is inspect.Parameter.VAR_POSITIONAL)
        for name, kind in self.kinds.items():
            if name not in rest:
                continue
            if kind is inspect.Parameter.VAR_POSITIONAL:
                args += rest.pop(name)
            elif kind is inspect.Parameter.POSITIONAL_ONLY or (starred and kind in BY_PLACE):
                args.append(rest.pop(name))
        return network(*args, **rest)

    @property
    def _rest(self) -> str | None:
        return next((n for n, kind in self.kinds.items() if kind is inspect.Parameter.VAR_KEYWORD), None)

    def _placed(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Modalities that are given by name, under the names or at the places that the network knows."""
        given, places = dict(kwargs), dict(enumerate(args))
        for name in self.names:
            slot = self.slots[name][0]
            if name not in given or self.kinds.get(name, BY_PLACE[0]) is not BY_PLACE[0]:
                continue
            kind, place = self.kinds.get(slot.argument), self._place(slot)
            if place is not None and place not in places and kind in (*BY_PLACE[:1], inspect.Parameter.VAR_POSITIONAL):
                places[place] = given.pop(name)
            elif slot.key is None and slot.channels is None and slot.argument not in given and place not in places:
                given[slot.argument] = given.pop(name)
        for place, (name, kind) in enumerate(self.kinds.items()):
            if kind in BY_PLACE and name in given and place not in places and place < max(places, default=-1):
                places[place] = given.pop(name)
        if sorted(places) != list(range(len(places))):
            raise UserError(f"the network takes {self.signature}, and not all arguments before the last were given")
        return [places[place] for place in range(len(places))], given

    def _place(self, slot: Slot) -> int | None:
        """Where a slot stands in a call by position."""
        place = list(self.kinds).index(slot.argument) if slot.argument in self.kinds else None
        if place is None or self.kinds[slot.argument] is not inspect.Parameter.VAR_POSITIONAL:
            return place
        return place + slot.key if isinstance(slot.key, int) else None

    def _check_apart(self) -> None:
        """Raises `UserError` for two modalities that have the same input."""
        seen: list[tuple[str, Slot]] = []
        for name, slots in self.slots.items():
            if not slots:
                raise UserError(f"inputs of {name!r}: none are given")
            for slot in slots:
                for other, theirs in seen:
                    if slot.overlaps(theirs):
                        raise UserError(f"inputs: {slot} of {name!r} and {theirs} of {other!r} are the same; part them")
                seen.append((name, slot))

    def _slots(self, name: str, inputs: Mapping[str, str | Sequence[str]]) -> tuple[Slot, ...]:
        if name in inputs:
            spelled = inputs[name]
            slots = tuple(map(Slot.spelled, [spelled] if isinstance(spelled, str) else spelled))
            for slot in slots:
                if slot.argument not in self.kinds and not self._rest:
                    known = nearest(slot.argument, self.kinds)
                    raise UserError(f"inputs of {name!r}: the network takes no {slot.argument!r}; {known}")
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
                f"the network takes {self.signature}, and no {name!r}; say which argument it is by "
                f"inputs={{{name!r}: ...}}"
            )
        place = self.names.index(name)
        starred = [n for n in positional if self.kinds[n] is inspect.Parameter.VAR_POSITIONAL]
        if starred and place >= positional.index(starred[0]):
            return (Slot(starred[0], key=place - positional.index(starred[0])),)
        if place >= len(positional):
            raise UserError(
                f"the network takes {self.signature}, which has no place for {name!r}; say which argument it is by "
                f"inputs={{{name!r}: ...}}"
            )
        return (Slot(positional[place]),)
