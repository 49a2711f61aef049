"""What the benchmarks of continual learning with absent modalities share (CMML: a picture and a text a row).

A benchmark is a table whose rows stand in sessions: classes that arrive together, never to come back. Its cells
are paths and texts; no picture is opened here. How classes and rows came into their sessions has a fingerprint,
so that two people can see whether they speak of the same benchmark.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import pyarrow as pa

from absentia.data.entity import entity_uniform
from absentia.data.splits import WORDS
from absentia.data.storage import Part
from absentia.data.table import Table
from absentia.errors import UserError

__all__ = [
    "SPLITS",
    "Benchmark",
    "Sample",
    "fingerprint",
    "hash_sessions",
    "hash_validation",
    "listed",
    "read_json",
    "read_splits",
    "slashed",
]

SPLITS = ("train", "val", "test")
LISTED = 5  # names in a note


class Sample(NamedTuple):
    """A row. image: path below the folder.  text: None where it is absent.  label: a class, or a list of labels."""

    id: str
    session: int
    split: str
    image: str
    text: str | None
    label: str | list[str]


@dataclass(frozen=True)
class Benchmark:
    """Rows in sessions, and how they came there.

    folder: where the paths of the pictures start.  target: the column of the labels.
    classes: by session, those that it brings.  remarks: what is unusual about this copy of the data.
    """

    name: str
    folder: Path
    target: str
    classes: Sequence[Sequence[str]]
    samples: Sequence[Sample]
    remarks: Sequence[str] = field(default=())

    @cached_property
    def counts(self) -> dict[int, dict[str, int]]:
        """Rows by session and split."""
        found = {session: dict.fromkeys(SPLITS, 0) for session in range(len(self.classes))}
        for sample in self.samples:
            found[sample.session][sample.split] += 1
        return found

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of which row stands in which session and split with which labels (see `fingerprint`)."""
        return fingerprint((s.id, s.session, s.split, s.label) for s in self.samples)

    @cached_property
    def missing(self) -> list[str]:
        """The pictures that rows name and that are not there, by a look at the folders alone."""
        paths = dict.fromkeys(sample.image for sample in self.samples)
        there: dict[str, set[str]] = {}
        for base in {os.path.dirname(path) for path in paths}:
            inside = self.folder / base
            there[base] = set(os.listdir(inside)) if inside.is_dir() else set()
        return [path for path in paths if os.path.basename(path) not in there[os.path.dirname(path)]]

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What a reader has to know: sizes, the fingerprint, what is missing and what is unusual."""
        sizes = "; ".join(f"{session}: {slashed(rows)}" for session, rows in self.counts.items())
        notes = [f"{self.name}: train/val/test rows by session {sizes}", f"assignment sha256 {self.fingerprint}"]
        if self.missing:
            notes.append(f"{len(self.missing):,} pictures are not there: {listed(self.missing)}")
        return (*notes, *self.remarks)

    def dataset(self) -> datasets.Dataset:
        """Columns `id`, `session`, `split`, `image` (paths below the folder), `text` and the target."""
        words = pa.string()
        label = pa.list_(words) if any(isinstance(s.label, list) for s in self.samples) else words
        types = {"id": words, "session": pa.int64(), "split": words, "image": words, "text": words, self.target: label}
        columns = zip(*self.samples, strict=True) if self.samples else ([] for _ in types)
        arrays = [pa.array(list(cells), kind) for cells, kind in zip(columns, types.values(), strict=True)]
        return datasets.Dataset(pa.table(arrays, schema=pa.schema(list(types.items()))))

    def table(self) -> Table:
        """The benchmark as a table whose paths start from its folder."""
        where = f"{self.name}:{self.folder}"
        return Table([Part(self.dataset())], name=where, root=self.folder, notes=self.notes)


def hash_sessions(classes: Iterable[str], *, sessions: int, size: int, key: str, seed: int = 0) -> list[list[str]]:
    """`size` classes for each session, in the order of hash(key, seed, class); those left over are in none.

    >>> [len(part) for part in hash_sessions("edcba", sessions=2, size=2, key="example")]
    [2, 2]
    """
    names = sorted(set(classes))
    if len(names) < sessions * size:
        raise UserError(
            f"{key}: {len(names)} classes were found, but {sessions} sessions of {size} need {sessions * size}; "
            "is the data complete?"
        )
    order = np.argsort(entity_uniform(names, key, "sessions", seed), kind="stable")
    chosen = [names[i] for i in order[: sessions * size]]
    return [chosen[start : start + size] for start in range(0, len(chosen), size)]


def hash_validation(ids: Sequence[str], key: str, share: float) -> list[bool]:
    """Which training rows become validation rows (N,): about `share` of them, by hash(key, id)."""
    return [bool(u < share) for u in entity_uniform(ids, key, "validation")]


def fingerprint(rows: Iterable[tuple[str, int, str, str | list[str]]]) -> str:
    """sha256 of (id, session, split, label or labels) of all rows, whatever their order and however many copies."""
    lines = {json.dumps([i, n, s, sorted([y] if isinstance(y, str) else y)]) for i, n, s, y in rows}
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def read_json(path: Path) -> Any:
    """What a JSON file holds; raises `UserError` with the place of what is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}, character {error.colno}: not JSON ({error.msg})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: JSON is written in UTF-8, byte {error.start} is not; get the file again") from error
    except RecursionError as error:
        raise UserError(f"{path}: nested too deeply to be one of this data set's files") from error


def read_splits(path: Path) -> dict[str, str]:
    """The split of each name in a file {"train": [name, ...], "dev" or "val": [...], "test": [...]}."""
    content = read_json(path)
    if not isinstance(content, Mapping) or not all(isinstance(names, list) for names in content.values()):
        raise UserError(f"{path}: expected a list of names for each of train, val and test")
    split: dict[str, str] = {}
    for word, names in content.items():
        if word not in WORDS:
            raise UserError(f"{path}: {word!r} is none of train, val, test")
        for name in map(str, names):
            if split.setdefault(name, WORDS[word]) != WORDS[word]:
                raise UserError(f"{path}: {name!r} stands in {split[name]} and in {WORDS[word]}")
    return split


def slashed(rows: Mapping[str, int]) -> str:
    """Rows of train, val and test as "1,200/130/400"."""
    return "/".join(f"{rows.get(split, 0):,}" for split in SPLITS)


def listed(names: Sequence[str]) -> str:
    """The first names, and whether there are more."""
    return ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
