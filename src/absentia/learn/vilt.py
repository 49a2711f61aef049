"""A ViLT checkpoint as a pretrained backbone: a table's one text and one image, whatever they are called."""

from __future__ import annotations

from pathlib import Path

from transformers import ViltConfig

from absentia.data.kinds import Image, Text
from absentia.data.kinds.vilt import ViltImageDecoder, ViltTextDecoder
from absentia.learn.folder import sha256_of
from absentia.learn.pretrained import PretrainedFused
from absentia.models.backbone import FusedBackbone
from absentia.models.checkpoints import FILES, PROCESSORS
from absentia.models.vilt import from_vilt, side_of

__all__ = ["open_vilt"]


def open_vilt(source: str, folder: Path) -> PretrainedFused:
    """The backbone of the checkpoint in `folder`; raises `UserError` where something of it is missing or broken.

    Texts are cut at the places that the checkpoint has. Its pooler stays behind: the [CLS] are what is read.
    """
    config = ViltConfig.from_pretrained(folder)
    decoders = {
        "text": ViltTextDecoder(source=str(folder), places=config.max_position_embeddings),
        "image": ViltImageDecoder(source=str(folder), patch=side_of(config.patch_size)),
    }
    for decoder in decoders.values():
        _ = decoder.processor  # what is missing is said now, not within the first row
    vilt = from_vilt(folder)
    return PretrainedFused(
        source=source,
        folder=folder.resolve(),
        sha256=sha256_of(folder, (*FILES, *PROCESSORS)),
        kinds={"text": Text(), "image": Image()},
        decoders=decoders,
        backbone=FusedBackbone(embedders=vilt.embedders, transformer=vilt.transformer),
        sizes=vilt.transformer.sizes,
        saw={"checkpoint": "ViLT"},
        by_kind=True,
    )
