"""Sentences as vectors, by the text half of a CLIP model; nothing of it is learned or kept."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from absentia.data.kinds.pretrained import loading
from absentia.errors import UserError
from absentia.models.checkpoints import checkpoint_folder

__all__ = ["sentence_vectors"]


def sentence_vectors(source: str, sentences: Sequence[str]) -> Tensor:
    """(n, d): the projected text embeddings of a CLIP checkpoint, a folder or a hub name.

    Raises `UserError` when there is none, or when a sentence is longer than it reads.
    """
    from transformers import AutoTokenizer, CLIPTextModelWithProjection

    folder = checkpoint_folder(source)
    with loading(source, "text half"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = CLIPTextModelWithProjection.from_pretrained(folder, dtype=torch.float32)
        model.eval()  # type: ignore[no-untyped-call]
    read = tokenizer(list(sentences), padding=True, return_tensors="pt")
    most = model.config.max_position_embeddings
    if read["input_ids"].shape[1] > most:
        raise UserError(f"options.words: a sentence has {read['input_ids'].shape[1]} tokens, {source} reads {most}")
    with torch.no_grad():
        out = model(input_ids=read["input_ids"], attention_mask=read["attention_mask"]).text_embeds
    return out.float()  # type: ignore[no-any-return]
