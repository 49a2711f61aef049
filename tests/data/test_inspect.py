"""Inspecting a table: shares, patterns, splits, the target, and bad cells by row, column and reason."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow
from rich.console import Console
from tests import scans

from absentia.data.inspect import Inspection, Unreadable, inspect
from absentia.data.kinds import Image, Kind, Series, Tabular, Text
from absentia.data.schema import Schema, Target
from absentia.data.table import open_table
from absentia.errors import UserError


def png() -> bytes:
    out = io.BytesIO()
    Pillow.new("L", (8, 8)).save(out, "PNG")
    return out.getvalue()


def torn() -> bytes:
    """A picture that breaks off in the middle."""
    out = io.BytesIO()
    Pillow.frombytes("L", (32, 32), np.random.default_rng(0).bytes(1024)).save(out, "PNG")
    return out.getvalue()[:500]


MODALITIES: dict[str, Kind] = {"image": Image(), "text": Text(), "facts": Tabular(columns=("size", "colour"))}
SCHEMA = Schema(modalities=MODALITIES, target=Target(column="label"), split="split")


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image": [png(), None, b"no picture", png(), None, torn()],
            "text": ["a", "", "b", None, None, "c"],
            "size": [1.0, None, 2.0, None, None, 3.0],
            "colour": [None, "red", None, None, None, "blue"],
            "split": ["validation", "train", "test", "train", "train", "test"],
            "label": ["x", "y", "x", None, "z", "x"],
        }
    )


def shown(found: Inspection, width: int = 100, encoding: str = "utf-8") -> str:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Console(file=out, width=width, legacy_windows=False).print(found.render())
    out.seek(0)
    return out.read()


@pytest.mark.parametrize("streaming", [False, True])
def test_everything_is_counted(tmp_path: Path, streaming: bool) -> None:
    frame().to_parquet(tmp_path / "t.parquet")
    found = inspect(open_table(tmp_path / "t.parquet", streaming=streaming), SCHEMA)
    assert found.rows == 6 and found.kinds == {"image": "image", "text": "text", "facts": "tabular"}
    assert found.present == {"image": 4, "text": 4, "facts": 4}
    assert found.patterns == {"image+text+facts": 3, "image": 1, "nothing": 1, "text+facts": 1}
    assert list(found.splits) == ["train", "validation", "test"]
    assert found.present_by_split["train"] == {"image": 1, "text": 1, "facts": 1}
    assert found.splits["test"] == {"image+text+facts": 2}
    assert found.target is not None and (found.target.kind, found.target.known, found.target.unknown) == ("class", 5, 1)
    assert found.target.classes == {"x": 3, "y": 1, "z": 1}
    assert found.bad_cells == {"image": 2}
    assert [(cell.row, cell.column) for cell in found.bad] == [(2, "image"), (5, "image")]
    assert "not an image" in found.bad[0].reason and "corrupt" in found.bad[1].reason


def test_nothing_is_opened_unless_asked() -> None:
    found = inspect(open_table(frame()), SCHEMA, decode=False)
    assert not found.bad and not found.bad_cells and "Cells were not opened" in shown(found)


def test_only_some_bad_cells_are_listed_and_all_are_counted() -> None:
    table = open_table(pd.DataFrame({"image": [b"x"] * 2000}))
    found = inspect(table, Schema(modalities={"image": Image()}), listed=5)
    assert found.bad_cells == {"image": 2000} and [cell.row for cell in found.bad] == [0, 1, 2, 3, 4]
    assert "2,000 cells cannot be read" in shown(found)
    assert "and 1,995 more" in shown(found)


def test_bad_cells_of_each_kind(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"text,photo,a\nfine,,1\ncaf\xe9,gone.png,inf\nfine,,2\n")
    kinds: dict[str, Kind] = {"text": Text(), "photo": Image(), "facts": Tabular(columns=("a",))}
    found = inspect(open_table(tmp_path / "t.csv"), Schema(modalities=kinds))
    assert {(cell.row, cell.column) for cell in found.bad} == {(1, "text"), (1, "photo"), (1, "facts")}
    reasons = {cell.column: cell.reason for cell in found.bad}
    assert (
        "UTF-8" in reasons["text"] and "gone.png does not exist" in reasons["photo"] and "infinite" in reasons["facts"]
    )


def test_a_vector_or_series_of_another_length_or_width() -> None:
    data = pa.table(
        {
            "v": [[1.0, 2.0]] * 9 + [[1.0]],
            "s": [[[1.0, 2.0]] * (i % 3 + 1) for i in range(9)] + [[[1.0, 2.0, 3.0]] * 2],
        }
    )
    found = inspect(open_table(data), Schema(modalities={"v": Tabular(), "s": Series(layout="steps-first")}))
    assert [(cell.row, cell.column) for cell in found.bad] == [(9, "v"), (9, "s")]


def test_a_column_that_is_nearly_always_null_is_not_mistaken() -> None:
    words: list[Any] = [None] * 3000
    words[2999] = "a word"
    table = open_table(pd.DataFrame({"n": np.arange(3000.0), "w": words}))
    assert not inspect(table, Schema(modalities={"facts": Tabular(columns=("n", "w"))})).bad


def test_progress_is_heard() -> None:
    heard: list[int] = []
    inspect(open_table(pd.DataFrame({"t": ["a"] * 1200})), Schema(modalities={"t": Text()}), advance=heard.append)
    assert heard == sorted(heard) and heard[-1] == 1200


@pytest.mark.parametrize(
    ("cells", "declared", "kind", "detail"),
    [
        (["a", "b", None], None, "class", {"a": 1, "b": 1}),
        ([True, False, True], None, "class", {"True": 2, "False": 1}),
        ([1, 2, 2], None, "class", {"2": 2, "1": 1}),
        ([1.0, 2.0, None], None, "class", {"1": 1, "2": 1}),
        ([1.5, 2.0, np.inf], None, "number", (1.5, 2.0, 1.75)),
        ([1, 2, 6], "number", "number", (1.0, 6.0, 3.0)),
        ([["a"], ["a", "b"], []], None, "labels", {"a": 2, "b": 1}),
        ([b"x", b"y", None], None, "other", {}),
    ],
)
def test_targets(cells: list[Any], declared: Any, kind: str, detail: Any) -> None:
    table = open_table([{"t": "words", "y": cell} for cell in cells])
    schema = Schema(modalities={"t": Text()}, target=Target(column="y", kind=declared))
    target = inspect(table, schema).target
    assert target is not None and target.kind == kind
    if kind == "number":
        assert (target.low, target.high, target.mean) == detail
    else:
        assert target.classes == detail
    assert target.known + target.unknown == 3
    assert "y" in shown(inspect(table, schema))


def test_names_of_classes() -> None:
    features = datasets.Features({"t": datasets.Value("string"), "y": datasets.ClassLabel(names=["cat", "dog"])})
    table = open_table(datasets.Dataset.from_dict({"t": ["a"] * 3, "y": [1, 1, -1]}, features=features))
    target = inspect(table, Schema(modalities={"t": Text()}, target=Target(column="y"))).target
    assert target is not None and target.classes == {"dog": 2} and target.unknown == 1


def test_what_one_should_know() -> None:
    data = pd.DataFrame({"t": [None, "a"], "u": ["b", "c"], "v": [None, None], "split": ["train", "test"], "y": [1, 1]})
    kinds: dict[str, Kind] = {"t": Text(), "u": Text(), "v": Text()}
    found = inspect(open_table(data), Schema(modalities=kinds, target=Target(column="y"), split="split"))
    assert found.notes == [
        "No row has v.",
        "No training row has t: nothing can be learned from it.",
        "The target 'y' is constant: there is nothing to learn.",
    ]
    assert all(note.split(":")[0] in " ".join(shown(found).split()) for note in found.notes)


def test_columns_that_are_not_there() -> None:
    table = open_table(frame())
    for schema, name in [
        (Schema(modalities={"imgae": Image()}), "imgae"),
        (Schema(modalities={"image": Image()}, target=Target(column="lable")), "lable"),
        (Schema(modalities={"image": Image()}, split="spilt"), "spilt"),
    ]:
        with pytest.raises(UserError, match=f"no column '{name}' .*did you mean"):
            inspect(table, schema)


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_picture_fits_any_terminal(width: int, encoding: str) -> None:
    text = shown(inspect(open_table(frame()), SCHEMA), width, encoding)
    assert max(map(len, text.splitlines())) <= width
    there, absent = ("#", ".") if encoding == "ascii" else ("■", "□")
    assert f"{there} {there} {there}" in text and f"{absent} {absent} {absent}" in text
    assert str(Unreadable(2, "image", "is not an image that can be read"))[:20] in text


def test_a_share_is_only_complete_if_it_is() -> None:
    table = open_table(pd.DataFrame({"t": ["a"] * 9999 + [None], "u": [None] * 9999 + ["b"]}))
    text = shown(inspect(table, Schema(modalities={"t": Text(), "u": Text()}), decode=False))
    assert ">99.9 %" in text and "<0.1 %" in text


def test_a_table_of_many_chunks_is_numbered_through(tmp_path: Path) -> None:
    cells = [png()] * 3000
    bad = [511, 512, 1500, 2999]
    for row in bad:
        cells[row] = b"broken"
    pq.write_table(pa.table({"image": cells}), tmp_path / "t.parquet", row_group_size=700)
    found = inspect(open_table(tmp_path / "t.parquet", streaming=True), Schema(modalities={"image": Image()}))
    assert [cell.row for cell in found.bad] == bad


@pytest.mark.parametrize("column", ["t2", "mask"])
def test_a_cell_that_lies_elsewhere_than_its_row_is_bad(column: str) -> None:
    made = scans.rows(dims=3, side=9)
    assert not inspect(open_table(scans.table(made)), scans.schema()).bad
    made[0] |= {column: scans.nifti(np.ones((9, 9, 8), np.uint8))}
    found = inspect(open_table(scans.table(made)), scans.schema())
    assert [(cell.row, cell.column) for cell in found.bad] == [(0, column)] and found.bad_cells == {column: 1}
    assert found.bad[0].reason == "does not lie on the grid of 't1': shape 9 x 9 x 8, not 9 x 9 x 9"
