"""What the flags of a command ask for, as settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from absentia.config import RunConfig, config_from
from absentia.errors import UserError
from absentia.flags import modalities_of

__all__ = ["config_of_run", "plain", "required_table"]


def plain(asked: Namespace) -> dict[str, Any]:
    """The flags by name; a table that a YAML file names is among them."""
    given: dict[str, Any] = asked.as_dict()
    if given.get("table") is None and given.get("config"):
        given["table"] = _table_of(given["config"][-1])
    return {key: value for key, value in given.items() if key not in ("config", "__default_config__")}


def _table_of(config: Any) -> str | None:
    """The table that a YAML file names; the parser lets an absent positional argument hide it."""
    import yaml

    content = yaml.safe_load(Path(str(config)).read_text(encoding="utf-8"))
    return content.get("table") if isinstance(content, dict) else None


def required_table(given: dict[str, Any]) -> dict[str, Any]:
    """The same flags; `UserError` if they name no table."""
    if given["table"] is None:
        raise UserError("which table? Give a file, a folder or a hub name")
    return given


def config_of_run(given: dict[str, Any], out: str | None, *, resume: bool) -> RunConfig:
    """The settings of a training: its own if it goes on without being told a table, else those of the flags."""
    from absentia.learn.folder import RunFolder
    from absentia.learn.run import read_config

    if not resume or given["table"] is not None:
        return config_from(RunConfig, required_table(given) | {"modality": modalities_of(given["modality"])})
    if out is None:
        raise UserError("--resume needs --out, the folder of the run")
    return read_config(RunFolder(out))
