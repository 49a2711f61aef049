from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from tests import tiny
from tests.laws import data_for

from absentia.errors import UserError
from absentia.evaluate.retrieval import average_precision, embeddings_alone, ranks, retrieve, score_retrieval
from absentia.evaluate.verification import equal_error_rate
from absentia.methods import Method


def noisy(rows: int = 40, width: int = 5, noise: float = 0.7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    one = draw.standard_normal((rows, width))
    return one, one + noise * draw.standard_normal((rows, width))


# --- numbers from arrays


def test_numbers_are_those_of_sorting_by_hand() -> None:
    query, found = noisy()
    classes = np.arange(40) % 4
    alike = classes[:, None] == classes[None]
    got = score_retrieval(query, found, alike, at=(1, 3))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, found)]
    cosines = unit[0] @ unit[1].T
    places, precision = [], []
    for i in range(40):
        scores = unit[1] @ unit[0][i]
        places.append(1 + int(np.flatnonzero(np.argsort(-scores) == i)[0]))
        precision.append(average_precision_score(alike[i], scores))
    assert got.recall == {k: np.mean([p <= k for p in places]) for k in (1, 3)}
    assert got.median_rank == np.median(places)
    assert got.mean_reciprocal_rank == pytest.approx(np.mean([1 / p for p in places]))
    assert got.mean_average_precision == pytest.approx(np.mean(precision))
    assert got.auc == pytest.approx(roc_auc_score(alike.ravel(), cosines.ravel()))
    assert got.eer == pytest.approx(equal_error_rate(cosines.ravel(), alike.ravel()))


def test_what_is_the_same_is_found_first() -> None:
    query, _ = noisy()
    got = score_retrieval(query, 3 * query)
    assert got.recall[1] == got.mean_reciprocal_rank == got.median_rank == 1
    assert got.eer == 0 and got.auc == 1 and got.mean_average_precision is None


def test_an_encoder_that_says_one_thing_finds_nothing() -> None:
    """Equal scores share the middle of their places."""
    got = score_retrieval(np.ones((21, 3)), np.ones((21, 3)))
    assert got.median_rank == 11 and got.recall == {1: 0, 5: 0, 10: 0}
    assert got.eer == got.auc == 0.5


def test_ties_of_a_few_rows() -> None:
    assert ranks(np.asarray([[1.0, 1, 0], [2, 1, 0], [1, 1, 1]])).tolist() == [1.5, 2, 2]


def test_equal_scores_come_at_once() -> None:
    scores, relevant = np.asarray([[1.0, 1, 0, 0], [0, 0, 0, 0]]), np.asarray([[0, 1, 0, 1], [0, 0, 0, 0]], bool)
    assert average_precision(scores, relevant) == pytest.approx(average_precision_score(relevant[0], scores[0]))
    with pytest.raises(UserError, match="relevant"):
        average_precision(scores, np.zeros((2, 4), bool))


def test_one_row_finds_itself_and_has_no_error_rate() -> None:
    got = score_retrieval(np.ones((1, 2)), np.ones((1, 2)), np.ones((1, 1), bool))
    assert got.recall[1] == got.mean_average_precision == 1 and got.eer is None and got.auc is None


@pytest.mark.parametrize(
    ("query", "found", "said"),
    [
        (np.ones((0, 2)), np.ones((0, 2)), "one row at least"),
        (np.ones((2, 2)), np.ones((3, 2)), "of the same rows"),
        (np.asarray([[1.0], [np.nan]]), np.ones((2, 1)), "query: row 1 is not finite"),
        (np.ones((2, 1)), np.asarray([[np.inf], [1.0]]), "found: row 0 is not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(query: np.ndarray, found: np.ndarray, said: str) -> None:
    with pytest.raises(UserError, match=said):
        score_retrieval(query, found)


# --- from a method and rows


def method(name: str = "single-branch", target: str = tiny.TARGETS[0]) -> Method:
    return tiny.method_of(name, data_for(target))


@pytest.mark.parametrize("target", tiny.TARGETS)
def test_every_ordered_pair_has_its_numbers(target: str) -> None:
    data, one = data_for(target), method(target=target)
    rows = data.rows["train"]
    report = retrieve(one, rows, at=(1, 5))
    assert len(report) == 12 and len({(r.query, r.found) for r in report}) == 12
    for line in report:
        there = [rows.presence[:, data.names.index(n)] for n in (line.query, line.found)]
        assert line.rows == line.available == (there[0] & there[1]).sum()
        assert (line.mean_average_precision is None) == (target == "weight=number")
        assert line.eer is not None and 0 <= line.recall[1] <= line.recall[5] <= 1


def test_a_modality_is_embedded_by_itself() -> None:
    """Also by a method whose modalities meet: the answer must not be in the question."""
    data = data_for()
    rows = data.rows["train"]
    for name in ("single-branch", "dropout"):
        found = embeddings_alone(method(name), rows)
        alone = tiny.everything(data).restrict(torch.tensor([True, False, False, False]), data.names)
        expected = method(name)(alone).embeddings["photo"].detach().numpy()
        np.testing.assert_allclose(found["photo"][rows.presence[:, 0]], expected, atol=1e-5)
        assert np.isnan(found["photo"][~rows.presence[:, 0]]).all()


def test_of_many_rows_some_are_compared_and_it_is_said() -> None:
    line = retrieve(method(), data_for().rows["train"], most=7)[0]
    assert line.rows == 7 < line.available


def test_no_pair_and_no_embeddings_are_errors() -> None:
    rows = data_for().rows["train"]
    lone = rows.where(rows.presence.sum(axis=1) == 1)
    with pytest.raises(UserError, match="no row has two modalities"):
        retrieve(method(), lone)
    with pytest.raises(UserError, match="dedicated gives no embeddings"):
        retrieve(method("dedicated"), rows)
