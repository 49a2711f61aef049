"""A pretrained backbone that was opened: what it knows, and copies of its weights for the modalities of a table.

One is a fused transformer, or a dense network for masks (`pretrained_dense.py`). Both know modalities by name and read
them as they were read in the pretraining.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from absentia.config import Model
from absentia.data.kinds import Decoder, Kind
from absentia.data.schema import Schema
from absentia.errors import UserError, nearest
from absentia.models.backbone import FusedBackbone
from absentia.models.encoders.pretrained import FrozenEncoder

__all__ = ["Pretrained", "PretrainedFused", "frozen_weights"]


@dataclass(frozen=True)
class Pretrained(ABC):
    """A backbone with everything that was fitted before it.

    source: folder or hub name, as it was given.  folder: where its files are.  sha256: of these files.
    kinds, decoders, encoders: by the names of its own modalities; encoders only where they are frozen.
    backbone: the weights themselves; never used, only copied.
    sizes: what it is made of (width, depth, heads and hidden units).  saw: what it was trained on.
    by_kind: whether a table's modalities are found by their kind, whatever they are called (ViLT), or by name.
    """

    source: str
    folder: Path
    sha256: str
    kinds: Mapping[str, Kind]
    decoders: Mapping[str, Decoder]
    backbone: nn.Module
    sizes: Mapping[str, Any]
    saw: Mapping[str, Any] = field(default_factory=dict)
    encoders: Mapping[str, FrozenEncoder] = field(default_factory=dict)
    by_kind: bool = False

    @abstractmethod
    def build(self, schema: Schema, *, freeze: bool, dropout: float) -> nn.Module:
        """A backbone for the modalities of an adopted schema: a copy that learns, or a frozen view of the weights."""

    @abstractmethod
    def check_target(self, schema: Schema) -> None:
        """Raise `UserError` where such a backbone cannot answer the schema's target."""

    @abstractmethod
    def check_model(self, model: Model) -> None:
        """Raise `UserError` where the settings ask for another network than this is."""

    @abstractmethod
    def check_cells(self, name: str, cells: Iterable[Any], root: Path | None) -> None:
        """Raise `UserError` where training cells of modality `name` are of another shape than it was made for."""

    def beside(self, schema: Schema) -> dict[str, Tensor]:
        """What its pretraining learned beside the backbone and a method may go on with, for an adopted schema."""
        return {}

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
        """The schema with the backbone's own options; raises `UserError` for what it does not know or answer."""
        self.check_target(schema)
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


@dataclass(frozen=True)
class PretrainedFused(Pretrained):
    """A fused transformer and its embedders."""

    backbone: FusedBackbone

    def check_model(self, model: Model) -> None:
        """Its own sizes count, whatever the settings say."""

    def check_cells(self, name: str, cells: Iterable[Any], root: Path | None) -> None:
        """Cells that it cannot read are told one by one."""

    def check_target(self, schema: Schema) -> None:
        if schema.target is not None and schema.target.kind == "mask":
            raise UserError(
                f"backbone {self.source!r} is a fused transformer, which answers no masks; make a dense network with "
                "absentia pretrain --method universal and the mask as --target, or leave model.backbone away"
            )

    def build(self, schema: Schema, *, freeze: bool, dropout: float) -> FusedBackbone:
        shared: dict[int, Any] = frozen_weights(self.backbone) if freeze else {}
        own = self.own_names(schema)
        made = FusedBackbone(
            embedders={name: copy.deepcopy(self.backbone.embedder(mine), shared) for name, mine in own.items()},
            transformer=copy.deepcopy(self.backbone.transformer, shared),
        )
        for module in made.transformer.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
        return made.freeze() if freeze else made


def frozen_weights(module: nn.Module) -> dict[int, Any]:
    """For `copy.deepcopy`: copies hold the same weights in the same memory, and do not learn."""
    return {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in module.parameters()}
