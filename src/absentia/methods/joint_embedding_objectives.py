"""What makes the guess of an embedding like the true one: VICReg, and what it is compared with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from absentia.layers.exactly import exactly
from absentia.layers.gathered import gathered
from absentia.layers.predictors import Predicted
from absentia.layers.vicreg import vicreg
from absentia.methods.joint_embedding_options import JointEmbeddingOptions

__all__ = ["Pair", "gathered_pair", "moment_distance", "pair_loss"]

SHARPNESS = 0.1  # temperature of InfoNCE
LEAST = 1e-3  # a dimension whose standard deviation is smaller is not blown up


@dataclass(frozen=True)
class Pair:
    """A directed pair: guesses for rows that have the source, embeddings of rows that have the target.

    made: of n_s rows.  true: (n_t, D).  of_made, of_true: which of them have both, in the same order.
    """

    made: Predicted
    true: Tensor
    of_made: Tensor
    of_true: Tensor


def gathered_pair(pair: Pair, options: JointEmbeddingOptions) -> Pair:
    """The rows of all processes; the pair itself where there is one. Every process asks for the same pairs in turn."""
    learns = options.training == "joint" and options.target_grad != "none"
    return Pair(
        made=Predicted(gathered(pair.made.mean), gathered(pair.made.log_variance)),
        true=gathered(pair.true, learns=learns),
        of_made=gathered(pair.of_made, learns=False),
        of_true=gathered(pair.of_true, learns=False),
    )


def pair_loss(pair: Pair, options: JointEmbeddingOptions) -> Tensor:
    """The objective and the likelihood of the guess's own variance; both in standard deviations of the true embedding.

    A hinge at a deviation of 1 is meant for such a scale. Guesses stay on the scale of embeddings outside. What learns
    of the true embedding learns through its deviations too: else it would pay to let them shrink, to nothing.
    """
    made, true = _standardised(pair.made.mean, pair.true)
    x, y = made[pair.of_made], true[pair.of_true]
    aim = y if options.target_grad == "full" else y.detach()
    everything = true.detach() if options.target_grad == "none" else true
    objective = _objective(x, aim, made, everything, options)
    return objective + _likelihood(x.detach(), y.detach(), pair.made.log_variance[pair.of_made])


def moment_distance(pair: Pair) -> Tensor:
    """Squared distances of means and covariances of all guesses and all true embeddings (CORAL, Sun & Saenko 2016)."""
    return _moments_apart(pair.made.mean, pair.true.detach())


@exactly
def _moments_apart(made: Tensor, true: Tensor) -> Tensor:
    if len(made) < 2 or len(true) < 2:
        return made.sum() * 0
    made, true = _standardised(made, true)
    return (made.mean(0) - true.mean(0)).square().mean() + (made.T.cov() - true.T.cov()).square().mean()


@exactly
def _standardised(made: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """In standard deviations of true embeddings from their mean; guesses have no way back to either."""
    centre, spread = _scale(true)
    return (made - centre.detach()) / spread.detach(), (true - centre) / spread


@exactly
def _objective(x: Tensor, y: Tensor, all_x: Tensor, all_y: Tensor, options: JointEmbeddingOptions) -> Tensor:
    if options.objective == "vicreg":
        weights = (options.invariance, options.variance, options.covariance)
        return vicreg(x, y, all_x=all_x, all_y=all_y, weights=weights, reduction=options.variance_reduction)
    if not len(x):
        return x.sum() * 0
    if options.objective == "mse":
        return options.invariance * F.mse_loss(x, y)
    if options.objective == "cosine":
        return options.invariance * (1 - F.cosine_similarity(x, y)).mean()
    alike = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T / SHARPNESS
    return options.invariance * F.cross_entropy(alike, torch.arange(len(x), device=x.device))


@exactly
def _likelihood(x: Tensor, y: Tensor, log_variance: Tensor) -> Tensor:
    """Of the guess's variance, the mean standing still: half of log s² + error² / s²."""
    if not len(x):
        return log_variance.sum() * 0
    error = (x - y).square().mean(dim=1)
    return 0.5 * (log_variance + error * (-log_variance).exp()).mean()


def _scale(true: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every dimension; of too few rows 0 and 1."""
    if len(true) < 2:
        return true.new_zeros(true.shape[1]), true.new_ones(true.shape[1])
    variance = true.var(dim=0).clamp(min=LEAST**2)  # before the root, whose slope at 0 has no bound
    return true.mean(dim=0), variance.sqrt()
