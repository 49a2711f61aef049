"""Missing-aware prompts: a frozen backbone is told which modalities are there by one set of prompts per pattern.

Lee et al., CVPR 2023 (arXiv 2303.03369), sec. 3.2-3.4: input-level or attention-level prompts in the first layers;
prompts and classifier learn, and go on learning in every session. In the paper an absent modality is an empty
placeholder; here it is not there at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from absentia.data.batch import Batch
from absentia.methods.prompting import Position, Prompting, PromptOptions, prompts_at
from absentia.methods.settings import at_least, even, one_of
from absentia.models.fused import Prompts

__all__ = ["MissingAware"]


@dataclass(frozen=True, kw_only=True)
class Options(PromptOptions):
    """As `PromptOptions`, and

    Args:
        position: input (tokens that each layer replaces by its own) or attention (half keys, half values).
        layers: how many of the first layers have prompts.
        length: vectors per layer.
    """

    position: Literal["input", "attention"] = "input"
    layers: int = 6
    length: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("position", self.position, get_args(Position))
        at_least("layers", self.layers, 1)
        even("length", self.length)


class MissingAware(Prompting):
    """One set of prompts per presence pattern."""

    name = "missing-aware"
    Options = Options

    def make_prompts(self) -> None:
        self.sets = self.pattern_prompts(self.options.layers, self.options.length)

    def prompted(self, batch: Batch, *, learning: bool) -> tuple[Prompts, dict[str, Tensor]]:
        return prompts_at(self.options.position, self.sets(batch.presence)), {}
