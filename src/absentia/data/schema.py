"""What the columns of a table mean: its modalities, its target, its identity and its split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from absentia.data.kinds import KINDS, Kind, Volume
from absentia.data.segmentation import Masks
from absentia.errors import UserError, nearest

__all__ = ["Schema", "Target", "modality_from", "modality_from_flag", "pattern_name", "target_from_flag"]

TargetKind = Literal["class", "labels", "number", "mask"]
TARGET_KINDS = ("class", "labels", "number", "log", "mask")
NOTHING = "nothing"  # the pattern of a row without any modality
FLAG = re.compile(r"^(?P<name>[^=]+)=(?P<kind>\w+)(?::(?P<encoder>.+?))?(?:@(?P<columns>[^@]+))?$")


@dataclass(frozen=True)
class Target:
    """What is to be predicted.

    kind: "class" (one of several), "labels" (any number of several), "number", or "mask" (regions of a volume or a
        plane, by one column with labels or several columns, A,B,C, with a mask each); None until the data decides.
    log: learn the logarithm of a positive number (prices); scores are in its own units all the same.
    classes: the names, in the order of the scores; empty until fitted. Of a mask they are its regions.
    masks: settings of a mask.
    """

    column: str
    kind: TargetKind | None = None
    log: bool = False
    classes: tuple[str, ...] = ()
    masks: Masks = field(default_factory=Masks)

    @property
    def columns(self) -> tuple[str, ...]:
        """The table's columns that it is made of."""
        return tuple(self.column.split(",")) if self.kind == "mask" else (self.column,)

    @property
    def size(self) -> int:
        """How many scores a row has."""
        return 1 if self.kind == "number" else len(self.classes)

    def to_json(self) -> dict[str, Any]:
        """The target as JSON; the settings of a mask only where it is one."""
        state = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "masks"}
        masks = {"masks": self.masks.to_json()} if self.kind == "mask" else {}
        return state | {"classes": list(self.classes)} | masks


@dataclass(frozen=True)
class Schema:
    """The modalities by name, in the order of the presence table's columns, and the columns with a role."""

    modalities: Mapping[str, Kind]
    target: Target | None = None
    id: str | None = None
    split: str | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if not self.modalities:
            raise UserError("no modality declared; give --modality NAME=KIND at least once")
        for name in self.modalities:
            _check_name(name)
        if self.target and self.target.kind == "mask":
            _check_volumes(self.modalities)
        for column in self.target.columns if self.target else ():
            if column in self.columns:
                raise UserError(f"column {column!r} is the target and an input too; leave it out of the inputs")

    @property
    def names(self) -> list[str]:
        """The modalities' names."""
        return list(self.modalities)

    def columns_of(self, name: str) -> tuple[str, ...]:
        """The table's columns that modality `name` is made of."""
        return self.modalities[name].columns or (name,)

    @property
    def columns(self) -> list[str]:
        """Every column that a modality uses."""
        return [c for name in self.modalities for c in self.columns_of(name)]

    def check(self, present: Iterable[str], table: str, *, target: bool = True) -> None:
        """Raise `UserError` for a column that the table lacks."""
        known = list(present)
        roles = [("modality " + n, c) for n in self.modalities for c in self.columns_of(n)]
        roles += [("id", self.id)] if self.id else []
        roles += [("split", self.split)] if self.split else []
        roles += [("target", c) for c in self.target.columns] if target and self.target else []
        for role, column in roles:
            if column not in known:
                raise UserError(f"{table} has no column {column!r} ({role}); {nearest(column, known)}")

    def to_json(self) -> dict[str, Any]:
        """The schema as JSON."""
        target = self.target and self.target.to_json()
        kinds = {name: kind.describe() for name, kind in self.modalities.items()}
        return {"modalities": kinds, "target": target, "id": self.id, "split": self.split}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Schema:
        """The schema that `to_json` described."""
        modalities = {name: modality_from(name, options) for name, options in state["modalities"].items()}
        target = state.get("target")
        if target:
            masks = Masks(**target.get("masks", {}))
            target = Target(**{**target, "classes": tuple(target.get("classes", ())), "masks": masks})
        return cls(modalities=modalities, target=target, id=state.get("id"), split=state.get("split"))


def _check_volumes(modalities: Mapping[str, Kind]) -> None:
    """A mask is answered voxel by voxel, from what lies on its own grid."""
    for name, kind in modalities.items():
        if not isinstance(kind, Volume):
            raise UserError(f"a mask is answered from volumes, and modality {name!r} is of kind {kind.kind!r}")
        if kind.size is not None or kind.encoder is not None:
            raise UserError(f"modality {name!r}: beside a mask a volume keeps its voxels; leave size and encoder out")


def pattern_name(names: Iterable[str], present: Iterable[bool]) -> str:
    """How a pattern is called: the names of what is present, in order, "image+text"; "nothing" when none is."""
    return "+".join(n for n, there in zip(names, present, strict=True) if there) or NOTHING


def modality_from(name: str, options: Mapping[str, Any] | str) -> Kind:
    """A modality from a mapping with `kind` and that kind's options (as in YAML), or from "KIND[:ENCODER]"."""
    _check_name(name)
    if isinstance(options, str):
        return modality_from_flag(f"{name}={options}")[1]
    if not isinstance(options, Mapping):
        raise UserError(f"modality {name!r}: expected a kind or a mapping with one, not {options!r}")
    given = dict(options)
    kind = _kind(name, given.pop("kind", None))
    known = [f.name for f in fields(kind)]
    for key in given:
        if key not in known:
            raise UserError(f"modality {name!r}: {kind.kind} has no option {key!r}; {nearest(key, known)}")
    if "columns" in given:
        given["columns"] = _columns(name, given["columns"])
    return kind(**given)


def modality_from_flag(flag: str) -> tuple[str, Kind]:
    """`NAME=KIND[:ENCODER][@COLUMN,COLUMN...]` as a name and its modality.

    >>> modality_from_flag("facts=tabular@year,runtime")[1].columns
    ('year', 'runtime')
    """
    match = FLAG.match(flag)
    if match is None:
        raise UserError(f"--modality {flag!r}: expected NAME=KIND[:ENCODER][@COLUMN,...], for example poster=image")
    kind = _kind(match["name"], match["kind"])
    return match["name"], kind(columns=_columns(match["name"], match["columns"]), encoder=match["encoder"])


def target_from_flag(flag: str) -> Target:
    """`COLUMN[=class|labels|number|log|mask]` as a target; without a kind the data decides."""
    column, _, kind = flag.partition("=")
    if not column:
        raise UserError(f"target {flag!r}: expected COLUMN or COLUMN=class|labels|number|log|mask")
    if kind and kind not in TARGET_KINDS:
        raise UserError(f"target {flag!r}: unknown kind {kind!r}; {nearest(kind, TARGET_KINDS)}")
    if kind == "log":
        return Target(column=column, kind="number", log=True)
    return Target(column=column, kind=kind or None)  # type: ignore[arg-type]


def _kind(name: str, kind: Any) -> type[Kind]:
    if not isinstance(kind, str) or kind not in KINDS:
        raise UserError(f"modality {name!r}: unknown kind {kind!r}; {nearest(str(kind), KINDS)}")
    return KINDS[kind]


def _check_name(name: Any) -> None:
    """Names make patterns ("image+text"), flags ("image=...") and lists ("image,text")."""
    if not isinstance(name, str) or name != name.strip() or not name or name == NOTHING or set(name) & set("+,="):
        raise UserError(
            f"modality name {name!r}: must be a text without '+', ',', '=' and outer spaces, and not {NOTHING!r}"
        )


def _columns(name: str, columns: Any) -> tuple[str, ...]:
    if isinstance(columns, str):
        return tuple(column.strip() for column in columns.split(","))
    if columns is not None and not isinstance(columns, Sequence):
        raise UserError(f"modality {name!r}: columns {columns!r} is no list of names")
    return tuple(str(column) for column in columns or ())
