"""The settings of the universal model, each with the values it may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from absentia.errors import UserError
from absentia.layers.distribution import LOOKS
from absentia.layers.masking import DROPS, Drop
from absentia.layers.scenarios import SCENARIOS, ScenarioName
from absentia.layers.template import FILLS, Fill
from absentia.methods.settings import at_least, between, one_of

__all__ = ["Generated", "StandIn", "Teacher", "UniversalOptions"]

StandIn = Literal["reconstruction", "template"]
Generated = Literal["all", "film", "residual", "head", "none"]
Teacher = Literal["average", "apart", "shared", "copy"]
LookOrNone = Literal["moments", "sliced", "adversarial", "none"]


@dataclass(frozen=True, kw_only=True)
class UniversalOptions:
    """Settings of the universal model. Of the paper only the abstract is readable to us: all of this is our choice.

    M3AE as published, on masks: fill template, template full, ratio 0.875, patch 16, keep 0, distribution none,
    teacher copy, features 0.1, scores 0, ramp 0, generates none, whole 0.

    Args:
        fill: what stands in for an absent modality in an answer: a learned template, or its reconstruction.
        ratio: share of the tokens or patches that stage 1 hides; none takes 0.5 of tokens and 0.75 of patches.
        whole: share of the rows of stage 1 that lose modalities alone, and show the others whole: as a row is when
            it is completed.
        patch: voxels along each side of a patch.
        template: learned fill of voxels: scalar, low (coarse) or full (each voxel, as in M3AE).
        drop: how modalities are dropped on purpose, in both stages: uniform_size or bernoulli.
        rate: of bernoulli.
        keep: share of the rows of stage 2 whose student sees all they have.
        teacher: average (the running mean of its student's weights, which sees all that a row has and answers in the
            end: mean teacher, Tarvainen & Valpola 2017), apart (a network of its own that learns the task from what a
            row has and reconstructions of the rest), shared (the same, with the student's weights) or copy (another
            part of the row, seen with the student's weights, and both move, as in M3AE); but for copy, distillation
            moves no teacher.
        momentum: of an averaged teacher, the share of its weights that it keeps in a step; in a session's first steps
            it keeps less, to be their plain mean, and with 1 it is the mean of all.
        floor: share of the learning rate to which it falls in stage 2 where the teacher is an average, which needs no
            falling rate (SWA, Izmailov et al. 2018).
        imagine: steps of stage 1, beside those of stage 2; 0 leaves it out, where a pretrained dense network brings it.
        distribution: how reconstructions of what is truly absent are compared with what others have: moments, sliced,
            adversarial or none.
        joint: whether they are also compared in pairs with an available modality (of 8 modalities or fewer).
        approximate: weight of that comparison.
        features: weight of the distance to the teacher's features (M3AE: 0.1).
        scores: weight of the distance to the teacher's scores (PASSION: 0.5).
        temperature: of that distance (PASSION has 4, with which ours learned more slowly).
        ramp: steps over which both weights rise to what they are, as exp(-5 (1 - t)²) (SMU-Net), for a teacher knows
            nothing yet at first; 0 for none (M3AE).
        selective: whether a row is distilled by as much as the teacher is nearer to its truth than the student in this
            step, as a share of the student's loss; where it is not nearer, not at all.
        generates: which parameters are made for the scenario: film (scales and shifts of layers), residual (a small
            1x1 convolution on the features), head (weights of the last layer), all of these, or none; left out it is
            film of tokens and all of voxels.
        scenario: how a scenario is embedded: composed (also for scenarios never trained, and many modalities), table,
            text (a sentence each, read by `encoder`), constant (the hyper-network does not know it; an ablation).
        mark: whether a completed row is read by the scenario of what it has and a learned mark that the rest is
            reconstructed; else by the scenario of a row that has everything.
        encoder: folder or hub name of a CLIP text encoder, for text.
        words: the sentence of a scenario, which says {present} and {absent}.
        text_width: numbers that the encoder gives.
        code: numbers of a scenario's code otherwise.
        hidden: units of the hyper-network.
        narrow: channels of the layers that it makes.
    """

    fill: StandIn = "template"
    ratio: float | None = None
    whole: float = 0.5
    patch: int = 8
    template: Fill = "low"
    drop: Drop = "uniform_size"
    rate: float = 0.5
    keep: float = 0.25
    teacher: Teacher = "average"
    imagine: float = 0.25
    distribution: LookOrNone = "moments"
    joint: bool = True
    approximate: float = 0.1
    features: float = 0.1
    scores: float = 0.5
    temperature: float = 1.0
    ramp: int = 400
    momentum: float = 0.99
    floor: float = 1.0
    selective: bool = False
    generates: Generated | None = None
    scenario: ScenarioName = "composed"
    mark: bool = True
    encoder: str | None = None
    words: str = "A sample with {present} available; {absent} missing."
    text_width: int = 512
    code: int = 32
    hidden: int = 32
    narrow: int = 8

    def __post_init__(self) -> None:
        one_of("fill", self.fill, get_args(StandIn))
        one_of("drop", self.drop, DROPS)
        one_of("template", self.template, FILLS)
        one_of("teacher", self.teacher, get_args(Teacher))
        one_of("distribution", self.distribution, [*LOOKS, "none"])
        one_of("generates", self.generates or "all", get_args(Generated))
        one_of("scenario", self.scenario, SCENARIOS)
        between("ratio", self.ratio or 0.0, 0, 1)
        for name in ("rate", "keep", "whole", "momentum", "floor"):
            between(name, getattr(self, name), 0, 1)
        for name in ("approximate", "features", "scores"):
            between(name, getattr(self, name), 0, 1e6)
        if self.imagine:
            between("imagine", self.imagine, 0.01, 100)
        between("temperature", self.temperature, 0.01, 1000)
        at_least("ramp", self.ramp, 0)
        for name in ("patch", "text_width", "code", "hidden", "narrow"):
            at_least(name, getattr(self, name), 1)
        self._check_text()

    def makes(self, part: str, usual: Generated) -> bool:
        """Whether the hyper-network makes this part; `usual` is what it makes where nothing was said."""
        return (self.generates or usual) in (part, "all")

    @property
    def distils(self) -> bool:
        """Whether there is a teacher."""
        return bool(self.features or self.scores)

    @property
    def marks(self) -> bool:
        """Whether there is a mark: a code that knows no scenario knows no mark either."""
        return self.mark and self.scenario != "constant"

    def _check_text(self) -> None:
        if self.scenario == "text" and not self.encoder:
            raise UserError("options.scenario text: say options.encoder, the folder or hub name of a CLIP text encoder")
        try:
            self.words.format(present="", absent="")
        except (KeyError, IndexError, ValueError) as error:
            raise UserError(f"options.words {self.words!r}: may say {{present}} and {{absent}} ({error!r})") from None
