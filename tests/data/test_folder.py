"""Folders: tables by split, shards, saved data sets, the hub's layout, and pictures or sounds in class folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from absentia.data.table import Table, open_table
from absentia.errors import UserError

both = pytest.mark.parametrize("streaming", [False, True])


def rows(table: Table) -> list[dict[str, Any]]:
    return [row for chunk in table.chunks() for row in chunk.to_pylist()]


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (3, 2)).save(path)


@both
@pytest.mark.parametrize(
    "names", [("train", "valid", "test"), ("training", "dev", "test"), ("my_train", "my-val", "T.test")]
)
def test_files_by_split(tmp_path: Path, names: tuple[str, ...], streaming: bool) -> None:
    write(tmp_path / f"{names[2]}.csv", 'x,y\n2.5,""\n')
    write(tmp_path / f"{names[0]}.csv", "x,y\n1,a\n")
    write(tmp_path / f"{names[1]}.jsonl", '{"x": 3, "y": null}\n')
    write(tmp_path / "notes.csv", "other\n1\n")
    table = open_table(tmp_path, streaming=streaming)
    assert rows(table) == [
        {"x": 1.0, "y": "a", "split": "train"},
        {"x": 3.0, "y": None, "split": "val"},
        {"x": 2.5, "y": "", "split": "test"},
    ]
    assert table.root == tmp_path and table.streaming == streaming and len(table) == 3


@both
def test_a_type_is_decided_over_all_files(tmp_path: Path, streaming: bool) -> None:
    write(tmp_path / "train.csv", "code\n1\n2\n")
    write(tmp_path / "test.csv", "code\nB7\n")
    assert [row["code"] for row in rows(open_table(tmp_path, streaming=streaming))] == ["1", "2", "B7"]


@both
def test_shards_are_one_table(tmp_path: Path, streaming: bool) -> None:
    for i in range(3):
        frame = pd.DataFrame({"x": [i, i], "y": [None, "a"]})
        frame.to_parquet(tmp_path / f"data-{i:05}-of-00003.parquet")
    table = open_table(tmp_path, streaming=streaming)
    assert [row["x"] for row in rows(table)] == [0, 0, 1, 1, 2, 2] and "split" not in table.columns


def test_shards_by_split_in_a_sub_folder(tmp_path: Path) -> None:
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"):
        write(tmp_path / "data" / f"{name}.csv", "x\n1\n")
    table = open_table(tmp_path)
    assert [row["split"] for row in rows(table)] == [
        "train",
        "train",
        "val",
    ] and table.root == tmp_path / "data"


def test_one_file_in_a_folder_is_a_table(tmp_path: Path) -> None:
    write(tmp_path / "table.csv", "x,y\n1,a.nii.gz\n")
    write(tmp_path / "a.nii.gz", "volume")
    picture(tmp_path / "b.png")
    assert rows(open_table(tmp_path)) == [{"x": 1, "y": "a.nii.gz"}] and open_table(tmp_path).root == tmp_path


def test_a_column_named_split_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "x,split\n1,train\n")
    write(tmp_path / "test.csv", "x,split\n1,hold-out\n")
    assert [row["split"] for row in rows(open_table(tmp_path))] == ["train", "hold-out"]


def test_saved_by_datasets(tmp_path: Path) -> None:
    features = datasets.Features({"x": datasets.Value("int64"), "y": datasets.ClassLabel(names=["no", "yes"])})
    part = datasets.Dataset.from_dict({"x": [1, 2], "y": [0, 1]}, features=features)
    datasets.DatasetDict({"train": part, "validation": part}).save_to_disk(str(tmp_path / "all"))
    table = open_table(tmp_path / "all")
    assert [row["split"] for row in rows(table)] == ["train", "train", "val", "val"]
    assert table.class_names == {"y": ["no", "yes"]} and table.root == tmp_path / "all"
    assert table.take(np.array([3, 0])).column("x").to_pylist() == [2, 1]
    for file in (tmp_path / "all").rglob("*.arrow"):
        file.write_bytes(b"broken")
    with pytest.raises(UserError, match="cannot be read"):
        open_table(tmp_path / "all")


# ------------------------------------------------------------------------------------- pictures and sounds


def test_class_folders(tmp_path: Path) -> None:
    for name in ("dog/1.png", "cat/2.JPG", "cat/1.png"):
        picture(tmp_path / name)
    write(tmp_path / ".hidden" / "x.png", "")
    table = open_table(tmp_path)
    assert table.class_names == {"label": ["cat", "dog"]} and table.root == tmp_path
    assert [(row["image"]["path"], row["label"]) for row in rows(table)] == [
        ("cat/1.png", 0),
        ("cat/2.JPG", 0),
        ("dog/1.png", 1),
    ]
    assert all(row["image"]["bytes"] is None for row in rows(table))


def test_class_folders_by_split(tmp_path: Path) -> None:
    for name in ("train/a/1.wav", "train/b/2.wav", "validation/a/3.wav"):
        write(tmp_path / name, "")
    table = open_table(tmp_path)
    assert [(row["audio"]["path"], row["label"], row["split"]) for row in rows(table)] == [
        ("train/a/1.wav", 0, "train"),
        ("train/b/2.wav", 1, "train"),
        ("validation/a/3.wav", 0, "val"),
    ]


def test_pictures_without_classes(tmp_path: Path) -> None:
    picture(tmp_path / "1.png")
    assert list(open_table(tmp_path).columns) == ["image"]


def test_metadata_names_the_file_or_none(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "1.png")
    write(tmp_path / "metadata.csv", 'file_name,sound_file_name,text\nimages/1.png,s.wav,""\n,,NA\n')
    table = open_table(tmp_path)
    assert rows(table) == [
        {
            "image": {"bytes": None, "path": "images/1.png"},
            "sound": {"bytes": None, "path": "s.wav"},
            "text": "",
        },
        {"image": None, "sound": None, "text": "NA"},
    ]


def test_metadata_by_split(tmp_path: Path) -> None:
    for split in ("train", "test"):
        picture(tmp_path / split / "1.png")
        write(tmp_path / split / "metadata.jsonl", '{"file_name": "1.png", "y": 1}\n')
    assert rows(open_table(tmp_path)) == [
        {"image": {"bytes": None, "path": f"{split}/1.png"}, "y": 1, "split": split} for split in ("test", "train")
    ]


# ----------------------------------------------------------------------------------- the layout of the hub


def hub_folder(folder: Path, form: str) -> Path:
    card = (
        "---\nconfigs:\n- config_name: small\n  data_files:\n"
        f"  - split: train\n    path: small/first.{form}\n  - split: validation\n    path: small/second.{form}\n"
        f"- config_name: large\n  data_files: large/*.{form}\n---\n# A data set\n"
    )
    write(folder / "README.md", card)
    for name in ("small/first", "small/second", "large/third"):
        data = pd.DataFrame({"x": [1.5, None], "y": ["a", ""]})
        path = folder / f"{name}.{form}"
        path.parent.mkdir(exist_ok=True)
        if form == "parquet":
            data.to_parquet(path)
        elif form == "jsonl":
            path.write_text('{"x": 1.5, "y": "a"}\n{"x": null, "y": ""}\n')
        else:
            path.write_text('x,y\n1.5,a\n,""\n')
    return folder


@both
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_configuration_of_a_repository(tmp_path: Path, form: str, streaming: bool) -> None:
    table = open_table(f"{hub_folder(tmp_path, form)}:small", streaming=streaming)
    assert rows(table) == [
        {"x": 1.5, "y": "a", "split": "train"},
        {"x": None, "y": "", "split": "train"},
        {"x": 1.5, "y": "a", "split": "val"},
        {"x": None, "y": "", "split": "val"},
    ]
    assert len(table) == 4 and table.streaming == streaming
    assert len(open_table(f"{tmp_path}:large")) == 2


def test_a_configuration_has_to_be_chosen_and_known(tmp_path: Path) -> None:
    hub_folder(tmp_path, "csv")
    with pytest.raises(UserError, match=r"small.*NAME:CONFIG"):
        open_table(tmp_path)
    with pytest.raises(UserError, match="NAME:CONFIG"):
        open_table(f"{tmp_path}:huge")


def test_names_of_classes_in_a_repository(tmp_path: Path) -> None:
    card = (
        "---\ndataset_info:\n  features:\n  - name: x\n    dtype: int64\n  - name: y\n    dtype:\n      class_label:\n"
        "        names:\n          '0': cat\n          '1': dog\n---\n"
    )
    write(tmp_path / "README.md", card)
    write(tmp_path / "train.csv", "x,y\n5,1\n6,-1\n")
    table = open_table(tmp_path)
    assert table.class_names == {"y": ["cat", "dog"]} and rows(table) == [
        {"x": 5, "y": 1},
        {"x": 6, "y": None},
    ]


# -------------------------------------------------------------------------------------------------- errors


def test_folders_without_a_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds nothing that makes a table"):
        open_table(tmp_path)
    write(tmp_path / "readme.txt", "")
    with pytest.raises(UserError, match="holds nothing that makes a table"):
        open_table(tmp_path)


def test_different_tables_in_one_folder(tmp_path: Path) -> None:
    write(tmp_path / "orders.csv", "a,b\n1,2\n")
    write(tmp_path / "people.csv", "a,c\n1,2\n")
    with pytest.raises(UserError, match=r"orders\.csv and people\.csv have other columns"):
        open_table(tmp_path)


def test_pictures_and_sounds_without_metadata(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    write(tmp_path / "a.wav", "")
    with pytest.raises(UserError, match=r"metadata\.csv"):
        open_table(tmp_path)


def test_metadata_without_file_names(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    write(tmp_path / "metadata.csv", "text\nx\n")
    with pytest.raises(UserError, match="no column 'file_name'"):
        open_table(tmp_path)
