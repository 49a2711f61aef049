"""Declarations from flags, mappings and JSON, and one clear error for each that cannot be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from absentia.data.kinds import KINDS, Audio, Image, Kind, Series, Tabular, Text
from absentia.data.schema import Schema, Target, modality_from, modality_from_flag, pattern_name, target_from_flag
from absentia.errors import UserError

COLUMNS = st.text(st.characters(exclude_characters=",@", exclude_categories=["Cs"])).map(str.strip).filter(bool)
NAMES = st.text(st.characters(exclude_characters="=+,", exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: name == name.strip() and name != "nothing"
)


@pytest.mark.parametrize(
    ("flag", "wanted"),
    [
        ("poster=image", ("poster", Image())),
        ("my poster.jpg=image", ("my poster.jpg", Image())),
        ("plot=text:org/model-v2.1", ("plot", Text(encoder="org/model-v2.1"))),
        ("plot=text:/home/me/en:coder@story", ("plot", Text(encoder="/home/me/en:coder", columns=("story",)))),
        ("facts=tabular@year, run time ,a.b", ("facts", Tabular(columns=("year", "run time", "a.b")))),
        ("wave=series@left=right", ("wave", Series(columns=("left=right",)))),
        ("voice=audio@a+b", ("voice", Audio(columns=("a+b",)))),
    ],
)
def test_flags(flag: str, wanted: tuple[str, Kind]) -> None:
    assert modality_from_flag(flag) == wanted


@given(NAMES, st.sampled_from(sorted(KINDS)), st.lists(COLUMNS, unique=True, max_size=3))
def test_any_names_fit_into_a_flag(name: str, kind: str, columns: list[str]) -> None:
    columns = columns if kind == "tabular" else columns[:1]
    found, made = modality_from_flag(f"{name}={kind}" + ("@" + ",".join(columns) if columns else ""))
    assert (found, made.kind, made.columns) == (name, kind, tuple(columns))
    schema = Schema(modalities={found: made})
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("poster", "expected NAME=KIND"),
        ("=image", "expected NAME=KIND"),
        ("", "expected NAME=KIND"),
        ("poster=", "expected NAME=KIND"),
        ("poster=image:", "expected NAME=KIND"),
        ("poster=image@", "expected NAME=KIND"),
        ("a=b=c", "expected NAME=KIND"),
        ("poster=imgae", "modality 'poster': unknown kind 'imgae'; did you mean 'image'?"),
        ("poster=smell", "unknown kind 'smell'; known: image, text, tabular, series, audio, volume"),
        ("poster=image@a,b", "kind 'image' has one column, not 2: a, b"),
        ("facts=tabular@a,a", "names column 'a' twice"),
    ],
)
def test_flags_that_cannot_be(flag: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        modality_from_flag(flag)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("image", Image()),
        ("text:org/model", Text(encoder="org/model")),
        ({"kind": "image", "size": [32, 48]}, Image(size=(32, 48))),
        ({"kind": "text", "max_length": 8, "encoder": None}, Text(max_length=8)),
        ({"kind": "tabular", "columns": ["a", "b,c"]}, Tabular(columns=("a", "b,c"))),
        ({"kind": "tabular", "columns": "a, b"}, Tabular(columns=("a", "b"))),
        ({"kind": "tabular", "columns": [2019, 2020]}, Tabular(columns=("2019", "2020"))),
        ({"kind": "series", "columns": None, "layout": "channels-first"}, Series(layout="channels-first")),
        ({"kind": "audio", "rate": 8000, "max_seconds": 2}, Audio(rate=8000, max_seconds=2)),
        ({"kind": "image", "encoder": "org/model", "tune": True}, Image(encoder="org/model", tune=True)),
    ],
)
def test_mappings(options: Any, wanted: Kind) -> None:
    assert modality_from("m", options) == wanted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (None, "modality 'm': expected a kind or a mapping with one, not None"),
        (["image"], "modality 'm': expected a kind or a mapping"),
        (3, "modality 'm': expected a kind or a mapping"),
        ({}, "modality 'm': unknown kind None; known: image"),
        ({"kind": ["image"]}, "modality 'm': unknown kind ['image']"),
        ({"kind": "txt"}, "did you mean 'text'?"),
        ({"kind": "image", "sise": 32}, "modality 'm': image has no option 'sise'; did you mean 'size'?"),
        ({"kind": "image", "max_length": 3}, "image has no option 'max_length'"),
        ({"kind": "image", 3: 4}, "image has no option 3"),
        ({"kind": "image", "size": 3}, "image size 3"),
        ({"kind": "text", "max_length": "many"}, "text max_length 'many'"),
        ({"kind": "tabular", "columns": 5}, "modality 'm': columns 5 is no list of names"),
        ({"kind": "tabular", "columns": {"a": 1}}, "is no list of names"),
    ],
)
def test_mappings_that_cannot_be(options: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        modality_from("m", options)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["", "a+b", "a,b", "a=b", " a", "a\n", "nothing", 2019, None])
def test_names_that_patterns_and_flags_could_not_tell_apart(name: Any) -> None:
    with pytest.raises(UserError, match=r"modality name .*: must be a text without"):
        Schema(modalities={name: Image()})
    with pytest.raises(UserError, match="modality name"):
        modality_from(name, "image")


@pytest.mark.parametrize("name", ["a.b", "a/b", "a:b", "a b", "a-b", "ä", "日本", "image", "1", "__class__", "A" * 300])
def test_names_that_columns_have(name: str) -> None:
    schema = Schema(modalities={name: Image()})
    assert schema.names == [name] and schema.columns == [name]


def test_a_schema_needs_a_modality() -> None:
    with pytest.raises(UserError, match="no modality declared"):
        Schema(modalities={})


def test_the_answer_is_no_input() -> None:
    with pytest.raises(UserError, match="column 'y' is the target and an input too"):
        Schema(modalities={"facts": Tabular(columns=("x", "y"))}, target=Target(column="y"))
    with pytest.raises(UserError, match="column 'y' is the target and an input too"):
        Schema(modalities={"y": Text()}, target=Target(column="y"))


SCHEMA = Schema(
    modalities={
        "poster": Image(size=(16, 24)),
        "facts": Tabular(columns=("year", "length")),
        "plot": Text(columns=("story",)),
    },
    target=Target(column="genre", kind="class", classes=("a", "b")),
    id="key",
    split="part",
)


def test_columns() -> None:
    assert SCHEMA.names == ["poster", "facts", "plot"]
    assert SCHEMA.columns == ["poster", "year", "length", "story"]
    assert SCHEMA.columns_of("poster") == ("poster",)


def test_json_keeps_everything() -> None:
    again = Schema.from_json(json.loads(json.dumps(SCHEMA.to_json())))
    assert again == SCHEMA and again.names == SCHEMA.names
    number = Schema(modalities={"a": Audio()}, target=Target(column="price", kind="number", log=True))
    assert Schema.from_json(json.loads(json.dumps(number.to_json()))) == number
    plain = Schema(modalities={"a": Audio()})
    assert Schema.from_json(json.loads(json.dumps(plain.to_json()))) == plain


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("poster", "movies.csv has no column 'poster' (modality poster); did you mean 'posters'?"),
        ("story", "movies.csv has no column 'story' (modality plot)"),
        ("length", "has no column 'length' (modality facts)"),
        ("key", "has no column 'key' (id)"),
        ("part", "has no column 'part' (split)"),
        ("genre", "has no column 'genre' (target)"),
    ],
)
def test_columns_that_the_table_lacks(missing: str, message: str) -> None:
    there = {"posters", "poster", "year", "length", "story", "key", "part", "genre"} - {missing}
    with pytest.raises(UserError) as caught:
        SCHEMA.check(sorted(there), "movies.csv")
    assert message in str(caught.value)


def test_a_table_to_answer_needs_no_target() -> None:
    SCHEMA.check(["poster", "year", "length", "story", "key", "part"], "t", target=False)


@pytest.mark.parametrize(
    ("flag", "wanted"),
    [
        ("genre", Target(column="genre")),
        ("genre=class", Target(column="genre", kind="class")),
        ("tags=labels", Target(column="tags", kind="labels")),
        ("price=number", Target(column="price", kind="number")),
        ("price=log", Target(column="price", kind="number", log=True)),
        ("a b+c", Target(column="a b+c")),
    ],
)
def test_targets(flag: str, wanted: Target) -> None:
    assert target_from_flag(flag) == wanted


@pytest.mark.parametrize(
    ("flag", "message"),
    [("genre=clas", "kind 'clas'; did you mean 'class'"), ("=class", "expected COLUMN"), ("", "expected COLUMN")],
)
def test_targets_that_cannot_be(flag: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        target_from_flag(flag)


def test_target_sizes() -> None:
    assert Target(column="y", kind="number").size == 1
    assert Target(column="y", kind="labels", classes=("a", "b", "c")).size == 3


@given(st.lists(NAMES, unique=True, min_size=1, max_size=4), st.data())
def test_pattern_names_say_what_is_present(names: list[str], data: st.DataObject) -> None:
    present = data.draw(st.lists(st.booleans(), min_size=len(names), max_size=len(names)))
    said = pattern_name(names, present)
    assert (said == "nothing") == (not any(present))
    if any(present):
        assert said.split("+") == [n for n, there in zip(names, present, strict=True) if there]
