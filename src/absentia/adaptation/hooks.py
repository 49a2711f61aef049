"""Forward hooks that change what a network's modules make.

They are put on a twin that shares every tensor with the network, which itself stays as it was given: no hook, no other
name, no other type. Modules whose channels can only be reached through their weights (attention, recurrent layers) run
with other weights, on a shadow of their own for every call.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from absentia.adaptation.forms import Form, Made, Values
from absentia.adaptation.selection import Selection, running
from absentia.adaptation.sites import Site
from absentia.adaptation.within import run_within
from absentia.errors import UserError

__all__ = ["Attached", "copied", "copied_whole", "share_again", "twin_of"]


Whole = TypeVar("Whole", bound=nn.Module)


class Attached:
    """Hooks at sites; `owner` is what `chosen` names.

    strict: whether the modules only ever run where something is chosen, so that anything else is an error.
    """

    def __init__(self, owner: object, form: Form, sites: Sequence[Site], *, strict: bool = False) -> None:
        self.handles: list[RemovableHandle] = []
        self.overridden: list[nn.Module] = []
        inner: dict[nn.Module, list[Site]] = {}
        for site in sites:
            if site.part:
                inner.setdefault(site.module, []).append(site)
            else:
                hook = _OutputHook(owner, form, site, strict)
                self.handles.append(site.module.register_forward_hook(hook, with_kwargs=True))
        for module, parts in inner.items():
            # A hook that does nothing keeps the fused kernel of nn.TransformerEncoderLayer from going around it.
            self.handles.append(module.register_forward_hook(_nothing))
            module.forward = _Within(owner, form, parts, strict)
            self.overridden.append(module)

    def remove(self) -> None:
        """Without hooks again."""
        for handle in self.handles:
            handle.remove()
        for module in self.overridden:
            module.__dict__.pop("forward", None)
        self.handles, self.overridden = [], []


class _OutputHook:
    """Changes a module's output."""

    def __init__(self, owner: object, form: Form, site: Site, strict: bool) -> None:
        self.owner, self.form, self.site, self.strict = owner, form, site, strict

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        selection: Selection | None = running(self.owner, strict=self.strict)
        values = None if selection is None else selection.values(self.site)
        if selection is None or values is None:
            return None
        if not isinstance(output, Tensor):
            raise UserError(f"{self.site.name!r} gives a {type(output).__name__}, not a tensor; exclude it")
        rows = selection.rows_at(self.site, tuple(output.shape))
        fresh = len(module._forward_hooks) == 1 and type(module).__module__.startswith("torch.nn.")
        made = Made((*args, *kwargs.values()), output, fresh)
        return self.form.apply(self.site, values, made, rows)


class _Within:
    """Stands in for the forward of a module whose sites lie inside it."""

    def __init__(self, owner: object, form: Form, sites: Sequence[Site], strict: bool) -> None:
        self.owner, self.form, self.sites, self.module = owner, form, sites, sites[0].module
        self.strict = strict

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        selection: Selection | None = running(self.owner, strict=self.strict)
        found = {} if selection is None else {s: v for s in self.sites if (v := selection.values(s)) is not None}
        if selection is None or not found:
            return type(self.module).forward(self.module, *args, **kwargs)
        first = next(iter((*args, *kwargs.values())))
        rows = selection.rows_at(self.sites[0], tuple(first.shape)) if isinstance(first, Tensor) else None
        shadows = [self.shadow(found, u) for u in range(len(selection.rows.patterns))]
        return run_within(self.module, shadows, rows, args, kwargs)

    def shadow(self, found: dict[Site, Values], number: int) -> nn.Module:
        """The module with one pattern's values in its weights; it shares everything else."""
        new: dict[str, Tensor] = {}
        for site, values in found.items():
            new |= self.form.folded(site, {name: value[number] for name, value in values.items()})
        return shadow_of(self.module, new)


def twin_of(network: nn.Module) -> nn.Module:
    """A copy of the modules that shares all their parameters and buffers. Raises `UserError` if it has no copy."""
    twin = copied(network, share=True)
    share_again(network, twin)
    for module in twin.modules():
        if isinstance(module, nn.TransformerEncoder) and getattr(module, "use_nested_tensor", False):
            module.use_nested_tensor = False  # hooks could not work on nested tensors
            if type(module).forward is nn.TransformerEncoder.forward:
                module.forward = _Padded(module)  # type: ignore[method-assign]
    return twin


def copied(network: nn.Module, *, share: bool = False) -> nn.Module:
    """A copy of a network, which shares its parameters and buffers or has its own."""
    known = _made(network)
    for module in network.modules():
        mine = (*module._parameters.values(), *module._buffers.values()) if share else ()
        known |= {id(t): t for t in mine if t is not None}
    try:
        return copy.deepcopy(network, known)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise UserError(f"the network's modules cannot be copied: {error}") from error


def copied_whole(module: Whole, memo: dict[int, Any]) -> Whole:
    """For `copy.deepcopy`: a copy of all that a module holds, hooks and twin included, that shares nothing with it."""
    new = module.__class__.__new__(module.__class__)
    memo.update({id(module): new} | _made(module))
    try:
        new.__dict__.update(copy.deepcopy(module.__dict__, memo))
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise UserError(f"the network's modules cannot be copied: {error}") from error
    return new


def _made(network: nn.Module) -> dict[int, Any]:
    """By id a copy of every tensor that a hook makes anew at every call, as weight_norm does; it has none itself."""
    held = [v for module in network.modules() for v in vars(module).values() if isinstance(v, Tensor) and not v.is_leaf]
    return {id(v): v.detach().clone() for v in held}


def share_again(network: nn.Module, twin: nn.Module) -> None:
    """The twin's parameters and buffers are the network's, also after these are moved, loaded or put anew."""
    for one, other in zip(network.modules(), twin.modules(), strict=True):
        other.__dict__["_parameters"], other.__dict__["_buffers"] = one._parameters, one._buffers
        if isinstance(one, nn.RNNBase):
            other.__dict__["_flat_weights"] = one._flat_weights


class _Padded:
    """Stands in for the forward of an nn.TransformerEncoder that would use nested tensors.

    Without those, places that are padding hold what the layers made of them. With them they hold zeros, which comes
    before the last norm; the network was made, or at least is used, with these.
    """

    def __init__(self, module: nn.TransformerEncoder) -> None:
        self.module = module

    def __call__(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        inner: Any = shadow_of(self.module, {})
        norm, inner._modules["norm"] = self.module.norm, None
        out: Tensor = nn.TransformerEncoder.forward(inner, src, mask, src_key_padding_mask, is_causal)
        if src_key_padding_mask is not None and mask is None and self.would_nest(src, src_key_padding_mask):
            out = out.masked_fill(src_key_padding_mask.logical_not().logical_not()[..., None], 0.0)
        return out if norm is None else norm(out)

    def would_nest(self, src: Tensor, padding: Tensor) -> bool:
        """Whether torch would, were it not for hooks and gradients."""
        if src.dim() != 3 or torch.is_autocast_enabled() or not torch.backends.mha.get_fastpath_enabled():
            return False
        checked = getattr(self.module, "mask_check", True)
        return not checked or bool(torch._nested_tensor_from_mask_left_aligned(src, padding.logical_not()))


def shadow_of(module: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    """A shallow copy that computes with other weights."""
    shadow = copy.copy(module)
    shadow.__dict__ = dict(module.__dict__)
    shadow.__dict__.pop("forward", None)
    shadow._parameters = dict(module._parameters)
    shadow._modules = dict(module._modules)
    for name, value in weights.items():
        child, _, last = name.rpartition(".")
        if child:
            held = shadow._modules[child]
            assert held is not None
            if held is module._modules[child]:
                held = shadow_of(held, {})
                shadow._modules[child] = held
            held._parameters[last] = value  # type: ignore[assignment]
        else:
            shadow._parameters[last] = value  # type: ignore[assignment]
    if isinstance(shadow, nn.RNNBase):
        shadow.__dict__["_flat_weights"] = [shadow._parameters[name] for name in shadow._flat_weights_names]
    return shadow


def _nothing(module: nn.Module, args: Any, output: Any) -> None:
    """See `Attached`."""
