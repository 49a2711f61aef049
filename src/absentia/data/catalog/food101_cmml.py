"""`food101-cmml:FOLDER`: UPMC Food-101 in ten sessions of ten dishes, a photo and the title of its web page.

The data set (Wang et al. 2015) is the user's own copy: images/train/DISH/*.jpg, images/test/DISH/*.jpg and
texts/train_titles.csv, texts/test_titles.csv (file, title, dish; no header). Where the folder has the annotation
file of the benchmark (Zhao et al. 2024), that file decides. Else 100 of the 101 dishes are dealt out by hash;
validation rows are those of split.json (Lee et al. 2023) where that is there, else a tenth of the training rows.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from absentia.data.catalog.cmml import (
    Benchmark,
    Sample,
    hash_sessions,
    hash_validation,
    listed,
    read_splits,
    slashed,
)
from absentia.data.catalog.cmml_json import annotated
from absentia.data.sniff import IMAGE_SUFFIXES
from absentia.data.table import Table
from absentia.errors import UserError

__all__ = ["DECLARATION", "EXPECTED", "build", "food_splits", "food_titles", "open_folder", "picture_id"]

NAME = "food101-cmml"
FILE = "UPMC-Food101-CMML.json"
SESSIONS, SIZE, CLASSES = 10, 10, 101
EXPECTED = {"train": 61_142, "val": 6_846, "test": 22_716}  # all 101 dishes, rows without a title among them
VALIDATION = 0.1

DECLARATION: dict[str, Any] = {
    "modality": ["image=image", "text=text"],
    "target": "label=class",
    "id": "id",
    "split": "split",
    "session": "session",
}


class Title(NamedTuple):
    """A line of a titles file; `part` is the folder of the picture: train or test."""

    part: str
    file: str
    text: str | None
    dish: str


def open_folder(where: str) -> Table:
    """The table of the data in the folder `where`."""
    return build(where).table()


def build(folder: str | Path, *, seed: int = 0) -> Benchmark:
    """The benchmark from a folder, the same on every machine; no picture is opened.

    seed: of the order of the dishes; it changes nothing where the annotation file decides.
    Raises `UserError` for a folder that does not hold the data, and for broken files.
    """
    folder = Path(folder).expanduser()
    if (folder / FILE).is_file():
        return annotated(folder / FILE, name=NAME, target="label", sessions=SESSIONS, size=SIZE, several=False)
    titles, twice = food_titles(folder)
    split, remarks = food_splits(folder, titles)
    classes = hash_sessions((t.dish for t in titles), sessions=SESSIONS, size=SIZE, key=NAME, seed=seed)
    session_of = {dish: session for session, dishes in enumerate(classes) for dish in dishes}
    samples = [
        Sample(picture_id(t), session_of[t.dish], split[t], f"images/{picture_id(t)}", t.text, t.dish)
        for t in titles
        if t.dish in session_of and t in split
    ]
    remarks += _on_dishes({t.dish for t in titles}, set(session_of))
    remarks += [f"{twice:,} lines of the titles repeat a file; its first line counts"] if twice else []
    return Benchmark(NAME, folder, "label", classes, samples, remarks)


def picture_id(title: Title) -> str:
    """The picture's path below images/."""
    return f"{title.part}/{title.dish}/{title.file}"


def food_titles(folder: Path) -> tuple[list[Title], int]:
    """The titles of both files, one for each picture, and how many lines named a picture again."""
    found: dict[tuple[str, str], Title] = {}
    lines = 0
    for part in ("train", "test"):
        path = folder / "texts" / f"{part}_titles.csv"
        if not path.is_file():
            raise UserError(f"{NAME}: there is neither {folder / FILE} nor {path}; is {folder} the folder of the data?")
        for title in _lines(path, part):
            found.setdefault((part, title.file), title)
            lines += 1
    return list(found.values()), lines - len(found)


def _lines(path: Path, part: str) -> Iterator[Title]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            for row in reader:
                if row:
                    yield _title(row, f"{path}, line {reader.line_num}", part)
    except csv.Error as error:
        raise UserError(f"{path}: not CSV ({error})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; get the file again") from error


def _title(row: list[str], where: str, part: str) -> Title:
    if len(row) != 3:
        raise UserError(f"{where}: {len(row)} cells; expected file, title and dish")
    file, text, dish = (cell.strip() for cell in row)
    if not file.lower().endswith(IMAGE_SUFFIXES) or "/" in file or not dish or "/" in dish:
        raise UserError(f"{where}: expected the file of a picture, its title and its dish, not {', '.join(row)[:80]!r}")
    return Title(part, file, text or None, dish)


def food_splits(folder: Path, titles: list[Title]) -> tuple[dict[Title, str], list[str]]:
    """The split of each row, and how it was found."""
    path = folder / "split.json"
    if not path.is_file():
        return _hashed_splits(folder, titles)
    named = read_splits(path)
    split = {t: named[t.file] for t in titles if t.file in named}
    remarks = ["sessions by hash, splits of split.json", *_on_counts(Counter(named.values()))]
    having = {t.file for t in titles}
    remarks += _on_untitled([file for file in named if file not in having])
    if len(split) < len(titles):
        remarks.append(f"{len(titles) - len(split):,} titles are not in split.json and were left out")
    return split, remarks


def _hashed_splits(folder: Path, titles: list[Title]) -> tuple[dict[Title, str], list[str]]:
    """Train and test as the files say, and a tenth of the training rows for validation."""
    train = [t for t in titles if t.part == "train"]
    chosen = hash_validation([picture_id(t) for t in train], NAME, VALIDATION)
    split = {t: t.part for t in titles} | {t: "val" for t, val in zip(train, chosen, strict=True) if val}
    how = f"sessions by hash; there is no split.json, so {VALIDATION:.0%} of the training rows validate, by hash"
    having = {picture_id(t) for t in titles}
    names = sorted(_pictures(folder / "images", "train") + _pictures(folder / "images", "test"))
    untitled = [name for name in names if name not in having]
    counts = Counter(split.values()) + Counter(name.partition("/")[0] for name in untitled)
    return split, [how, *_on_counts(counts), *_on_untitled(untitled)]


def _pictures(images: Path, part: str) -> list[str]:
    found = (images / part).glob("*/*")
    return [f"{part}/{path.parent.name}/{path.name}" for path in found if path.suffix.lower() in IMAGE_SUFFIXES]


def _on_untitled(pictures: list[str]) -> list[str]:
    return [f"{len(pictures):,} pictures have no title and were left out: {listed(pictures)}"] if pictures else []


def _on_counts(found: Mapping[str, int]) -> list[str]:
    if {split: found.get(split, 0) for split in EXPECTED} == EXPECTED:
        return []
    return [f"in all dishes there are {slashed(found)} rows, where {slashed(EXPECTED)} were expected"]


def _on_dishes(found: set[str], chosen: set[str]) -> list[str]:
    left = sorted(found - chosen)
    remarks = [f"left out: {', '.join(left)}"] if left else []
    if len(found) != CLASSES:
        remarks.append(f"there are {len(found)} dishes, where {CLASSES} were expected")
    return remarks
