"""What a folder holds: a saved data set, a hub repository, tables by split or in shards, pictures, sounds."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import datasets
import pyarrow as pa

from absentia.data.files import file_parts, quiet
from absentia.data.formats import format_of, is_table, read_features
from absentia.data.hub import hub_parts
from absentia.data.media import is_media_file, is_metadata, media_parts
from absentia.data.memory import split_name, splits_parts
from absentia.data.storage import Part
from absentia.errors import UserError

__all__ = ["folder_parts"]

_SPLIT_WORD = re.compile(r"(?:^|[^a-z])(train|training|val|validation|valid|dev|test|testing)(?:[^a-z]|$)")
_CONFIGS = re.compile(r"\A---\n.*?^(?:configs|dataset_info):.*?^---", re.DOTALL | re.MULTILINE)


def folder_parts(folder: Path, config: str | None, *, streaming: bool) -> tuple[list[Part], Path]:
    """What the folder holds, and the folder that relative paths in cells start from."""
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        return _saved(folder), folder
    if config or _is_repository(folder):
        return hub_parts(str(folder), config, streaming=streaming), folder
    files = _files_below(folder)
    if not any(is_metadata(path) for path in files):
        tables = [path for path in files if is_table(path)]
        chosen = [path for path in tables if path.parent == folder] or tables
        if chosen:
            root = Path(os.path.commonpath([path.parent for path in chosen]))
            return file_parts(_by_split(folder, chosen), streaming=streaming), root
    if any(is_metadata(path) or is_media_file(path) for path in files):
        return media_parts(folder, files), folder
    raise UserError(
        f"{folder} holds nothing that makes a table; expected train/val/test files or shards (.csv, .parquet, "
        ".jsonl), a data set saved to disk, or pictures or sounds in one sub-folder per class or with a metadata.csv"
    )


def _saved(folder: Path) -> list[Part]:
    try:
        with quiet():
            saved = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise UserError(f"{folder} was saved by `datasets` but cannot be read: {error}") from error
    return splits_parts(saved) if isinstance(saved, dict) else [Part(saved)]


def _is_repository(folder: Path) -> bool:
    """Whether a README says, in its head, how the data is laid out."""
    card = folder / "README.md"
    return card.is_file() and bool(_CONFIGS.match(card.read_text("utf-8", errors="replace")))


def _files_below(folder: Path) -> list[Path]:
    found = []
    for base, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        found += [Path(base, name) for name in names if not name.startswith((".", "_"))]
    return sorted(found)


def _by_split(folder: Path, tables: Sequence[Path]) -> dict[str | None, list[Path]]:
    """Files by the split that their name or their folder's says; without any, all are shards of one table."""
    by_split: dict[str | None, list[Path]] = {}
    for path in tables:
        word = _split_in(path.name) or _split_in(path.parent.relative_to(folder).as_posix())
        if word:
            by_split.setdefault(word, []).append(path)
    if len(by_split) > 1:
        order = [split for split in ("train", "val", "test") if split in by_split]
        return {split: by_split[split] for split in order}
    _check_shards(folder, tables)
    return {None: list(tables)}


def _split_in(name: str) -> str | None:
    found = _SPLIT_WORD.search(name.lower())
    return split_name(found[1]) if found else None


def _check_shards(folder: Path, tables: Sequence[Path]) -> None:
    """Files with other columns are other tables, not shards of one."""
    columns = {path: set(read_features(format_of(path), [path])) for path in tables} if len(tables) > 1 else {}
    for path, names in columns.items():
        if names != columns[tables[0]]:
            raise UserError(
                f"{folder} holds different tables: {tables[0].name} and {path.name} have other columns; "
                "give one of the files"
            )
