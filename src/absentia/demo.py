"""The demonstration: the embedded data set, 70 % of its training rows made incomplete."""

from __future__ import annotations

import numpy as np

from absentia.config import RunConfig, Training
from absentia.data.absence import MaskPlan
from absentia.data.absence_rules import Rule
from absentia.data.catalog import open_source
from absentia.data.catalog.glyphs import DECLARATION
from absentia.data.schema import modality_from_flag
from absentia.data.table import Table

__all__ = ["demo_settings", "glyphs_config", "glyphs_plan"]

INCOMPLETE = 0.7


def demo_settings(*, method: str, seed: int, epochs: float, on_bad: str) -> tuple[RunConfig, Table, MaskPlan]:
    """Settings, table and plan of `absentia demo`."""
    table = open_source("glyphs")
    config = glyphs_config(method=method, seed=seed, training=Training(epochs=epochs), on_bad=on_bad)
    return config, table, glyphs_plan(table, seed=seed)


def glyphs_config(
    *, method: str, seed: int, training: Training, on_bad: str = "error", reference: bool = True
) -> RunConfig:
    """The settings of a training on glyphs."""
    return RunConfig(
        table="glyphs",
        modality={name: kind.describe() for name, kind in map(modality_from_flag, DECLARATION["modality"])},
        target=DECLARATION["target"],
        id=DECLARATION["id"],
        split=DECLARATION["split"],
        method=method,
        seed=seed,
        on_bad=on_bad,
        reference=reference,
        training=training,
    )


def glyphs_plan(table: Table, *, seed: int, incomplete: float = INCOMPLETE) -> MaskPlan:
    """Training and validation rows thinned out: proper patterns drawn evenly; test rows stay complete."""
    rows = table.take(np.arange(len(table)))
    names = [modality_from_flag(flag)[0] for flag in DECLARATION["modality"]]
    rule = Rule(p_incomplete=incomplete)
    return MaskPlan.draw(
        modalities=names,
        splits=rows.column("split").to_pylist(),
        ids=rows.column("id").to_pylist(),
        rules={"train": rule, "val": rule},
        seed=seed,
    )
