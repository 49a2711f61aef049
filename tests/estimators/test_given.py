"""What may be handed over: any table, answers in a column or apart, a split, rows to validate on; and what may not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from tests.estimators.movies import COLOURS, GENRES, MODALITIES, QUICK, movies, picture

from absentia import Image, MaskPlan, MultimodalClassifier, MultimodalRegressor, Tabular, Text, UserError
from absentia.data.absence_rules import Rule

FAST = QUICK | {"epochs": 1}
COLUMNS = ["plot", "year", "runtime", "genre"]


def classifier(**given: Any) -> MultimodalClassifier:
    return MultimodalClassifier(MODALITIES, **FAST | given)


@pytest.mark.parametrize(
    "form",
    [
        datasets.Dataset.from_pandas,
        pa.Table.from_pandas,
        lambda table: table.astype(object).where(table.notna(), None).to_dict("records"),
        lambda table: table.astype({"plot": "category", "runtime": "Float64"}),
    ],
    ids=["Dataset", "Arrow", "dicts", "category"],
)
def test_every_table_gives_the_same_model(form: Callable[[pd.DataFrame], Any]) -> None:
    table, rest = movies(60)[COLUMNS], movies(20, seed=1)[COLUMNS]
    expected = classifier().fit(table, "genre").predict_proba(rest)
    model = classifier().fit(form(table), "genre")
    np.testing.assert_array_equal(model.predict_proba(form(rest)), expected)
    assert model.score(form(rest)) == model.score(rest)


def test_files_and_streams_are_tables(tmp_path: Path, fitted: MultimodalClassifier) -> None:
    table = movies(40, seed=3)[COLUMNS]
    path = tmp_path / "films.parquet"
    table.to_parquet(path)
    expected = fitted.predict_proba(table)
    np.testing.assert_array_equal(fitted.predict_proba(path), expected)
    np.testing.assert_array_equal(fitted.predict_proba(str(path)), expected)
    stream = datasets.Dataset.from_pandas(table).to_iterable_dataset()
    np.testing.assert_array_equal(fitted.predict_proba(stream), expected)
    assert fitted.score(path) == fitted.score(table)
    assert classifier().fit(path, "genre").predict(path).shape == (40,)
    with pytest.raises(UserError, match="training table is a stream"):
        classifier().fit(stream, "genre")


@pytest.mark.parametrize("form", [pd.Series, np.asarray, list, pa.array, lambda y: pd.Series(y, name="target")])
def test_answers_may_come_apart(form: Callable[[Any], Any]) -> None:
    table = movies(60)
    apart = table.drop(columns="genre")
    expected = classifier().fit(table, target="genre").predict_proba(table)
    model = classifier().fit(apart, form(table["genre"].tolist()))
    np.testing.assert_array_equal(model.predict_proba(apart), expected)
    assert model.score(apart, form(table["genre"].tolist())) == model.score(table.rename(columns={"genre": "target"}))


def test_answers_apart_win_over_a_column_with_their_name() -> None:
    table = movies(60)
    renamed = table["genre"].replace("drama", "comedy")
    assert classifier().fit(table, renamed).classes_.tolist() == ["comedy", "horror", "western"]


def test_an_index_changes_nothing(fitted: MultimodalClassifier) -> None:
    table = movies(40, seed=4)
    shuffled = table.sample(frac=1, random_state=0)
    assert fitted.score(shuffled, table["genre"][shuffled.index]) == fitted.score(table)
    order = shuffled.index.to_numpy()
    np.testing.assert_allclose(fitted.predict_proba(shuffled), fitted.predict_proba(table)[order], atol=1e-5)


def test_validation_rows_apart() -> None:
    table, valid = movies(60), movies(30, seed=1)
    a = classifier().fit(table, "genre", validation=valid)
    b = classifier().fit(table, target="genre", validation=(valid.drop(columns="genre"), valid["genre"]))
    c = classifier().fit(table.drop(columns="genre"), table["genre"], validation=valid)
    np.testing.assert_array_equal(a.predict_proba(valid), b.predict_proba(valid))
    np.testing.assert_array_equal(a.predict_proba(valid), c.predict_proba(valid))
    rows = {split: about["rows"] for split, about in a.report_["splits"].items()}
    assert rows == {"train": 60, "val": 30, "test": 0}


def test_without_validation_a_hash_takes_rows_from_training() -> None:
    splits = classifier().fit(movies(100), "genre").report_["splits"]
    assert splits["val"]["rows"] + splits["train"]["rows"] == 100 and splits["test"]["rows"] == 0
    assert 3 <= splits["val"]["rows"] <= 35


@pytest.mark.parametrize("rows", [4, 5, 8])
def test_few_rows_are_enough(rows: int) -> None:
    splits = classifier().fit(movies(rows, seed=rows), "genre").report_["splits"]
    assert splits["train"]["rows"] and splits["val"]["rows"]
    with pytest.raises(UserError, match="no row to validate on has a target"):
        classifier().fit(movies(rows, seed=rows).iloc[[0] * rows], "genre")


def test_a_class_that_only_validates_does_not_stop_a_training() -> None:
    table = movies(80)
    table["genre"] = [f"{genre} {row}" if row % 4 == 0 else genre for row, genre in enumerate(table["genre"])]
    model = classifier().fit(table, "genre")
    assert len(model.classes_) == 23 and model.predict_proba(table).shape == (80, 23)


def test_a_split_column_is_used_as_the_command_line_does() -> None:
    table = movies(90)
    table["split"] = ["train", "val", "test"] * 30
    model = classifier().fit(table, "genre")
    assert [model.report_["splits"][s]["rows"] for s in ("train", "val", "test")] == [30, 30, 30]
    assert classifier(split="fold").fit(table.rename(columns={"split": "fold"}), "genre").report_ is not None
    with pytest.raises(UserError, match="no column 'fold'"):
        classifier(split="fold").fit(table, "genre")
    with pytest.raises(UserError, match="column 'split' marks for validation or test"):
        classifier().fit(table, "genre", validation=table)
    train, rest = table[table["split"] == "train"], table[table["split"] == "test"]
    assert classifier().fit(train, "genre", validation=rest).report_["splits"]["val"]["rows"] == 30


def test_a_modality_may_be_called_split_and_target() -> None:
    table = movies(60).rename(columns={"plot": "split", "year": "target"})
    kinds = {"split": Text(), "target": Tabular()}
    model = MultimodalClassifier(kinds, **FAST).fit(table, np.asarray(table["genre"]))
    assert model.feature_names_in_.tolist() == ["split", "target"]
    assert model.robustness(table, table["genre"]).table["n"].max() > 10


def test_a_modality_reads_the_column_it_names(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture(COLOURS[0]))
    table = pd.DataFrame({"poster_path": [str(tmp_path / "a.png"), None] * 10, "plot": ["x", "y"] * 10})
    model = MultimodalClassifier({"poster": Image("poster_path"), "plot": "text"}, **FAST)
    model.fit(table, ["a", "b"] * 10, validation=(table, ["a", "b"] * 10))
    assert model.feature_names_in_.tolist() == ["poster_path", "plot"]


def test_paths_start_from_the_folder_of_their_own_table(tmp_path: Path) -> None:
    for part, rows in (("one", 30), ("two", 12)):
        (tmp_path / part).mkdir()
        genre = [GENRES[i % 3] for i in range(rows)]
        names = [f"{part}{i}.png" for i in range(rows)]
        for i, name in enumerate(names):
            (tmp_path / part / name).write_bytes(picture(COLOURS[i % 3]))
        pd.DataFrame({"poster": names, "genre": genre}).to_csv(tmp_path / part / "films.csv", index=False)
    one, two = tmp_path / "one" / "films.csv", tmp_path / "two" / "films.csv"
    model = MultimodalClassifier({"poster": Image()}, **FAST).fit(one, "genre", validation=two)
    assert model.report_["bad_cells"]["count"] == 0
    assert [model.predict(path).shape for path in (one, two)] == [(30,), (12,)]


def test_a_plan_hides() -> None:
    table = movies(80).assign(id=range(80), split=["train"] * 60 + ["val"] * 20)
    rule = Rule(p_incomplete=1.0)
    plan = MaskPlan.draw(
        modalities=["plot", "facts"], splits=table["split"].tolist(), ids=table["id"].astype(str), rules={"train": rule}
    )
    model = classifier().fit(table, "genre", plan=plan)
    assert model.report_["splits"]["train"]["p_incomplete"] == 1.0
    assert model.report_["plan_sha256"] == plan.sha256
    for rows in (table[table["split"] == "train"], table[table["split"] == "train"].drop(columns="split")):
        hidden = model.robustness(rows, plan=plan).table.set_index("pattern")["n"]
        assert hidden["plot+facts"] == 0 and hidden["plot"] > 0


def test_a_plan_may_be_a_file(tmp_path: Path) -> None:
    table = movies(40).assign(id=range(40), split=["train"] * 30 + ["val"] * 10)
    ids, splits = table["id"].astype(str), table["split"].tolist()
    plan = MaskPlan.draw(modalities=["plot", "facts"], splits=splits, ids=ids, rules={})
    plan.save(tmp_path / "plan.parquet")
    assert classifier().fit(table, "genre", plan=tmp_path / "plan.parquet").report_["plan_sha256"] == plan.sha256


def test_class_labels_are_known_by_name() -> None:
    names = datasets.ClassLabel(names=[*GENRES, "opera"])
    films = datasets.Features({"plot": datasets.Value("string"), "year": datasets.Value("double"), "genre": names})
    table = movies(60)[["plot", "year", "genre"]]
    known = datasets.Dataset.from_pandas(table, features=films)
    model = MultimodalClassifier({"plot": Text(), "year": Tabular()}, **FAST)
    model.fit(known, "genre", validation=movies(20, seed=1))
    assert model.classes_.tolist() == list(GENRES)
    assert model.score(known) == model.score(table)
    few, some = known.select(range(20)), known.select(range(25))
    splits = datasets.DatasetDict({"train": known, "validation": few, "test": some})
    model.fit(splits, "genre")
    assert model.report_["splits"]["val"]["rows"] == 20
    assert model.robustness(splits).report["as_given"]["n"] == 25


def test_rows_without_an_answer_are_left_out() -> None:
    table = movies(80)
    table.loc[::2, "genre"] = None
    model = classifier().fit(table, "genre")
    assert sum(part["rows"] for part in model.report_["splits"].values()) == 40
    assert model.score(table) == model.score(table[1::2])
    assert len(model.predict(table)) == 80


def test_bad_cells() -> None:
    table = movies(60, pictures=True)
    table.loc[7, "poster"] = b"not a picture"
    kinds = MODALITIES | {"poster": Image()}
    with pytest.raises(UserError, match="row 7, column 'poster'"):
        MultimodalClassifier(kinds, **FAST).fit(table, "genre")
    for policy, rows in (("absent", 60), ("skip", 59)):
        with pytest.warns(UserWarning, match="1 cells could not be read; first: row 7, column 'poster'"):
            model = MultimodalClassifier(kinds, **FAST, on_bad=policy).fit(table, "genre", validation=table[8:])
        assert model.report_["splits"]["train"]["rows"] == rows
        with pytest.warns(UserWarning, match="count as absent; first: row 7"):
            assert model.predict(table).shape == (60,)


def test_a_modality_without_training_rows_is_said() -> None:
    table = movies(60)
    table["runtime"] = table["year"] = None
    with pytest.warns(UserWarning, match="'facts'.*left out"):
        model = classifier().fit(table, "genre")
    assert model.feature_names_in_.tolist() == ["plot"]


def mistaken(given: dict[str, Any], rows: pd.DataFrame) -> MultimodalClassifier:
    parameters = {k: given.pop(k) for k in list(given) if k in MultimodalClassifier(MODALITIES).get_params()}
    return MultimodalClassifier(**{"modalities": MODALITIES} | FAST | parameters).fit(**{"X": rows} | given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"target": "genre", "modalities": {}}, "no modality declared"),
        ({"target": "genre", "modalities": ["plot"]}, "no modality declared"),
        ({"target": "genre", "modalities": {"plot": Text}}, r"write Text\(\)"),
        ({"target": "genre", "modalities": {"plot": 3}}, "modality 'plot' is 3"),
        ({"target": "genre", "modalities": {"plot": "txt"}}, "did you mean 'text'"),
        ({"target": "genre", "modalities": {"plot": Text("plto")}}, "no column 'plto' .*did you mean 'plot'"),
        ({"target": "genre", "modalities": {"a+b": Text("plot")}}, r"modality name 'a\+b'"),
        ({"target": "genre", "method": "droput"}, "did you mean 'dropout'"),
        ({"target": "genre", "width": 17}, "model.width 17"),
        ({"target": "genre", "lr": "fast"}, "training.lr 'fast'"),
        ({"target": "genre", "on_bad": "ignore"}, "on_bad 'ignore'"),
        ({"target": "genre", "seed": -1}, "seed -1"),
        ({"target": "genre", "id": "key"}, r"no column 'key' \(id\)"),
        ({}, "what is to be predicted"),
        ({"target": "gerne"}, "did you mean 'genre'"),
        ({"y": "gerne"}, "did you mean 'genre'"),
        ({"target": "genre", "y": "genre"}, "given twice"),
        ({"target": "plot"}, "'plot' is the target and belongs to modality 'plot'"),
        ({"target": "year"}, "belongs to modality 'facts'"),
        ({"y": ["a", "b"]}, "2 answers for the 60 rows"),
        ({"y": 3}, "y is a int"),
        ({"y": np.zeros((60, 2))}, r"y has shape \(60, 2\)"),
        ({"y": [None] * 60}, "no training row has a value"),
        ({"y": ["a"] * 60}, "constant"),
        ({"target": "price"}, "MultimodalRegressor"),
        ({"target": "tags"}, "MultimodalLabeler"),
        ({"target": "genre", "validation": movies(9)[["plot", "year", "runtime"]]}, r"validation=\(table, y\)"),
        ({"target": "genre", "validation": movies(9).drop(columns="plot")}, "validation table has no column 'plot'"),
        ({"target": "genre", "validation": (movies(9), ["a"])}, "1 answers for the 9 rows"),
        ({"target": "genre", "validation": (movies(9),)}, r"a table, or \(table, y\)"),
        ({"target": "genre", "validation": movies(9).assign(genre="opera")}, "'opera' was never seen in training"),
        ({"target": "genre", "validation": movies(9).assign(year="old")}, "training and validation rows: .*year"),
        ({"target": "genre", "validation": movies(9).assign(genre=None)}, "no row to validate on has a target"),
        ({"X": np.zeros((3, 3)), "target": "genre"}, "ndarray is no table"),
        ({"X": "nowhere.csv", "target": "genre"}, "no file nowhere.csv"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_sentence(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        mistaken(dict(given), movies(60))


def test_mistakes_when_asking(fitted: MultimodalClassifier) -> None:
    table = movies(9)
    with pytest.raises(UserError, match=r"no column 'plot' \(modality plot\)"):
        fitted.predict(table.drop(columns="plot"))
    with pytest.raises(UserError, match=r"no column 'genre' \(target\)"):
        fitted.score(table.drop(columns="genre"))
    with pytest.raises(UserError, match="'opera' was never seen in training"):
        fitted.score(table, ["opera"] * 9)
    with pytest.raises(UserError, match="'opera' was never seen in training"):
        fitted.robustness(table.assign(genre="opera"))
    with pytest.raises(UserError, match="no row of DataFrame has a target"):
        fitted.score(table, [None] * 9)
    with pytest.raises(UserError, match="8 answers for the 9 rows"):
        fitted.score(table, ["drama"] * 8)
    with pytest.raises(UserError, match="no modality 'poster'"):
        fitted.robustness(table, patterns=["poster"])
    with pytest.raises(UserError, match="is not a number"):
        MultimodalRegressor(MODALITIES, **FAST).fit(table, "genre", validation=table)
