"""What stands in for an absent modality in a network that wants something there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from absentia.adaptation.calls import Arguments, Signature, Slot
from absentia.errors import UserError, nearest
from absentia.layers.naming import module_key

__all__ = ["FILLERS", "Fillers"]

FILLERS = ("zeros", "mean", "learned", "skip")


class Fillers(nn.Module):
    """Per modality and slot one row that stands in where the modality is absent.

    given: per modality "zeros" (after the caller's normalisation, so its mean), "mean" (of rows that were measured),
        "learned", "skip" (the network is handed None), a number, a tensor (...) of one row, or a mapping from slots to
        these.
    """

    def __init__(self, signature: Signature, given: Mapping[str, Any] | str) -> None:
        super().__init__()
        given = dict.fromkeys(signature.names, given) if isinstance(given, str) else dict(given)
        self.how: dict[str, str] = {}
        self.slots = {str(slot): slot for name in signature.names for slot in signature.slots[name]}
        self.fixed, self.learned = nn.Module(), nn.ParameterDict()
        self.shapes: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
        for name in given:
            if name not in signature.names:
                raise UserError(f"filler: unknown modality {name!r}; {nearest(name, signature.names)}")
        for name in signature.names:
            self._declare(signature.slots[name], given.get(name, "zeros"))

    def skips(self, slots: Sequence[Slot]) -> bool:
        """Whether the network is handed None for these."""
        return any(self.how[str(slot)] == "skip" for slot in slots)

    @property
    def any_skipped(self) -> bool:
        """Whether the network is handed None for any modality, so that a call can have one pattern only."""
        return "skip" in self.how.values()

    @property
    def unmeasured(self) -> bool:
        """Whether a mean stands in somewhere that nobody has measured yet."""
        means = [slot for slot, how in self.how.items() if how == "mean"]
        return any(getattr(self.fixed, module_key(slot), None) is None for slot in means)

    def notice(self, slot: Slot, value: Any) -> None:
        """Remember the shape of a first row, so that the modality may be None later."""
        if isinstance(value, Tensor) and value.ndim:  # the first one counts, so that no call depends on those before
            self.shapes.setdefault(str(slot), (tuple(value.shape[1:]), value.dtype))

    def begin(self, slot: Slot, value: Any) -> None:
        """Begin to learn a row like those of `value`, where that is what stands in."""
        self.notice(slot, value)
        if self.how[str(slot)] == "learned" and isinstance(value, Tensor) and module_key(str(slot)) not in self.learned:
            if not value.is_floating_point():
                raise UserError(f"filler 'learned' of {slot}: it holds {value.dtype}, which no gradient reaches")
            start = torch.zeros(value.shape[1:], dtype=value.dtype, device=value.device)
            self.learned[module_key(str(slot))] = nn.Parameter(start)

    def follow(self, dtype: torch.dtype) -> None:
        """The network now computes in another precision."""
        self.shapes = {k: (shape, dtype if old.is_floating_point else old) for k, (shape, old) in self.shapes.items()}

    def measure(self, slot: Slot, mean: Tensor) -> None:
        """The mean of a row's values, where that is what stands in."""
        if self.how[str(slot)] == "mean":
            self.fixed.register_buffer(module_key(str(slot)), mean)

    def kept(self) -> dict[str, Tensor]:
        """What was learned or measured or given as a tensor, by slot."""
        found = {str(slot): getattr(self.fixed, module_key(str(slot)), None) for slot in self.slots.values()}
        found |= {
            str(slot): self.learned[key]
            for slot in self.slots.values()
            if (key := module_key(str(slot))) in self.learned
        }
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}

    def take(self, kept: Mapping[str, Tensor], where: str) -> None:
        """Take back what `kept` gave; raises `UserError`, and takes nothing, where it does not fit."""
        for name, value in kept.items():
            if name not in self.slots:
                raise UserError(f"{where}: a filler for {name!r}, which the network does not take")
            if not bool(value.isfinite().all()):
                raise UserError(f"{where}: the filler for {name!r} holds values that are not finite")
            mine, seen = self.kept().get(name), self.shapes.get(name)
            shape = tuple(mine.shape) if mine is not None else seen[0] if seen else tuple(value.shape)
            if tuple(value.shape) != shape:
                raise UserError(f"{where}: the filler for {name!r} is {tuple(value.shape)}, here a row is {shape}")
        for name in self.kept():
            if name not in kept:
                raise UserError(f"{where}: the filler for {name!r} is missing")
        with torch.no_grad():
            for name, value in kept.items():
                self._take(name, value)

    def _take(self, name: str, value: Tensor) -> None:
        key, mine = module_key(name), self.kept().get(name)
        if mine is not None:
            mine.copy_(value)
        elif self.how[name] == "learned":
            self.learned[key] = nn.Parameter(value.clone())
        else:
            self.fixed.register_buffer(key, value.clone())

    def fill(self, arguments: Arguments, slots: Sequence[Slot], present: Tensor) -> None:
        """Replace rows that are not present, bool (B,), whatever they hold: it never reaches the network."""
        if bool(present.all()):
            return
        for slot in slots:
            value = slot.read(arguments)
            if self.how[str(slot)] == "skip" and not bool(present.any()):
                slot.write(arguments, None)
                continue
            if value is None and slot is not slots[0] and (bool(present.any()) or not self._knows(slot)):
                continue  # an optional one, such as a mask, that this call does without
            row = self.row(slot, value, present.device)
            if value is None:
                slot.write(arguments, row.expand(len(present), *row.shape).clone())
                continue
            if value.shape[1:] != row.shape and row.numel() > 1:
                raise UserError(f"filler of {slot}: a row is {tuple(value.shape[1:])}, the filler {tuple(row.shape)}")
            mask = present.view(-1, *[1] * (value.ndim - 1))
            slot.write(arguments, torch.where(mask, value, row.to(value)))

    def row(self, slot: Slot, value: Any, device: torch.device) -> Tensor:
        """What stands in for one row, (...)."""
        how, key = self.how[str(slot)], module_key(str(slot))
        if key in self.learned:
            return cast(Tensor, self.learned[key])
        found = getattr(self.fixed, key, None)
        if isinstance(found, Tensor) and found.ndim:
            return found
        if how in ("mean", "learned"):
            what = "nothing was measured; call measure(loader) or fit first"
            what = what if how == "mean" else "no row was seen; give adapt an example="
            raise UserError(f"filler {how!r} of {slot}: {what}")
        if isinstance(value, Tensor):
            shape, kind = tuple(value.shape[1:]), value.dtype
        elif str(slot) in self.shapes:
            shape, kind = self.shapes[str(slot)]
        else:
            raise UserError(
                f"{slot} is None and no row of it was ever seen, so its shape is not known; give adapt an example="
            )
        fill = 0 if not isinstance(found, Tensor) else found.item()
        return torch.full(shape, fill, dtype=kind, device=device)

    def _knows(self, slot: Slot) -> bool:
        return str(slot) in self.shapes or str(slot) in self.kept()

    def _declare(self, slots: Sequence[Slot], value: Any) -> None:
        for slot in slots:
            mine = value
            if isinstance(value, Mapping):
                self._known(value, slots)
                mine = value.get(str(slot), "zeros")
            if isinstance(mine, str):
                if mine not in FILLERS:
                    raise UserError(
                        f"filler of {slot}: {mine!r} is none; {nearest(mine, FILLERS)} (or a number, or a tensor)"
                    )
                self.how[str(slot)] = mine
                continue
            self.how[str(slot)] = "given"
            self.fixed.register_buffer(module_key(str(slot)), _given(mine, slot))

    @staticmethod
    def _known(given: Mapping[str, Any], slots: Sequence[Slot]) -> None:
        for name in given:
            if name not in map(str, slots):
                raise UserError(f"filler: unknown input {name!r}; {nearest(name, map(str, slots))}")


def _given(value: Any, slot: Slot) -> Tensor:
    """A number or a tensor that stands in."""
    try:
        found = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise UserError(
            f"filler of {slot}: expected {', '.join(FILLERS)}, a number or a tensor of one row, not {value!r}"
        ) from None
    if not bool(found.isfinite().all()):
        raise UserError(f"filler of {slot}: it holds values that are not finite")
    return found
