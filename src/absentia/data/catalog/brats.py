"""`brats2018:FOLDER` and `brats2020:FOLDER`: brain tumours in four MR contrasts, from the user's own copy.

A subject is a folder with NAME_t1, _t1ce, _t2, _flair and _seg (.nii.gz or .nii); in 2018 it lies below HGG or LGG. The
published splits (199 / 29 / 57 of 2018, 219 / 50 / 100 of 2020) are taken from train.txt, val.txt and test.txt in the
folder, a subject's name per line; without them rows are split by a hash of the subject. Regions as in the challenge:
whole tumour {1, 2, 4}, tumour core {1, 4}, enhancing tumour {4}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from absentia.data.catalog.cmml import listed, slashed
from absentia.data.entity import entity_uniform
from absentia.data.storage import Part
from absentia.data.table import Table
from absentia.errors import UserError

__all__ = ["CONTRASTS", "REGIONS", "SPLITS", "brats_table"]

CONTRASTS = ("flair", "t1ce", "t1", "t2")
REGIONS = {"WT": [1, 2, 4], "TC": [1, 4], "ET": [4]}
GRADES = ("HGG", "LGG")
ENDS = (".nii.gz", ".nii")
SPLITS = {"brats2018": {"train": 199, "val": 29, "test": 57}, "brats2020": {"train": 219, "val": 50, "test": 100}}
DECLARATION: dict[str, Any] = {
    "modality": [f"{name}=volume" for name in CONTRASTS],
    "target": "seg=mask",
    "id": "subject",
    "split": "split",
    "masks": {"regions": REGIONS},
}


def brats_table(name: str, where: str) -> Table:
    """Columns `subject`, `grade`, `split`, the four contrasts and `seg`, with paths below the folder.

    Raises `UserError` where there is no subject, or a split's list does not fit; files that are missing are absent
    cells, and said in a note.
    """
    folder = Path(where).expanduser()
    subjects = _subjects(folder, name)
    files = {subject: _files(path, folder) for subject, path in subjects.items()}
    split, remarks = _splits(name, folder, list(subjects))
    rows = [
        {"subject": s, "grade": path.parent.name if path.parent.name in GRADES else None, "split": split[s]} | files[s]
        for s, path in subjects.items()
    ]
    schema = pa.schema([(c, pa.string()) for c in ("subject", "grade", "split", *CONTRASTS, "seg")])
    data = datasets.Dataset(pa.Table.from_pylist(rows, schema=schema))
    notes = [*_counted(name, len(subjects), split), *_missing(files), *remarks]
    return Table([Part(data)], name=f"{name}:{folder}", root=folder, notes=tuple(notes))


def _subjects(folder: Path, name: str) -> dict[str, Path]:
    """Folders with at least one scan, by their name, below HGG and LGG or right here; in the order of the names."""
    if not folder.is_dir():
        raise UserError(f"{name}: {folder} is no folder")
    places = [folder / grade for grade in GRADES if (folder / grade).is_dir()] or [folder]
    found = {path.name: path for place in places for path in place.iterdir() if path.is_dir() and _holds(path)}
    if not found:
        raise UserError(
            f"{name}: {folder} has no subject; expected folders as NAME/NAME_flair.nii.gz, in 2018 below HGG and LGG"
        )
    return dict(sorted(found.items()))


def _holds(path: Path) -> bool:
    return any(_file(path, kind) is not None for kind in (*CONTRASTS, "seg"))


def _file(path: Path, kind: str) -> Path | None:
    candidates = (path / f"{path.name}_{kind}{end}" for end in ENDS)
    return next((file for file in candidates if file.is_file()), None)


def _files(path: Path, folder: Path) -> dict[str, str | None]:
    found = {kind: _file(path, kind) for kind in (*CONTRASTS, "seg")}
    return {kind: None if file is None else str(file.relative_to(folder)) for kind, file in found.items()}


def _splits(name: str, folder: Path, subjects: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The split of each subject, from the lists in the folder, else by a hash that is the same everywhere."""
    lists = {split: folder / f"{split}.txt" for split in SPLITS[name]}
    given = {split: path for split, path in lists.items() if path.is_file()}
    if not given:
        return _hashed(name, subjects), [f"{name}: no train.txt, val.txt and test.txt, so subjects were split by hash"]
    if len(given) < len(lists):
        raise UserError(f"{name}: {folder} has {' and '.join(p.name for p in given.values())} but not all three lists")
    named = {split: path.read_text(encoding="utf-8").split() for split, path in given.items()}
    every = Counter(subject for part in named.values() for subject in part)
    twice, unknown = [s for s, n in every.items() if n > 1], sorted(every.keys() - set(subjects))
    if twice:
        raise UserError(f"{name}: {len(twice)} subjects are listed twice, first {twice[0]!r}")
    remarks = [f"{name}: {len(unknown)} listed subjects are not there: {listed(unknown)}"] if unknown else []
    left = sorted(set(subjects) - every.keys())
    remarks += [f"{name}: {len(left)} subjects are in no list and train: {listed(left)}"] if left else []
    split = {subject: part for part, members in named.items() for subject in members if subject in set(subjects)}
    return dict.fromkeys(left, "train") | split, remarks


def _hashed(name: str, subjects: Sequence[str]) -> dict[str, str]:
    """Subjects in the order of a hash; test and val get their published shares of however many there are."""
    sizes = SPLITS[name]
    order = np.argsort(entity_uniform(subjects, "split", name), kind="stable")
    test, val = (round(len(subjects) * sizes[split] / sum(sizes.values())) for split in ("test", "val"))
    parts = ["test"] * test + ["val"] * val
    parts += ["train"] * (len(subjects) - len(parts))
    return {subjects[i]: part for i, part in zip(order, parts, strict=True)}


def _counted(name: str, subjects: int, split: Mapping[str, str]) -> list[str]:
    expected, counts = SPLITS[name], Counter(split.values())
    notes = [f"{name}: train/val/test subjects {slashed(counts)}"]
    if subjects != sum(expected.values()) or {part: counts[part] for part in expected} != expected:
        notes.append(f"{slashed(expected)} of {sum(expected.values())} subjects were expected; there are {subjects}")
    return notes


def _missing(files: Mapping[str, Mapping[str, str | None]]) -> list[str]:
    gone = [f"{subject}_{kind}" for subject, found in files.items() for kind, file in found.items() if file is None]
    return [f"{len(gone):,} files are not there: {listed(gone)}"] if gone else []
