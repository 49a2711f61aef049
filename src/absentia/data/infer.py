"""What the columns of a table probably mean, each guess with its reason in one line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from absentia.data.kinds import Audio, Image, Kind, Series, Tabular, Text, Volume
from absentia.data.kinds.grids import NIFTI
from absentia.data.masks import looks_like_mask
from absentia.data.profile import MOST, Profile, is_binary, is_list, is_text, profiles
from absentia.data.schema import Schema, Target, target_from_flag
from absentia.data.sniff import AUDIO_SUFFIXES, IMAGE_SUFFIXES, audio_format, image_format, volume_format
from absentia.data.splits import WORDS
from absentia.data.storage import is_media
from absentia.data.table import Table
from absentia.errors import UserError, nearest

__all__ = ["Reason", "infer"]

_TARGETS = ("target", "label", "labels", "class", "y")
_SPLITS = ("split", "subset", "partition")
_ID = re.compile(r"(?i:(?:.*[_\W])?(?:id|uid|uuid|guid|key))|.*[a-z]I[dD]")
_FACTS = ("facts", "attributes", "properties", "tabular")
_UNREAD = (".mgz", ".nrrd", ".dcm")  # volumes of other formats
_FEW_VALUES, _FEW_WORDS = 20, 4


@dataclass(frozen=True)
class Reason:
    """What a column was taken for, and why: one line to print."""

    column: str
    role: str
    why: str

    def __str__(self) -> str:
        return f"{self.column}: {self.role} - {self.why}"


def infer(table: Table, *, target: str | None, need_target: bool = True) -> tuple[Schema, list[Reason]]:
    """The schema that the cells suggest, and the reason for each column's role, in the order of the columns.

    target: COLUMN[=KIND], or None to look for a column called target, label, class or y.

    Raises UserError if there is no such target (unless `need_target` is False), or if no column can be a modality.
    """
    found = profiles(table)
    roles: dict[str, Reason] = {}
    wanted = _target(table, found, target, roles, need_target=need_target)
    split = _split(found, roles)
    identity = _identity(found, roles)
    for name, profile in found.items():
        if name not in roles:
            roles[name] = Reason(name, *_role(profile))
    if wanted is not None and _is_mask(wanted, found):
        wanted = replace(wanted, kind="mask")
        roles = {name: _beside_a_mask(reason) for name, reason in roles.items()}
    reasons = [roles[name] for name in found]
    modalities = _modalities(reasons, list(found))
    if not modalities:
        raise UserError(f"{table.name}: no column looks like a modality. " + "; ".join(map(str, reasons)))
    return Schema(modalities=modalities, target=wanted, id=identity, split=split), reasons


def _is_mask(target: Target, found: Mapping[str, Profile]) -> bool:
    cells = found[target.column].cells if target.column in found else ()
    return target.kind == "mask" or (target.kind is None and any(looks_like_mask(cell) for cell in cells))


def _beside_a_mask(reason: Reason) -> Reason:
    """Pictures are planes then, and what is no image at all says nothing about a voxel."""
    if reason.role == "image":
        return replace(reason, role="volume", why=f"is a plane beside a mask: {reason.why}")
    if reason.role in ("target", "split", "id", "volume", "left out"):
        return reason
    return replace(reason, role="left out", why=f"is no image, as a mask needs; it {reason.why}")


def _modalities(reasons: Sequence[Reason], columns: Sequence[str]) -> dict[str, Kind]:
    """A modality for each encoded, text, series or vector column; numbers and categories are one together."""
    kinds: dict[str, Callable[..., Kind]] = {
        "image": Image,
        "audio": Audio,
        "text": Text,
        "series": Series,
        "vector": Tabular,
        "volume": Volume,
    }
    made = {}
    for reason in reasons:
        if reason.role in kinds:
            name = re.sub(r"[+,=]", "_", reason.column)
            made[name] = kinds[reason.role](columns=() if name == reason.column else (reason.column,))
    facts = tuple(reason.column for reason in reasons if reason.role in ("number", "category"))
    if facts:
        name = next((n for n in _FACTS if n not in columns), "facts of the table")
        made[name] = Tabular(columns=facts)
    return made


# ------------------------------------------------------------------------------ columns with a part of their own


def _target(
    table: Table, found: Mapping[str, Profile], asked: str | None, roles: dict[str, Reason], *, need_target: bool
) -> Target | None:
    if asked is not None:
        target = target_from_flag(asked)
        if not set(target.columns) <= set(found):
            raise UserError(f"{table.name} has no column {target.column!r} (target); {nearest(target.column, found)}")
        roles |= {column: Reason(column, "target", "was asked for") for column in target.columns}
        return target
    lower = {name.lower(): name for name in found}
    name = next((lower[word] for word in _TARGETS if word in lower), None)
    if name is not None:
        roles[name] = Reason(name, "target", "has the name of one")
        return Target(column=name)
    if need_target:
        likely = [name for name, profile in found.items() if _role(profile)[0] in ("category", "number")]
        names = ", ".join(likely) or "none of its columns"
        raise UserError(f"{table.name}: what is to be predicted? Say --target COLUMN; likely: {names}")
    return None


def _split(found: Mapping[str, Profile], roles: dict[str, Reason]) -> str | None:
    for name, profile in found.items():
        if name.lower() not in _SPLITS or name in roles or not profile.values:
            continue
        words = [str(value) for value in profile.values]
        if all(word.lower() in WORDS for word in words):
            roles[name] = Reason(name, "split", f"says {', '.join(words)}")
            return name
    return None


def _identity(found: Mapping[str, Profile], roles: dict[str, Reason]) -> str | None:
    """A column that has the name of an id and (nearly) always another value; else the first of unique codes."""
    free = [p for p in found.values() if p.name not in roles and (is_text(p.dtype) or pa.types.is_integer(p.dtype))]
    whole = [p for p in free if p.present == p.rows and not _files(p.cells)]
    named = [p for p in whole if _ID.fullmatch(p.name) and (p.unique or p.values is None)]
    for profile in named + [p for p in whole if p.unique and _is_code(p)]:
        differs = "is another in each row" if profile.unique else "names what a row is about, several times"
        why = f"has the name of one and {differs}" if profile in named else f"is a code that {differs}"
        roles[profile.name] = Reason(profile.name, "id", why)
        return profile.name
    return None


def _is_code(profile: Profile) -> bool:
    """Short words without spaces."""
    cells = profile.cells
    short = all(isinstance(c, str) and 0 < len(c) <= 40 and not re.search(r"\s", c) for c in cells)
    return short and profile.present > _FEW_VALUES


# ------------------------------------------------------------------------------------------- columns with content


def _role(profile: Profile) -> tuple[str, str]:
    """What a column holds, and why one thinks so."""
    if not profile.present:
        return "left out", "every cell is null"
    if profile.values is not None and len(profile.values) == 1:
        return "left out", f"is {next(iter(profile.values))!r} in every row that has it"
    if is_binary(profile.dtype) or is_media(profile.dtype):
        return _encoded(profile)
    if pa.types.is_struct(profile.dtype):
        sound = {"array", "sampling_rate"} <= {field.name for field in profile.dtype}
        return ("audio", "has samples and their rate") if sound else ("left out", "is a structure of several values")
    if is_list(profile.dtype):
        return _listed(profile)
    if is_text(profile.dtype):
        return _files(profile.cells) or _worded(profile)
    return _scalar(profile)


def _encoded(profile: Profile) -> tuple[str, str]:
    heads = [cell for cell in profile.cells if isinstance(cell, bytes)]
    for role, sniff in (("image", image_format), ("audio", audio_format), ("volume", volume_format)):
        names = [name for name in map(sniff, heads) if name]
        if heads and 2 * len(names) > len(heads):
            return role, f"{len(names)} of {len(heads)} cells looked at begin as {_listing(names)}"
    if sum(head.startswith(b"\x93NUMPY") for head in heads) * 2 > len(heads):
        return "series", "cells are .npy files"
    by_name = _files([cell for cell in profile.cells if isinstance(cell, str)])
    if by_name:
        return by_name
    if is_binary(profile.dtype) and sum(map(_mostly_text, heads)) * 2 > len(heads):
        return "text", "is text, but not every cell is UTF-8"
    return "left out", "holds bytes of a format that is not known"


def _listed(profile: Profile) -> tuple[str, str]:
    inner = profile.dtype.value_type
    while is_list(inner):
        inner = inner.value_type
    if not (pa.types.is_integer(inner) or pa.types.is_floating(inner)):
        return "left out", f"is a list of {inner}"
    if is_list(profile.dtype.value_type):
        return "series", "is a list of lists of numbers"
    if len(profile.lengths) == 1:
        return "vector", f"has {next(iter(profile.lengths))} numbers in every row"
    return "series", "is a list of numbers, not always as many"


def _files(cells: Sequence[Any]) -> tuple[str, str] | None:
    """The role of paths, by what they end in."""
    ends = {"image": IMAGE_SUFFIXES, "audio": AUDIO_SUFFIXES, "series": (".npy",), "volume": NIFTI, "left out": _UNREAD}
    for role, suffixes in ends.items():
        named = [c for c in cells if isinstance(c, str) and c.lower().endswith(suffixes) and "\n" not in c]
        if cells and 2 * len(named) > len(cells):
            what = "volumes are read from NIfTI: " if role == "left out" else ""
            return role, f"{what}{len(named)} of {len(cells)} cells looked at are paths like {named[0]!r}"
    return None


def _worded(profile: Profile) -> tuple[str, str]:
    if profile.values is None:
        return "text", f"has more than {MOST} different strings"
    count = len(profile.values)
    words = sum(len(str(value).split()) for value in profile.values) / count
    repeated = count * (2 if count <= _FEW_VALUES else 5) <= profile.present
    if repeated and words <= _FEW_WORDS:
        return "category", f"has {count} different short strings in {profile.present} rows"
    return "text", f"has {count} different strings in {profile.present} rows"


def _scalar(profile: Profile) -> tuple[str, str]:
    dtype = profile.dtype
    if pa.types.is_boolean(dtype):
        return "category", "is true or false"
    if not (pa.types.is_integer(dtype) or pa.types.is_floating(dtype)):
        return "left out", f"is of type {dtype}, which no kind reads"
    if _ID.fullmatch(profile.name) and profile.unique:
        return "left out", "has the name of an id and is another number in each row"
    if profile.span and profile.unique and profile.span[1] - profile.span[0] == profile.rows - 1:
        return "left out", "counts the rows"
    return "number", f"has numbers ({dtype})"


def _mostly_text(head: bytes) -> bool:
    readable = head.decode("utf-8", errors="replace")
    return "\0" not in readable and readable.count("\ufffd") <= len(readable) / 4


def _listing(names: Sequence[str]) -> str:
    return " or ".join(dict.fromkeys(names))
