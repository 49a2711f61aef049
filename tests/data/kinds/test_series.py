"""Series in any layout become steps x channels; what is no such thing is one bad cell."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from absentia.data.kinds import Series
from absentia.data.kinds.series import SeriesDecoder, read_series
from absentia.errors import BadCell

RNG = np.random.default_rng(0)


def npy(array: Any, **options: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array, **options)
    return out.getvalue()


def npz() -> bytes:
    out = io.BytesIO()
    np.savez(out, a=np.ones(3))
    return out.getvalue()


def waves(shapes: list[tuple[int, ...]]) -> list[list[Any]]:
    return [RNG.normal(3, 2, shape).tolist() for shape in shapes]


def steps(decoder: SeriesDecoder, cell: Any) -> Any:
    found = decoder.decode(cell)["steps"]
    assert found.dtype == np.float32 and found.ndim == 2 and np.isfinite(found).all()
    return found


@pytest.mark.parametrize(
    ("shapes", "flip", "channels"),
    [
        ([(7,), (9,), (1,)], False, 1),  # flat lists
        ([(64, 3)] * 4, False, 3),  # the short axis holds the channels
        ([(3, 64)] * 4, True, 3),
        ([(20, 74)] * 4, False, 74),  # no axis is short: steps first
        ([(3, 5)] * 4, False, 5),  # both are
        ([(50, 20), (40, 20), (60, 20)], False, 20),  # the axis that differs is time
        ([(20, 50), (20, 40), (20, 60)], True, 20),
        ([(3, 4), (3, 9), (3, 2)], True, 3),
        ([(1, 30)] * 3, True, 1),
        ([(30, 1)] * 3, False, 1),
        ([(3, 64)] * 30 + [(2, 64)], True, 3),  # one odd row turns nothing round
        ([(64, 3)] * 30 + [(64, 2)], False, 3),
        ([(64, 3)] * 30 + [(50, 3)], False, 3),
        ([(30, 100)] * 30 + [(30, 90)], True, 30),
    ],
)
def test_which_axis_is_time(shapes: list[tuple[int, ...]], flip: bool, channels: int) -> None:
    cells = waves(shapes)
    decoder = Series().fit(cells)
    assert (decoder.flip, decoder.channels) == (flip, channels)
    assert steps(decoder, cells[0]).shape == (np.size(cells[0]) // channels, channels)


@pytest.mark.parametrize(("layout", "shape"), [("steps-first", (5, 3)), ("channels-first", (3, 5))])
def test_a_declared_layout_holds(layout: Any, shape: tuple[int, int]) -> None:
    cells = waves([shape] * 3)
    assert steps(Series(layout=layout).fit(cells), cells[0]).shape == (5, 3)
    flat = waves([(6,)] * 3)
    assert steps(Series(layout=layout).fit(flat), flat[0]).shape == (6, 1)


def test_both_layouts_hold_the_same_numbers() -> None:
    cells = [np.asarray(c) for c in waves([(40, 3)] * 4)]
    one = Series().fit([c.tolist() for c in cells])
    other = Series().fit([c.T.tolist() for c in cells])
    assert (steps(one, cells[0].tolist()) == steps(other, cells[0].T.tolist())).all()


def test_channels_are_standardised() -> None:
    cells = [RNG.normal([1e3, -5, 0], [50, 1e-3, 1], (30, 3)).tolist() for _ in range(20)]
    decoder = Series().fit(cells)
    together = np.concatenate([steps(decoder, c) for c in cells])
    np.testing.assert_allclose(together.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(together.std(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("form", ["bytes", "path", "struct", "array"])
@pytest.mark.parametrize("dtype", ["<f8", "<f4", ">f4", "<f2", "i1", "<u8", "bool"])
def test_npy_files_of_real_numbers(form: str, dtype: str, tmp_path: Path) -> None:
    array = (RNG.normal(size=(20, 2)) > 0).astype(dtype)
    (tmp_path / "a.npy").write_bytes(npy(array))
    cell = {"bytes": npy(array), "path": "a.npy", "struct": {"bytes": None, "path": "a.npy"}, "array": array}[form]
    decoder = Series().fit([cell], root=tmp_path)
    assert (steps(decoder, cell) == steps(decoder, array.astype(float).tolist())).all()


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ([1.0, None], "nulls, NaN or infinite"),
        ([None, None], "nulls, NaN or infinite"),
        ([float("nan")], "nulls, NaN or infinite"),
        ([1.0, float("inf")], "nulls, NaN or infinite"),
        ([[1.0], [None]], "nulls, NaN or infinite"),
        ([], r"has shape \(0,\), expected steps x channels"),
        ([[], []], r"has shape \(2, 0\)"),
        ([[1.0, 2.0], [3.0]], "inner lists of different lengths"),
        ([[1.0], None], "inner lists of different lengths"),
        ([1.0, [2.0]], "inner lists of different lengths"),
        ([[[1.0]]], r"has shape \(1, 1, 1\)"),
        ([[1.0, 2.0, 3.0]], "has 3 channels, training had 1"),
        (["high", "low"], "is not a series of numbers"),
        ([{"x": 1}], "is not a series of numbers"),
        ([10**400], "is not a series of numbers"),
        ([1j], "is not a series of numbers"),
        (5.0, "holds float, expected a list of numbers, or a .npy file"),
        (None, "holds NoneType, expected a list of numbers"),
        ({"x": [1.0]}, "holds NoneType, expected a list of numbers"),
        ("gone.npy", "gone.npy does not exist"),
        (b"", "zero bytes"),
        (b"hello", "is not a .npy file"),
        (npz(), "is not a .npy file"),
        (npy(np.ones(4) + 1j), "holds complex128, expected real numbers"),
        (npy(np.array([1, "a", None], dtype=object), allow_pickle=True), "Object arrays cannot be loaded"),
        (npy(np.array(["1", "2"])), "holds <U1, expected real numbers"),
        (npy(np.array(["2020-01-01"], dtype="M8[D]")), "expected real numbers"),
        (npy(np.zeros(3, dtype=[("a", "f4"), ("b", "i4")])), "expected real numbers"),
        (npy(np.float64(3)), r"has shape \(\)"),
        (npy(np.zeros((0, 3))), r"has shape \(0, 3\)"),
        (npy(np.zeros((2, 2, 2))), r"has shape \(2, 2, 2\)"),
        (npy(np.zeros(200))[:-9], "is not a readable .npy file"),
        (npy(np.zeros(2)).replace(b"(2,)", b"(99999999999999,)"), "is not a readable .npy file"),
        (npy(np.zeros(2)).replace(b"(2,)", b"(-2,)"), "is not a readable .npy file"),
        (npy(np.zeros(2)).replace(b"(2,)", b"((((" * 9), "is not a readable .npy file"),
        (b"\x93NUMPY\x09\x00" + bytes(100), "is not a readable .npy file"),
        (np.array([1, "x"], dtype=object), "holds object"),
    ],
)
def test_bad_cells(cell: Any, reason: str) -> None:
    decoder = Series().fit([[1.0, 2.0, 3.0]])
    with pytest.raises(BadCell, match=reason):
        decoder.decode(cell)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=5), st.integers(1, 300))
def test_damaged_files_are_bad_cells_or_numbers(changes: list[tuple[int, int]], end: int) -> None:
    content = bytearray(npy(np.arange(20, dtype=np.float32).reshape(10, 2)))
    for place, value in changes:
        content[place % len(content)] = value
    try:
        assert read_series(bytes(content[:end]), None).dtype == np.float64
    except BadCell as error:
        assert str(error)


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 9), st.integers(1, 3)), elements=st.floats()))
def test_any_floats_are_standardised_or_refused(array: Any) -> None:
    decoder = Series(layout="steps-first").fit([array.tolist()])
    json.dumps(decoder.state(), allow_nan=False)
    if np.isfinite(array).all():
        assert steps(decoder, array.tolist()).shape == array.shape
    else:
        with pytest.raises(BadCell, match=r"nulls, NaN or infinite|training had 1"):
            decoder.decode(array.tolist())


def test_decimals_are_numbers() -> None:
    assert read_series([Decimal("1.5"), Decimal(2)], None).tolist() == [1.5, 2.0]


def test_long_series_are_cut_and_tokens_follow_what_is_kept() -> None:
    cells = waves([(5000,)] * 3)
    decoder = Series(max_length=320).fit(cells)
    assert steps(decoder, cells[0]).shape == (320, 1) and decoder.patch == 10
    assert (steps(decoder, cells[0]) == steps(decoder, cells[0][:320])).all()
    assert Series().fit(waves([(5,)] * 3)).patch == 1


def test_bad_training_cells_are_passed_over() -> None:
    cells = waves([(9, 2)] * 20)
    spoilt = Series().fit([[None], "gone.npy", *cells, [[1.0, float("nan")]], []])
    assert spoilt.state() == Series().fit(cells).state()


def test_nothing_to_fit_is_one_plain_channel() -> None:
    assert steps(Series().fit([]), [1.0, 2.0]).tolist() == [[1.0], [2.0]]


@pytest.mark.parametrize("shape", [(12,), (40, 3), (3, 40)])
def test_a_restored_decoder_is_the_same(shape: tuple[int, ...]) -> None:
    cells = waves([shape] * 4)
    decoder = Series().fit(cells)
    again = Series().restore(json.loads(json.dumps(decoder.state())))
    assert steps(again, cells[0]).tobytes() == steps(decoder, cells[0]).tobytes()
    assert again.state() == decoder.state()


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_a_batch_is_padded_in_time(lengths: list[int]) -> None:
    decoder = Series().fit(waves([(40, 2)] * 3))
    values = [*(decoder.decode(c) for c in waves([(n, 2) for n in lengths])), decoder.blank()]
    batch = decoder.collate(values)
    for value, row, real in zip(values, batch["steps"], batch["mask"], strict=True):
        assert (row[real] == value["steps"]).all() and (row[~real] == 0).all()
    assert (values[-1]["steps"] == 0).all() and values[-1]["steps"].shape == (decoder.patch, 2)
