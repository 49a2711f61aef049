"""A pretrained backbone that was opened: what it knows, and copies of its weights for the modalities of a table."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from torch import nn

from absentia.data.kinds import Decoder, Kind
from absentia.data.schema import Schema
from absentia.errors import UserError, nearest
from absentia.models.backbone import FusedBackbone
from absentia.models.encoders.pretrained import FrozenEncoder

__all__ = ["Pretrained"]


@dataclass(frozen=True)
class Pretrained:
    """A backbone with everything that was fitted before it.

    source: folder or hub name, as it was given.  folder: where its files are.  sha256: of these files.
    kinds, decoders, encoders: by the names of its own modalities; encoders only where they are frozen.
    backbone: the weights themselves; never used, only copied.
    sizes: width, depth, heads and hidden units.  saw: what it was trained on.
    by_kind: whether a table's modalities are found by their kind, whatever they are called (ViLT), or by name.
    """

    source: str
    folder: Path
    sha256: str
    kinds: Mapping[str, Kind]
    decoders: Mapping[str, Decoder]
    backbone: FusedBackbone
    sizes: Mapping[str, int]
    saw: Mapping[str, Any] = field(default_factory=dict)
    encoders: Mapping[str, FrozenEncoder] = field(default_factory=dict)
    by_kind: bool = False

    def describe(self) -> dict[str, Any]:
        """Which backbone it is, as JSON."""
        return {
            "source": self.source,
            "folder": str(self.folder),
            "sha256": self.sha256,
            "sizes": dict(self.sizes),
            "saw": dict(self.saw),
        }

    def adopt(self, schema: Schema) -> Schema:
        """The schema with the backbone's own options; raises `UserError` for a modality that it does not know."""
        own = self.own_names(schema)
        return replace(schema, modalities={name: self._adopted(name, own[name], schema) for name in schema.names})

    def own_names(self, schema: Schema) -> dict[str, str]:
        """What the backbone calls each modality of a table."""
        if not self.by_kind:
            return {name: self._by_name(name) for name in schema.names}
        found = {name: self._by_kind(name, kind) for name, kind in schema.modalities.items()}
        if len(set(found.values())) < len(found):
            raise UserError(f"backbone {self.source!r} takes one modality of each kind ({', '.join(self.kinds)})")
        return found

    def fitted_for(self, schema: Schema) -> tuple[dict[str, Decoder], dict[str, FrozenEncoder]]:
        """Decoders and frozen encoders for the modalities of an adopted schema."""
        own = self.own_names(schema)
        decoders = {name: copy.copy(self.decoders[mine]) for name, mine in own.items()}
        encoders = {name: self.encoders[mine] for name, mine in own.items() if mine in self.encoders}
        return decoders, encoders

    def build(self, schema: Schema, *, freeze: bool, dropout: float) -> FusedBackbone:
        """A backbone for the modalities of an adopted schema: a copy that learns, or a frozen view of the weights."""
        shared: dict[int, Any] = {}
        if freeze:
            shared = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in self.backbone.parameters()}
        own = self.own_names(schema)
        made = FusedBackbone(
            embedders={name: copy.deepcopy(self.backbone.embedder(mine), shared) for name, mine in own.items()},
            transformer=copy.deepcopy(self.backbone.transformer, shared),
        )
        for module in made.transformer.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
        return made.freeze() if freeze else made

    def _by_name(self, name: str) -> str:
        if name not in self.kinds:
            raise UserError(f"backbone {self.source!r} does not know a modality {name!r}; {nearest(name, self.kinds)}")
        return name

    def _by_kind(self, name: str, kind: Kind) -> str:
        if kind.kind not in self.kinds:
            known = " and one ".join(self.kinds)
            raise UserError(f"modality {name!r} is of kind {kind.kind!r}; backbone {self.source!r} takes one {known}")
        return kind.kind

    def _adopted(self, name: str, mine: str, schema: Schema) -> Kind:
        """The backbone's options with the table's columns."""
        asked, own = schema.modalities[name], self.kinds[mine]
        if asked.kind != own.kind:
            raise UserError(
                f"modality {name!r} is of kind {own.kind!r} in backbone {self.source!r}, not {asked.kind!r}"
            )
        plain = type(asked)()
        for option in (f.name for f in fields(asked) if f.name != "columns"):
            wanted, has = getattr(asked, option), getattr(own, option)
            if wanted not in (has, getattr(plain, option)):
                raise UserError(f"modality {name!r}: {option} {wanted!r}, but backbone {self.source!r} has {has!r}")
        if asked.takes_columns and set(schema.columns_of(name)) != set(own.columns or (mine,)):
            raise UserError(
                f"modality {name!r} has the columns {', '.join(schema.columns_of(name))}, "
                f"but backbone {self.source!r} knows it by {', '.join(own.columns or (mine,))}"
            )
        return replace(own, columns=asked.columns)
