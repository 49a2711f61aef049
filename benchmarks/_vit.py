"""A small vision transformer pretrained on a table's own photos, as a Hugging Face folder that any run can name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor, nn

from absentia.data.kinds.image import read_image
from absentia.data.table import Table
from absentia.errors import UserError

__all__ = ["pretrained_vit"]

SIDE, PATCH = 64, 8  # pixels
SMALL = {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 192}
DECODER = {
    "decoder_hidden_size": 64,
    "decoder_num_hidden_layers": 2,
    "decoder_num_attention_heads": 4,
    "decoder_intermediate_size": 128,
}


def pretrained_vit(
    table: Table, column: str, folder: Path, *, epochs: float = 20, batch: int = 64, lr: float = 1.5e-3, seed: int = 0
) -> Path:
    """Masked autoencoding (ViT-MAE, He et al. 2022) of the photos of training rows, without labels; into `folder`."""
    from transformers import ViTImageProcessorPil, ViTMAEConfig, ViTMAEForPreTraining

    torch.manual_seed(seed)
    processor = ViTImageProcessorPil(size={"height": SIDE, "width": SIDE})
    model = ViTMAEForPreTraining(ViTMAEConfig(image_size=SIDE, patch_size=PATCH, **SMALL, **DECODER))
    photos = _photos(table, column, processor)
    steps = max(1, round(epochs * len(photos) / batch))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps + 1, pct_start=0.1)
    for _ in range(steps):
        rows = photos[torch.randint(len(photos), (batch,))]
        _step(model, optimizer, rows.flip(-1) if torch.rand(()) < 0.5 else rows)
        schedule.step()
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _photos(table: Table, column: str, processor: Any) -> Tensor:
    """(N, 3, SIDE, SIDE): the photos that training rows have, as the processor gives them."""
    if "split" not in table.columns:
        raise UserError("a table without a column split does not say which photos are those of training rows")
    rows = table.take(np.arange(len(table)))
    rows = rows.filter(pc.equal(rows["split"], "train"))
    images = [read_image(cell, None).convert("RGB") for cell in rows[column].drop_null().to_pylist()]
    return torch.from_numpy(processor(images=images, return_tensors="np")["pixel_values"])


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, rows: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    model(pixel_values=rows).loss.backward()
    optimizer.step()
