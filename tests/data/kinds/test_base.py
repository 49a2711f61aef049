"""What kinds share: where bytes come from, padding, moments, and options that are checked when they are given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from absentia.data.kinds import KINDS, Audio, Image, Kind, Series, Tabular, Text
from absentia.data.kinds.base import moments, pad, shown, source_of, standardised
from absentia.errors import BadCell, UserError

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
LENGTHS = st.lists(st.integers(0, 6), min_size=1, max_size=5)


@given(LENGTHS, st.sampled_from([(), (3,), (2, 2)]), st.sampled_from(["float32", "int64", "uint8"]))
def test_padding_keeps_every_array_and_marks_it(lengths: list[int], tail: tuple[int, ...], dtype: str) -> None:
    arrays = [np.full((n, *tail), i + 1, dtype=dtype) for i, n in enumerate(lengths)]
    out, mask = pad(arrays, fill=7)
    assert out.shape == (len(arrays), max(lengths), *tail) and out.dtype == dtype
    assert mask.sum(axis=1).tolist() == lengths
    for array, row, real in zip(arrays, out, mask, strict=True):
        assert (row[real] == array).all() and (row[~real] == 7).all()


def test_padding_nothing() -> None:
    out, mask = pad([])
    assert out.shape == (0, 0) and mask.shape == (0, 0)


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 8), st.integers(1, 3)), elements=st.floats(-1e6, 1e6)))
def test_moments_are_those_of_numpy(rows: Any) -> None:
    found = moments(rows)
    largest = np.abs(rows).max(axis=0)
    np.testing.assert_allclose(found["mean"], rows.mean(axis=0), atol=1e-12, rtol=1e-12)
    spread = np.where(rows.std(axis=0) > 1e-9 * largest, rows.std(axis=0), np.nan)
    np.testing.assert_allclose(np.where(np.isnan(spread), np.nan, found["std"]), spread, rtol=1e-6)


def test_moments_look_at_what_is_finite_and_a_constant_has_spread_one() -> None:
    rows = np.array([[1.0, np.nan, 0.1], [3.0, np.inf, 0.1], [np.nan, -np.inf, 0.1]])
    assert moments(rows) == {"mean": [2.0, 0.0, pytest.approx(0.1)], "std": [1.0, 1.0, 1.0]}
    assert moments(np.zeros((0, 2))) == {"mean": [0.0, 0.0], "std": [1.0, 1.0]}


def test_small_numbers_have_a_spread_too() -> None:
    assert moments(np.array([[1e-15], [3e-15]]))["std"] == [pytest.approx(1e-15)]


@given(st.lists(FLOATS, min_size=1, max_size=6), FLOATS)
def test_any_number_is_standardised_to_a_finite_one(column: list[float], new: float) -> None:
    fitted = moments(np.array(column)[:, None])
    assert np.isfinite([*fitted["mean"], *fitted["std"]]).all() and fitted["std"][0] > 0
    out = standardised(np.array([*column, new])[:, None], fitted["mean"], fitted["std"])
    assert out.dtype == np.float32 and np.isfinite(out).all()


def test_bytes_come_before_the_path(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"there")
    assert source_of(b"raw", None) == b"raw"
    assert source_of(memoryview(b"raw"), None) == b"raw"
    assert source_of({"bytes": b"raw", "path": "gone"}, None) == b"raw"
    assert source_of({"bytes": None, "path": "x.bin"}, tmp_path) == tmp_path / "x.bin"
    assert source_of(str(tmp_path / "x.bin"), Path("/elsewhere")) == tmp_path / "x.bin"


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (b"", "zero bytes"),
        ({"bytes": b"", "path": "x"}, "zero bytes"),
        ("", "empty path"),
        (".", "does not exist"),
        ("gone.png", "gone.png does not exist"),
        ("nul\0byte", "does not exist"),
        ("lone\ud800", "does not exist"),
        ("n" * 5000, "cannot be opened: File name too long"),
        ("d/" * 2000 + "end.png", "end.png"),
        ({"bytes": None, "path": None}, "holds NoneType"),
        ({}, "holds NoneType"),
        (None, "holds NoneType"),
        (3, "holds int"),
        ([1], "holds list"),
    ],
)
def test_cells_without_a_source(cell: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(BadCell, match=reason) as caught:
        source_of(cell, tmp_path)
    assert len(str(caught.value)) < 300


def test_a_long_cell_is_cut_in_messages() -> None:
    assert shown("abc") == "'abc'"
    assert len(shown("x" * 10**6)) < 100


@pytest.mark.parametrize("kind", [Image, Text, Series, Audio])
def test_only_tabular_groups_columns(kind: type[Kind]) -> None:
    assert kind(columns="photo").columns == ("photo",)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"has one column, not 2: a, b"):
        kind(columns=("a", "b"))
    assert Tabular(["a", "b"]).columns == ("a", "b")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Tabular, {"columns": ("a", "b", "a")}, "names column 'a' twice"),
        (Tabular, {"columns": 3}, "tabular columns 3: give a column's name"),
        (Tabular, {"columns": ["a", 3]}, "give a column's name, or a list of names"),
        (Image, {"encoder": 3}, "encoder 3: give a hub name or a folder"),
        (Image, {"encoder": ""}, "give a hub name or a folder"),
        (Text, {"tune": "yes"}, "tune 'yes': must be true, false, biases, lora, lora:RANK or full"),
        (Image, {"size": 4}, "image size 4: must be a whole number, at least 8"),
        (Image, {"size": "64"}, "image size '64'"),
        (Image, {"size": (32, 32, 3)}, "one length, or height and width"),
        (Image, {"size": (32, 2.5)}, "image size 2.5"),
        (Image, {"size": True}, "image size True"),
        (Text, {"max_length": 0}, "text max_length 0: must be a whole number, at least 1"),
        (Text, {"vocabulary": 10}, "text vocabulary 10: .* at least 256"),
        (Tabular, {"categories": 0}, "tabular categories 0"),
        (Series, {"max_length": -1}, "series max_length -1"),
        (Series, {"layout": "step-first"}, "layout 'step-first'; did you mean 'steps-first'"),
        (Audio, {"mels": 0}, "audio mels 0"),
        (Audio, {"rate": 50}, "audio rate 50: must be a whole number, at least 1000"),
        (Audio, {"max_seconds": 0}, "audio max_seconds 0"),
        (Audio, {"max_seconds": float("nan")}, "audio max_seconds nan"),
        (Audio, {"max_seconds": "10"}, "audio max_seconds '10'"),
    ],
)
def test_options_that_cannot_be(kind: type[Kind], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        kind(**options)


@pytest.mark.parametrize("name", KINDS)
def test_a_declaration_is_json(name: str) -> None:
    described = KINDS[name](columns=("c",), encoder="hub/name", tune=True).describe()
    assert described["kind"] == name and described["columns"] == ["c"]
    assert json.loads(json.dumps(described)) == described
