from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from tests import tiny

from absentia.data.reader import CellReader
from absentia.data.schema import pattern_name
from absentia.errors import UserError
from absentia.evaluate.examples import examples
from absentia.evaluate.patterns import answer, answer_patterns, chosen_patterns, validate
from absentia.evaluate.scoring import score_patterns, split_summary
from absentia.layers.subsets import all_patterns
from absentia.learn.prepare import Prepared
from absentia.methods import Method

ALL = all_patterns(4)


@pytest.fixture(scope="module")
def data() -> Prepared:
    return tiny.prepared()


@pytest.fixture(scope="module")
def method(data: Prepared) -> Method:
    return tiny.method_of("dropout", data)


# --- which patterns


def test_all_patterns_are_all_of_them_once_fewest_first() -> None:
    assert len(ALL) == 15 == len({tuple(p) for p in ALL.tolist()})
    assert ALL.any(axis=1).all() and (np.diff(ALL.sum(axis=1)) >= 0).all()
    assert [pattern_name("ab", p) for p in all_patterns(2).tolist()] == ["a", "b", "a+b"]


def test_asked_patterns_are_taken_as_they_are_named() -> None:
    presence = np.ones((1, 4), dtype=bool)
    found = chosen_patterns(tiny.NAMES, ["words", "wave+photo"], presence)
    assert found.astype(int).tolist() == [[0, 1, 0, 0], [1, 0, 0, 1]]
    again = chosen_patterns(tiny.NAMES, ["words", "wave+photo", "photo+wave", "words"], presence)
    assert (again == found).all(), "twice asked for is scored once, and weighs once in the mean"
    assert (chosen_patterns(tiny.NAMES, [], presence) == ALL).all()


@pytest.mark.parametrize("asked", ["image", "words+", "", "words, wave"])
def test_an_unknown_pattern_is_an_error_that_names_it(asked: str) -> None:
    with pytest.raises(UserError, match="pattern"):
        chosen_patterns(tiny.NAMES, [asked], np.ones((1, 4), dtype=bool))


def test_with_many_modalities_those_that_rows_have_and_the_full_one() -> None:
    names = [f"m{i}" for i in range(9)]
    presence = np.zeros((5, 9), dtype=bool)
    presence[0, :3] = presence[1, :3] = presence[2, 8] = True
    found = chosen_patterns(names, [], presence)
    assert sorted(pattern_name(names, p) for p in found) == ["m0+m1+m2", "+".join(names), "m8"]


# --- answers


def test_a_pattern_is_answered_by_the_rows_that_have_it_as_if_they_had_nothing_else(
    data: Prepared, method: Method
) -> None:
    rows = data.rows["train"]
    for size in (5, 256):
        for pattern, found in zip(ALL, answer_patterns(method, rows, ALL, size), strict=True):
            able = np.flatnonzero((rows.presence | ~pattern).all(axis=1))
            assert found.positions.tolist() == able.tolist()
            alone = rows.batch(able).restrict(torch.from_numpy(pattern), data.names)
            expected = method(alone).scores.softmax(dim=1).detach()
            np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)


def test_a_row_is_decoded_once_for_all_patterns(
    data: Prepared, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = data.rows["test"].where(np.ones(len(data.rows["test"]), dtype=bool))
    rows._values.clear()
    opened: Counter[str] = Counter()
    names = {id(decoder): name for name, decoder in rows.decoders.items()}
    decode = CellReader.open

    def counted(self: CellReader, cell: Any) -> Any:
        opened[names[id(self.decoder)]] += 1
        return decode(self, cell)

    monkeypatch.setattr(CellReader, "open", counted)
    answer_patterns(method, rows, ALL)
    assert opened == dict(zip(data.names, rows.presence.sum(axis=0).tolist(), strict=True))


def test_answers_leave_the_method_as_it_learns(data: Prepared, method: Method) -> None:
    before = {key: value.clone() for key, value in method.state_dict().items()}
    first, second = (answer(method.train(), data.rows["val"]) for _ in range(2))
    np.testing.assert_array_equal(first.probabilities, second.probabilities)  # no dropout while answering
    first, second = (answer_patterns(method.train(), data.rows["val"], ALL)[0] for _ in range(2))
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    assert all(torch.equal(before[key], value) for key, value in method.state_dict().items())
    assert all(p.grad is None for p in method.parameters())


@pytest.mark.parametrize("target", tiny.TARGETS)
def test_no_rows_have_no_answers(target: str) -> None:
    data = tiny.prepared(target=target)
    rows = data.rows["test"].where(np.zeros(len(data.rows["test"]), dtype=bool))
    method = tiny.method_of("dropout", data)
    size = data.fitted.codec.target.size
    assert answer(method, rows).probabilities.shape == (0, size)
    assert all(found.probabilities.shape == (0, size) for found in answer_patterns(method, rows, ALL))
    result = validate(method, method.stages()[0], rows, ALL, data.fitted.codec)
    assert result.goodness == -np.inf and result.patterns == {}


# --- validation and the report's lines


@pytest.mark.parametrize("target", tiny.TARGETS)
def test_validation_is_the_mean_over_patterns_with_higher_better(target: str) -> None:
    data = tiny.prepared(target=target)
    method, rows = tiny.method_of("dropout", data), data.rows["val"]
    result = validate(method, method.stages()[0], rows, ALL, data.fitted.codec)
    report, _ = score_patterns(method, None, rows, ALL, data.rows["train"].presence)
    expected = {line["pattern"]: line["score"] for line in report["patterns"] if line["score"] is not None}
    assert result.patterns == pytest.approx(expected)
    sign = 1 if report["higher_is_better"] else -1
    assert result.goodness == pytest.approx(sign * np.mean(list(expected.values())))


def test_a_stage_may_want_its_own_patterns(data: Prepared) -> None:
    method = tiny.method_of("dedicated", data)
    for stage in method.stages()[:3]:
        result = validate(method, stage, data.rows["val"], ALL, data.fitted.codec)
        assert list(result.patterns) == [stage.name]


@pytest.mark.parametrize("target", tiny.TARGETS)
def test_lines_are_worst_first_with_their_drop_and_their_reference(target: str) -> None:
    data = tiny.prepared(target=target)
    method, reference = tiny.method_of("dropout", data), tiny.method_of("ignore", data)
    rows, trained = data.rows["train"], data.rows["train"].presence
    report, answers = score_patterns(method, reference, rows, ALL, trained)
    lines = report["patterns"]
    assert {line["pattern"] for line in lines} == {pattern_name(data.names, p) for p in ALL.tolist()}
    sign = 1 if report["higher_is_better"] else -1
    scores = [sign * line["score"] for line in lines]
    assert scores == sorted(scores)
    full = next(line for line in lines if all(line["present"].values()))
    assert full["drop"] == 0
    for line in lines:
        assert line["drop"] == pytest.approx(sign * (full["score"] - line["score"]))
        assert line["reference_low"] <= line["reference"] <= line["reference_high"]
        present = np.array([line["present"][name] for name in data.names])
        assert line["n"] == line["trained_rows"] == (rows.presence | ~present).all(axis=1).sum()
        assert (line["note"] is None) == (line["n"] >= 30)
    assert report["worst"] == lines[0]["score"]
    assert report["reference_mean"] == pytest.approx(np.mean([line["reference"] for line in lines]))
    assert report["as_given"]["n"] == len(rows), "rows with nothing are answered as well"
    assert len(answers) == len(ALL)


def test_patterns_that_no_row_has_are_listed_last_without_a_score(data: Prepared, method: Method) -> None:
    rows = data.rows["test"].where(~data.rows["test"].presence[:, 0])
    report, _ = score_patterns(method, None, rows, ALL, data.rows["train"].presence)
    lines = report["patterns"]
    unscored = [line for line in lines if line["score"] is None]
    assert len(unscored) == 8 and lines[-8:] == unscored
    assert all(line["note"] == "no test row has all of it" and line["drop"] is None for line in unscored)
    assert report["mean"] == pytest.approx(np.mean([line["score"] for line in lines[:7]]))


def test_patterns_that_no_training_row_could_show_are_noted(data: Prepared, method: Method) -> None:
    trained = data.rows["train"].presence & np.array([True, True, True, False])
    report, _ = score_patterns(method, None, data.rows["test"], ALL, trained)
    noted = {line["pattern"] for line in report["patterns"] if line["note"] == "no training row has all of it"}
    assert noted == {line["pattern"] for line in report["patterns"] if line["present"]["wave"]}


def test_splits_are_summed_up_by_modality_and_pattern(data: Prepared) -> None:
    found = split_summary(data.rows, data.names)
    for split, summary in found.items():
        presence = data.rows[split].presence
        assert summary["rows"] == len(presence) == sum(summary["patterns"].values())
        assert summary["p_incomplete"] == pytest.approx((~presence.all(axis=1)).mean())
        for m, name in enumerate(data.names):
            assert summary["present"][name] == pytest.approx(presence[:, m].mean())
            assert summary["p_absent"][name] == pytest.approx(1 - presence[:, m].mean())


@pytest.mark.parametrize("target", tiny.TARGETS)
def test_examples_show_what_the_rows_have_and_say_what_was_hidden(target: str) -> None:
    data = tiny.prepared(target=target)
    method, rows = tiny.method_of("dropout", data), data.rows["train"]
    answers = answer_patterns(method, rows, ALL)
    shown = examples(rows, ALL, answers, data.fitted.codec)
    assert shown == examples(rows, ALL, answers, data.fitted.codec)
    assert 2 <= len(shown) <= 12
    for example in shown:
        present = example["pattern"].split("+")
        assert sorted(example["cells"]) == sorted([*present, *example["hidden"]])
        assert sorted([*present, *example["hidden"], *example["absent"]]) == sorted(data.names)
        assert all("text" in cell or cell["src"].startswith("data:") for cell in example["cells"].values())
        row = rows.ids.index(example["id"])
        assert [n for n, there in zip(data.names, rows.presence[row], strict=True) if not there] == example["absent"]
