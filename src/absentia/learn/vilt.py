"""A ViLT checkpoint as a pretrained backbone: a table's one text and one image, whatever they are called."""

from __future__ import annotations

from pathlib import Path

from absentia.data.kinds import Image, Text
from absentia.data.kinds.vilt import ViltImageDecoder, ViltTextDecoder
from absentia.learn.folder import sha256_of
from absentia.learn.pretrained import Pretrained
from absentia.models.backbone import FusedBackbone
from absentia.models.checkpoints import FILES, PROCESSORS
from absentia.models.vilt import ViltImageEmbedder, ViltTextEmbedder, from_vilt

__all__ = ["open_vilt"]


def open_vilt(source: str, folder: Path) -> Pretrained:
    """The backbone of the checkpoint in `folder`; raises `UserError` where something of it is missing or broken.

    Texts are cut at the places that the checkpoint has. Its pooler stays behind: the [CLS] are what is read.
    """
    vilt = from_vilt(folder)
    text, image = vilt.embedders["text"], vilt.embedders["image"]
    assert isinstance(text, ViltTextEmbedder) and isinstance(image, ViltImageEmbedder)
    decoders = {
        "text": ViltTextDecoder(source=str(folder), places=text.positions.num_embeddings),
        "image": ViltImageDecoder(source=str(folder), patch=image.patch),
    }
    for decoder in decoders.values():
        _ = decoder.processor  # what is missing is said now, not within the first row
    return Pretrained(
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
