"""What scikit-learn expects of an estimator, and the example of the README."""

from __future__ import annotations

import copy
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.model_selection import GridSearchCV, cross_val_score
from tests.estimators.movies import MODALITIES, QUICK, movies

import absentia
from absentia import Image, MultimodalClassifier, MultimodalLabeler, MultimodalRegressor, NotFittedError, UserError
from absentia.config import Model, Training

ROOT = Path(__file__).parents[2]
ESTIMATORS = (MultimodalClassifier, MultimodalLabeler, MultimodalRegressor)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_parameters_are_stored_as_they_came_and_cloned(kind: type[MultimodalClassifier]) -> None:
    model = kind(MODALITIES, method="ignore", width=32)
    assert model.modalities is MODALITIES
    assert model.get_params()["width"] == 32
    other = clone(model).set_params(width=64, seed=3)
    assert (other.width, other.seed, other.method, model.width) == (64, 3, "ignore", 32)
    assert list(other.modalities) == list(MODALITIES)
    assert f"{kind.__name__}(" in repr(model)
    assert model._repr_html_() if hasattr(model, "_repr_html_") else True


def test_defaults_are_those_of_the_command_line() -> None:
    given = MultimodalClassifier(MODALITIES).get_params()
    for settings in (Model(), Training()):
        for part in fields(settings):
            assert given.get(part.name, getattr(settings, part.name)) == getattr(settings, part.name)
    assert not {"width", "lr"} - given.keys()


@pytest.mark.parametrize("ask", ["predict", "predict_proba", "uncertainty", "score", "robustness"])
def test_nothing_is_answered_before_fit(ask: str) -> None:
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(MultimodalClassifier(MODALITIES), ask)(movies())
    with pytest.raises(NotFittedError):
        MultimodalRegressor(MODALITIES).save("nowhere")


def test_scikit_learn_knows_which_is_which() -> None:
    assert is_classifier(MultimodalClassifier(MODALITIES)) and is_classifier(MultimodalLabeler(MODALITIES))
    assert is_regressor(MultimodalRegressor(MODALITIES)) and not is_classifier(MultimodalRegressor(MODALITIES))


def test_fit_returns_itself_and_says_what_it_saw(fitted: MultimodalClassifier) -> None:
    model = clone(fitted).set_params(epochs=1)
    assert model.fit(movies(60), "genre") is model
    assert fitted.classes_.tolist() == ["drama", "horror", "western"]
    assert fitted.feature_names_in_.tolist() == ["plot", "year", "runtime"]
    assert fitted.n_features_in_ == 3
    assert fitted.report_["method"] == "dropout"


def test_learns_the_films(fitted: MultimodalClassifier) -> None:
    assert fitted.score(movies(90, seed=2)) > 0.7


def test_cross_validation() -> None:
    table = movies(90)
    model = MultimodalClassifier(MODALITIES, **QUICK)
    for scoring in (None, "neg_log_loss", "roc_auc_ovr"):
        found = cross_val_score(model, table, table["code"], cv=2, scoring=scoring, error_score="raise")
        assert np.isfinite(found).all()


def test_grid_search() -> None:
    table = movies(60)
    search = GridSearchCV(MultimodalClassifier(MODALITIES, **QUICK), {"width": np.asarray([8, 16])}, cv=2)
    search.fit(table.drop(columns="genre"), table["genre"])
    assert search.best_params_["width"] in (8, 16)
    assert search.predict(table).shape == (60,)


def test_a_copy_answers_and_can_be_saved_after_the_first_is_gone(tmp_path: Path) -> None:
    model = MultimodalClassifier(MODALITIES, **QUICK | {"epochs": 1}).fit(movies(60), "genre")
    expected = model.predict_proba(movies(9, seed=5))
    other = copy.deepcopy(model)
    del model
    other.save(tmp_path / "run")
    np.testing.assert_array_equal(other.predict_proba(movies(9, seed=5)), expected)


def test_a_mistake_is_a_value_error() -> None:
    assert issubclass(UserError, ValueError)


class Quick(MultimodalClassifier):
    """The classifier with small defaults, for the README's own words."""

    def fit(self, *args: object, **given: object) -> Quick:
        self.set_params(**QUICK)
        return super().fit(*args, **given)  # type: ignore[arg-type, return-value]


def test_the_example_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    block = next(block for block in blocks if "MultimodalClassifier(" in block)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(absentia, "MultimodalClassifier", Quick, raising=False)
    tables = {name: movies(60, seed=i, pictures=True) for i, name in enumerate(("train", "valid", "test"))}
    names: dict[str, object] = dict(tables)
    exec(compile(block, "README.md", "exec"), names)
    model = names["model"]
    assert isinstance(model, MultimodalClassifier) and isinstance(model.modalities["poster"], Image)
    assert model.predict(tables["test"]).shape == (60,)
