"""Targets: what the data says they are, how they are encoded, and every one that cannot be learned."""

from __future__ import annotations

import json
import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests import scans

from absentia.data.schema import Target, TargetKind
from absentia.data.target import TargetCodec, is_known
from absentia.errors import UserError

NAN = float("nan")
WORDS = st.text(max_size=3)


def fitted(cells: list[Any], kind: Any = None, *, log: bool = False) -> TargetCodec:
    return TargetCodec.fit(Target(column="y", kind=kind, log=log), cells)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["a", "b"], "class"),
        (["1", "2"], "class"),
        ([b"a", b"b"], "class"),
        ([True, False], "class"),
        ([np.bool_(True), np.bool_(False)], "class"),
        ([0, 1, 2], "class"),
        ([1.0, 2.0], "class"),
        ([Decimal(1), Decimal("2.0")], "class"),
        (list(range(50)), "class"),
        (list(range(51)), "number"),
        ([1.5, 2.0], "number"),
        ([Decimal("1.5"), Decimal(2)], "number"),
        ([np.float32(0.5), np.int8(2)], "number"),
        ([["a"], []], "labels"),
        ([("a",), ("a", "b")], "labels"),
        ([np.array(["a"]), np.array(["b"])], "labels"),
    ],
)
def test_the_data_decides(cells: list[Any], kind: str) -> None:
    assert fitted(cells).target.kind == kind


@pytest.mark.parametrize("odd", [date(2020, 1, 1), datetime(2020, 1, 1), time(1), timedelta(1), {"a": 1}])
def test_cells_that_decide_nothing(odd: Any) -> None:
    with pytest.raises(UserError, match=rf"target 'y' holds {type(odd).__name__} cells such as .*; make it words or"):
        fitted([odd, odd])


def test_dates_are_classes_when_the_user_says_so() -> None:
    assert fitted([date(2020, 1, 2), date(2020, 1, 1)], "class").target.classes == ("2020-01-01", "2020-01-02")


@pytest.mark.parametrize(
    ("cell", "known"),
    [
        *((None, False), (NAN, False), (math.inf, False), (np.float32(NAN), False), (Decimal("NaN"), False)),
        *(("", True), (0, True), (0.0, True), (False, True), ([], True), ("nan", True), (Decimal(1), True)),
    ],
)
def test_what_is_known(cell: Any, known: bool) -> None:
    assert is_known(cell) is known


def test_one_class_in_any_type() -> None:
    codec = fitted([1, 2, 10])
    assert codec.target.classes == ("1", "2", "10")
    assert codec.encode([1, 1.0, "1", True * 1, np.int64(1), np.float32(1), b"1"]).tolist() == [0] * 7
    assert fitted([1.0, 2.5], "class").target.classes == ("1", "2.5")
    assert fitted([True, False]).target.classes == ("False", "True")
    assert fitted([-0.0, 1.0], "class").target.classes == ("0", "1")


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["10", "9", "1"], ["1", "9", "10"]),
        (["b", "10", "a", "2", "-3.5"], ["-3.5", "2", "10", "a", "b"]),
        (["nan", "inf", "2", "a", "1"], ["1", "2", "a", "inf", "nan"]),
        (["01", "1", "1.0"], ["01", "1", "1.0"]),
        (["b", "A", ""], ["", "A", "b"]),
    ],
)
def test_classes_are_in_the_order_of_their_numbers_then_words(names: list[str], wanted: list[str]) -> None:
    assert list(fitted(names, "class").target.classes) == wanted
    assert list(fitted(names[::-1], "class").target.classes) == wanted


@given(st.lists(WORDS, min_size=2, max_size=12), st.randoms())
def test_classes(cells: list[str], random: Any) -> None:
    assume(len(set(cells)) > 1)
    codec = fitted(cells)
    encoded = codec.encode(cells)
    assert encoded.dtype == np.int64 and [codec.target.classes[i] for i in encoded] == cells
    assert sum(codec.prior) == pytest.approx(1) and codec.target.size == len(set(cells))
    assert codec.prior == tuple(cells.count(name) / len(cells) for name in codec.target.classes)
    assert fitted(random.sample(cells, len(cells))) == codec


@given(st.lists(st.lists(WORDS, max_size=3), min_size=2, max_size=8))
def test_labels(cells: list[list[str]]) -> None:
    assume(len({frozenset(c) for c in cells}) > 1)
    codec = fitted(cells)
    encoded = codec.encode(cells)
    assert encoded.dtype == np.float32 and encoded.shape == (len(cells), codec.target.size)
    for cell, row in zip(cells, encoded, strict=True):
        assert {codec.target.classes[i] for i in np.flatnonzero(row)} == set(cell)
    np.testing.assert_allclose(codec.prior, encoded.mean(axis=0))


def test_nulls_among_labels_are_no_labels() -> None:
    assert fitted([["a", None, "a"], [], [NAN, 1.0]]).target.classes == ("1", "a")


@given(st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=9))
def test_numbers(cells: list[float]) -> None:
    assume(max(cells) - min(cells) > 1e-3)
    codec = fitted(cells, "number")
    encoded = codec.encode(cells)
    assert encoded.dtype == np.float32 and codec.prior == (0.0,) and codec.target.size == 1
    np.testing.assert_allclose(codec.number(encoded.astype(float)), cells, rtol=1e-5, atol=1e-5 * max(map(abs, cells)))


def test_numbers_far_from_zero_keep_their_differences() -> None:
    cells = [1_600_000_000 + i for i in range(60)]
    codec = fitted(cells)
    assert codec.target.kind == "number" and codec.std == pytest.approx(np.std(cells))
    np.testing.assert_allclose(codec.number(codec.encode(cells)), cells, atol=1e-3)


def test_logarithms() -> None:
    codec = fitted([1, 10, 100, Decimal(1000)], "number", log=True)
    assert codec.mean == pytest.approx(np.log([1, 10, 100, 1000]).mean())
    np.testing.assert_allclose(codec.number(codec.encode([1, 50])), [1, 50], rtol=1e-5)
    assert np.isfinite(codec.number(np.array([1e9, -1e9], dtype=np.float32))).all()
    with pytest.raises(UserError, match=r"target 'y': 0\.0 has no logarithm; use y=number"):
        codec.encode([0])


@pytest.mark.parametrize(
    ("cells", "kind", "message"),
    [
        ([], None, "target 'y': no training row has a value"),
        (["a", "a"], None, "target 'y' is constant: every training row has 'a'"),
        ([1, 1.0, "1"], "class", "is constant: every training row has 1"),
        ([0.1, 0.1, 0.1], None, "is constant: every training row has 0.1"),
        ([["a"], ["a", "a"]], None, r"is constant: every training row has \['a'\]"),
        ([[], []], None, r"is constant: every training row has \[\]"),
        (["x" * 10**6] * 2, None, "is constant: every training row has 'xxx"),
        (["a", 1], "number", "target 'y': 'a' is not a number"),
        ([[1], 1], "number", r"target 'y': \[1\] is not a number"),
        ([10**400, 1], "number", r"target 'y': 1000.* is not a number"),
        (["inf", 1], "number", "'inf' is not a finite number"),
        ([1e308, -1e308, 1e308], "number", "has the range -1e\\+308 to 1e\\+308; bring it to scale"),
        (["a", "b"], "labels", "'a' is not a list of labels; say y=class"),
        ([["a"], "b"], None, "'b' is not a list of labels; say y=class"),
        ([["a"], ["b"]], "class", r"\['a'\] is not one class; say y=labels"),
    ],
)
def test_targets_that_cannot_be_learned(cells: list[Any], kind: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        fitted(cells, kind)
    assert len(str(caught.value)) < 250


def test_a_class_that_training_never_saw() -> None:
    codec = fitted([f"kind {i}" for i in range(100)])
    with pytest.raises(UserError, match="class 'kimd 99' was never seen in training; did you mean 'kind 99'"):
        codec.encode(["kimd 99"])
    with pytest.raises(UserError, match="class 'zzz' was never seen") as caught:
        fitted([["a"], [*map(str, range(999))]]).encode([["zzz"]])
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("cells", "kind", "log"),
    [(["a", "b", "b"], "class", False), ([["a"], ["b", "a"]], "labels", False), ([1.5, 2.0, 7.1], "number", True)],
)
def test_json_keeps_everything(cells: list[Any], kind: str, log: bool) -> None:
    codec = fitted(cells, kind, log=log)
    again = TargetCodec.from_json(codec.target, json.loads(json.dumps(codec.to_json())))
    assert again == codec
    assert again.encode(cells).tobytes() == codec.encode(cells).tobytes()


@pytest.mark.parametrize(("kind", "shape"), [("class", (0,)), ("labels", (0, 2)), ("number", (0,))])
def test_no_rows(kind: str, shape: tuple[int, ...]) -> None:
    cells: list[Any] = {"class": ["a", "b"], "labels": [["a"], ["b"]], "number": [1, 2]}[kind]
    assert fitted(cells, kind).encode([]).shape == shape


@pytest.mark.parametrize("kind", [None, "class", "number"])
def test_pictures_are_no_classes(kind: TargetKind | None) -> None:
    with pytest.raises(UserError, match="target 'seg' holds pictures or volumes; as a mask it is seg=mask"):
        TargetCodec.fit(
            Target("seg", kind=kind),
            [scans.content(np.eye(4, dtype=np.uint8)), scans.content(np.zeros((4, 4), np.uint8))],
        )
