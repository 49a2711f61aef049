"""The kinds of modality: one file and one line here each."""

from __future__ import annotations

from absentia.data.kinds.audio import Audio
from absentia.data.kinds.base import Decoder, Kind, Value
from absentia.data.kinds.image import Image
from absentia.data.kinds.series import Series
from absentia.data.kinds.tabular import Tabular
from absentia.data.kinds.text import Text
from absentia.data.kinds.volume import Volume

__all__ = ["KINDS", "Audio", "Decoder", "Image", "Kind", "Series", "Tabular", "Text", "Value", "Volume"]

KINDS: dict[str, type[Kind]] = {k.kind: k for k in (Image, Text, Tabular, Series, Audio, Volume)}
