"""CODA-Prompt: prompts as mixtures of components, weighed by attention to a row's query; each session adds components.

Smith et al., CVPR 2023 (arXiv 2211.13218), eq. 3-7, prefix tuning. Components of earlier sessions stand still and
take part; new ones are kept orthogonal to them and to each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from absentia.data.batch import Batch
from absentia.data.target import TargetCodec
from absentia.layers.pools import ComponentPool
from absentia.methods.prompting import AwareOptions, Prompting, prompts_at
from absentia.methods.settings import at_least, between, even
from absentia.models.fused import Prompts

__all__ = ["CODA"]


@dataclass(frozen=True, kw_only=True)
class Options(AwareOptions):
    """As `AwareOptions`, and

    Args:
        components: that each session adds (paper: 100 for all sessions together).
        layers: how many of the first layers have prompts.
        length: vectors per layer, half keys, half values.
        orthogonality: weight of the penalty that keeps components apart, λ.
    """

    components: int = 10
    layers: int = 5
    length: int = 8
    orthogonality: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("components", "layers"):
            at_least(name, getattr(self, name), 1)
        even("length", self.length)
        between("orthogonality", self.orthogonality, 0, 1e6)


class CODA(Prompting):
    """A pool of components that grows by the session."""

    name = "coda"
    Options = Options

    @property
    def settles(self) -> bool:
        """Prompts that say what is there serve every session, and so does a classifier that all classes compete in."""
        return self.blocks_settle and self.aware is None

    def make_prompts(self) -> None:
        self.pool = ComponentPool(
            layers=self.layers(self.options.layers),
            length=self.options.length,
            width=self.backbone.width,
            size=self.options.components,
        )

    def open_session(self, codec: TargetCodec, taught: Sequence[str] | None = None) -> None:
        super().open_session(codec, taught)
        if self.options.prompts:
            self.pool.open_session()

    def prompted(self, batch: Batch, *, learning: bool) -> tuple[Prompts, dict[str, Tensor]]:
        prompts = prompts_at("attention", self.pool(self.features(batch)))
        return prompts, {"apart": self.options.orthogonality * self.pool.penalty()} if learning else {}

    def usage(self, batch: Batch) -> dict[str, Tensor]:
        if not self.options.prompts:
            return {}
        return {"prompts": self.pool.shares(self.pool.weights(self.features(batch)))}
