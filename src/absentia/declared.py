"""What the columns of a table mean: from the settings, else from the catalog, else from the cells themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from absentia.config import RunConfig
from absentia.data.catalog import declaration
from absentia.data.infer import infer
from absentia.data.masks import looks_like_mask
from absentia.data.schema import Schema, Target, modality_from, modality_from_flag, target_from_flag
from absentia.data.table import Table
from absentia.errors import UserError

__all__ = ["declared_schema", "settings_of_schema"]


def declared_schema(
    config: RunConfig, table: Table, say: Callable[[str], object], *, need_target: bool = True
) -> Schema:
    """The schema that the settings declare, or the catalog; else it is inferred, and said with its reasons."""
    config = _from_catalog(config, say)
    if config.modality:
        schema = Schema(
            modalities={name: modality_from(name, options) for name, options in config.modality.items()},
            target=target_from_flag(config.target) if config.target else None,
        )
    else:
        schema, reasons = infer(table, target=config.target, need_target=need_target)
        for reason in reasons:
            say(str(reason))
    if schema.target is None and need_target:
        raise UserError("what is to be predicted? say --target COLUMN")
    if schema.target is not None:
        schema = replace(schema, target=replace(_told_apart(schema.target, table), masks=config.masks))
    split = config.split or schema.split or ("split" if "split" in table.columns else None)
    return replace(schema, id=config.id or schema.id or ("id" if "id" in table.columns else None), split=split)


def settings_of_schema(schema: Schema) -> dict[str, Any]:
    """A schema as the settings that declare it."""
    target = schema.target
    kind = "" if target is None or target.kind is None else f"={'log' if target.log else target.kind}"
    return {
        "modality": {name: kind.describe() for name, kind in schema.modalities.items()},
        "target": None if target is None else target.column + kind,
        "id": schema.id,
        "split": schema.split,
    }


def _told_apart(target: Target, table: Table) -> Target:
    """A column of volumes or pictures is a mask, where nothing else was said."""
    if target.kind is not None or target.column not in table.columns:
        return target
    for chunk in table.chunks(64):
        cells = [cell for cell in chunk.column(target.column).to_pylist() if cell is not None]
        if cells:
            return replace(target, kind="mask") if looks_like_mask(cells[0]) else target
    return target


def _from_catalog(config: RunConfig, say: Callable[[str], object]) -> RunConfig:
    """The settings with what the catalog knows about the table's columns, where they say nothing else."""
    known = declaration(config.table)
    if known is None or config.modality or config.target not in (None, known.get("target")):
        return config
    flags = dict(modality_from_flag(flag) for flag in known["modality"])
    say(f"{config.table.partition(':')[0]} is in the catalog: {' '.join(known['modality'])}")
    return replace(
        config,
        modality={name: kind.describe() for name, kind in flags.items()},
        target=known.get("target"),
        id=config.id or known.get("id"),
        split=config.split or known.get("split"),
        masks=config.masks if config.masks.regions else replace(config.masks, **known.get("masks", {})),
    )
