"""The embedded data set: complete, clean, the same everywhere, and hard to damage."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import datasets
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib import ft2font
from PIL import Image

from absentia.data.catalog import CATALOG, load
from absentia.data.catalog.cache import cached_table, default_folder
from absentia.data.catalog.glyph_images import draw, fonts, png
from absentia.data.catalog.glyphs import DECLARATION, FAMILIES, build
from absentia.data.schema import modality_from_flag
from absentia.errors import UserError

NUMBERS = ["combining", "mirrored", "parts", "numeric"]
PROPERTIES = ["category", "bidirectional", "width", "decomposition", *NUMBERS]
Shift = st.integers(-40, 40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def glyphs(folder: Path) -> datasets.Dataset:
    return build(cache=folder)


@pytest.fixture(scope="module")
def frame(glyphs: datasets.Dataset) -> pd.DataFrame:
    return pd.DataFrame(glyphs.data.table.to_pandas())


@pytest.fixture(scope="module")
def characters(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop_duplicates("id").set_index("id")


def pixels(image: bytes) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(image)))


def test_size_and_classes(characters: pd.DataFrame) -> None:
    counts = characters["script"].value_counts()
    assert len(counts) == 25 == len(FAMILIES)
    assert counts.min() >= 40
    assert 4300 <= len(characters) <= 4500


def test_three_different_pictures_of_each_character(frame: pd.DataFrame) -> None:
    assert (frame.groupby("id")["image"].nunique() == 3).all()
    assert (frame.groupby("id")["font"].nunique() == 3).all()


def test_renderings_share_every_other_cell(frame: pd.DataFrame) -> None:
    shared = frame.drop(columns=["image", "font"])
    assert len(shared.drop_duplicates()) == frame["id"].nunique()


def test_split_is_by_character_and_has_every_class(characters: pd.DataFrame) -> None:
    shares = characters["split"].value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.60, abs=0.02)
    assert shares["val"] == pytest.approx(0.15, abs=0.02)
    assert shares["test"] == pytest.approx(0.25, abs=0.02)
    assert pd.crosstab(characters["script"], characters["split"]).to_numpy().min() >= 5


def test_pictures_are_readable_grey_and_inked(frame: pd.DataFrame) -> None:
    for image in frame["image"][::37]:
        picture = pixels(image)
        assert picture.shape == (32, 32)
        assert picture.dtype == np.uint8
        assert picture.max() == 255
        assert picture.min() < 200


def test_every_font_really_has_the_character(frame: pd.DataFrame) -> None:
    maps = {f"{font.family_name} {font.style_name}": font.get_charmap() for font in fonts()}
    names = frame["font"].str.split(",").str[0]
    codes = frame["id"].str[2:].map(lambda digits: int(digits, 16))
    assert set(names) == set(maps)
    assert all(maps[name].get(code, 0) > 0 for name, code in zip(names, codes, strict=True))


def test_text_does_not_name_a_family(characters: pd.DataFrame) -> None:
    words = characters["text"].str.split().explode()
    telling = {mark.split()[0] for mark in FAMILIES.values() if isinstance(mark, str)}
    assert not telling & set(words)
    assert not words.str.contains("ARABIC|GREEK|CYRILLIC|LATIN|SYLLABICS|DRAWINGS|TILE|ROMAN|ARROW").any()
    assert (characters["text"].str.len() > 0).all()


@pytest.mark.parametrize(
    ("identifier", "text"),
    [
        ("U+0041", "CAPITAL LETTER A"),
        ("U+0410", "CAPITAL LETTER A"),
        ("U+2801", "1"),
        ("U+1F031", "HORIZONTAL-00-00"),
        ("U+1D306", "CENTRE"),
        ("U+2190", "LEFTWARDS"),
        ("U+1D78", "LETTER EN"),
    ],
)
def test_text_of_some_characters(characters: pd.DataFrame, identifier: str, text: str) -> None:
    assert characters.loc[identifier, "text"] == text


def test_properties_of_some_characters(characters: pd.DataFrame) -> None:
    third, alef, accent = (characters.loc[name] for name in ("U+2153", "U+05D0", "U+00E9"))
    assert (third["decomposition"], third["parts"]) == ("fraction", 3)
    assert third["numeric"] == pytest.approx(1 / 3)
    assert (alef["bidirectional"], alef["decomposition"], alef["parts"]) == ("R", "none", 1)
    assert (accent["decomposition"], accent["parts"]) == ("canonical", 2)


def test_numeric_is_absent_for_most_and_nothing_else_is(characters: pd.DataFrame) -> None:
    assert characters["numeric"].isna().mean() > 0.9
    assert not characters.drop(columns="numeric").isna().any().any()


def test_declaration_names_columns_that_are_there(glyphs: datasets.Dataset) -> None:
    kinds = dict(modality_from_flag(flag) for flag in DECLARATION["modality"])
    columns = [column for name, kind in kinds.items() for column in kind.columns or (name,)]
    assert sorted(columns) == sorted(["image", "text", *PROPERTIES])
    others = [DECLARATION[role] for role in ("target", "id", "split")]
    assert {*columns, *others, "font"} == set(glyphs.column_names)


def test_no_test_character_repeats_one_of_training(frame: pd.DataFrame) -> None:
    seen = frame[["image", "text"]].apply(tuple, axis=1)
    assert not set(seen[frame["split"] == "test"]) & set(seen[frame["split"] != "test"])


def test_outside_has_other_characters_and_no_target(folder: Path, glyphs: datasets.Dataset) -> None:
    outside = build(classes="outside", cache=folder)
    assert len(set(outside["id"])) > 1000
    assert "script" not in outside.column_names
    assert not set(outside["id"]) & set(glyphs["id"])


def test_every_character_is_known_to_python(characters: pd.DataFrame) -> None:
    assert all(unicodedata.name(chr(int(name[2:], 16)), "") for name in characters.index)


def test_two_builds_are_equal(glyphs: datasets.Dataset, tmp_path: Path) -> None:
    assert build(cache=tmp_path).data.table.equals(glyphs.data.table)


@pytest.mark.skipif(ft2font.__freetype_version__ != "2.14.3", reason="other FreeType, other edges")
def test_pixels_are_the_same_on_every_machine(frame: pd.DataFrame) -> None:
    image = hashlib.sha256(b"".join(frame.sort_values(["id", "font"])["image"]))
    assert image.hexdigest() == "a33b3e9108b53e9c0f5713db032b15698f8b47c0b3bb7dfb8fbe9602fe0d0955"


# --- the pictures


@given(arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_png_keeps_every_pixel(picture: npt.NDArray[np.uint8]) -> None:
    assert np.array_equal(pixels(png(picture)), picture)


@given(st.integers(0, 11), st.sampled_from("AgjÅ|_☺"), st.integers(8, 60), Shift, Shift)
def test_no_glyph_is_cut(font: int, character: str, size: int, right: int, down: int) -> None:
    face = fonts()[font]
    there, moved = (draw(face, ord(character), size=size, shift=s) for s in ((0, 0), (right, down)))
    assert there is not None and moved is not None
    assert there.shape == moved.shape == (32, 32)
    assert np.sum(255 - there.astype(int)) == np.sum(255 - moved.astype(int))


def test_a_blank_leaves_no_picture() -> None:
    assert draw(fonts()[0], ord(" "), size=20, shift=(0, 0)) is None


# --- the cache


def small() -> pa.Table:
    return pa.table({"a": list(range(1000)), "b": [os.fsencode(str(i)) for i in range(1000)]})


def damage_cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def damage_flip(content: bytes) -> bytes:
    return content[:400] + bytes([content[400] ^ 0xFF]) + content[401:]


def never() -> pa.Table:
    raise AssertionError("the table was there and need not be built")


@pytest.mark.parametrize("damage", [damage_cut, damage_flip, lambda _: b"", lambda _: b"no parquet" * 9])
def test_a_damaged_file_is_built_again(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    cached_table("t", small, folder=tmp_path)
    path = tmp_path / "t.parquet"
    path.write_bytes(damage(path.read_bytes()))
    assert cached_table("t", small, folder=tmp_path).equals(small())
    assert cached_table("t", never, folder=tmp_path).equals(small())
    assert [file.name for file in tmp_path.iterdir()] == ["t.parquet"]


def test_many_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        tables = list(pool.map(lambda _: cached_table("t", small, folder=tmp_path), range(32)))
    assert all(table.equals(small()) for table in tables)
    assert [file.name for file in tmp_path.iterdir()] == ["t.parquet"]


def test_a_folder_that_cannot_be_written_costs_only_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="could not be kept"):
        assert cached_table("t", small, folder=tmp_path / "file").equals(small())


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(UserWarning, match="no space left"):
        assert cached_table("t", small, folder=tmp_path).equals(small())
    assert list(tmp_path.iterdir()) == []


def test_default_folder_follows_datasets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    assert default_folder() == tmp_path / "absentia"
    monkeypatch.delenv("HF_DATASETS_CACHE")
    assert default_folder() == Path.home() / ".cache" / "absentia"


# --- the catalog


def test_load_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, glyphs: datasets.Dataset) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    assert load("glyphs").data.table.equals(glyphs.data.table)


def test_unknown_names_are_told_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'glyphs'"):
        load("glyph")
    with pytest.raises(UserError, match="neither"):
        build(classes="both")  # type: ignore[arg-type]


def test_the_catalog_imports_nothing_before_it_is_asked() -> None:
    code = "import sys, absentia.data.catalog; assert not {'datasets', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_each_entry_of_the_catalog_can_be_built_or_opened() -> None:
    modules = [import_module(module) for module in CATALOG.values()]
    assert all(callable(getattr(module, "open_folder", None) or module.build) for module in modules)
