"""A folder of pictures or sounds as a table, laid out as the Hugging Face hub lays them out.

Either a metadata file (CSV, JSON Lines or Parquet) names the file of each row in `file_name` or
`<column>_file_name`, where an empty cell is an absent picture; or the sub-folder of a file is its class.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import datasets
import pyarrow as pa

from absentia.data.files import file_parts
from absentia.data.memory import split_name
from absentia.data.sniff import AUDIO_SUFFIXES, IMAGE_SUFFIXES
from absentia.data.storage import MEDIA, Part
from absentia.errors import UserError

__all__ = ["is_media_file", "is_metadata", "media_parts"]

_FILE_NAME = "file_name"
_SPLITS = ("train", "val", "test")


def is_media_file(path: Path) -> bool:
    """Whether the name is that of a picture or a sound."""
    return path.suffix.lower() in IMAGE_SUFFIXES + AUDIO_SUFFIXES


def is_metadata(path: Path) -> bool:
    """Whether the file describes the pictures or sounds beside it."""
    return path.name in ("metadata.csv", "metadata.jsonl", "metadata.parquet")


def media_parts(root: Path, files: Sequence[Path]) -> list[Part]:
    """The rows of a folder, from the files below it (sorted). Paths in cells are relative to `root`."""
    described = [path for path in files if is_metadata(path)]
    if described:
        return [_described(root, path) for path in described]
    media = [path.relative_to(root) for path in files if is_media_file(path)]
    kinds = {_kind(path) for path in media}
    if len(kinds) > 1:
        raise UserError(f"{root} holds pictures and sounds; say in a metadata.csv which of them make a row")
    by_split: dict[str | None, list[Path]] = {}
    for path in media:
        by_split.setdefault(_split(path), []).append(path)
    labels = _labels(media)
    if len(by_split) == 1:
        by_split = {None: media}
    return [Part(_classes(kinds.copy().pop(), paths, labels), split) for split, paths in by_split.items()]


def _described(root: Path, metadata: Path) -> Part:
    """The rows of one metadata file, its file names replaced by cells that hold the path."""
    below = metadata.parent.relative_to(root)
    table = file_parts({None: [metadata]}, streaming=False)[0].dataset.with_format("arrow")[:]
    names = [name for name in table.column_names if name == _FILE_NAME or name.endswith("_" + _FILE_NAME)]
    if not names:
        raise UserError(f"{metadata} has no column 'file_name' that says which file belongs to a row")
    for name in names:
        paths = table[name].cast(pa.string()).to_pylist()
        column = name.removesuffix(_FILE_NAME).rstrip("_") or _kind(Path(next(filter(None, paths), "")))
        cells = [None if not path else {"bytes": None, "path": (below / path).as_posix()} for path in paths]
        table = table.set_column(table.column_names.index(name), column, pa.array(cells, MEDIA))
    split = below.parts[0] if below.parts else ""
    return Part(datasets.Dataset(table), split_name(split) if split_name(split) in _SPLITS else None)


def _classes(kind: str, paths: Sequence[Path], labels: Sequence[str]) -> datasets.Dataset:
    cells = pa.array([{"bytes": None, "path": path.as_posix()} for path in paths], MEDIA)
    features = datasets.Features({kind: {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}})
    columns = {kind: cells}
    if labels:
        position = {label: number for number, label in enumerate(labels)}
        columns["label"] = pa.array([position[path.parent.name] for path in paths], pa.int64())
        features["label"] = datasets.ClassLabel(names=list(labels))
    return datasets.Dataset(pa.table(columns, schema=features.arrow_schema))


def _labels(media: Sequence[Path]) -> list[str]:
    """The classes, if every file lies in a folder of its class and there are at least two."""
    depth = 2 if all(_split(path) for path in media) else 1
    labels = {path.parent.name if len(path.parts) > depth else "" for path in media}
    return sorted(labels) if len(labels) > 1 and "" not in labels else []


def _split(path: Path) -> str | None:
    first = split_name(path.parts[0]) if len(path.parts) > 1 else ""
    return first if first in _SPLITS else None


def _kind(path: Path) -> str:
    return "audio" if path.suffix.lower() in AUDIO_SUFFIXES else "image"
