"""The settings of the single branch, each with the values it may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from absentia.errors import UserError
from absentia.layers.shared_trunk import NORMS, Norm
from absentia.layers.switching import SWITCHINGS, Switching
from absentia.methods.settings import at_least, between, one_of

__all__ = ["Fuse", "Metric", "SingleBranchOptions"]

Metric = Literal["directions", "orthogonal", "contrast", "centre", "git", "none"]
Reads = Literal["both", "transformer", "tokens"]
PairOrder = Literal["rows", "pairs", "turns"]
Fuse = Literal["mean", "sum", "surest", "gated"]


@dataclass(frozen=True, kw_only=True)
class SingleBranchOptions:
    """Settings of the single branch. What the readable text of the papers leaves open is a choice of ours.

    Args:
        reads: what the branch is given of a modality: the mean of its tokens (tokens; no transformer, as published, on
            features of frozen encoders), its [CLS] behind the backbone's transformer, through which each modality
            goes alone and all by the same weights (transformer), or both beside each other.
        adapter: linear gives each modality a norm and a linear map of its own before the branch, none gives it nothing.
        branches: one for all modalities, or one for each (late fusion of separate branches, the baseline).
        width: of the branch; none takes the backbone's.
        depth: blocks of the branch.
        norm: layer, batch (as published; its running statistics are mixed) or modality (batch statistics of each).
        dropout: in the branch; none takes the model's. SBNet has 0.5.
        scale: length of the unit vectors before the classifier. SBNet has 1, with which its classifier hardly learns.
        metric: what draws rows of a class together beside the task: directions (the orthogonal projection loss against
            learned class directions), orthogonal (as published, among the rows of a step), contrast (supervised, among
            the rows of a step), centre or git (to learned centres), or none. A number has none.
        alpha: weight of the metric loss.
        apart: weight of its part that keeps classes orthogonal.
        temperature: of contrasts.
        pairs: weight of the contrast between modalities of the same row.
        switching: which (row, modality) pairs enter a step: all, random (one of each row), half (all, or those of one
            modality) or one (those of one modality).
        order: in which training rows come: rows (shuffled, with all that they have; the pairs of a row beside each
            other, SBNet's fvfv), pairs ((row, modality) pairs shuffled, its random) or turns (in each pass all pairs of
            one modality, then all of the next, its half epochs hefhev and hevhef). An epoch is as many steps as ever,
            so a pass over pairs takes as many epochs as rows have modalities.
        first: with `turns`, the modality that begins; none is the first by name.
        reshuffle: whether every pass has an order of its own. SBNet keeps the first one.
        per_class: rows of each class in a step, which then has as many classes as fit (P x K), for the metrics that
            compare rows of a step; none takes rows as they come.
        whole: with `half`, how often a step shows everything.
        alone: weight of what (row, modality) pairs learn by themselves, their answers and their metric loss.
        together: weight of the fused answer's own loss; the branch learns from modalities alone without it.
        fuse: what is present answers by the mean of its scores, by their sum (evidence adds up), by the surest one, or
            by one vector to which a learned gate lets each modality say more or less (gated; with `branches` each this
            is FOP). A gate learns from `together`, and the fused vector has a metric loss then.
    """

    reads: Reads = "both"
    adapter: Literal["linear", "none"] = "linear"
    branches: Literal["one", "each"] = "one"
    width: int | None = None
    depth: int = 2
    norm: Norm = "layer"
    dropout: float | None = None
    scale: float = 16.0
    metric: Metric = "directions"
    alpha: float = 1.0
    apart: float = 0.7
    temperature: float = 0.1
    pairs: float = 0.0
    switching: Switching = "all"
    order: PairOrder = "rows"
    first: str | None = None
    reshuffle: bool = True
    per_class: int | None = None
    whole: float = 0.5
    alone: float = 1.0
    together: float = 0.0
    fuse: Fuse = "mean"

    def __post_init__(self) -> None:
        one_of("reads", self.reads, get_args(Reads))
        one_of("adapter", self.adapter, ("linear", "none"))
        one_of("branches", self.branches, ("one", "each"))
        one_of("norm", self.norm, NORMS)
        one_of("metric", self.metric, get_args(Metric))
        one_of("switching", self.switching, SWITCHINGS)
        one_of("order", self.order, get_args(PairOrder))
        one_of("fuse", self.fuse, get_args(Fuse))
        for name, size in (("depth", self.depth), ("width", self.width)):
            at_least(name, 1 if size is None else size, 1)
        at_least("per_class", 1 if self.per_class is None else self.per_class, 1)
        for name in ("alpha", "apart", "pairs", "alone", "together"):
            between(name, getattr(self, name), 0, 1e6)
        between("dropout", self.dropout or 0.0, 0, 0.99)
        between("whole", self.whole, 0, 1)
        between("scale", self.scale, 1e-3, 1e6)
        between("temperature", self.temperature, 1e-3, 1e3)
        if self.fuse == "gated" and not self.together:
            raise UserError("options.fuse gated: nothing teaches the gate; say options.together 1 with it")
        if not self.alone and not self.together:
            raise UserError("options.alone 0: nothing teaches the answers; say options.together 1 with it")
        if self.first is not None and self.order != "turns":
            raise UserError("options.first: only modalities that take turns have a first one; say options.order turns")
        if self.per_class is not None and not self.reshuffle:
            raise UserError(
                "options.reshuffle false: with options.per_class the same rows would be left out for good; leave one "
                "of the two away"
            )
        if self.order != "rows":
            self._check_lone_modalities()

    def _check_lone_modalities(self) -> None:
        """Nothing may be asked for that compares modalities of a row, for no step shows two of them."""
        bad = {
            "switching": self.switching != "all",
            "per_class": self.per_class is not None,
            "pairs": bool(self.pairs),
            "fuse": self.fuse == "gated",
        }
        for name in (name for name, wrong in bad.items() if wrong):
            raise UserError(
                f"options.order {self.order}: a step shows one modality of a row at a time, which options.{name} "
                f"{getattr(self, name)} does not go with; leave one of the two away"
            )
