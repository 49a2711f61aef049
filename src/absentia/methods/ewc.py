"""Elastic weight consolidation: weights that mattered for earlier sessions are held where those left them.

Kirkpatrick et al., PNAS 2017 (arXiv 1612.00796), eq. 3, with one penalty around the last solution and a Fisher
information that adds up over sessions (online EWC: Schwarz et al., ICML 2018, arXiv 1805.06370, sec. 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from absentia.data.batch import Batch
from absentia.data.target import TargetCodec
from absentia.layers.fisher import flat, pull, squared_gradients
from absentia.methods.base import Batches, Parts, Stage
from absentia.methods.continual import Continual, LossOptions
from absentia.methods.settings import between

__all__ = ["EWC"]


@dataclass(frozen=True, kw_only=True)
class Options(LossOptions):
    """As `LossOptions`, and

    Args:
        strength: of the penalty, λ.
        decay: what the Fisher information of earlier sessions counts for in each later one, γ.
    """

    strength: float = 1e4
    decay: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        between("strength", self.strength, 0, 1e12)
        between("decay", self.decay, 0, 1)


class EWC(Continual):
    """Fine-tuning with λ/2 Σ F (θ - θ*)², F the mean over a session's training rows of their squared gradients.

    The gradients are those of the rows' own targets (the empirical Fisher information).
    """

    name = "ewc"
    Options = Options

    def __init__(self, *, parts: Parts) -> None:
        super().__init__(parts=parts)
        for name in ("fisher", "anchor"):
            self.register_buffer(name, torch.zeros_like(flat(self._learners())))
        self.fisher: Tensor
        self.anchor: Tensor

    def losses(self, batch: Batch, stage: Stage, draw: torch.Generator) -> dict[str, Tensor]:
        held = pull(self._learners(), self.anchor, self.fisher)
        return super().losses(batch, stage, draw) | {"held": 0.5 * self.options.strength * held}

    def open_session(self, codec: TargetCodec, taught: Sequence[str] | None = None) -> None:
        super().open_session(codec, taught)
        more = sum(p.numel() for p in self._learners()) - len(self.fisher)
        self.fisher, self.anchor = F.pad(self.fisher, (0, more)), F.pad(self.anchor, (0, more))

    def close_session(self, batches: Batches) -> None:
        learners = self._learners()
        training, draw = self.training, torch.Generator().manual_seed(0)
        self.eval()
        total, rows = torch.zeros_like(self.fisher), 0
        for batch in batches():
            scores = self.classifier(self.features(batch))
            total += flat(squared_gradients(scores, self.task(scores, batch), learners, draw))
            rows += len(batch)
        self.fisher = self.options.decay * self.fisher + total / max(1, rows)
        self.anchor = flat(learners)
        self.train(training)

    def _learners(self) -> list[Tensor]:
        """What is held: the backbone, if it learns, and behind it the classifier, which grows at its end."""
        return [p for part in (self.backbone, self.classifier) for p in part.parameters() if p.requires_grad]
