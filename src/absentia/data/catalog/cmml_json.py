"""The annotation files of RebQ's benchmarks: one JSON list, an entry a row, read as it is and checked.

An entry is {"task_id": 0 to T-1, "split": train, val or test, "image": a name below images/, "text": one text or
a list of them, "label": a number, or a list of 0 and 1}. Task t brings the classes t*C to t*C + C - 1 (Zhao et
al. 2024, arXiv 2403.11373, released code). The file has no names for its classes, so their numbers are the names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from absentia.data.catalog.cmml import SPLITS, Benchmark, Sample, listed, read_json
from absentia.errors import UserError, nearest

__all__ = ["annotated"]

KEYS = ("task_id", "split", "image", "text", "label")
SHOWN = 3  # broken entries that an error names


class Broken(Exception):
    """What is wrong with an entry."""


def annotated(path: Path, *, name: str, target: str, sessions: int, size: int, several: bool) -> Benchmark:
    """The benchmark that the annotation file `path` describes, its pictures in images/ beside it.

    sessions, size: how many tasks, and classes of each.  several: whether a row has several labels.
    Raises `UserError` for a file that is no such list, and for broken entries, with their numbers and reasons.
    """
    entries = read_json(path)
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: expected a list of entries with {', '.join(KEYS)}")
    samples, broken = [], []
    for number, entry in enumerate(entries):
        try:
            samples.append(_sample(entry, sessions, size, several))
        except Broken as reason:
            broken.append(f"entry {number}: {reason}")
    if broken:
        more = f"; {len(broken):,} of {len(entries):,} entries are broken" if len(broken) > SHOWN else ""
        raise UserError(f"{path}, {'; '.join(broken[:SHOWN])}{more}")
    classes = [[str(number) for number in range(first, first + size)] for first in range(0, sessions * size, size)]
    remarks = [f"sessions and splits as in {path.name}", *_remarks(samples, classes)]
    return Benchmark(name, path.parent, target, classes, samples, remarks)


def _sample(entry: Any, sessions: int, size: int, several: bool) -> Sample:
    if not isinstance(entry, Mapping):
        raise Broken(f"{_short(entry)} is no object")
    lacking = [key for key in KEYS if key not in entry]
    if lacking:
        raise Broken(f"has no {lacking[0]!r}")
    task, split = entry["task_id"], entry["split"]
    if not _is_number(task) or not 0 <= task < sessions:
        raise Broken(f"task_id {_short(task)} is none of 0 to {sessions - 1}")
    if split not in SPLITS:
        raise Broken(f"split {_short(split)} is unknown; {nearest(str(split), SPLITS)}")
    image = _image(entry["image"])
    label = _several(entry["label"], sessions * size) if several else _one(entry["label"], task, size)
    return Sample(image, task, split, f"images/{image}", _text(entry["text"]), label)


def _image(value: Any) -> str:
    path = PurePosixPath(value) if isinstance(value, str) else None
    if path is None or not path.name or path.is_absolute() or ".." in path.parts:
        raise Broken(f"image {_short(value)} is no name of a file below images/")
    return path.as_posix()


def _text(value: Any) -> str | None:
    """A text, or several put together; null is an absent text, "" an empty one."""
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise Broken(f"text {_short(value)} is neither a text nor a list of texts")
    return ". ".join(value)


def _one(value: Any, task: int, size: int) -> str:
    first = task * size
    if not _is_number(value) or not first <= value < first + size:
        raise Broken(f"label {_short(value)} is none of {first} to {first + size - 1}, the classes of task {task}")
    return str(value)


def _several(value: Any, count: int) -> list[str]:
    if not isinstance(value, list) or len(value) != count:
        raise Broken(f"label {_short(value)} is no list of {count} times 0 or 1")
    if not all(isinstance(bit, int | float) and bit in (0, 1) for bit in value):
        raise Broken(f"label {_short(value)} holds something else than 0 and 1")
    return [str(number) for number, bit in enumerate(value) if bit]


def _remarks(samples: list[Sample], classes: list[list[str]]) -> list[str]:
    """What an honest reader of the file stumbles over."""
    remarks = []
    strangers = sum(sum(label not in classes[s.session] for label in s.label) for s in samples if type(s.label) is list)
    if strangers:
        labels = sum(len(s.label) for s in samples)
        remarks.append(f"{strangers:,} of {labels:,} labels belong to another session than their row's")
    again = [name for name, count in Counter(s.id for s in samples).items() if count > 1]
    if again:
        remarks.append(f"{len(again):,} pictures stand in several entries: {listed(again)}")
    return remarks


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
