"""The best linear guess of absent embeddings from present ones, from moments alone: no training, any pattern.

E[z_t | z_o] = mu_t + S_to (S_oo + lambda I)^-1 (z_o - mu_o). Means and covariances are added up over whatever pairs of
modalities occur together, so no row has to be complete; what never occurs together counts as uncorrelated. It is the
baseline that a learned predictor has to beat, and tells whether there is anything to predict.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["GaussianPredictor"]


class GaussianPredictor(nn.Module):
    """Embeddings (B, M, D) and presence (B, M) to guesses (B, M, D) and their variances (B, M, D).

    penalty: lambda, in mean variances of an embedding's dimensions.
    """

    def __init__(self, *, modalities: int, width: int, penalty: float = 0.1) -> None:
        super().__init__()
        self.modalities, self.width, self.penalty = modalities, width, penalty
        whole = modalities * width
        shapes: dict[str, tuple[int, ...]] = {
            "counts": (modalities, modalities),
            "sums": (modalities, whole),
            "products": (whole, whole),
        }
        shapes |= {"mean": (whole,), "covariance": (whole, whole)}
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        self.counts: Tensor
        self.sums: Tensor
        self.products: Tensor
        self.mean: Tensor
        self.covariance: Tensor

    @torch.no_grad()
    def add(self, embeddings: Tensor, presence: Tensor) -> None:
        """Count rows; what is absent may hold anything."""
        there = presence.double()
        z = embeddings.double().masked_fill(~presence[..., None], 0.0).flatten(1)  # (B, M D)
        self.counts += there.T @ there
        self.sums += there.T @ z  # of a modality's embeddings over rows that have another one too
        self.products += z.T @ z

    @torch.no_grad()
    def solve(self) -> None:
        """Means, and the nearest covariance that can be one."""
        m, d = self.modalities, self.width
        pairs = self.counts.clamp(min=1)
        beside = (self.sums.view(m, m, d) / pairs[..., None]).transpose(0, 1)  # (i, j, D): mean of z_i where j is too
        mean = beside.diagonal().T  # (M, D)
        cross = self.products.view(m, d, m, d) / pairs[:, None, :, None]
        # over rows that have both, of (z_i - mu_i)(z_j - mu_j) with the means over all rows of each
        cross = cross - torch.einsum("ijd,je->idje", beside, mean) - torch.einsum("id,jie->idje", mean, beside)
        cross = (cross + torch.einsum("id,je->idje", mean, mean)) * (self.counts > 0)[:, None, :, None]
        symmetric = cross.reshape(m * d, m * d)
        values, vectors = torch.linalg.eigh((symmetric + symmetric.T) / 2)
        self.mean, self.covariance = mean.flatten(), (vectors * values.clamp(min=0)) @ vectors.T

    @torch.no_grad()
    def forward(self, embeddings: Tensor, presence: Tensor) -> tuple[Tensor, Tensor]:
        """Guesses and variances where something is absent; the embeddings themselves and 0 where it is present."""
        out, unsure = embeddings.clone(), torch.zeros_like(embeddings)
        for pattern in torch.unique(presence, dim=0):
            rows = (presence == pattern).all(dim=1)
            if bool(pattern.all()):
                continue
            guess, spread = self._guessed(embeddings[rows][:, pattern].flatten(1), pattern)
            out[rows] = self._placed(out[rows], guess, ~pattern)
            unsure[rows] = self._placed(unsure[rows], spread.expand_as(guess), ~pattern)
        return out, unsure

    def explained(self, embeddings: Tensor, presence: Tensor) -> Tensor:
        """R² of each modality (column) from each other alone (row), on rows that have both, (M, M).

        NaN where fewer than two rows have both, and where source and target are the same.
        """
        out = torch.full((self.modalities, self.modalities), torch.nan)
        for s in range(self.modalities):
            for t in range(self.modalities):
                rows = presence[:, s] & presence[:, t]
                if s != t and int(rows.sum()) > 1:
                    alone = torch.zeros(self.modalities, dtype=torch.bool, device=presence.device)
                    alone[s] = True
                    guess = self._guessed(embeddings[rows, s], alone)[0].view(int(rows.sum()), -1, self.width)
                    true = embeddings[rows, t]
                    mine = guess[:, t - (t > s)]
                    left = (true - mine).square().sum()
                    out[s, t] = float(1 - left / (true - true.mean(dim=0)).square().sum().clamp(min=1e-12))
        return out

    def _guessed(self, shown: Tensor, pattern: Tensor) -> tuple[Tensor, Tensor]:
        """Present parts (B, |o| D) to absent ones (B, |t| D), and their variances (|t| D,)."""
        here = pattern.repeat_interleave(self.width)
        oo, to = self.covariance[here][:, here], self.covariance[~here][:, here]
        unit = oo.diagonal().mean().clamp(min=1e-12)
        regular = oo + self.penalty * unit * torch.eye(len(oo), dtype=oo.dtype, device=oo.device)
        gain = torch.linalg.solve(regular, to.T).T  # (|t| D, |o| D)
        guess = self.mean[~here] + (shown.double() - self.mean[here]) @ gain.T
        # of the penalised guess: S_tt - S_to G' - G S_ot + G S_oo G'
        both = (gain * to).sum(dim=1)
        left = self.covariance.diagonal()[~here] - 2 * both + ((gain @ oo) * gain).sum(dim=1)
        return guess.to(shown.dtype), left.clamp(min=0).to(shown.dtype)

    def _placed(self, rows: Tensor, values: Tensor, where: Tensor) -> Tensor:
        """Values (B, |t| D) in their places of (B, M, D)."""
        out = rows.clone()
        out[:, where] = values.view(len(rows), -1, self.width)
        return out
