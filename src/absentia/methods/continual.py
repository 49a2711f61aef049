"""What the baselines of continual learning share: a backbone without what is absent, a read-out, a growing classifier.

Absent modalities are not there at all. A row is the mean over the [CLS] outputs of its present modalities, and a
classifier that grows by a block per session reads it. The baselines differ in what learns, and from which loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor

from absentia.data.batch import Batch
from absentia.layers.classifier import Classifier, session_loss
from absentia.layers.fingerprint import fingerprint
from absentia.layers.heads import task_loss
from absentia.layers.readout import mean_of_present
from absentia.methods.base import Method, Output, Parts, Stage
from absentia.methods.settings import one_of
from absentia.models.fused import Prompts

__all__ = ["AMONG", "Continual", "LossOptions", "Reading", "SessionLossOptions"]

AMONG = ("all", "session")


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """Args:
    among: which classes compete in the loss, all that were seen so far or those of the session's own rows.
    """

    among: Literal["all", "session"] = "all"

    def __post_init__(self) -> None:
        one_of("among", self.among, AMONG)


@dataclass(frozen=True, kw_only=True)
class SessionLossOptions(LossOptions):
    """As `LossOptions`; only the session's classes compete unless said otherwise."""

    among: Literal["all", "session"] = "session"


class Reading(Method):
    """A backbone, and one representation per row.

    freezes: whether the backbone stays as it is.
    """

    freezes: ClassVar[bool] = False

    def __init__(self, *, parts: Parts) -> None:
        super().__init__(parts=parts)
        self.backbone = parts.backbone()
        if self.freezes:
            self.backbone.freeze()

    def features(self, batch: Batch) -> Tensor:
        """(B, D): what the backbone makes of each row; of a frozen one, once for a row and what it shows."""
        if not self.backbone.frozen:
            return self.read(batch)
        return batch.recall(f"read {self._weights}", self.read, self.parts.names)

    def read(self, batch: Batch, prompts: Prompts | None = None) -> Tensor:
        """(B, D): the mean over the [CLS] outputs of what is present."""
        return mean_of_present(self.backbone(batch, prompts).together, batch.presence, self.parts.names)

    @cached_property
    def _weights(self) -> str:
        return fingerprint(self.backbone)


class Continual(Reading):
    """Reading, a classifier, and the task's loss."""

    Options = LossOptions

    def __init__(self, *, parts: Parts) -> None:
        super().__init__(parts=parts)
        self.classifier = Classifier(width=self.backbone.width, codec=parts.codec, settles=self.blocks_settle)

    @property
    def blocks_settle(self) -> bool:
        """Whether the classifier's blocks stand still once other classes arrive."""
        return self.settles

    def losses(self, batch: Batch, stage: Stage, draw: torch.Generator) -> dict[str, Tensor]:
        return {"task": self.task(self.classifier(self.features(batch)), batch)}

    def answer(self, batch: Batch) -> Output:
        scores = self.classifier(self.features(batch))
        return Output(scores=scores, uncertainty=scores[:, 0])

    def task(self, scores: Tensor, batch: Batch) -> Tensor:
        """The task's loss of scores (B, K), among the classes that the options say."""
        assert batch.target is not None
        if self.options.among == "all":
            return task_loss(scores, batch.target, self.parts.codec)
        return session_loss(scores, batch.target, self.parts.codec, self.taught)
