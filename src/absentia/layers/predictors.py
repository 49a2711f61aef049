"""From what a present modality says to the embedding of an absent one, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from absentia.layers.exactly import exactly
from absentia.layers.naming import module_key
from absentia.layers.side_stream import Reads, side_stream
from absentia.models.unimodal import Encoded, Unimodal

__all__ = ["Predicted", "Predictor", "Scales", "combined"]

WORDS = 0.02  # standard deviation of a prompt's start
LEAST, MOST = -6.0, 6.0  # of log variances


class Predicted(NamedTuple):
    """mean (n, D) and log variance (n,), of an embedding in standard deviations."""

    mean: Tensor
    log_variance: Tensor


class Predictor(nn.Module):
    """One source, all targets: read-only prompts beside its encoder, or its embedding alone, and a network for each.

    targets: names.  width: D of every embedding.  prompts: K for each target; 0 takes the source's embedding.
    """

    def __init__(self, *, source: Unimodal, targets: Sequence[str], width: int, prompts: int, reads: Reads) -> None:
        super().__init__()
        self.targets, self.reads = list(targets), reads
        self.count = prompts if source.readable else 0
        given = source.read_width if self.count else width
        self.prompts = nn.ParameterDict()
        self.networks = nn.ModuleDict()
        for name in targets:
            if self.count:
                self.prompts[module_key(name)] = nn.Parameter(WORDS * torch.randn(self.count, given))
            self.networks[module_key(name)] = nn.Sequential(
                nn.LayerNorm(given), nn.Linear(given, 2 * width), nn.GELU(), nn.Linear(2 * width, width + 1)
            )

    def forward(self, source: Unimodal, encoded: Encoded) -> dict[str, Predicted]:
        """Per target of every row that has the source."""
        out = {}
        for name, read in self._read(source, encoded).items():
            made = self.networks[module_key(name)](read)
            out[name] = Predicted(made[:, :-1], made[:, -1].clamp(LEAST, MOST))
        return out

    def _read(self, source: Unimodal, encoded: Encoded) -> dict[str, Tensor]:
        """(n, d) per target."""
        if not self.count:
            return dict.fromkeys(self.targets, encoded.rows)
        prompts = torch.cat([self.prompts[module_key(name)] for name in self.targets])
        made = side_stream(source.layers, encoded.there, prompts, reads=self.reads, group=self.count)
        made = source.final_norm(made)
        parts = torch.split(made, self.count, dim=1)
        return {name: part.mean(dim=1) for name, part in zip(self.targets, parts, strict=True)}


class Scales(nn.Module):
    """Where each modality's embeddings are and how far they spread, so that a predictor begins at their mean.

    Taken once, from the first rows that are seen; what predictors learn does the rest.
    """

    def __init__(self, *, names: Sequence[str], width: int) -> None:
        super().__init__()
        self.names = list(names)
        self.register_buffer("known", torch.zeros(len(names), dtype=torch.bool))
        self.register_buffer("centre", torch.zeros(len(names), width))
        self.register_buffer("spread", torch.ones(len(names), width))
        self.known: Tensor
        self.centre: Tensor
        self.spread: Tensor

    def forward(self, name: str, made: Tensor) -> Tensor:
        """From standard deviations to the scale of a modality's embeddings, (n, D)."""
        place = self.names.index(name)
        return self.centre[place] + self.spread[place] * made

    @torch.no_grad()
    def see(self, embeddings: Mapping[str, Tensor]) -> None:
        """Take the scales of modalities that are new, from two rows or more."""
        for name, rows in embeddings.items():
            place = self.names.index(name)
            if len(rows) > 1 and not bool(self.known[place]):
                self.centre[place], self.spread[place] = rows.float().mean(dim=0), rows.float().std(dim=0)
                self.known[place] = True


@exactly
def combined(means: Tensor, log_variances: Tensor, there: Tensor) -> Tensor:
    """Guesses of several sources (S, n, D), their log variances (S, n) and which there are, bool (S, n), to (n, D).

    Weighted by precision, as independent Gaussian witnesses are, in float32 at least; a row without any gets 0.
    """
    weight = F.softmax((-log_variances).masked_fill(~there, -torch.inf), dim=0)
    return (means * weight.nan_to_num(0.0)[..., None]).sum(dim=0)
