"""One pattern's adapters folded into the weights: a plain network that needs no Absentia and costs nothing more."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from absentia.adaptation.forms import Values
from absentia.adaptation.hooks import copied
from absentia.adaptation.nested import mapped, tensors
from absentia.adaptation.presence import parsed
from absentia.adaptation.probe import ROWS, SEED, in_eval
from absentia.adaptation.sites import Site
from absentia.errors import UserError

if TYPE_CHECKING:
    from absentia.adaptation.network import Adapted

__all__ = ["merged"]


@torch.no_grad()
def merged(net: Adapted, pattern: str | Collection[str]) -> nn.Module:
    """A copy of the network, in eval mode, that answers rows of this pattern as the adapted one does.

    Absent modalities still have to be filled in as before. Biases and affine parameters are added where there were
    none. Raises `UserError` where that would be wrong: tied, computed or quantised weights, modules whose weights are
    not known, and, tried on the example that `adapt` was given, whatever else makes the answers differ.
    """
    shown = torch.tensor([parsed(pattern, net.names)])
    if tuple(shown[0].tolist()) in net.instead:
        raise UserError(f"another network answers the pattern {pattern!r}; merge that one")
    plain = copied(net.network)
    names = {id(p) for p in net._learned}
    learned = [name for name, p in net.network.named_parameters() if id(p) in names]
    if not bool(shown.all()):
        used = _owners_of_parameters(net.network)
        for site in net.bank.sites:
            values = net.bank.values_for(site, shown, net.unknown)
            if values is not None:
                weights = net.bank.form.folded(site, _first(values))
                _check(site, used, weights)
                _write(plain.get_submodule(_module_name(site)), weights)
    plain.eval()
    _try(net, plain, shown)
    for name in learned:
        plain.get_parameter(name).requires_grad_(True)
    return plain


def _try(net: Adapted, plain: nn.Module, shown: Tensor) -> None:
    """Raises `UserError` if the merged network answers the example otherwise than the adapted one."""
    if net.plan.example is None or net.fillers.unmeasured:
        return
    like = next((p for p in net.network.parameters() if p.is_floating_point()), torch.empty(0))
    example = {name: mapped(value, lambda t: _as(t, like)) for name, value in net.plan.example.items()}
    presence = shown.to(like.device).expand(ROWS, -1)
    with in_eval(net.network):
        expected = _numbers(lambda: net.answer(example, presence))
        found = _numbers(lambda: net.plan.signature.call(plain, net.filled(example, presence)))
    if not all(map(_near, expected, found)):
        raise UserError(
            "the merged network answers the example otherwise than the adapted one: the network reads weights that "
            "adapters change elsewhere too, such as x @ self.embedding.weight.T, or has a hook of its own on such a "
            "layer; exclude that module"
        )


def _numbers(run: Callable[[], Any]) -> list[Tensor]:
    """The tensors of numbers of an answer, with the same random numbers each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return [t.nan_to_num() for t in tensors(run()) if t.is_floating_point()]


def _near(one: Tensor, other: Tensor) -> bool:
    """Whether they differ by no more than rounding does, which grows from layer to layer."""
    if one.shape != other.shape or not one.numel():
        return one.shape == other.shape
    return bool((one - other).abs().max() <= torch.finfo(one.dtype).eps ** 0.4 * one.abs().max())


def _as(value: Tensor, like: Tensor) -> Tensor:
    return value.to(like.device, like.dtype if value.is_floating_point() else value.dtype)


def _first(values: Values) -> dict[str, Tensor]:
    return {name: value[0] for name, value in values.items()}


def _module_name(site: Site) -> str:
    return site.name.removesuffix(f".{site.part}") if site.part else site.name


def _write(module: nn.Module, weights: dict[str, Tensor]) -> None:
    for name, value in weights.items():
        holder_name, _, last = name.rpartition(".")
        holder = module.get_submodule(holder_name)
        setattr(holder, last, nn.Parameter(value.detach().clone(), requires_grad=False))
        for flag in ("affine", "elementwise_affine"):
            if hasattr(holder, flag):
                setattr(holder, flag, True)
    if isinstance(module, nn.RNNBase):
        module.flatten_parameters()


def _check(site: Site, used: dict[int, set[str]], weights: Collection[str]) -> None:
    """Raises `UserError` where other weights would not do what the adapters do."""
    module, name = site.module, _module_name(site)
    if not site.weights.scaled:
        raise UserError(f"{site.name!r}: register_site said nothing of its weights, so it cannot be merged; exclude it")
    if is_parametrized(module):
        raise UserError(f"{name!r}: its weights are computed by a parametrization; remove that, or exclude it")
    if isinstance(module, nn.Embedding) and module.max_norm is not None:
        raise UserError(f"{name!r}: an embedding with max_norm rewrites its weights; exclude it")
    for changed in weights:
        holder_name, _, last = changed.rpartition(".")
        holder = module.get_submodule(holder_name)
        held = getattr(holder, last, None)
        if held is None:
            continue
        if last not in holder._parameters:
            raise UserError(
                f"{name!r}: its {last} is computed by a hook, such as weight_norm; remove that, or exclude it"
            )
        if not held.is_floating_point():
            raise UserError(f"{name!r}: its {last} is quantised ({held.dtype}); merge before you quantise")
        if len(used[id(held)]) > 1:
            others = " and ".join(sorted(used[id(held)]))
            raise UserError(
                f"{others} share one parameter, and adapters change only {name!r}; untie them, or exclude it"
            )


def _owners_of_parameters(network: nn.Module) -> dict[int, set[str]]:
    """The modules that hold each parameter; a module with several names counts once."""
    out: dict[int, set[str]] = {}
    for name, module in network.named_modules():
        for parameter in module.parameters(recurse=False):
            out.setdefault(id(parameter), set()).add(name)
    return out
