"""Experience replay: some rows of earlier sessions are trained on again among the new ones.

The rows are chosen evenly over the classes and mixed into each later session's training rows; the loss knows all
classes (Chaudhry et al. 2019, arXiv 1902.10486). The method only says how many rows it wants to keep.
"""

from __future__ import annotations

from dataclasses import dataclass

from absentia.methods.continual import Continual, LossOptions
from absentia.methods.settings import at_least

__all__ = ["Replay"]


@dataclass(frozen=True, kw_only=True)
class Options(LossOptions):
    """As `LossOptions`, and

    Args:
        memory: rows of all earlier sessions together that are kept and seen again.
    """

    memory: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("memory", self.memory, 1)


class Replay(Continual):
    """Fine-tuning with a memory of rows."""

    name = "replay"
    Options = Options

    @property
    def remembers(self) -> int:
        return int(self.options.memory)
