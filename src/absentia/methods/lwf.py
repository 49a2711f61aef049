"""Learning without forgetting: on the new rows, the scores of known classes stay those of the model before.

Li & Hoiem, ECCV 2016 (arXiv 1606.09282), eq. 1-4: the loss of the new classes plus a distillation loss of the old
ones, both on the session's rows, temperature 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from absentia.data.batch import Batch
from absentia.data.target import TargetCodec
from absentia.layers.fingerprint import fingerprint
from absentia.layers.readout import mean_of_present
from absentia.methods.base import Parts, Stage
from absentia.methods.continual import Continual, SessionLossOptions
from absentia.methods.settings import between

__all__ = ["LwF"]


@dataclass(frozen=True, kw_only=True)
class Options(SessionLossOptions):
    """As `SessionLossOptions`, and

    Args:
        strength: of the distillation.
        temperature: that scores are divided by in it.
    """

    strength: float = 1.0
    temperature: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        between("strength", self.strength, 0, 1e6)
        between("temperature", self.temperature, 1e-3, 1e3)


class _Before(nn.Module):
    """The model as a session found it. It stands still."""

    def __init__(self, method: LwF) -> None:
        super().__init__()
        self.names = list(method.parts.names)
        self.backbone = deepcopy(method.backbone).freeze()
        self.classifier = deepcopy(method.classifier).requires_grad_(False)

    @torch.no_grad()
    def forward(self, batch: Batch) -> Tensor:
        """Scores (B, K) of the classes that were known."""
        scores: Tensor = self.classifier(mean_of_present(self.backbone(batch).together, batch.presence, self.names))
        return scores.float()

    @cached_property
    def key(self) -> str:
        """What it makes of a row is the same in all epochs."""
        return f"before {fingerprint(self)}"


class LwF(Continual):
    """Fine-tuning that keeps to what the model said before the session.

    The model before is no part of what is learned: a session that is opened makes it from what the sessions before
    left, so that it costs no file, and is there again after a kill.
    """

    name = "lwf"
    Options = Options

    def __init__(self, *, parts: Parts) -> None:
        super().__init__(parts=parts)
        self.before: _Before | None = None

    def losses(self, batch: Batch, stage: Stage, draw: torch.Generator) -> dict[str, Tensor]:
        scores = self.classifier(self.features(batch))
        terms = {"task": self.task(scores, batch)}
        if self.before is not None:
            said = batch.recall(self.before.key, self.before, self.parts.names)
            terms["distilled"] = self.options.strength * self._distance(scores[:, : said.shape[1]], said)
        return terms

    def open_session(self, codec: TargetCodec, taught: Sequence[str] | None = None) -> None:
        self.zero_grad(set_to_none=True)
        self.before = None
        before = _Before(self)
        super().open_session(codec, taught)  # it grows every classifier in the method, and this one is not yet there
        self.before = before

    def scaffold(self) -> Mapping[str, Iterable[nn.Parameter]]:
        return {} if self.before is None else {"model before": self.before.parameters()}

    def learned(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in super().learned().items() if not name.startswith("before.")}

    def _distance(self, scores: Tensor, said: Tensor) -> Tensor:
        """How far scores (B, K) are from what was said before: KL for classes, cross-entropy for labels, Huber."""
        kind, heat = self.parts.codec.target.kind, float(self.options.temperature)
        if kind == "number":
            return F.smooth_l1_loss(scores, said)
        if kind == "labels":
            soft = F.binary_cross_entropy_with_logits(scores / heat, (said / heat).sigmoid())
        else:
            old, new = (x.div(heat).log_softmax(dim=1) for x in (said, scores))
            soft = F.kl_div(new, old, reduction="batchmean", log_target=True)
        return heat**2 * soft  # so that its gradients keep their size whatever the temperature (Hinton et al. 2015)
