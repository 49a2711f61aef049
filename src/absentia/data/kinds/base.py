"""What every kind of modality has: a declaration (`Kind`) and, once fitted on training cells, a `Decoder`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from absentia.errors import BadCell, UserError

__all__ = ["Array", "Decoder", "Kind", "Value", "pad", "source_of"]

Array = npt.NDArray[Any]
Value = dict[str, Array]
"""What a cell becomes: named arrays without a batch axis."""


class Decoder(ABC):
    """Turns cells into arrays, with everything that was learned from the training cells of one modality.

    root: the folder that relative paths in cells start from.
    """

    root: Path | None = None

    @abstractmethod
    def decode(self, cell: Any) -> Value:
        """One present cell as arrays; raises `BadCell` with the reason when it cannot be read."""

    @abstractmethod
    def collate(self, values: Sequence[Value]) -> Value:
        """Stack values along a new first axis, padding what differs in length (masks are True where real)."""

    @abstractmethod
    def blank(self) -> Value:
        """The placeholder that people feed for an absent cell (only methods that ask for placeholders use it)."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """All that was fitted, as JSON; `Kind.restore` takes it back."""


@dataclass(frozen=True)
class Kind(ABC):
    """A declared modality.

    columns: the table's columns it is made of; empty means the column with the modality's own name.
    encoder: hub name or folder of a pretrained encoder; None trains a small one from scratch.
    tune: whether a pretrained encoder learns too; otherwise its features are computed once.
    """

    columns: tuple[str, ...] = ()
    encoder: str | None = None
    tune: bool = False
    kind: ClassVar[str]

    def __post_init__(self) -> None:
        columns = (self.columns,) if isinstance(self.columns, str) else tuple(self.columns)
        object.__setattr__(self, "columns", columns)
        if len(columns) > 1 and not self.takes_columns:
            raise UserError(
                f"a modality of kind {self.kind!r} has one column, not {len(columns)}: {', '.join(columns)}; "
                "only tabular groups several"
            )

    @property
    def takes_columns(self) -> bool:
        """Whether several columns may form one modality of this kind."""
        return False

    @abstractmethod
    def fit(self, cells: Iterable[Any], *, root: Path | None = None) -> Decoder:
        """Learn from the present training cells (unreadable ones are passed over) and return the decoder."""

    @abstractmethod
    def restore(self, state: dict[str, Any], *, root: Path | None = None) -> Decoder:
        """The decoder that `fit` returned, from its `state()`; relative paths are read below `root`."""

    def describe(self) -> dict[str, Any]:
        """The declaration as JSON."""
        return {"kind": self.kind} | {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def source_of(cell: Any, root: Path | None) -> bytes | Path:
    """The bytes or the path that a cell of a file-like kind holds (bytes, a path, or a `{bytes, path}` struct)."""
    if isinstance(cell, dict):
        cell = cell["bytes"] if cell.get("bytes") is not None else cell.get("path")
    if isinstance(cell, (bytes, bytearray, memoryview)):
        return _not_empty(bytes(cell))
    if isinstance(cell, str):
        return _existing(Path(cell), root)
    raise BadCell(f"holds {type(cell).__name__}, expected bytes or a path")


def _not_empty(content: bytes) -> bytes:
    if not content:
        raise BadCell("holds zero bytes")
    return content


def _existing(path: Path, root: Path | None) -> Path:
    full = path if path.is_absolute() or root is None else root / path
    if not full.is_file():
        raise BadCell(f"the file {full} does not exist")
    return full


def pad(arrays: Sequence[Array], fill: float = 0.0) -> tuple[Array, Array]:
    """Arrays (T_i, ...) as one (n, T, ...) filled up at the end, and where it is real: bool (n, T)."""
    longest = max((len(a) for a in arrays), default=0)
    tail = arrays[0].shape[1:] if arrays else ()
    out = np.full((len(arrays), longest, *tail), fill, dtype=arrays[0].dtype if arrays else np.float32)
    mask = np.zeros((len(arrays), longest), dtype=np.bool_)
    for i, a in enumerate(arrays):
        out[i, : len(a)], mask[i, : len(a)] = a, True
    return out, mask
