"""The settings of joint-embedding prediction, each with the values it may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from absentia.data.kinds.base import TUNES, rank_of
from absentia.errors import UserError
from absentia.layers.side_stream import READS, Reads
from absentia.layers.vicreg import Reduction
from absentia.methods.settings import at_least, between, one_of

__all__ = ["JointEmbeddingOptions"]

PredictorName = Literal["prompts", "pooled", "gaussian", "nearest", "mean", "none"]
Objective = Literal["vicreg", "mse", "cosine", "infonce"]
TargetGradient = Literal["none", "var_cov_only", "full"]


@dataclass(frozen=True, kw_only=True)
class JointEmbeddingOptions:
    """Settings of joint-embedding prediction. What the paper's text leaves open to us is a choice of ours.

    Args:
        predictor: prompts (read-only prompts beside the source's encoder; its embedding alone where there are no
            layers to read), pooled (always the embedding alone), gaussian (closed form, nothing learned), nearest (of
            the training rows most alike in what is present), mean (the training rows' mean) or none (fuses what is
            present alone).
        neighbours: with `nearest`, of how many rows the mean is taken.
        objective: what makes guess and target alike: vicreg, mse, cosine or infonce.
        prompts: of each directed pair.
        reads: what prompts read: tokens, self (and itself), group (and the others of its target).
        tune: of pretrained encoders whose modality says no more than that they learn (tune true), the biases do,
            products of low rank (lora, or lora:RANK), everything (full) or nothing (frozen); ours always learn.
        training: two (encoders and heads first, then prompts and predictors with all else frozen) or joint.
        invariance, variance, covariance: weights of VICReg's terms.
        variance_reduction: mean of both branches, as its code has it, or sum, as its paper.
        alone: weight of the loss of each present modality's own answer.
        predict: weight of the objective beside the task.
        labels: weight of the task's loss through guesses, which needs no pairs.
        moments: weight of the distance between means and covariances of guesses and of true embeddings, for training
            rows that never have both.
        micro: rows that are encoded and predicted at a time while predictors learn, with the gradient of the whole
            step; none takes all at once. (`training.accumulate` would compare rows within its parts alone.)
        tokens_grad_from_prediction: whether the objective reaches the source's encoder (joint training).
        target_grad: whether it reaches the target's: none, var_cov_only or full (joint training).
        guard: whether held-out rows say, pattern by pattern, how much of a say guesses have beside what is present:
            none, a quarter, half, or as much.
        calibrate: whether every pattern's answers get a temperature of their own, from held-out rows.
    """

    predictor: PredictorName = "prompts"
    objective: Objective = "vicreg"
    neighbours: int = 1
    prompts: int = 8
    reads: Reads = "tokens"
    tune: str = "biases"
    training: Literal["two", "joint"] = "two"
    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0
    variance_reduction: Reduction = "mean"
    alone: float = 1.0
    predict: float = 0.04
    labels: float = 1.0
    moments: float = 0.0
    micro: int | None = None
    tokens_grad_from_prediction: bool = False
    target_grad: TargetGradient = "var_cov_only"
    guard: bool = True
    calibrate: bool = True

    def __post_init__(self) -> None:
        one_of("predictor", self.predictor, get_args(PredictorName))
        one_of("objective", self.objective, get_args(Objective))
        one_of("reads", self.reads, READS)
        if rank_of(self.tune) is None:
            one_of("tune", self.tune, (*TUNES, "lora"))
        one_of("training", self.training, ("two", "joint"))
        one_of("variance_reduction", self.variance_reduction, get_args(Reduction))
        one_of("target_grad", self.target_grad, get_args(TargetGradient))
        at_least("prompts", self.prompts, 1)
        at_least("neighbours", self.neighbours, 1)
        at_least("micro", 1 if self.micro is None else self.micro, 1)
        for name in ("invariance", "variance", "covariance", "alone", "predict", "labels", "moments"):
            between(name, getattr(self, name), 0, 1e6)
        if self.predictor == "none" and self.training == "joint":
            raise UserError(
                "options.predictor none: there is nothing to train jointly with; leave options.training away"
            )
