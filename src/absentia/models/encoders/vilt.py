"""The two embedders of ViLT: word pieces as in BERT, and patches, each at its place in its own picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ViltImageEmbedder", "ViltTextEmbedder"]


class ViltTextEmbedder(nn.Module):
    """Word pieces as tokens; the [CLS] is the tokenizer's own, the first of `input_ids`.

    vocabulary, positions and kinds are the sizes of the tables of words, places and sentence kinds; cls_id is
    the number of [CLS] in the vocabulary.
    """

    def __init__(
        self,
        *,
        width: int,
        vocabulary: int,
        positions: int,
        kinds: int = 2,
        cls_id: int = 101,
        eps: float = 1e-12,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.width, self.cls_id = width, cls_id
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(positions, width)
        self.kinds = nn.Embedding(kinds, width)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.modality_type = nn.Parameter(torch.zeros(width))
        self.dropout = nn.Dropout(dropout)
        for table in (self.words, self.positions, self.kinds):
            nn.init.trunc_normal_(table.weight, std=0.02)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Word pieces (n, T), as the tokenizer gives them, to tokens (n, T, D) and valid (n, T).

        Raises ValueError if there are more word pieces than places.
        """
        length = input_ids.shape[1]
        if length > self.positions.num_embeddings:
            raise ValueError(
                f"{length} word pieces, but places for {self.positions.num_embeddings}: "
                "truncate the text, or stretch the table with stretch_positions"
            )
        kinds = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        tokens = self.words(input_ids) + self.kinds(kinds) + self.positions.weight[:length]
        return self.dropout(self.norm(tokens)) + self.modality_type, attention_mask.bool()

    def cls(self) -> Tensor:
        """The [CLS] embedding alone (D,)."""
        number = torch.tensor([[self.cls_id]], device=self.words.weight.device)
        return self(number, torch.ones_like(number))[0][0, 0]  # type: ignore[no-any-return]

    @torch.no_grad()
    def stretch_positions(self, length: int) -> None:
        """Make room for `length` word pieces: the table of places is interpolated (corners not aligned)."""
        table = self.positions.weight
        longer = F.interpolate(table.T[None], size=length, mode="linear", align_corners=False)[0].T
        self.positions = nn.Embedding(length, self.width)
        self.positions.weight = nn.Parameter(longer.contiguous(), requires_grad=table.requires_grad)


class ViltImageEmbedder(nn.Module):
    """Patches as tokens behind a learned [CLS].

    image_size and patch are pixels along one side. The table of places belongs to a square of image_size;
    each picture reads it at its own height and width, bilinear with aligned corners.
    """

    def __init__(self, *, width: int, image_size: int, patch: int, channels: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        self.width, self.patch, self.side = width, patch, image_size // patch
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, 1 + self.side**2, width))
        self.patches = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)
        self.modality_type = nn.Parameter(torch.zeros(width))
        self.dropout = nn.Dropout(dropout)
        for weight in (self.cls_token, self.positions, self.patches.weight):
            nn.init.trunc_normal_(weight, std=0.02)

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Pixels (n, C, H, W), where they are real (n, H, W), to tokens (n, 1 + T, D) and valid (n, 1 + T).

        T counts all patches of the padded picture, row by row; one whose first pixel is padding is not valid.
        """
        patches = self.patches(pixel_values).permute(0, 2, 3, 1)  # (n, h, w, D)
        n, height, across, _ = patches.shape
        real = patches.new_ones(n, height, across, dtype=torch.bool)
        if pixel_mask is not None:
            real = pixel_mask[:, :: self.patch, :: self.patch][:, :height, :across].bool()
        tokens = patches + self._places(real)
        first = (self.cls_token + self.positions[:, :1]).expand(n, 1, self.width)
        tokens = self.dropout(torch.cat([first, tokens.flatten(1, 2)], dim=1)) + self.modality_type
        return tokens, F.pad(real.flatten(1), (1, 0), value=True)

    def cls(self) -> Tensor:
        """The [CLS] embedding alone (D,)."""
        return self.cls_token[0, 0] + self.positions[0, 0] + self.modality_type

    def _places(self, real: Tensor) -> Tensor:
        """Where patches are real, bool (n, h, w), to their place embeddings (n, h, w, D)."""
        table = self.positions[0, 1:].view(self.side, self.side, self.width)
        down = _hats(real[:, :, 0].sum(1), real.shape[1], self.side).to(table.dtype)
        right = _hats(real[:, 0].sum(1), real.shape[2], self.side).to(table.dtype)
        return torch.einsum("nhi,nwj,ijd->nhwd", down, right, table)


def _hats(lengths: Tensor, steps: int, side: int) -> Tensor:
    """Weights (n, steps, side): how each of `steps` patches in a line reads the `side` places of the table.

    The `lengths` (n,) real patches lie evenly over the table, the first and the last on its ends.
    """
    stretch = (side - 1) / (lengths - 1).clamp(min=1)
    at = (torch.arange(steps, device=lengths.device) * stretch[:, None]).clamp(max=side - 1)
    return (1 - (at[:, :, None] - torch.arange(side, device=lengths.device)).abs()).clamp(min=0)
