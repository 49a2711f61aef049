"""What is learned at a site: scale and shift of its channels, or a product of low rank beside its weights.

Every form is the identity where all its values are 0, so what was never trained changes no bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from absentia.adaptation.site_types import parameter
from absentia.adaptation.sites import Site

__all__ = ["Affine", "Form", "LowRank", "Made", "RowsOf", "Values"]

Values = Mapping[str, Tensor]
Shapes = dict[str, tuple[int, ...]]
CONVS = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}


@dataclass(frozen=True)
class RowsOf:
    """The axis of the rows in a site's output, and the pattern of each of them, long (R,)."""

    axis: int
    ids: Tensor


@dataclass(frozen=True)
class Made:
    """What a module was given and what it made of it.  fresh: whether nobody else can hold that output."""

    given: tuple[Any, ...]
    output: Tensor
    fresh: bool = False


class Form(ABC):
    """One way to change what a module makes of its input. Values are stacked by pattern, (U, ...)."""

    @abstractmethod
    def shapes(self, site: Site) -> Shapes:
        """The values of one set at a site, by name; none where the form cannot be used."""

    def begin(self, name: str, shape: tuple[int, ...], draw: torch.Generator) -> Tensor:
        """Where a value starts."""
        return torch.zeros(shape)

    @abstractmethod
    def compose(self, values: Values, absent: Tensor) -> dict[str, Tensor]:
        """Values of one set per modality (M, ...) and which are absent, bool (U, M), to values per pattern (U, ...)."""

    @abstractmethod
    def apply(self, site: Site, values: Values, made: Made, rows: RowsOf | None) -> Tensor:
        """The changed output. rows: which pattern each row of the output has; None if there is one for all."""

    @abstractmethod
    def folded(self, site: Site, values: Values) -> dict[str, Tensor]:
        """The module's parameters with one pattern's values in them, by name; only those that change."""


@dataclass(frozen=True)
class Affine(Form):
    """h' = (1 + scale) h + shift, by channel (Lian et al. 2022; arXiv 2310.03986, "intermediate feature modulation").

    `scale` is gamma - 1: half precision keeps it a hundred times better than gamma.
    """

    scale: bool = True
    shift: bool = True

    def shapes(self, site: Site) -> Shapes:
        shape = (site.channels,)
        out: Shapes = {"scale": shape} if self.scale else {}
        return out | ({"shift": shape} if self.shift and (site.weights.shifted or not site.weights.scaled) else {})

    def compose(self, values: Values, absent: Tensor) -> dict[str, Tensor]:
        """One after the other in the order of the modalities, as affine maps."""
        gone = absent[:, :, None]  # (U, M, 1)
        first = next(iter(values.values()))
        factor = 1 + gone * values["scale"] if "scale" in values else None  # (U, M, C)
        out: dict[str, Tensor] = {}
        if factor is not None:
            out["scale"] = factor.prod(dim=1) - 1
        if "shift" in values:
            shift = first.new_zeros(len(absent), first.shape[-1])
            for m in range(absent.shape[1]):
                shift = (shift if factor is None else shift * factor[:, m]) + gone[:, m] * values["shift"][m]
            out["shift"] = shift
        return out

    def apply(self, site: Site, values: Values, made: Made, rows: RowsOf | None) -> Tensor:
        output, channel = made.output, site.type.axis(site.module, made.output.ndim)
        scale, shift = (_shaped(values.get(n), output, channel, rows) for n in ("scale", "shift"))
        if scale is None:
            assert shift is not None
            return output + shift
        if shift is None:
            return output * (1 + scale)
        in_place = made.fresh and not torch.is_grad_enabled()
        return torch.addcmul(shift, output, 1 + scale, out=output if in_place else None)

    def folded(self, site: Site, values: Values) -> dict[str, Tensor]:
        scale, shift, out = values.get("scale"), values.get("shift"), {}
        scaled = site.weights.scaled if scale is not None else ()
        shifted = site.weights.shifted if shift is not None else ()
        for place in {p.name: p for p in (*scaled, *shifted)}.values():
            new = parameter(site.module, place, site.like)
            if scale is not None and place in scaled:
                new = new * (1 + place.along(scale.to(new), new))
            if shift is not None and place in shifted:
                new = new + place.along(shift.to(new), new)
            if shift is not None or place.start_value or _there(site.module, place.name):
                out[place.name] = new  # without a shift a bias that is not there stays away
        return out


@dataclass(frozen=True)
class LowRank(Form):
    """W' = W + (alpha / rank) B A (LoRA, Hu et al. 2021), for linear layers, convolutions and attention.

    rank: 0 adds a full matrix instead of a product.  conv: whether convolutions take part.
    bias: whether a shift of the output comes with it.
    """

    rank: int = 4
    alpha: float | None = None
    conv: bool = True
    bias: bool = False

    def shapes(self, site: Site) -> Shapes:
        weight = self._matrix(site)
        if weight is None:
            return {}
        rows = self.rank or weight.shape[0]
        out: Shapes = {"a": (rows, *weight.shape[1:])}
        if self.rank:
            out["b"] = (weight.shape[0], self.rank)
        return out | ({"shift": (site.channels,)} if self.bias else {})

    def begin(self, name: str, shape: tuple[int, ...], draw: torch.Generator) -> Tensor:
        """A as a linear layer starts, B as zeros; a full matrix as zeros."""
        start = torch.zeros(shape)
        if name == "a" and self.rank:
            bound = 1 / max(1, start[0].numel()) ** 0.5
            start.uniform_(-bound, bound, generator=draw)
        return start

    def compose(self, values: Values, absent: Tensor) -> dict[str, Tensor]:
        """The sum over what is absent: ranks side by side."""
        gone = absent.to(values["a"].dtype)
        out = {"shift": gone @ values["shift"]} if "shift" in values else {}
        if "b" not in values:
            return out | {"a": torch.einsum("um,m...->u...", gone, values["a"])}
        a = values["a"].flatten(0, 1)  # (M r, ...)
        b = values["b"][None] * gone[:, :, None, None]  # (U, M, out, r)
        return out | {"a": a.expand(len(absent), *a.shape), "b": b.transpose(1, 2).flatten(2)}

    def apply(self, site: Site, values: Values, made: Made, rows: RowsOf | None) -> Tensor:
        channel = site.type.axis(site.module, made.output.ndim)
        x, conv = made.given[0], isinstance(site.module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        added = self._conv(site.module, x, values, rows) if conv else self._linear(x, values, rows)
        shift = _shaped(values.get("shift"), made.output, channel, rows)
        output = made.output + self._scaled(added).to(made.output.dtype)
        return output if shift is None else output + shift

    def folded(self, site: Site, values: Values) -> dict[str, Tensor]:
        place = site.weights.scaled[0]
        weight = parameter(site.module, place, site.like)
        a = values["a"]
        product = a if "b" not in values else (values["b"] @ a.flatten(1)).view_as(weight)
        out = {place.name: weight + self._scaled(product).to(weight)}
        if "shift" in values:
            shifted = site.weights.shifted[0]
            old = parameter(site.module, shifted, weight)
            out[shifted.name] = old + shifted.along(values["shift"].to(old), old)
        return out

    def _scaled(self, product: Tensor) -> Tensor:
        """Times alpha / rank."""
        return product if self.alpha is None or not self.rank else product * (self.alpha / self.rank)

    def _matrix(self, site: Site) -> Tensor | None:
        """The weight (C, ...) that can be added to; None where there is none."""
        module = cast(Any, site.module)
        conv = site.type.family == "conv"
        if (
            not site.weights.matrix
            or isinstance(module, nn.Bilinear)
            or (conv and (not self.conv or module.groups > 1))
        ):
            return None
        return parameter(module, site.weights.scaled[0], site.like)

    @staticmethod
    def _linear(x: Tensor, values: Values, rows: RowsOf | None) -> Tensor:
        """x (..., in) to (..., out)."""
        a, b = values["a"].to(x.dtype), values["b"].to(x.dtype) if "b" in values else None
        if rows is None:
            hidden = F.linear(x, a[0])
            return hidden if b is None else F.linear(hidden, b[0])
        by_row = x.movedim(rows.axis, 0)  # (R, ..., in)
        flat = by_row.reshape(len(by_row), -1, by_row.shape[-1])
        hidden = flat @ a[rows.ids].mT
        hidden = hidden if b is None else hidden @ b[rows.ids].mT
        back: Tensor = hidden.view(*by_row.shape[:-1], -1).movedim(0, rows.axis)
        return back

    @staticmethod
    def _conv(module: Any, x: Tensor, values: Values, rows: RowsOf | None) -> Tensor:
        """x (R, in, ...) to (R, out, ...): the filters of all patterns at once, then each row's own among them."""
        a, b = values["a"].to(x.dtype), values["b"].to(x.dtype) if "b" in values else None
        padding: Any = module.padding
        if module.padding_mode != "zeros":
            x, padding = F.pad(x, module._reversed_padding_repeated_twice, mode=module.padding_mode), 0
        conv = CONVS[next(t for t in CONVS if isinstance(module, t))]
        hidden = conv(x, a.flatten(0, 1), None, module.stride, padding, module.dilation)
        batched = hidden if x.ndim == a.ndim - 1 else hidden[None]
        each = batched.view(len(batched), len(a), -1, *batched.shape[2:])  # (R, U, r, ...)
        if rows is not None and rows.axis:
            return _rows_inside(each, b, rows)
        mine = each[:, 0] if rows is None else each[torch.arange(len(each), device=x.device), rows.ids]
        if b is not None:
            chosen = b[0].expand(len(mine), -1, -1) if rows is None else b[rows.ids]
            mine = (chosen @ mine.flatten(2)).view(len(mine), -1, *mine.shape[2:])
        return mine if x.ndim == a.ndim - 1 else mine[0]


def _rows_inside(each: Tensor, b: Tensor | None, rows: RowsOf) -> Tensor:
    """Filters of all patterns (N, U, r, ...) to (N, out, ...), where rows lie along an axis of places."""
    by_row = each.movedim(rows.axis + 1, 0).movedim(2, 1)  # (R, U, N, r, ...)
    mine = by_row[torch.arange(len(by_row), device=each.device), rows.ids]
    if b is not None:
        flat = mine.reshape(*mine.shape[:3], -1)
        mine = (b[rows.ids][:, None] @ flat).view(*mine.shape[:2], -1, *mine.shape[3:])
    return mine.movedim(0, rows.axis)


def _shaped(values: Tensor | None, output: Tensor, channel: int, rows: RowsOf | None) -> Tensor | None:
    """Values (U, C) as they broadcast with an output."""
    if values is None:
        return None
    shape = [1] * output.ndim
    shape[channel] = values.shape[1]
    values = values.to(output.dtype)
    if rows is None:
        return values[0].view(shape)
    shape[rows.axis] = len(rows.ids)
    chosen = values[rows.ids]
    return (chosen if rows.axis < channel else chosen.mT).reshape(shape)


def _there(module: nn.Module, name: str) -> bool:
    holder, _, last = name.rpartition(".")
    return getattr(module.get_submodule(holder), last, None) is not None
