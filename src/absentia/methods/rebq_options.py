"""The settings of RebQ, each with the values it may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from absentia.errors import UserError
from absentia.layers.pools import SELECTIONS, Selection
from absentia.methods.settings import at_least, between, one_of

__all__ = ["RebQOptions"]


@dataclass(frozen=True, kw_only=True)
class RebQOptions:
    """RebQ's own settings.

    Args:
        variant: intended gives every session components that learn, as published; released leaves those of later
            sessions at zero, where they stay for good, as the released code does.
        components: that a session adds to each pool, in each prompted layer (the released code: 128 for all sessions).
        length: tokens of a memory prompt, and keys and values together of a modality's prefix.
        layers: how many of the first layers are prompted; none takes two thirds of the backbone's.
        alpha: weight of the reconstruction loss.
        absent: nothing gives an absent modality its [CLS] alone, placeholder feeds a blank input as if it were there.
        reads: the classifier reads the mean of all modalities' [CLS] outputs, or the first modality's (as published:
            the text's).
        several: of rows with three modalities or more, hide any number that leaves one, not one at a time.
        orthogonal: weight of CODA-Prompt's penalty on components that resemble each other.
        selection: how components are weighed, all by their cosines, by the softmax of these, or the top ones alone.
        top: how many `selection` top keeps.
        queries: raw asks the pools with [CLS] outputs as they are, standardised with each channel centred and scaled by
            what the first session's training rows have there, so that rows of one session do not all ask alike.
        prompts: false reads the frozen backbone without any prompt; only the classifier learns.
        head: linear learns with the prompts in every session. With ridge the prompts learn in the first session and
            then stand still; ridge regression on what they make of each row, and of every part of what it has, answers
            from sums that add up over sessions (RanPAC, arXiv 2307.02251). With gaussian the prompts learn as with
            linear, and Gaussian classes of one covariance, counted as for the ridge, answer.
        projected: random features of ridge and gaussian; 0 takes the outputs as they are.
    """

    variant: Literal["intended", "released"] = "intended"
    components: int = 12
    length: int = 8
    layers: int | None = None
    alpha: float = 0.01
    absent: Literal["nothing", "placeholder"] = "nothing"
    reads: Literal["mean", "first"] = "mean"
    several: bool = False
    orthogonal: float = 0.0
    selection: Selection = "all"
    top: int = 5
    queries: Literal["raw", "standardised"] = "raw"
    prompts: bool = True
    head: Literal["linear", "ridge", "gaussian"] = "linear"
    projected: int = 1000

    def __post_init__(self) -> None:
        one_of("variant", self.variant, ("intended", "released"))
        one_of("absent", self.absent, ("nothing", "placeholder"))
        one_of("queries", self.queries, ("raw", "standardised"))
        one_of("reads", self.reads, ("mean", "first"))
        one_of("head", self.head, ("linear", "ridge", "gaussian"))
        at_least("projected", self.projected, 0)
        one_of("selection", self.selection, SELECTIONS)
        for name in ("components", "length", "top"):
            at_least(name, getattr(self, name), 1)
        for name in ("alpha", "orthogonal"):
            between(name, getattr(self, name), 0, 1e6)
        if self.layers is not None:
            at_least("layers", self.layers, 1)
        if self.length % 2:
            raise UserError(f"options.length {self.length}: half of it are keys, half are values, so it must be even")
