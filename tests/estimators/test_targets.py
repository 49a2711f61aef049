"""Classes of every type, several labels, numbers; and rows with nothing at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score, r2_score
from sklearn.model_selection import cross_val_score
from tests.estimators.movies import GENRES, MODALITIES, QUICK, movies

from absentia import MultimodalClassifier, MultimodalLabeler, MultimodalRegressor, UserError

FAST = QUICK | {"epochs": 1}
EMPTY = pd.DataFrame({"plot": [None, None], "year": [None, None], "runtime": [None, None]})


def as_type(kind: str) -> Any:
    codes = movies(60)["code"]
    return {
        "int": codes * 10 - 10,
        "bool": codes > 0,
        "float": codes.where(codes > 0),  # zeros become holes
        "text": codes.map({0: "9", 1: "10", 2: "b"}),
        "category": pd.Categorical.from_codes(codes, ["x", "y", "z"]),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "classes"),
    [
        ("int", [-10, 0, 10]),
        ("bool", [False, True]),
        ("float", [1.0, 2.0]),
        ("text", ["10", "9", "b"]),
        ("category", ["x", "y", "z"]),
    ],
)
def test_classes_are_what_they_were(kind: str, classes: list[Any]) -> None:
    table, y = movies(60), as_type(kind)
    model = MultimodalClassifier(MODALITIES, **QUICK).fit(table, y)
    assert model.classes_.tolist() == classes
    predicted = model.predict(table)
    known = ~pd.isna(y)
    assert predicted.dtype == model.classes_.dtype
    assert model.score(table, y) == accuracy_score(np.asarray(y)[known].astype(predicted.dtype), predicted[known])


def test_probabilities_are_ordered_as_the_classes(fitted: MultimodalClassifier) -> None:
    table = movies(90, seed=2)
    p = fitted.predict_proba(table)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    assert (fitted.predict(table) == np.asarray(GENRES)[p.argmax(axis=1)]).all()


def test_a_row_with_nothing_gets_the_prior_and_full_uncertainty(fitted: MultimodalClassifier) -> None:
    shares = movies()["genre"][movies()[["plot", "year"]].notna().any(axis=1)].value_counts(normalize=True).sort_index()
    np.testing.assert_allclose(fitted.predict_proba(EMPTY), [shares.to_numpy()] * 2, atol=1e-6)
    assert fitted.uncertainty(EMPTY).tolist() == [1, 1]
    unsure = fitted.uncertainty(movies(40, seed=6))
    assert unsure.shape == (40,) and (unsure >= 0).all() and (unsure <= 1).all()


def test_a_number() -> None:
    table, rest = movies(120), movies(60, seed=1)
    model = MultimodalRegressor(MODALITIES, **QUICK).fit(table, "price")
    assert model.score(rest) == pytest.approx(r2_score(rest["price"], model.predict(rest)))
    assert model.score(rest) > 0.2
    assert model.predict(EMPTY) == pytest.approx([model.run_.fitted.codec.mean] * 2)
    assert not hasattr(model, "classes_")
    assert set(model.uncertainty(rest)) <= {0.0, 1.0}


def test_the_logarithm_of_a_number() -> None:
    table = movies(80)
    model = MultimodalRegressor(MODALITIES, **QUICK, log=True).fit(table, table["price"])
    assert (model.predict(table) > 0).all()
    assert model.run_.fitted.codec.target.log
    with pytest.raises(UserError, match="no logarithm"):
        MultimodalRegressor(MODALITIES, **FAST, log=True).fit(table, -table["price"])


def test_labels_in_lists() -> None:
    table = movies(80)
    table.loc[:2, "tags"] = None
    table.at[3, "tags"] = [None, "drama"]
    model = MultimodalLabeler(MODALITIES, **QUICK).fit(table, "tags")
    assert model.classes_.tolist() == ["drama", "horror", "long", "western"]
    held = model.predict(table)
    assert held.shape == model.predict_proba(table).shape == (80, 4)
    named = model.predict_labels(table)
    assert [[c for c, h in zip(model.classes_, row, strict=True) if h] for row in held] == named
    apart = model.score(table.drop(columns="tags"), [None if t is None else set(t) for t in table["tags"]])
    assert apart == model.score(table)


def indicator(rows: int, seed: int = 0) -> pd.DataFrame:
    table = movies(rows, seed=seed)
    names = ("western", "long", "never")
    return pd.DataFrame([[name in tags for name in names] for tags in table["tags"]], columns=names)


def test_labels_as_ones_and_zeros() -> None:
    table, y = movies(80), indicator(80)
    named = MultimodalLabeler(MODALITIES, **QUICK).fit(table, y)
    assert named.classes_.tolist() == ["western", "long", "never"]
    numbered = MultimodalLabeler(MODALITIES, **QUICK).fit(table, y.to_numpy())
    assert numbered.classes_.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(named.predict_proba(table), numbered.predict_proba(table))
    truth = y.to_numpy()
    expected = f1_score(truth[:, :2], named.predict(table)[:, :2], average="macro")
    for model, answers in ((named, y), (named, y[["never", "western", "long"]]), (named, truth), (numbered, truth)):
        assert model.score(table, answers) == pytest.approx(expected)
    assert np.isfinite(cross_val_score(named, table, truth, cv=2, error_score="raise")).all()
    assert model.robustness(table, truth).report["metric"] == "macro_f1"


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.full((60, 2), 3), "ones and zeros"),
        (np.full((60, 2), "a"), "ones and zeros"),
        ([[]] * 60, "every list is empty"),
        (["drama"] * 60, "MultimodalClassifier"),
    ],
)
def test_what_are_no_labels(y: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        MultimodalLabeler(MODALITIES, **FAST).fit(movies(60), y)


def test_labels_that_do_not_fit_those_of_training() -> None:
    table = movies(60)
    model = MultimodalLabeler(MODALITIES, **FAST).fit(table, indicator(60))
    with pytest.raises(UserError, match="2 columns, and there are 3 labels"):
        model.score(table, np.zeros((60, 2)))
    with pytest.raises(UserError, match="'short' was never seen"):
        model.score(table, pd.DataFrame({"short": [1] * 60}))
