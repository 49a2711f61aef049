"""Linear probe: the backbone stays as it is, and each session learns a linear block for its own classes."""

from __future__ import annotations

from absentia.methods.continual import Continual, SessionLossOptions

__all__ = ["Probe"]


class Probe(Continual):
    """What remains of a prompt method without its prompts: a row is read once, whatever the number of epochs."""

    name = "probe"
    freezes = True
    Options = SessionLossOptions

    @property
    def settles(self) -> bool:
        return True
