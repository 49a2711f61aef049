"""A method's own settings from Python: the command line's, with its messages and scikit-learn's conventions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from tests.estimators.movies import MODALITIES, QUICK, movies

from absentia import MultimodalClassifier, MultimodalRegressor, UserError
from absentia.estimators.base import Multimodal
from absentia.learn.run import load_run, read_config

BRANCH: dict[str, Any] = {"metric": "none", "width": 8, "scale": 4}


def model(options: Any, method: str = "single-branch") -> MultimodalClassifier:
    return MultimodalClassifier(MODALITIES, method=method, options=options, **QUICK | {"epochs": 1})


def test_they_reach_the_method_and_the_run(tmp_path: Path) -> None:
    learned = model(BRANCH).fit(movies(60), "genre")
    assert learned.run_.method.options.metric == "none" and learned.run_.method.options.width == 8
    learned.save(tmp_path / "run")
    assert read_config(load_run(tmp_path / "run").folder).options == BRANCH
    again = MultimodalClassifier.load(tmp_path / "run")
    assert again.options == BRANCH and again.run_.method.options.scale == 4
    np.testing.assert_array_equal(again.predict_proba(movies(9)), learned.predict_proba(movies(9)))


def test_without_any_they_are_the_methods_defaults(tmp_path: Path) -> None:
    usual, empty = (model(options).fit(movies(60), "genre") for options in (None, {}))
    np.testing.assert_array_equal(usual.predict_proba(movies(9)), empty.predict_proba(movies(9)))
    usual.save(tmp_path / "run")
    assert MultimodalClassifier.load(tmp_path / "run").options is None


def test_scikit_learn_may_clone_and_set_them() -> None:
    first = model(BRANCH)
    assert first.options is BRANCH and first.get_params()["options"] is BRANCH
    other = clone(first)
    assert other.options == BRANCH and other.options is not BRANCH
    assert other.set_params(options={"depth": 1}).options == {"depth": 1} and first.options is BRANCH
    assert "'metric': 'none'" in repr(first)


def test_a_grid_of_them() -> None:
    table = movies(60)
    grid = {"options": [{"metric": "none"}, {"metric": "none", "scale": np.float64(2)}]}
    search = GridSearchCV(model(None), grid, cv=2).fit(table.drop(columns="genre"), table["genre"])
    assert search.best_params_["options"] in grid["options"]


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("single-branch", {"metrik": "none"}, r"unknown key 'options.metrik'; did you mean 'metric'\?"),
        ("single-branch", {"metric": "nones"}, r"options.metric 'nones': did you mean 'none'\?"),
        ("single-branch", {"depth": "two"}, "options.depth 'two': must be a whole number"),
        ("joint-embedding", {"prompts": 0}, "options.prompts 0: must be at least 1"),
        ("dropout", {"prompts": 4}, "unknown key 'options.prompts'"),
        ("dropout", ["prompts"], "give the settings of 'dropout' by name"),
        ("droput", {}, "did you mean 'dropout'"),
    ],
)
def test_mistakes_are_told_before_a_table_is_opened(method: str, options: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        model(options, method).fit("no such table.csv", "genre")


def test_what_was_given_is_not_changed() -> None:
    given = dict(BRANCH)
    MultimodalRegressor(MODALITIES, method="single-branch", options=given, **QUICK | {"epochs": 1}).fit(
        movies(60)[["plot", "year", "runtime", "price"]], "price"
    )
    assert given == BRANCH


def test_an_estimator_says_what_kind_of_target_it_is_for() -> None:
    """What all of them share is none."""
    with pytest.raises(TypeError, match="abstract"):
        Multimodal()  # type: ignore[abstract]
