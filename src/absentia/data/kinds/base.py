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

__all__ = [
    "TUNES",
    "Array",
    "Decoder",
    "Kind",
    "Value",
    "check_at_least",
    "moments",
    "pad",
    "rank_of",
    "shown",
    "source_of",
    "standardised",
]

Array = npt.NDArray[Any]
Value = dict[str, Array]
"""What a cell becomes: named arrays without a batch axis."""

FARTHEST = 1e6  # standard deviations; what lies farther off is a slip, and float32 could not hold all of it
TUNES = ("biases", "full", "frozen")
RANK = 8  # of LoRA where none is said
SHOWN = 80  # characters of a cell in a message


class Decoder(ABC):
    """Turns cells into arrays, with everything that was learned from the training cells of one modality.

    root: the folder that relative paths in cells start from.
    """

    root: Path | None = None

    @abstractmethod
    def decode(self, cell: Any) -> Value:
        """One present cell as arrays; raises `BadCell` with the reason when it cannot be read."""

    def shortened(self, cell: Any) -> bool:
        """Whether a cell is surely longer than what is read of it."""
        return False

    def empty(self, cell: Any) -> bool:
        """Whether a cell is there and holds nothing, as a text without a letter."""
        return False

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
    tune: what of a pretrained encoder learns: false for nothing (its features are computed once), true for what the
        method says (all of it, where it says nothing), or biases, lora, lora:RANK (of rank 8, or another) or full.
    """

    columns: tuple[str, ...] = ()
    encoder: str | None = None
    tune: bool | str = False
    kind: ClassVar[str]

    def __post_init__(self) -> None:
        given: Any = (self.columns,) if isinstance(self.columns, str) else self.columns
        columns = tuple(given) if isinstance(given, Iterable) else (given,)
        if not all(isinstance(name, str) for name in columns):
            raise UserError(f"{self.kind} columns {self.columns!r}: give a column's name, or a list of names")
        object.__setattr__(self, "columns", columns)
        if len(columns) > 1 and not self.takes_columns:
            raise UserError(
                f"a modality of kind {self.kind!r} has one column, not {len(columns)}: {', '.join(columns)}; "
                "only tabular groups several"
            )
        twice = sorted({c for c in columns if columns.count(c) > 1})
        if twice:
            raise UserError(f"a modality of kind {self.kind!r} names column {twice[0]!r} twice")
        if not isinstance(self.encoder, str | None) or self.encoder == "":
            raise UserError(f"{self.kind} encoder {self.encoder!r}: give a hub name or a folder")
        if not isinstance(self.tune, bool):
            self._check_tune(self.tune)

    def _check_tune(self, how: Any) -> None:
        if not isinstance(how, str) or how == "frozen" or (how not in TUNES and rank_of(how) is None):
            said = "true, false, biases, lora, lora:RANK or full"
            raise UserError(f"{self.kind} tune {how!r}: must be {said}")

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


def rank_of(tune: str) -> int | None:
    """The rank that "lora" or "lora:RANK" asks for; None for anything else."""
    word, colon, rank = tune.partition(":")
    if word != "lora" or (colon and not (rank.isascii() and rank.isdigit() and int(rank))):
        return None
    return int(rank) if colon else RANK


def check_at_least(option: str, value: Any, least: int = 1) -> None:
    """Raise `UserError` for an option that is no whole number or a smaller one than `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{option} {value!r}: must be a whole number, at least {least}")


def shown(cell: Any) -> str:
    """A cell as it stands in a message: cut when it is long."""
    text = repr(cell)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def source_of(cell: Any, root: Path | None, expected: str = "bytes or a path") -> bytes | Path:
    """The bytes or the path that a cell of a file-like kind holds (bytes, a path, or a `{bytes, path}` struct)."""
    if isinstance(cell, dict):
        cell = cell["bytes"] if cell.get("bytes") is not None else cell.get("path")
    if isinstance(cell, (bytes, bytearray, memoryview)):
        return _not_empty(bytes(cell))
    if isinstance(cell, str):
        return _existing(cell, root)
    raise BadCell(f"holds {type(cell).__name__}, expected {expected}")


def _not_empty(content: bytes) -> bytes:
    if not content:
        raise BadCell("holds zero bytes")
    return content


def _existing(text: str, root: Path | None) -> Path:
    if not text:
        raise BadCell("holds an empty path")
    path = Path(text)
    full = path if path.is_absolute() or root is None else root / path
    try:
        there = full.is_file()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise BadCell(f"the file {_ending(full)} cannot be opened: {error.strerror}") from None
    if not there:
        raise BadCell(f"the file {_ending(full)} does not exist")
    return full


def _ending(path: Path) -> str:
    """A path with the end that tells it from others."""
    text = str(path)
    return text if len(text) <= 2 * SHOWN else "..." + text[-2 * SHOWN :]


def pad(arrays: Sequence[Array], fill: float = 0.0) -> tuple[Array, Array]:
    """Arrays (T_i, ...) as one (n, T, ...) filled up at the end, and where it is real: bool (n, T)."""
    longest = max((len(a) for a in arrays), default=0)
    if len({len(a) for a in arrays}) == 1:
        return np.stack(arrays).astype(arrays[0].dtype, copy=False), np.ones((len(arrays), longest), dtype=np.bool_)
    tail = arrays[0].shape[1:] if arrays else ()
    out = np.full((len(arrays), longest, *tail), fill, dtype=arrays[0].dtype if arrays else np.float32)
    mask = np.zeros((len(arrays), longest), dtype=np.bool_)
    for i, a in enumerate(arrays):
        out[i, : len(a)], mask[i, : len(a)] = a, True
    return out, mask


def moments(rows: Array) -> dict[str, list[float]]:
    """Mean and standard deviation of each column of (N, F), over what is finite; 1 for a column that is constant.

    Columns are brought to numbers up to 1 by a power of two first: exact, and no square overflows.
    """
    x = np.where(np.isfinite(rows), rows, np.nan)
    seen = np.maximum((~np.isnan(x)).sum(axis=0), 1)
    _, exponent = np.frexp(np.nanmax(np.abs(x), axis=0, initial=0))
    x = np.ldexp(x, -exponent)
    mean = np.nansum(x, axis=0) / seen
    std = np.sqrt(np.nansum((x - mean) ** 2, axis=0) / seen)
    std = np.where(std > 1e-12, np.maximum(np.ldexp(std, exponent), np.finfo(np.float64).tiny), 1.0)
    return {"mean": np.ldexp(mean, exponent).tolist(), "std": std.tolist()}


def standardised(raw: Array, mean: Sequence[float] | Array, std: Sequence[float] | Array) -> Array:
    """Raw numbers (..., F) as float32 in standard deviations from the mean; a NaN stays one."""
    with np.errstate(over="ignore"):
        scaled = (raw - np.asarray(mean)) / np.asarray(std)
    out: Array = np.minimum(np.maximum(scaled, -FARTHEST), FARTHEST).astype(np.float32)  # faster than clip for few
    return out
