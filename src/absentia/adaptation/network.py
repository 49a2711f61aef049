"""A trained network that answers whatever is present, with a few learned numbers for each combination.

M. K. Reza, A. Prater-Bennette, M. S. Asif, "Robust Multimodal Learning with Missing Modalities via
Parameter-Efficient Adaptation", TPAMI 2025 (arXiv 2310.03986): the network is frozen; for every pattern of present
modalities a scale and a shift after each layer are learned.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from absentia.adaptation.attach import Plan
from absentia.adaptation.bank import Bank, Unknown
from absentia.adaptation.calibrate import calibrate_adapters
from absentia.adaptation.calls import Arguments, Slot
from absentia.adaptation.export import export_onnx
from absentia.adaptation.file import load_into, save_from
from absentia.adaptation.fill import Fillers
from absentia.adaptation.fit import Loss, fit_adapters, settings_from
from absentia.adaptation.forms import RowsOf
from absentia.adaptation.hooks import Attached, copied_whole, share_again
from absentia.adaptation.late import keep_rows, try_out
from absentia.adaptation.merge import merged
from absentia.adaptation.nested import joined, mapped
from absentia.adaptation.practice import given_batches
from absentia.adaptation.presence import Rows, parsed, presence_from, rows_of
from absentia.adaptation.selection import Selection, chosen, in_backward
from absentia.adaptation.sensitivity import Chosen, restrict
from absentia.adaptation.sites import Site
from absentia.errors import UserError

__all__ = ["Adapted"]

Mixing = Literal["auto", "gather", "group"]
_PRESENT: ContextVar[dict[int, Any]] = ContextVar("absentia_present", default={})  # noqa: B039  (never changed)


class _Elsewhere(UserError):
    """Rows are not where they were in the example."""


class Adapted(nn.Module):
    """What `adapt` makes of a network. Call it like the network; None, or `present`, says what is absent.

    Only what it learns requires gradients. In training mode the network itself stays in eval mode: its batch norms
    keep their statistics, and nothing is dropped.
    network: the given one, untouched but for its gradients and modes; it answers as it always did.
    """

    def __init__(
        self,
        network: nn.Module,
        plan: Plan,
        bank: Bank,
        fillers: Fillers,
        unknown: Unknown,
        mixing: Mixing,
        say: Callable[[str], Any] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.plan, self.bank, self.fillers = network, plan, bank, fillers
        self.unknown, self.mixing = unknown, mixing
        self.hear: Callable[[str], Any] = say or (lambda line: None)
        self.instead: dict[tuple[bool, ...], nn.Module] = {}
        self._learned = [p for p in network.parameters() if p.requires_grad]
        self._modes = [(m, m.training) for m in network.modules()]
        self._twin = [plan.network]  # in a list, so that its parameters are not counted twice
        self._attached = Attached(self, bank.form, bank.sites, strict=True)
        network.requires_grad_(False)
        network.eval()
        plan.network.eval()

    # Calling

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The network's answer. Rows of one call may have different patterns.

        Raises `UserError` for a modality that is not given, for rows with nothing present, and for a pattern that has
        no adapters, unless `unknown` says what becomes of those.
        """
        arguments = self.plan.signature.bind(args, kwargs)
        presence = self.presence_of(arguments)
        keep_rows(self, arguments, presence)
        return self.answer(arguments, presence)

    @contextmanager
    def present(self, given: Any) -> Iterator[Adapted]:
        """Within, calls have these modalities: bool (B, M) in the order of `modalities`, names ("rgb+depth" or
        {"rgb"}) of what all rows have, or a mapping from every name to a bool or a bool tensor (B,)."""
        token = _PRESENT.set(_PRESENT.get() | {id(self): given})
        try:
            yield self
        finally:
            _PRESENT.reset(token)

    def base(self, *args: Any, **kwargs: Any) -> Any:
        """The network's answer with absent modalities filled in and nothing adapted: what it did before."""
        arguments = self.plan.signature.bind(args, kwargs)
        return self.answer(arguments, self.presence_of(arguments), base=True)

    def answer(self, arguments: Arguments, presence: Tensor, *, base: bool = False) -> Any:
        """The answer to bound arguments of which rows show some, bool (B, M); `base` without adapters."""
        rows = rows_of(presence)
        if any(module.training for module in self.network.modules()):
            raise UserError(
                "the network is in training mode, in which batch norms change and values are dropped; call its eval() "
                "again, or train() of the adapted network, which leaves it in eval mode"
            )
        if base and not (rows.mixed and self.fillers.any_skipped):
            return self.plan.signature.call(self.network, self.filled(arguments, presence))
        if not rows.mixed:
            return self._together(arguments, presence, rows, base)
        if not base and self._gathers(rows):
            try:
                return self._together(arguments, presence, rows, base)
            except _Elsewhere:
                if self.mixing == "gather":
                    raise
        return self._apart(arguments, presence, rows, base)

    def run_changed(self, arguments: Arguments, presence: Tensor, change: Callable[[Site, Tensor], Tensor]) -> Any:
        """The network's answer where `change` has its way with the output of every site that is a module's output."""
        with ExitStack() as stack:
            for site in self.bank.sites:
                if not site.part:
                    hook = partial(_changed, change, site)
                    stack.callback(site.module.register_forward_hook(hook).remove)
            stack.enter_context(chosen(self, Selection(rows_of(presence), _nothing)))
            return self.plan.signature.call(self.twin, self.filled(arguments, presence))

    def use(self, pattern: str | Collection[str], network: nn.Module) -> None:
        """Let another network answer rows of one pattern: a PEFT model of a copy, one that was trained for it alone.

        `save` leaves it out; `load` asks for it.
        """
        if not isinstance(network, nn.Module):
            raise UserError(f"use: expected a torch.nn.Module that answers {pattern!r}, not a {type(network).__name__}")
        self.instead[parsed(pattern, self.names)] = network

    @property
    def names(self) -> list[str]:
        """The modalities, in order."""
        return self.bank.names

    @property
    def twin(self) -> nn.Module:
        """The network's modules once more, with hooks; every parameter and buffer is the network's own."""
        return self._twin[0]

    @property
    def gathers(self) -> bool:
        """Whether rows of several patterns run in one pass; else each pattern's rows run apart."""
        known = self.plan.folds is not None and (self.mixing == "gather" or not self.plan.why_not)
        return self.mixing != "group" and known and not self.fillers.any_skipped

    def train(self, mode: bool = True) -> Adapted:
        """Training mode of what is learned; the network stays in eval mode."""
        super().train(mode)
        self.network.eval()
        return self

    def adapters(self) -> Iterator[nn.Parameter]:
        """All that learns."""
        yield from self.bank.parameters()
        yield from self.fillers.parameters()

    def fit(
        self,
        loader: Iterable[Any],
        *,
        loss: Loss | None = None,
        validation: Iterable[Any] | None = None,
        budget: float | None = None,
        choose: Chosen = "sensitivity",
        watch: Callable[[dict[str, Any]], Any] | None = None,
        **settings: Any,
    ) -> list[dict[str, Any]]:
        """Learn the adapters and return the losses of every epoch.

        loader: read once per epoch; gives (inputs, target) or (inputs, target, present). inputs are a mapping of the
            network's arguments or a tuple of them, None is absent; without a loss a mapping alone will do.
        loss: the network's output and the target to a mean over rows; None learns from the network itself (distil).
        validation: another such loader; every pattern then keeps the values of its own best epoch.
        budget: share of the channels that learn, chosen by `choose`: sensitivity, or random and lowest as controls;
            None leaves it at what it was, all of them at first.
        watch: hears the losses after each epoch.
        settings: patterns ("all" or a list), epochs (20; in each a row shows one pattern), lr (3e-3), weight_decay (0),
            warmup (0.1 of the steps), validations (how often validation rows are scored, spread evenly; None is after
            every epoch, which takes long where there are many patterns), distil (weight of the distance to the
            network's answer to complete rows), temperature (2), distance (kl or mse), alike with features (weight of,
            and module for, 1 - cosine between its outputs), seed.
        Raises `UserError` for a loader that gives something else, or nothing, and for a loss that is not finite.
        """
        chosen = settings_from(settings)
        try_out(self, loader, labelled=loss is not None)
        if budget is not None:
            restrict(self, loader, loss, budget, choose, chosen.seed)
        return fit_adapters(self, loader, loss, chosen, validation, watch)

    def calibrate(self, loader: Iterable[Any], *, patterns: Any = "all", rows: int = 512) -> None:
        """Set scales and shifts from complete rows alone, without labels or training: see `calibrate.py`.

        loader: as of `fit`; a mapping of the network's arguments alone will do.
        rows: so many, in one pass. With kind norm and exclude it re-estimates the statistics of batch norms alone.
        """
        try_out(self, loader, labelled=False)
        calibrate_adapters(self, loader, patterns, rows)

    @torch.no_grad()
    def measure(self, loader: Iterable[Any]) -> None:
        """Take the means of rows that are there, for fillers that are means, and note the shapes of all."""
        sums: dict[Slot, tuple[Tensor, int]] = {}
        for given in given_batches(self, loader, labelled=False):
            for m, name in enumerate(self.names):
                for slot in self.plan.signature.slots[name]:
                    value = slot.read(given.arguments)
                    self.fillers.begin(slot, value)
                    if isinstance(value, Tensor) and self.fillers.how[str(slot)] == "mean":
                        some = value[given.presence[:, m]]
                        total, count = sums.get(slot, (torch.zeros_like(some[:1]).sum(dim=0), 0))
                        sums[slot] = (total + some.sum(dim=0), count + len(some))
        for slot, (total, count) in sums.items():
            self.fillers.measure(slot, total / max(1, count))

    def merge(self, pattern: str | Collection[str]) -> nn.Module:
        """A plain network with one pattern's adapters in its weights; see `absentia.adaptation.merge`."""
        return merged(self, pattern)

    def export(self, path: str | Path, pattern: str | Collection[str], example: Mapping[str, Any]) -> Path:
        """Write one pattern's merged network as ONNX; see `absentia.adaptation.export`."""
        return export_onnx(self, path, pattern, example)

    def save(
        self,
        path: str | Path,
        *,
        precision: str = "float16",
        values: bool = True,
        metrics: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write all adapters into one safetensors file and return its path.

        precision: float16, bfloat16, float32 or float64.  values: whether the file knows the network's weights too, or
        only their names, shapes and types.  metrics: anything that JSON can hold.
        """
        return save_from(self, path, precision=precision, values=values, metrics=metrics or {})

    def load(self, path: str | Path) -> dict[str, Any]:
        """Take over the adapters of a file and return its metrics; raises `UserError` where they do not fit."""
        return load_into(self, path)

    def detach(self) -> nn.Module:
        """The network as it was given, bit by bit; it learns and drops as before."""
        for parameter in self._learned:
            parameter.requires_grad_(True)
        for module, mode in self._modes:
            module.training = mode
        return self.network

    def __deepcopy__(self, memo: dict[int, Any]) -> Adapted:
        """The same with a network and adapters of its own; raises `UserError` if the network has no copy."""
        return copied_whole(self, memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise UserError(
            "an adapted network cannot be pickled; save(path) writes its adapters, and adapt(...) of the same network "
            "with load(path) brings them back (copy.deepcopy copies it)"
        )

    def _apply(self, fn: Any, recurse: bool = True) -> Adapted:
        """To another device or type, with the twin."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        share_again(self.network, self.twin)
        self.fillers.follow(next((p.dtype for p in self.network.parameters() if p.is_floating_point()), torch.float32))
        return self

    # Rows

    def presence_of(self, arguments: Arguments) -> Tensor:
        """bool (B, M): what `present` says of what is given; without it, all that is not None.

        Raises `UserError` for rows with nothing.
        """
        slots = self.plan.signature.slots
        given = {slot: slot.read(arguments) for name in self.names for slot in slots[name]}
        values = {slot: _rowed(slot, value) for slot, value in given.items() if value is not None}
        if not any(slots[name][0] in values for name in self.names):
            raise UserError("every modality is None: there is nothing to answer from")
        if len({len(value) for value in values.values()}) > 1:
            rows = ", ".join(f"{slot} {len(value)}" for slot, value in values.items())
            raise UserError(f"the modalities have different numbers of rows: {rows}")
        first = next(iter(values.values()))
        size, device = len(first), first.device
        there = torch.tensor([slots[name][0] in values for name in self.names], device=device)
        there = there.expand(size, len(self.names))
        said = _PRESENT.get().get(id(self))
        if said is not None:
            there = there & presence_from(said, self.names, size, device)
        elif bool(there.all()) and in_backward():
            raise UserError(
                "an adapted network runs again inside backward (gradient checkpointing), where present(...) is not "
                "known; let backward run within it too"
            )
        nothing = (~there.any(dim=1)).nonzero()[:, 0].tolist()
        if nothing:
            raise UserError(
                f"row {nothing[0]} has nothing present, as {len(nothing)} of {size} rows do; leave such rows out"
            )
        return there

    def filled(self, arguments: Arguments, presence: Tensor) -> Arguments:
        """The arguments with something harmless wherever a modality is absent."""
        out = dict(arguments)
        for m, name in enumerate(self.names):
            slots = self.plan.signature.slots[name]
            for slot in slots:
                self.fillers.notice(slot, slot.read(arguments))
            self.fillers.fill(out, slots, presence[:, m])
        return out

    def _gathers(self, rows: Rows) -> bool:
        if self.mixing == "gather" and not self.gathers:
            why = "filler 'skip' hands the network None" if self.fillers.any_skipped else self.plan.why_not
            raise UserError(f"mixing='gather': rows of several patterns cannot run in one pass; {why}")
        special = any(tuple(pattern) in self.instead for pattern in rows.patterns.tolist())
        return self.gathers and not special

    def _together(self, arguments: Arguments, presence: Tensor, rows: Rows, base: bool) -> Any:
        """All rows in one pass."""
        if base:
            return self.plan.signature.call(self.network, self.filled(arguments, presence))
        other = None if rows.mixed else self.instead.get(tuple(rows.patterns[0].tolist()))
        if other is not None:
            return self.plan.signature.call(other, self.filled(arguments, presence))
        find = partial(self.bank.values_for, patterns=rows.patterns, unknown=self.unknown)
        filled = self.filled(arguments, presence)
        if not self.bank.kind.composed and self.unknown != "compose":
            self.bank.sets_of(rows.patterns, self.unknown)  # an unknown pattern is an error before anything runs
        if bool(rows.patterns.all()):  # nothing is absent: the network itself
            return self.plan.signature.call(self.network, filled)
        with chosen(self, Selection(rows, find, self._rows_at)):
            return self.plan.signature.call(self.twin, filled)

    def _apart(self, arguments: Arguments, presence: Tensor, rows: Rows, base: bool) -> Any:
        """Each pattern's rows in a pass of their own."""
        size = len(presence)
        groups = [(rows.ids == number).nonzero()[:, 0] for number in range(len(rows.patterns))]
        parts = []
        for number, mine in enumerate(groups):
            some = {name: mapped(value, partial(_taken, mine=mine, size=size)) for name, value in arguments.items()}
            one = Rows(rows.patterns[number : number + 1], torch.zeros_like(mine))
            parts.append(self._together(some, presence[mine], one, base))
        return joined(parts, groups, self.plan.axes)

    def _rows_at(self, site: Site, shape: tuple[int, ...], ids: Tensor) -> RowsOf:
        assert self.plan.folds is not None
        fold = self.plan.folds[site.name]
        found = fold.rows(ids)
        if fold.axis < len(shape) and shape[fold.axis] == len(found.ids):
            return found
        each, rest = divmod(shape[fold.axis], len(ids)) if fold.axis < len(shape) else (0, 1)
        if rest or not each or fold.each == 1 or self.mixing != "gather":
            raise _Elsewhere(
                f"{site.name!r} makes {shape} of {len(ids)} rows, unlike in the example; say mixing='group'"
            )
        return replace(fold, each=each).rows(ids)  # so many windows or frames this time, in the same order


def _taken(value: Tensor, mine: Tensor, size: int) -> Tensor:
    """Some rows of what has a row for each of the batch."""
    return value.index_select(0, mine) if value.ndim and len(value) == size else value


def _rowed(slot: Slot, value: Any) -> Tensor:
    """The value as what it has to be; raises `UserError` for anything but a tensor with rows."""
    if not isinstance(value, Tensor):
        raise UserError(f"{slot} is a {type(value).__name__}; expected a tensor, or None where it is absent")
    if not value.ndim:
        raise UserError(f"{slot} is a single number; the first axis of a tensor has to be that of the rows")
    return value


def _nothing(site: Site) -> None:
    """The values of a site in a pass that has none."""


def _changed(
    change: Callable[[Site, Tensor], Tensor], site: Site, module: nn.Module, given: tuple[Any, ...], output: Tensor
) -> Tensor:
    return change(site, output)
