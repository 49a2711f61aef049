"""`hateful-memes:FOLDER`: Hateful Memes (Kiela et al. 2020), a picture, the words on it, and whether they are hateful.

The folder holds img/ and train.jsonl, dev_seen.jsonl (or dev.jsonl) and test_seen.jsonl (or test.jsonl). Published
numbers moved from test_seen to test_unseen without a word, so the notes name the file; `FOLDER:unseen` takes
dev_unseen.jsonl and test_unseen.jsonl.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absentia.data.catalog.original import Row, original_table
from absentia.data.table import Table
from absentia.errors import UserError

__all__ = ["DECLARATION", "open_folder"]

NAME = "hateful-memes"
EXPECTED = {
    "seen": {"train": 8500, "val": 500, "test": 1000},
    "unseen": {"train": 8500, "val": 540, "test": 2000},
}
FILES: dict[str, dict[str, tuple[str, ...]]] = {
    "seen": {"train": ("train",), "val": ("dev_seen", "dev"), "test": ("test_seen", "test")},
    "unseen": {"train": ("train",), "val": ("dev_unseen",), "test": ("test_unseen",)},
}
DECLARATION: dict[str, Any] = {
    "modality": ["image=image", "text=text"],
    "target": "label=class",
    "id": "id",
    "split": "split",
}


def open_folder(where: str) -> Table:
    """The table of the data in a folder, given as FOLDER or FOLDER:unseen.

    Raises `UserError` where a file is missing or broken.
    """
    name, _, which = where.rpartition(":")
    name, which = (name, which) if which in FILES and name else (where, "seen")
    folder = Path(name).expanduser()
    rows, remarks = [], []
    for split, names in FILES[which].items():
        path = next((p for n in names if (p := folder / f"{n}.jsonl").is_file()), None)
        if path is None:
            raise UserError(f"{NAME}: there is no {folder / names[0]}.jsonl; is {folder} the folder of the data?")
        found = list(_rows(path, split))
        rows += found
        unknown = sum(row.label is None for row in found)
        remarks.append(f"{split} rows are those of {path.name}" + (f", {unknown:,} without a label" if unknown else ""))
    return original_table(NAME, folder, "label", rows, EXPECTED[which], remarks)


def _rows(path: Path, split: str) -> Iterator[Row]:
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {number}: not JSON ({error.msg})") from error
        if not isinstance(found, dict) or not {"id", "img", "text"} <= found.keys():
            raise UserError(f"{path}, line {number}: expected an object with id, img and text")
        label = found.get("label")
        yield Row(str(found["id"]), split, str(found["img"]), found["text"], None if label is None else str(label))
