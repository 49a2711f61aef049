"""Guessing a schema: each kind of column, roles, reasons, and what is left out."""

from __future__ import annotations

import io
import random
import wave
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image as Pillow

from absentia.data.infer import infer
from absentia.data.profile import profiles
from absentia.data.schema import Target
from absentia.data.table import open_table
from absentia.errors import UserError

ROWS = 40


def encoded(form: str) -> bytes:
    out = io.BytesIO()
    Pillow.new("RGB", (4, 4)).save(out, form)
    return out.getvalue()


def sound() -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\0\0" * 80)
    return out.getvalue()


def npy() -> bytes:
    out = io.BytesIO()
    np.save(out, np.zeros((3, 2)))
    return out.getvalue()


def role(*cells: Any, name: str = "x", dtype: pa.DataType | None = None) -> str:
    """The role of a column with these cells, again and again, every fifth of them null."""
    column = [None if i % 5 == 4 else cells[i % len(cells)] for i in range(ROWS)]
    table = pa.table(
        {name: pa.array(column, dtype), "label": ["a", "b"] * (ROWS // 2), "n": [i * 0.5 for i in range(ROWS)]}
    )
    _, reasons = infer(open_table(table), target="label")
    assert [reason.column for reason in reasons] == [name, "label", "n"]
    assert str(reasons[0]).startswith(f"{name}: {reasons[0].role} - ") and "\n" not in str(reasons[0])
    return reasons[0].role


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_encoded_pictures(form: str) -> None:
    assert role(encoded(form)) == "image"
    assert role({"bytes": encoded(form), "path": None}) == "image"
    assert role({"bytes": None, "path": f"a/b.{form}"}, {"bytes": encoded(form), "path": None}) == "image"


@pytest.mark.parametrize("head", [b"fLaC....", b"OggS....", b"ID3\3....", b"\xff\xfb....", sound()])
def test_encoded_sounds(head: bytes) -> None:
    assert role(head) == "audio"
    assert role({"bytes": head, "path": "a.mp3"}) == "audio"


def test_paths() -> None:
    assert role("a/1.png", "b c/2.JPEG") == "image"
    assert role("1.flac", "2.mp3") == "audio"
    assert role("1.npy", "2.npy") == "series"
    assert role("scan1.nii.gz", "scan2.nii.gz") == "volume"
    assert role("scan1.dcm", "scan2.dcm") == "left out"
    assert role({"bytes": None, "path": "x.wav"}) == "audio"


def test_a_few_broken_cells_do_not_change_the_kind() -> None:
    assert role(encoded("PNG"), encoded("PNG"), b"broken") == "image"
    assert role("a.png", "b.png", "broken") == "image"
    assert role(b"caf\xc3\xa9", b"caf\xe9 au lait", b"tea") == "text"


def test_lists_and_arrays() -> None:
    assert role([1.0, 2.0], [3.0, 4.0]) == "vector"
    assert role([1, 2], [3]) == "series"
    assert role([[1.0, 2.0]], [[3.0, 4.0]]) == "series"
    assert role([1.0, 2.0], dtype=pa.list_(pa.float32(), 2)) == "vector"
    assert role(npy()) == "series"
    assert role({"array": [0.0, 1.0], "sampling_rate": 8000}) == "audio"
    assert role(["a", "b"], ["c"]) == "left out"
    assert role({"a": 1}) == "left out"


def test_scalars() -> None:
    assert role(1.5, 2.5) == role(1, 2, 3) == "number"
    assert role(True, False) == "category"
    assert role("red", "green", "light blue") == "category"
    assert role(*(f"an answer of its own, number {i}" for i in range(ROWS))) == "text"
    assert role("the cat sat on the mat", "a dog was there as well") == "text"
    assert role(pd.Timestamp(2020, 1, 1), pd.Timestamp(2021, 1, 1)) == "left out"
    assert role("always", "always") == role(1.0) == role(b"\1\2\0\3") == "left out"
    assert role(None, dtype=pa.string()) == "left out"


def frame(**columns: Any) -> pd.DataFrame:
    base = {
        "colour": ["red", "blue", None, "red"] * 10,
        "size": [1.0, None, 2.0, 3.0] * 10,
        "label": ["x", "y"] * 20,
    }
    return pd.DataFrame(base | columns)


def test_a_schema_from_a_whole_table() -> None:
    vector = [[float(i), 1.0] for i in range(ROWS)]
    text = [f"some words about {i}" for i in range(ROWS)]
    data = frame(uid=[f"u{i}" for i in range(ROWS)], vector=vector, **{"a+b": text}, split=["train", "val"] * 20)
    schema, reasons = infer(open_table(data), target=None)
    assert {name: (kind.kind, kind.columns) for name, kind in schema.modalities.items()} == {
        "vector": ("tabular", ()),
        "a_b": ("text", ("a+b",)),
        "facts": ("tabular", ("colour", "size")),
    }
    assert (schema.target, schema.id, schema.split) == (Target(column="label"), "uid", "split")
    assert [reason.role for reason in reasons] == [
        "category",
        "number",
        "target",
        "id",
        "vector",
        "text",
        "split",
    ]
    schema.check(data.columns, "t")


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("id", list(range(ROWS)), "id"),
        ("movie_id", [f"m {i}" for i in range(ROWS)], "id"),
        ("userId", list(range(100, 100 + ROWS)), "id"),
        ("code", [f"K{i}" for i in range(ROWS)], "id"),  # unique, one word
        ("covid", [i % 7 for i in range(ROWS)], "number"),
        ("id", [i // 20 for i in range(ROWS)], "number"),  # hardly an identity
        ("column_1", list(range(ROWS)), "left out"),  # counts the rows
        ("photo_id", [f"{i}.jpg" for i in range(ROWS)], "image"),
        ("name", [f"A name {i}" for i in range(ROWS)], "text"),
        ("count", random.Random(0).sample(range(1000), ROWS), "number"),
    ],
)
def test_identities(name: str, values: list[Any], expected: str) -> None:
    schema, reasons = infer(open_table(frame(**{name: values})), target="label")
    assert {reason.column: reason.role for reason in reasons}[name] == expected
    assert schema.id == (name if expected == "id" else None)


def test_only_one_identity_and_no_other_column_that_is_one() -> None:
    schema, reasons = infer(open_table(frame(id=range(ROWS), other_id=range(5, ROWS + 5))), target="label")
    assert schema.id == "id" and reasons[-1].role == "left out"


def test_an_identity_may_come_several_times() -> None:
    many = pd.DataFrame(
        {"id": [i // 2 for i in range(2000)], "x": [0.5 * i for i in range(2000)], "y": ["a", "b"] * 1000}
    )
    schema, _ = infer(open_table(many), target=None)
    assert schema.id == "id"


def test_a_split_column_has_the_words_of_a_split() -> None:
    for words in (["train", "test"], ["training", "validation"]):
        assert infer(open_table(frame(split=words * 20)), target=None)[0].split == "split"
    schema, reasons = infer(open_table(frame(split=["banana", "hair"] * 20)), target=None)
    assert schema.split is None and reasons[-1].role == "category"


def test_targets() -> None:
    table = open_table(frame())
    assert infer(table, target="size=log")[0].target == Target(column="size", kind="number", log=True)
    with pytest.raises(UserError, match=r"no column 'siez' .*did you mean 'size'"):
        infer(table, target="siez")
    without = open_table(frame().rename(columns={"label": "genre"}))
    with pytest.raises(UserError, match="--target COLUMN; likely: colour, size, genre"):
        infer(without, target=None)
    assert infer(without, target=None, need_target=False)[0].target is None


def test_nothing_to_learn_from() -> None:
    with pytest.raises(UserError, match=r"no column looks like a modality\. x: left out - is 'a' in every row"):
        infer(open_table(pd.DataFrame({"x": ["a"] * 4, "y": ["a", "b"] * 2})), target=None)


def test_a_profile_is_exact_and_small() -> None:
    count = 10_000
    data = pa.table(
        {
            "n": [i if i % 2 else None for i in range(count)],
            "s": [str(i % 9000) for i in range(count)],
            "b": [b"x" * 100] * count,
        }
    )
    found = profiles(open_table(data))
    assert (found["n"].rows, found["n"].present, found["n"].span) == (count, count // 2, (1, count - 1))
    assert found["n"].unique and not found["s"].unique and found["s"].values is None
    assert all(len(p.cells) <= 64 for p in found.values()) and max(map(len, found["b"].cells)) == 32
    assert max(found["n"].cells) > count * 0.9 and min(found["n"].cells) < count * 0.1  # from all over the table


def test_a_stream_gives_the_same_schema() -> None:
    data = pa.Table.from_pandas(frame())
    stream = datasets.Dataset(data).to_iterable_dataset()
    assert infer(open_table(stream), target=None) == infer(open_table(data), target=None)
