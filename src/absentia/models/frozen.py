"""What a frozen backbone makes of rows without any prompt; it never changes, so it is made once and kept."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from absentia.data.batch import Batch
from absentia.layers.fingerprint import fingerprint
from absentia.layers.packing import Segment
from absentia.models.backbone import FusedBackbone
from absentia.models.laid import Laid, lone_cls, whole_blanks

__all__ = ["FrozenReader"]


class FrozenReader:
    """Reads the rows of a batch with a frozen backbone; modalities in its order.

    blanks: per modality the inputs of a placeholder, (1, ...) each, that is fed wherever the modality is absent. None
    feeds nothing there, but in `laid` and `outputs` the [CLS] alone, so that an absent modality can be read too.
    """

    def __init__(self, backbone: FusedBackbone, *, blanks: Mapping[str, Mapping[str, Tensor]] | None = None) -> None:
        self.backbone, self.blanks = backbone, blanks

    def stand_ins(self, rows: Tensor) -> dict[str, Segment]:
        """What is in an absent modality's place: one for all `rows` (their numbers in the table, (B,)), or one each."""
        if self.blanks is None:
            return lone_cls(self.backbone)
        return whole_blanks(self.backbone, self.blanks)

    def laid(self, batch: Batch) -> Laid:
        """The tokens of a batch, ready for several passes."""
        return Laid.of(self.backbone, batch, self.stand_ins(batch.index))

    def queries(self, batch: Batch) -> Tensor:
        """(B, M, D): the [CLS] outputs of what is present, 0 for what is not."""
        return batch.recall(f"queries {self._name}", self._query, self.backbone.names)

    def outputs(self, batch: Batch) -> Tensor:
        """(B, M, D): the [CLS] outputs of all modalities, those of the absent ones included."""
        return batch.recall(f"outputs {self._name}", self._output, self.backbone.names)

    # float32 whatever autocast says: the same numbers in training and afterwards

    def _query(self, batch: Batch) -> Tensor:
        with torch.autocast(batch.presence.device.type, enabled=False):
            instead = {} if self.blanks is None else self.stand_ins(batch.index)
            seen = Laid.of(self.backbone, batch, instead).run(_all(batch), batch.presence)
            return seen * batch.presence[..., None]

    def _output(self, batch: Batch) -> Tensor:
        with torch.autocast(batch.presence.device.type, enabled=False):
            return self.laid(batch).run(_all(batch), batch.presence)

    @cached_property
    def _name(self) -> str:
        fed = "[CLS]" if self.blanks is None else "placeholders"
        return f"{fed} {fingerprint(self.backbone)}"


def _all(batch: Batch) -> Tensor:
    return torch.arange(len(batch), device=batch.presence.device)
