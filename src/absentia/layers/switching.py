"""Which modalities of each row enter a step: the switching of single-branch training (arXiv 2408.07445)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from absentia.layers.hiding import picked_modality

__all__ = ["SWITCHINGS", "Switching", "switched"]

Switching = Literal["all", "random", "half", "one"]
SWITCHINGS = ("all", "random", "half", "one")


def switched(presence: Tensor, switching: Switching, whole: float, draw: torch.Generator) -> Tensor:
    """bool (B, M): what of presence (B, M) enters.

    all: everything; the modalities of a row stand beside each other in the step (SBNet's order fvfv).
    random: of each row one modality, so that over the passes (row, modality) pairs come in any order (S-1).
    half: with probability `whole` all of every row, else one modality that is the step's (S-2).
    one: always one modality that is the step's; rows without it are left out (S-3).
    A step's modality is drawn among those that its rows have, by how many do.
    """
    if switching == "all":
        return presence
    if switching == "random":
        return presence & _at(picked_modality(presence, draw), presence)
    complete = switching == "half" and float(torch.rand((), generator=draw)) < whole
    if complete or not presence.any():
        return presence
    pairs = presence.nonzero()[:, 1]
    number = int(torch.rand((), generator=draw) * len(pairs))
    return presence & _at(pairs[number].expand(len(presence)), presence)


def _at(modality: Tensor, presence: Tensor) -> Tensor:
    """bool (B, M): true at one modality of each row, long (B,)."""
    return modality[:, None] == torch.arange(presence.shape[1], device=presence.device)
