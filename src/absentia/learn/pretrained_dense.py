"""A pretrained dense network that was opened: the network, and what its masked autoencoding learned beside it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from absentia.config import Model
from absentia.data.kinds.volume import VolumeDecoder
from absentia.data.schema import Schema
from absentia.errors import UserError
from absentia.learn.pretrained import Pretrained, frozen_weights
from absentia.models.dense import DenseBackbone

__all__ = ["PretrainedDense"]

AXES = {2: "planes", 3: "volumes"}


@dataclass(frozen=True)
class PretrainedDense(Pretrained):
    """A network for masks. A table may have fewer of its contrasts, in any order; the others are zeros to it.

    learned: what stands beside the network: the layer that says the contrasts, and the template. Along its first axis
        each of these tensors has the channels of all contrasts.
    """

    backbone: DenseBackbone
    learned: Mapping[str, Tensor] = field(default_factory=dict)

    def check_target(self, schema: Schema) -> None:
        if schema.target is not None and schema.target.kind != "mask":
            raise UserError(
                f"backbone {self.source!r} is a dense network, which answers masks and nothing else; is target "
                f"{schema.target.column!r} one? Then say {schema.target.column}=mask, else leave model.backbone away"
            )

    def check_model(self, model: Model) -> None:
        plain = Model()
        options = json.loads(json.dumps(model.network_options))  # as a folder keeps them
        wanted = (model.network, plain.network), (options, plain.network_options)
        own = (self.backbone.network, dict(self.sizes["options"]))
        for name, (asked, usual), has in zip(("network", "network_options"), wanted, own, strict=True):
            if asked not in (has, usual):
                raise UserError(
                    f"model.{name} {asked!r}, but backbone {self.source!r} has {has!r}; leave model.{name} away"
                )

    def check_cells(self, name: str, cells: Iterable[Any], root: Path | None) -> None:
        mine = cast(VolumeDecoder, self.decoders[name])
        found = self.kinds[name].fit(cells, root=root)
        assert isinstance(found, VolumeDecoder)
        if found.space == (1, 1, 1):
            return  # no cell could be read, which is said where rows are
        if found.dims != mine.dims:
            raise UserError(
                f"modality {name!r} holds {AXES[found.dims]}, but backbone {self.source!r} was made from "
                f"{AXES[mine.dims]}"
            )
        if found.channels != mine.channels:
            raise UserError(
                f"modality {name!r} has {found.channels} channels, but backbone {self.source!r} was made from "
                f"{mine.channels} of it"
            )

    def build(self, schema: Schema, *, freeze: bool, dropout: float) -> DenseBackbone:
        shared: dict[int, Any] = frozen_weights(self.backbone) if freeze else {}
        spans = self._spans()
        own = [spans[name] for name in self.own_names(schema).values()]
        made = copy.deepcopy(self.backbone, shared).given(own)
        return made.freeze() if freeze else made

    def beside(self, schema: Schema) -> dict[str, Tensor]:
        spans = self._spans()
        channels = [c for name in self.own_names(schema).values() for c in spans[name]]
        return {name: tensor[channels] for name, tensor in self.learned.items()}

    def _spans(self) -> dict[str, range]:
        """The channels of each of its contrasts."""
        counts = self.backbone.channels
        ends = accumulate(counts)
        return {name: range(end - n, end) for name, n, end in zip(self.kinds, counts, ends, strict=True)}
