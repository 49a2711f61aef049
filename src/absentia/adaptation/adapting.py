"""`adapt`: the one call from a trained network to an adaptable one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn

from absentia.adaptation.attach import Asked, Plan, planned
from absentia.adaptation.bank import Bank, Unknown
from absentia.adaptation.calls import Signature
from absentia.adaptation.fill import Fillers
from absentia.adaptation.forms import Affine
from absentia.adaptation.hooks import twin_of
from absentia.adaptation.kinds import Kind, kind_named
from absentia.adaptation.network import Adapted, Mixing
from absentia.adaptation.presence import parsed_all
from absentia.adaptation.sites import Filter
from absentia.errors import UserError, nearest

__all__ = ["adapt"]


def adapt(
    network: nn.Module,
    *,
    modalities: Mapping[str, str | Sequence[str]] | Sequence[str],
    kind: str | Kind = "scale-shift",
    patterns: str | Sequence[Any] = "all",
    inputs: Mapping[str, str | Sequence[str]] | None = None,
    example: Mapping[str, Any] | Sequence[Any] | None = None,
    filler: Mapping[str, Any] | str = "zeros",
    unknown: Unknown = "error",
    mixing: Mixing = "auto",
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    types: str | type[nn.Module] | Sequence[str | type[nn.Module]] = (),
    depth: int | None = None,
    owners: str | Sequence[str] = (),
    head: str | None = None,
    seed: int = 0,
    say: Callable[[str], Any] | None = print,
) -> Adapted:
    """Freeze a trained network and put adapters for every combination of present modalities into it.

    modalities: each one's name, and the modules that work for it alone (prefixes of names); a plain list of names
        finds these from `example`.
    kind: scale-shift (arXiv 2310.03986), scale, shift, bias, norm, low-rank (of rank 4; low-rank:8 of rank 8),
        head-only, or compositional: one set per absent modality instead of one per pattern.
    patterns: "all" proper ones, or some, such as ["rgb", "rgb+depth"]. With everything present nothing is changed.
    inputs: which arguments of the network's forward are a modality's, such as {"text": ["input_ids",
        "attention_mask"]}; an item `"views[0]"` or channels `"x[:, 0:3]"` of one too. By default the argument of its
        name, else the one at its position. The first axis of every such tensor is that of the rows.
    example: arguments of one call with everything present, three rows or more. With it sites are tried out: whose
        they are, whether they move the output, and where rows are inside, so that mixed patterns run in one pass.
        Without it the first batch of `fit` or `calibrate` serves for that; whose they are is then what you say.
    filler: per modality what stands in where it is absent: zeros, mean, learned, skip (hands the network None), a
        number or a tensor of one row.
    unknown: what becomes of a pattern that has no adapters: error, nearest, compose (from those that lack one
        modality each) or base (filled in, not adapted).
    mixing: whether rows of several patterns run in one pass (gather) or pattern by pattern (group).
    include, exclude: globs over names of modules; types: families (linear, conv, norm, embedding, attention,
        recurrent) or types; depth: the most dots in a name; owners: modalities, or "fusion".
    head: the module of kind head-only; by default the last linear layer or convolution.
    say: hears what matched, what did not and why, also what is found later; None is silent.
    Raises `UserError` for what cannot be adapted so.
    """
    if not isinstance(network, nn.Module) or isinstance(network, Adapted):
        what = "is adapted already; take its .network" if isinstance(network, Adapted) else "is no torch.nn.Module"
        raise UserError(f"the network, of type {type(network).__name__}, {what}")
    _as_written(network)
    names, prefixes = _names(modalities)
    chosen = kind_named(kind)
    if head is not None and not chosen.head:
        raise UserError(f"head {head!r} goes with kind 'head-only', not with {chosen.name!r}; include chooses sites")
    _one_of("unknown", unknown, get_args(Unknown))
    _one_of("mixing", mixing, get_args(Mixing))
    if unknown == "compose" and not isinstance(chosen.form, Affine):
        raise UserError(f"unknown='compose' does not go with kind {chosen.name!r}, only with scales and shifts")
    asked = parsed_all([] if chosen.composed and patterns == "all" else patterns, names)
    signature = Signature(network, names, inputs or {})
    wanted = Filter(
        include=_several(include),
        exclude=_several(exclude),
        types=_several(types),
        depth=depth,
        owners=_several(owners),
    )
    bound = None if example is None else _bound(signature, example)
    wishes = Asked(modalities=prefixes, wanted=wanted, kind=chosen, head=head)
    plan = planned(twin_of(network), signature, wishes, bound)
    bank = Bank(kind=chosen, sites=plan.sites, names=names, patterns=asked, seed=seed)
    fillers = Fillers(signature, filler)
    if bound is not None:
        for slots in signature.slots.values():
            for slot in slots:
                fillers.begin(slot, slot.read(bound))
    net = Adapted(network, plan, bank, fillers, unknown, mixing, say)
    for line in _about(net, plan):
        net.hear(line)
    return net


def _as_written(network: nn.Module) -> None:
    """Raises `UserError` for a network that does not run as Python any more, so that no hook would be heard."""
    for name, module in network.named_modules():
        where = f"its {name!r}" if name else "the network"
        if isinstance(module, torch.jit.ScriptModule):
            raise UserError(
                f"{where} is TorchScript; adapt the network that it was made of, and script what merge gives"
            )
        if isinstance(getattr(module, "_orig_mod", None), nn.Module):
            what = "network._orig_mod" if not name else "what it was compiled from"
            raise UserError(
                f"{where} is compiled, which goes around adapters; adapt {what}, and compile what merge gives"
            )


def _names(modalities: Any) -> tuple[list[str], dict[str, list[str]] | None]:
    """Names and prefixes; None where the prefixes have to be found."""
    if isinstance(modalities, str) or not isinstance(modalities, Collection) or len(modalities) < 1:
        raise UserError("modalities: expected names, or a mapping from names to modules, at least one")
    names = list(modalities)
    if len(set(names)) < len(names):
        raise UserError("modalities: a name stands there twice")
    for name in names:
        if not isinstance(name, str) or not name or "+" in name:
            raise UserError(f"modality {name!r}: a name is a word without '+'")
    if not isinstance(modalities, Mapping):
        return names, None
    given = {name: _several(prefix) for name, prefix in modalities.items()}
    for name, prefixes in given.items():
        if not all(isinstance(prefix, str) for prefix in prefixes):
            raise UserError(f"modality {name!r}: expected names of modules, not {modalities[name]!r}")
    return names, given


def _bound(signature: Signature, example: Mapping[str, Any] | Sequence[Any]) -> dict[str, Any]:
    bound = signature.bind([], example) if isinstance(example, Mapping) else signature.bind(example, {})
    for name, slots in signature.slots.items():
        value = slots[0].read(bound)
        if not isinstance(value, Tensor) or not value.ndim:
            what = "a single number" if isinstance(value, Tensor) else f"{value!r}"[:40]
            raise UserError(f"example: {name!r} is {what}; an example has a tensor with some rows of everything")
    return bound


def _about(net: Adapted, plan: Plan) -> list[str]:
    total = sum(p.numel() for p in net.network.parameters())
    counts = [net.bank.count(number) for number in range(len(net.bank.sets))]
    what = "absent modality" if net.bank.kind.composed else "pattern"
    most = max(counts, default=0)
    share = 100 * most / max(1, total)
    size = f"  {most:,} numbers per {what}, {share:.2f} % of {total:,}; {len(counts)} sets"
    return plan.lines() + ([size] if counts else [])


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple | set | frozenset) else [value]


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UserError(f"{name} {value!r}: {nearest(value, known)}")
