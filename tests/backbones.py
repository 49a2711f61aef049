"""Pretrained backbones without a pretraining: random weights, saved as `absentia pretrain` saves them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tests import tiny

from absentia.config import Model
from absentia.data.table import open_table
from absentia.learn.backbones import blank_backbone, open_backbone, save_backbone
from absentia.learn.prepare import Prepared, prepare

__all__ = ["prepared_with", "with_backbone", "write_backbone"]

SIZES = Model(width=24, depth=2, heads=3, mlp=2)
SAW = {"table": "tiny", "steps": 0, "seed": 3}


def write_backbone(folder: Path, names: Sequence[str] = tiny.NAMES, *, seed: int = 3, **declared: Any) -> Path:
    """A backbone for the tiny table, of other sizes than tiny's models, fitted on other rows than tiny's."""
    schema = replace(tiny.schema(names=names), target=None)
    schema = replace(schema, modalities={**schema.modalities, **declared})
    data = prepare(open_table(tiny.table(tiny.rows(60, seed=5))), schema, plan=None, on_bad="error")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        fitted = data.fitted
        backbone = blank_backbone(fitted.schema, fitted.decoders, fitted.encoders, SIZES)
        for parameter in backbone.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    folder.mkdir(parents=True)
    save_backbone(folder, backbone, data.fitted, SIZES, SAW)
    return folder


def with_backbone(folder: Path, *, freeze: bool = False) -> Model:
    """tiny's model on top of a backbone."""
    return replace(tiny.SMALL, backbone=str(folder), freeze=freeze)


def prepared_with(folder: Path, names: Sequence[str] = tiny.NAMES, content: tiny.Rows | None = None) -> Prepared:
    """The tiny table, read as a backbone reads."""
    source = open_table(tiny.table(tiny.rows() if content is None else content))
    return prepare(source, tiny.schema(names=names), plan=None, on_bad="error", backbone=open_backbone(str(folder)))
