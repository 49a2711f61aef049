"""Token and position embeddings for text."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from absentia.data.kinds.text import TextDecoder
from absentia.models.encoders.base import Embedder, learned_vector

__all__ = ["TextEmbedder"]


class TextEmbedder(Embedder):
    """Token ids (n, T) to T tokens; an empty text leaves only the [CLS]."""

    def __init__(self, *, width: int, decoder: TextDecoder) -> None:
        super().__init__(width=width)
        self.word = nn.Embedding(decoder.vocabulary, width)
        nn.init.normal_(self.word.weight, std=0.02)
        self.position = learned_vector(decoder.max_length, width)

    def embed(self, **inputs: Tensor) -> tuple[Tensor, Tensor]:
        ids, mask = inputs["ids"], inputs["mask"]
        places = torch.arange(ids.shape[1], device=ids.device)
        return self.word(ids) + self.position[places], mask
