"""Food-101, MM-IMDb, Hateful Memes, VoxCeleb features and BraTS in miniature: the layouts of the originals."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as Pillow
from tests.scans import nifti

__all__ = ["films", "food", "memes", "tumours", "voices"]


def food(folder: Path) -> Path:
    """Two dishes, six training pictures and two test pictures of each."""
    split: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    (folder / "texts").mkdir(parents=True)
    for part, count in (("train", 6), ("test", 2)):
        with (folder / "texts" / f"{part}_titles.csv").open("w", newline="") as file:
            for shade, dish in enumerate(("pie", "soup")):
                for number in range(count):
                    name = f"{dish}_{part}{number}.jpg"
                    csv.writer(file).writerow([name, f"a {dish}", dish])
                    _picture(folder / "images" / part / dish / name, shade)
                    split["val" if part == "train" and number > 3 else part].append(name)
    (folder / "split.json").write_text(json.dumps(split))
    return folder


def films(folder: Path) -> Path:
    """Twelve films with one or two genres."""
    split: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    (folder / "dataset").mkdir(parents=True)
    for number in range(12):
        genres = ["Drama", "War"] if number % 2 else ["Comedy"]
        content = {"genres": genres, "plot": ["a war" if number % 2 else "a joke"]}
        (folder / "dataset" / f"{number:07}.json").write_text(json.dumps(content))
        _picture(folder / "dataset" / f"{number:07}.jpeg", number % 2)
        split[("train", "train", "train", "train", "dev", "test")[number // 2]].append(f"{number:07}")
    (folder / "split.json").write_text(json.dumps(split))
    return folder


def memes(folder: Path) -> Path:
    """Eight memes to train, four to validate, four to test."""
    for name, count in {"train": 8, "dev_seen": 4, "test_seen": 4}.items():
        lines: list[dict[str, Any]] = []
        for number in range(count):
            line = {"id": f"{name}{number}", "img": f"img/{name}{number}.png", "text": "ab"[number % 2]}
            lines.append({**line, "label": number % 2})
            _picture(folder / line["img"], number % 2)
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return folder


def voices(path: Path) -> Path:
    """Features of faces and voices of three people."""
    draw = np.random.default_rng(0)
    who = [i % 3 for i in range(36)]
    columns = {
        "id": [str(i) for i in range(36)],
        "split": [("train", "train", "val", "test")[i // 3 % 4] for i in range(36)],
        "face": [list(draw.normal(size=8) + w) for w in who],
        "voice": [list(draw.normal(size=8) - w) for w in who],
        "identity": [f"person {w}" for w in who],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def tumours(folder: Path, year: int, *, side: int = 12) -> Path:
    """Ten subjects as BraTS has them, below HGG and LGG in 2018 and flat in 2020, with lists of six, two and two."""
    draw = np.random.default_rng(year)
    names = [f"Brats18_{i}_1" if year == 2018 else f"BraTS20_Training_{i:03}" for i in range(10)]
    for i, name in enumerate(names):
        place = folder / ("HGG" if i % 2 else "LGG") / name if year == 2018 else folder / name
        place.mkdir(parents=True)
        seg = np.zeros((side, side, side - 2), dtype=np.uint8)
        for label, size in ((2, 8), (1, 5), (4, 3)):
            seg[tuple(slice(3, 3 + size) for _ in range(3))] = label
        (place / f"{name}_seg.nii.gz").write_bytes(nifti(seg))
        for shade, contrast in enumerate(("flair", "t1ce", "t1", "t2"), 1):
            head = draw.integers(50, 90, seg.shape) + 20 * shade * (seg > shade % 3)
            (place / f"{name}_{contrast}.nii.gz").write_bytes(nifti(head.astype(np.int16)))
    for split, part in {"train": names[:6], "val": names[6:8], "test": names[8:]}.items():
        (folder / f"{split}.txt").write_text("\n".join(part) + "\n")
    return folder


def _picture(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(str(path))).integers(0, 100, (16, 16, 3)) + 120 * shade
    Pillow.fromarray(noise.astype(np.uint8)).save(path)
