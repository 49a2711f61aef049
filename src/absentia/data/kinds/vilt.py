"""Decoders for a ViLT checkpoint: its tokenizer for the text, its image processor for the picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from absentia.data.kinds.base import Array, Value
from absentia.data.kinds.pretrained import PretrainedDecoder
from absentia.data.kinds.text import LONG, read_text

__all__ = ["ViltImageDecoder", "ViltTextDecoder"]

TAKES = ("input_ids", "attention_mask", "token_type_ids")


class ViltTextDecoder(PretrainedDecoder):
    """Cells to `{"input_ids", "attention_mask"[, "token_type_ids"]}`, int64 (T,); longer texts are cut at `places`."""

    def __init__(self, *, source: str, places: int, root: Path | None = None) -> None:
        super().__init__(kind="text", source=source, root=root)
        self.places = places

    def _text(self, cell: Any) -> Any:
        text = read_text(cell)[: LONG * self.places]
        made = self.processor([text], truncation=True, max_length=self.places, return_tensors="np")
        return {key: made[key] for key in TAKES if key in made}


class ViltImageDecoder(PretrainedDecoder):
    """Cells to `{"pixel_values": float32 (3, H, W), "pixel_mask": int64 (H, W)}`, whole patches of `patch` pixels."""

    def __init__(self, *, source: str, patch: int, root: Path | None = None) -> None:
        super().__init__(kind="image", source=source, root=root)
        self.patch = patch

    def collate(self, values: Sequence[Value]) -> Value:
        """Pictures side by side, those that are smaller padded at the right and below."""
        height, width = (max(v["pixel_mask"].shape[axis] for v in values) for axis in (0, 1))
        return {key: np.stack([_padded(v[key], height, width) for v in values]) for key in values[0]}

    def blank(self) -> Value:
        """A grey picture that counts as seen."""
        blank = super().blank()
        return {"pixel_values": blank["pixel_values"], "pixel_mask": np.ones_like(blank["pixel_mask"])}

    def _image(self, cell: Any) -> Any:
        made = super()._image(cell)
        mask = np.asarray(made["pixel_mask"], dtype=np.int64)
        height, width = (side - side % self.patch for side in mask.shape[1:])
        pixels = np.asarray(made["pixel_values"], dtype=np.float32)
        return {"pixel_values": pixels[..., :height, :width], "pixel_mask": mask[..., :height, :width]}


def _padded(array: Array, height: int, width: int) -> Array:
    short = (0, height - array.shape[-2]), (0, width - array.shape[-1])
    return np.pad(array, [(0, 0)] * (array.ndim - 2) + list(short))
