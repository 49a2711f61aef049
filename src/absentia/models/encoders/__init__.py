"""One embedder per kind of modality; `embedder_for` picks it by the decoder that feeds it."""

from __future__ import annotations

from absentia.data.kinds import Decoder
from absentia.data.kinds.image import ImageDecoder
from absentia.data.kinds.series import SteppedDecoder
from absentia.data.kinds.tabular import TabularDecoder
from absentia.data.kinds.text import TextDecoder
from absentia.data.kinds.volume import VolumeDecoder
from absentia.models.encoders.base import Embedder
from absentia.models.encoders.image import ImageEmbedder
from absentia.models.encoders.series import SeriesEmbedder
from absentia.models.encoders.tabular import TabularEmbedder
from absentia.models.encoders.text import TextEmbedder
from absentia.models.encoders.volume import VolumeEmbedder

__all__ = ["Embedder", "embedder_for"]


def embedder_for(decoder: Decoder, *, width: int) -> Embedder:
    """A fresh embedder, learned from scratch, for what `decoder` gives."""
    if isinstance(decoder, ImageDecoder):
        return ImageEmbedder(width=width, decoder=decoder)
    if isinstance(decoder, TextDecoder):
        return TextEmbedder(width=width, decoder=decoder)
    if isinstance(decoder, TabularDecoder):
        return TabularEmbedder(width=width, decoder=decoder)
    if isinstance(decoder, SteppedDecoder):
        return SeriesEmbedder(width=width, decoder=decoder)
    if isinstance(decoder, VolumeDecoder):
        return VolumeEmbedder(width=width, decoder=decoder)
    raise TypeError(f"no embedder for {type(decoder).__name__}")
