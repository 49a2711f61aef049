"""The robustness of a model as an object: table, plot, text, page."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from tests.estimators.movies import MODALITIES, QUICK, movies

from absentia import MultimodalClassifier, MultimodalRegressor, Text


def test_the_table_has_every_pattern_worst_first(fitted: MultimodalClassifier) -> None:
    found = fitted.robustness(movies(60, seed=2)).table
    assert list(found) == ["pattern", "n", "score", "low", "high", "drop"]
    assert set(found["pattern"]) == {"plot", "facts", "plot+facts"}
    assert found["score"].is_monotonic_increasing
    assert (found["low"] <= found["score"]).all() and (found["score"] <= found["high"]).all()
    full = found.set_index("pattern").loc["plot+facts"]
    assert full["drop"] == 0 and found["drop"].equals(full["score"] - found["score"])


def test_a_pattern_is_scored_as_if_the_rest_were_absent(fitted: MultimodalClassifier) -> None:
    table = movies(60, seed=2)
    rows = table[table["plot"].notna()].assign(year=None, runtime=None)
    found = fitted.robustness(table, patterns=["plot"]).table
    assert found["n"].tolist() == [len(rows)]
    assert found["score"][0] == pytest.approx(fitted.score(rows))


def test_patterns_that_no_row_has_are_there_without_a_score(fitted: MultimodalClassifier) -> None:
    table = movies(30, seed=2).assign(plot=None)
    found = fitted.robustness(table)
    assert found.table.set_index("pattern")["score"].isna().tolist() == [False, True, True]
    assert "facts" in repr(found) and found._repr_html_() and found.plot()
    plt.close("all")


def test_plots_on_new_axes_or_those_given(fitted: MultimodalClassifier) -> None:
    found = fitted.robustness(movies(60, seed=2))
    axes = found.plot()
    assert axes.get_xlabel() == "modalities absent"
    axes.figure.canvas.draw()
    _, mine = plt.subplots()
    assert found.plot(ax=mine) is mine
    plt.close("all")


def test_reads_well_as_text_and_as_a_page(fitted: MultimodalClassifier) -> None:
    found = fitted.robustness(movies(60, seed=2))
    text = repr(found)
    assert "accuracy" in text and "as given" in text
    assert max(map(len, text.splitlines())) <= 80 and "\x1b" not in text
    page = found._repr_html_()
    assert "<svg" in page and "<table" in page and "plot+facts" in page


def test_a_page_holds_no_markup_from_the_table() -> None:
    table = movies(60).rename(columns={"plot": "<b>plot</b>"})
    model = MultimodalClassifier({"<b>plot</b>": Text()}, **QUICK).fit(table, "genre", validation=table)
    assert "<b>" not in model.robustness(table)._repr_html_()


def test_a_reference_stands_beside() -> None:
    table = movies(80)
    model = MultimodalClassifier(MODALITIES, **QUICK, reference=True).fit(table, "genre")
    found = model.robustness(movies(40, seed=1))
    assert np.isfinite(found.table["reference"]).all()
    assert found.report["reference_method"] == "ignore"
    assert found.plot().get_legend() is not None
    plt.close("all")


def test_errors_of_numbers_are_better_when_low() -> None:
    table = movies(80)
    found = MultimodalRegressor(MODALITIES, **QUICK).fit(table, "price").robustness(table).table
    assert found["score"].is_monotonic_decreasing
    assert found.set_index("pattern").loc["plot+facts", "drop"] == 0


def test_answers_may_come_apart(fitted: MultimodalClassifier) -> None:
    table = movies(60, seed=2)
    apart = fitted.robustness(table.drop(columns="genre"), table["genre"])
    pd.testing.assert_frame_equal(apart.table, fitted.robustness(table).table)


def test_training_rows_are_not_scored_where_a_column_marks_them() -> None:
    table = movies(90).assign(split=["train", "val", "test"] * 30, id=range(90))
    model = MultimodalClassifier(MODALITIES, **QUICK).fit(table, "genre")
    test = table[table["split"] == "test"]
    assert model.robustness(table).report["as_given"]["n"] == 30
    for rows in (test, test.drop(columns="split"), test.drop(columns="id"), table[table["split"] == "val"]):
        assert model.robustness(rows).report["as_given"]["n"] == 30
    pd.testing.assert_frame_equal(model.robustness(table).table, model.robustness(test).table)
    assert model.score(table) == pytest.approx(np.mean(model.predict(table) == table["genre"]))
