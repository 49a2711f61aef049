"""Food-101, MM-IMDb and Hateful Memes as a user has them: miniature folders in the original layouts."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from absentia.cli import main
from absentia.data.absence import MaskPlan
from absentia.data.catalog import open_source
from absentia.data.table import Table
from absentia.errors import UserError


def rows(table: Table) -> list[dict[str, Any]]:
    return [row for chunk in table.chunks() for row in chunk.to_pylist()]


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"never opened while building")


@pytest.fixture
def food(tmp_path: Path) -> Path:
    for part, count in (("train", 3), ("test", 1)):
        (tmp_path / "texts").mkdir(exist_ok=True)
        with (tmp_path / "texts" / f"{part}_titles.csv").open("w", newline="") as file:
            for dish in ("pie", "soup"):
                for number in range(count):
                    csv.writer(file).writerow([f"{dish}_{part}{number}.jpg", f"A {dish}" if number else "", dish])
                    touch(tmp_path / "images" / part / dish / f"{dish}_{part}{number}.jpg")
    names = [f"{dish}_train{number}.jpg" for dish in ("pie", "soup") for number in range(3)]
    split = {"train": names[:4], "val": names[4:], "test": ["pie_test0.jpg", "soup_test0.jpg"]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    return tmp_path


@pytest.fixture
def films(tmp_path: Path) -> Path:
    split: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    for number, part in enumerate(("train", "train", "dev", "test")):
        genres = ["Drama", "War"] if number % 2 else ["Comedy", "News"]
        content = {"genres": genres, "plot": ["It begins", "It ends"]}
        (tmp_path / "dataset").mkdir(exist_ok=True)
        (tmp_path / "dataset" / f"{number:07}.json").write_text(json.dumps(content))
        touch(tmp_path / "dataset" / f"{number:07}.jpeg")
        split[part].append(f"{number:07}")
    (tmp_path / "split.json").write_text(json.dumps(split))
    return tmp_path


@pytest.fixture
def memes(tmp_path: Path) -> Path:
    for name, count in {"train": 4, "dev_seen": 2, "test_seen": 3, "dev_unseen": 1, "test_unseen": 2}.items():
        lines = []
        for number in range(count):
            line: dict[str, Any] = {"id": f"{name}{number}", "img": f"img/{name}{number}.png", "text": "look at this"}
            lines.append(line if name == "test_unseen" else line | {"label": number % 2})
            touch(tmp_path / line["img"])
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return tmp_path


def test_food_has_all_dishes_in_the_splits_of_its_file(food: Path) -> None:
    table = open_source(f"food101:{food}")
    found = {row["id"]: row for row in rows(table)}
    assert len(found) == 8 and {row["label"] for row in found.values()} == {"pie", "soup"}
    assert found["train/soup/soup_train1.jpg"]["split"] == "val"
    assert found["train/pie/pie_train0.jpg"]["text"] is None
    assert "train/val/test rows 4/2/2" in table.notes[0]
    assert any("61,142/6,846/22,716" in note for note in table.notes)


def test_a_film_is_one_row_with_all_its_known_genres(films: Path) -> None:
    found = {row["id"]: row for row in rows(open_source(f"mmimdb:{films}"))}
    assert len(found) == 4
    assert found["0000001"] | {"id": ""} == {
        "id": "",
        "split": "train",
        "image": "dataset/0000001.jpeg",
        "text": "It begins. It ends",
        "labels": ["Drama", "War"],
    }
    assert found["0000002"]["split"] == "val" and found["0000002"]["labels"] == ["Comedy"]


def test_memes_say_which_file_is_the_test(memes: Path) -> None:
    seen, unseen = (open_source(f"hateful-memes:{memes}{ending}") for ending in ("", ":unseen"))
    assert any("test rows are those of test_seen.jsonl" in note for note in seen.notes)
    assert any("test_unseen.jsonl, 2 without a label" in note for note in unseen.notes)
    assert {row["label"] for row in rows(seen)} == {"0", "1"}
    assert [row["split"] for row in rows(seen)].count("test") == 3
    assert any("8,500/500/1,000" in note for note in seen.notes)


@pytest.mark.parametrize("name", ["food101", "mmimdb", "hateful-memes"])
def test_an_empty_folder_is_not_the_data(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is .* the folder of the data"):
        open_source(f"{name}:{tmp_path}")


def test_pictures_that_are_not_there_are_counted(memes: Path) -> None:
    (memes / "img" / "train0.png").unlink()
    notes = open_source(f"hateful-memes:{memes}").notes
    assert any("1 pictures are not there: img/train0.png" in note for note in notes)


@pytest.mark.parametrize("line", ["{", "[1]", '{"id": 1, "img": "a.png"}'])
def test_a_broken_line_is_named(memes: Path, line: str) -> None:
    (memes / "train.jsonl").write_text(line)
    with pytest.raises(UserError, match=r"train\.jsonl, line 1"):
        open_source(f"hateful-memes:{memes}")


def test_the_masks_of_the_literature_are_one_flag(memes: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.parquet"
    words = ["mask", f"hateful-memes:{memes}", "--eta", "0.7", "--absent", "text", "--seed", "3", "--out", str(plan)]
    assert main(words) == 0
    drawn = MaskPlan.load(plan)
    assert drawn.modalities == ("image", "text") and drawn.keep[:, 0].all()
