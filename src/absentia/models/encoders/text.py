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

    def content(self, **inputs: Tensor) -> tuple[Tensor, Tensor]:
        return self.word(inputs["ids"]), inputs["mask"]

    def places(self, count: int) -> Tensor:
        return self.position[torch.arange(count, device=self.position.device)]
