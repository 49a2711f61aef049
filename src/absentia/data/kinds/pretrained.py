"""Decoders for pretrained encoders: the encoder's own processor says what a cell must look like."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from absentia.data.kinds.audio import read_audio, resampled
from absentia.data.kinds.base import Decoder, Kind, Value, pad
from absentia.data.kinds.image import read_image
from absentia.data.kinds.text import read_text
from absentia.errors import UserError

__all__ = ["PretrainedDecoder", "can_be_pretrained"]

PROCESSORS = {"image": "AutoImageProcessor", "text": "AutoTokenizer", "audio": "AutoFeatureExtractor"}
LONGEST_TEXT = 512


def can_be_pretrained(kind: Kind) -> bool:
    """Whether a Hugging Face encoder can stand behind this kind of modality."""
    return kind.kind in PROCESSORS


class PretrainedDecoder(Decoder):
    """Cells to the arrays that the encoder at `source` (hub name or folder) takes, without a batch axis."""

    def __init__(self, *, kind: str, source: str, root: Path | None = None) -> None:
        if kind not in PROCESSORS:
            raise UserError(f"a modality of kind {kind!r} takes no pretrained encoder ({source!r}); leave it away")
        self.kind, self.source, self.root = kind, source, root

    @cached_property
    def processor(self) -> Any:
        """The encoder's processor, loaded when first needed."""
        import transformers

        options = {"backend": "pil"} if self.kind == "image" else {}
        try:
            return getattr(transformers, PROCESSORS[self.kind]).from_pretrained(self.source, **options)
        except (OSError, ValueError) as error:
            first = str(error).strip().splitlines()[0]
            raise UserError(f"encoder {self.source!r}: its {self.kind} processor cannot be loaded: {first}") from None

    def decode(self, cell: Any) -> Value:
        made = {"image": self._image, "text": self._text, "audio": self._audio}[self.kind](cell)
        return {key: np.asarray(made[key])[0] for key in made}

    def collate(self, values: Sequence[Value]) -> Value:
        out = {}
        for key in values[0]:
            column = [v[key] for v in values]
            same = len({a.shape for a in column}) == 1
            out[key] = np.stack(column) if same else pad(column, self._fill(key))[0]
        if self.kind == "audio" and "attention_mask" not in out and "input_values" in out:
            out["attention_mask"] = pad([np.ones(len(v["input_values"]), np.int64) for v in values])[0]
        return out

    def blank(self) -> Value:
        """A black picture, an empty text, a tenth of a second of silence."""
        if self.kind == "image":
            return {k: np.zeros_like(v) for k, v in self._blank_image().items()}
        made = self._text("") if self.kind == "text" else self._sound(np.zeros(self._rate // 10, np.float32))
        return {key: np.asarray(made[key])[0] for key in made}

    def state(self) -> dict[str, Any]:
        return {"pretrained": self.source, "kind": self.kind}

    @property
    def _rate(self) -> int:
        return int(getattr(self.processor, "sampling_rate", 16_000))

    def _image(self, cell: Any) -> Any:
        return self.processor(images=read_image(cell, self.root).convert("RGB"), return_tensors="np")

    def _blank_image(self) -> Value:
        from PIL import Image as Pillow

        made = self.processor(images=Pillow.new("RGB", (64, 64)), return_tensors="np")
        return {key: np.asarray(made[key])[0] for key in made}

    def _text(self, cell: Any) -> Any:
        longest = min(self.processor.model_max_length, LONGEST_TEXT)
        return self.processor([read_text(cell)], truncation=True, max_length=longest, return_tensors="np")

    def _audio(self, cell: Any) -> Any:
        sound, rate = read_audio(cell, self.root)
        return self._sound(resampled(sound, rate, self._rate))

    def _sound(self, sound: Any) -> Any:
        return self.processor(sound, sampling_rate=self._rate, return_tensors="np")

    def _fill(self, key: str) -> float:
        return float(self.processor.pad_token_id or 0) if self.kind == "text" and key == "input_ids" else 0.0
