"""Where the files of a checkpoint are: in a folder, or fetched from the hub into its cache."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError

from absentia.errors import UserError

__all__ = ["FILES", "PROCESSORS", "checkpoint_folder"]

FILES = ("config.json", "model.safetensors")
PROCESSORS = (
    *("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    "preprocessor_config.json",
)


def checkpoint_folder(source: str | Path, revision: str | None = None) -> Path:
    """The folder of a checkpoint; raises `UserError` when it is neither here nor on the hub."""
    folder = Path(source)
    if folder.is_dir():
        return folder
    try:
        return Path(snapshot_download(str(source), revision=revision, allow_patterns=[*FILES, *PROCESSORS]))
    except (OSError, HFValidationError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"{source}: neither a folder nor to be had from the hub: {first}") from None
