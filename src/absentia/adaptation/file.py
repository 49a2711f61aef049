"""The adapters in one small file, which refuses any network but the one they were made for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import Tensor, nn

from absentia.adaptation.bank import Bank
from absentia.adaptation.presence import parsed
from absentia.data.schema import pattern_name
from absentia.errors import UserError

if TYPE_CHECKING:
    from absentia.adaptation.network import Adapted

__all__ = ["fingerprint", "load_into", "save_from"]

VERSION = 1
PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}
INDEX = ".index"
FILLER = "+filler/"  # no pattern is called so
KEYS: dict[str, Any] = {
    **dict.fromkeys(("form", "filler", "sites", "metrics"), dict),
    **dict.fromkeys(("modalities", "sets"), list),
    **dict.fromkeys(("kind", "base"), str),
    "base_values": str | None,
}
LATER: dict[str, Any] = {"elsewhere": list}  # what files of before do not have


def fingerprint(network: nn.Module, *, values: bool) -> str:
    """SHA-256 over names, shapes and types of all parameters and buffers, and over their bytes too."""
    found = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if not isinstance(tensor, Tensor):  # what a module packed by itself
            found.update(f"{name} {type(tensor).__name__} {tensor if values else ''}\n".encode())
            continue
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        if values:
            found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def save_from(net: Adapted, path: str | Path, *, precision: str, values: bool, metrics: Mapping[str, Any]) -> Path:
    """Write all sets. Raises `UserError` for values that are not finite or too large for the precision, for metrics
    that JSON does not know, and where the file cannot be written; a file that was there stays then."""
    if precision not in PRECISIONS:
        raise UserError(f"precision {precision!r}: expected {', '.join(PRECISIONS)}")
    kept = {key: _rounded(value, PRECISIONS[precision], key) for key, value in _contents(net).items()}
    about = _about(net) | {
        "format": VERSION,
        "precision": precision,
        "sets": net.bank.set_names,
        "base_values": fingerprint(net.network, values=True) if values else None,
        "elsewhere": [pattern_name(net.names, pattern) for pattern in sorted(net.instead, reverse=True)],
        "metrics": dict(metrics),
    }
    try:
        text = json.dumps(about)
    except (TypeError, ValueError) as error:
        raise UserError(f"metrics: JSON cannot hold them: {error}") from None
    return _written(with_ending(path), serialised(kept, metadata={"absentia": text}))


def _written(out: Path, content: bytes) -> Path:
    """Write a whole file or nothing."""
    part = out.with_name(out.name + ".part")
    try:
        part.write_bytes(content)
        part.replace(out)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise UserError(f"{out}: cannot be written: {error.strerror or error}") from None
    return out


def load_into(net: Adapted, path: str | Path) -> dict[str, Any]:
    """Take over the sets of a file; returns its metrics. Nothing changes unless everything fits.

    Raises `UserError` for what is not such a file, or one of another network, kind, order of modalities or sites.
    """
    path = with_ending(path)
    about, tensors = _read(path)
    _same(_about(net), about, path)
    if about["base_values"] and about["base_values"] != fingerprint(net.network, values=True):
        raise UserError(
            f"{path}: made for other weights of this network; adapters fit only the weights they were made for"
        )
    for name in about.get("elsewhere", []):
        if parsed(name, net.names) not in net.instead:
            raise UserError(
                f"{path}: {name!r} was answered by another network, which is not in the file; say "
                f"use({name!r}, network) first"
            )
    bank = Bank(kind=net.bank.kind, sites=net.bank.sites, names=net.names, patterns=_patterns(about, net), seed=0)
    fillers = {key.removeprefix(FILLER): t for key, t in tensors.items() if key.startswith(FILLER)}
    _fill_bank(bank, {key: t for key, t in tensors.items() if not key.startswith(FILLER)}, path)
    net.fillers.take(fillers, str(path))
    bank.stand_still(net.bank.still)
    net.bank = bank
    return dict(about["metrics"])


def with_ending(path: str | Path) -> Path:
    """The path, with .safetensors where it has no ending."""
    path = Path(path)
    return path if path.suffix else path.with_suffix(".safetensors")


def _about(net: Adapted) -> dict[str, Any]:
    """What a file and a network have to agree on."""
    form = net.bank.form
    return {
        "kind": net.bank.kind.name,
        "form": {"name": type(form).__name__} | asdict(form),  # type: ignore[call-overload]
        "modalities": net.names,
        "filler": net.fillers.how,
        "sites": {site.name: site.channels for site in net.bank.sites},
        "base": fingerprint(net.network, values=False),
    }


def _contents(net: Adapted) -> dict[str, Tensor]:
    """Tensors by "set/site/value"; where few channels learn, those and their places."""
    out: dict[str, Tensor] = {}
    bank = net.bank
    for number, name in enumerate(bank.set_names):
        for site in bank.sites:
            row = int(bank.rows[site.name][number])
            if row < 0:
                continue
            mask = bank.mask(site)
            for value_name, value in bank.at(site).items():
                key, mine = f"{name}/{site.name}/{value_name}", value[row].detach().cpu().contiguous()
                if mask is None:
                    out[key] = mine
                    continue
                places = mask[row].cpu().nonzero()[:, 0]
                out[key], out[key + INDEX] = mine[places], places.to(torch.int32)
    return out | {f"{FILLER}{key}": value.detach().cpu().clone() for key, value in net.fillers.kept().items()}


def _rounded(value: Tensor, precision: torch.dtype, key: str) -> Tensor:
    if not value.is_floating_point():
        return value.clone()
    if not bool(value.isfinite().all()):
        raise UserError(f"{key}: holds values that are not finite, as after a training that diverged")
    rounded = value if key.startswith(FILLER) else value.to(precision)
    if not bool(rounded.isfinite().all()):
        most, kind = float(value.abs().max()), str(precision).removeprefix("torch.")
        raise UserError(f"{key}: {most:.3g} is too large for {kind}; save with precision='float32'")
    return rounded.clone()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a mapping)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: cannot be read as safetensors: {error}") from None
    if "absentia" not in metadata:
        raise UserError(f"{path}: a safetensors file, but not of adapters that Absentia saved")
    try:
        about = json.loads(metadata["absentia"])
    except ValueError as error:
        raise UserError(f"{path}: what it says of itself is damaged: {error}") from None
    if not isinstance(about, dict) or about.get("format") != VERSION:
        found = about.get("format") if isinstance(about, dict) else None
        raise UserError(f"{path}: format {found}, and this version of Absentia reads {VERSION}")
    for key, kind in (KEYS | {key: kind for key, kind in LATER.items() if key in about}).items():
        if not isinstance(about.get(key, False), kind):
            raise UserError(f"{path}: what it says of itself is damaged, at {key!r}")
    return about, tensors


def _same(mine: dict[str, Any], theirs: dict[str, Any], path: Path) -> None:
    """Raise `UserError` at the first difference, the most telling one first."""
    if mine["modalities"] != theirs["modalities"]:
        raise UserError(f"{path}: made for the modalities {theirs['modalities']}, here they are {mine['modalities']}")
    if (mine["kind"], mine["form"]) != (theirs["kind"], theirs["form"]):
        raise UserError(
            f"{path}: made with kind {theirs['kind']!r} {theirs['form']}, here it is {mine['kind']!r} {mine['form']}"
        )
    if mine["base"] != theirs["base"]:
        raise UserError(f"{path}: made for another network (names, shapes or types of its parameters differ)")
    if mine["sites"] != theirs["sites"]:
        raise UserError(f"{path}: made for other sites of this network; {_differing(mine['sites'], theirs['sites'])}")
    if mine["filler"] != theirs["filler"]:
        raise UserError(f"{path}: made with the fillers {theirs['filler']}, here they are {mine['filler']}")


def _differing(mine: dict[str, int], theirs: dict[str, int]) -> str:
    """The first site that is not in both, or not the same."""
    names = [name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)]
    if not names:
        return "they stand in another order"
    where = "only here" if names[0] not in theirs else "only in the file" if names[0] not in mine else "of another size"
    return f"{names[0]!r} is {where} (and {len(names) - 1} more differ)"


def _patterns(about: dict[str, Any], net: Adapted) -> Tensor:
    """bool (P, M): of which patterns there are sets."""
    if net.bank.kind.composed:
        return torch.zeros(0, len(net.names), dtype=torch.bool)
    rows = [parsed(name, net.names) for name in about["sets"]]
    return torch.tensor(rows, dtype=torch.bool).view(-1, len(net.names))


@torch.no_grad()
def _fill_bank(bank: Bank, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Copy tensors into a fresh bank; every one has to be there, none may be over."""
    left = dict(tensors)
    for number, name in enumerate(bank.set_names):
        for site in bank.sites:
            row = int(bank.rows[site.name][number])
            for value_name, value in bank.raw(site).items() if row >= 0 else ():
                key = f"{name}/{site.name}/{value_name}"
                if key not in left:
                    raise UserError(f"{path}: {key!r} is missing")
                found, places = left.pop(key), left.pop(key + INDEX, None)
                if not bool(found.isfinite().all()):
                    raise UserError(f"{path}: {key!r} holds values that are not finite")
                if places is not None:
                    found = _spread(found, places, value.shape[1:], f"{path}: {key!r}")
                    _mask_row(bank, site.name, row, places, value)
                if found.shape != value.shape[1:]:
                    raise UserError(f"{path}: {key!r} is {tuple(found.shape)}, not {tuple(value.shape[1:])}")
                value[row] = found.to(value)
    if left:
        raise UserError(f"{path}: {len(left)} tensors too many, first {sorted(left)[0]!r}")


def _spread(found: Tensor, places: Tensor, shape: torch.Size, what: str) -> Tensor:
    """Values at their places among zeros; raises `UserError` if these are not places."""
    known = places.dtype == torch.int32 and places.ndim == 1 and places.shape == found.shape[:1]
    if not known or bool(((places < 0) | (places >= shape[0])).any()):
        raise UserError(f"{what} is at places that its site does not have")
    return torch.zeros(shape, dtype=found.dtype).index_copy(0, places.long(), found)


def _mask_row(bank: Bank, name: str, row: int, places: Tensor, value: Tensor) -> None:
    site = next(site for site in bank.sites if site.name == name)
    mask = bank.mask(site)
    if mask is None:
        bank.keep(site, torch.zeros(value.shape[:2], dtype=torch.bool))
        mask = bank.mask(site)
    assert mask is not None
    mask[row] = False
    mask[row, places.long()] = True
