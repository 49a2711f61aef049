from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn import metrics as reference

from absentia.data.schema import Target
from absentia.data.target import TargetCodec
from absentia.evaluate import metrics
from absentia.evaluate.metrics import goodness_sign, main_metric, resampled_interval, score

Array = npt.NDArray[np.float64]


def classes(count: int) -> TargetCodec:
    target = Target(column="y", kind="class", classes=tuple(f"c{i}" for i in range(count)))
    return TargetCodec(target=target, prior=(1 / count,) * count)


def labels(count: int) -> TargetCodec:
    target = Target(column="y", kind="labels", classes=tuple(f"c{i}" for i in range(count)))
    return TargetCodec(target=target, prior=(0.5,) * count)


def number(*, log: bool = False, mean: float = 0.0, std: float = 1.0) -> TargetCodec:
    return TargetCodec(target=Target(column="y", kind="number", log=log), prior=(0.0,), mean=mean, std=std)


def ids(count: int) -> list[str]:
    return [f"row-{i}" for i in range(count)]


def random_classes(seed: int, n: int, k: int, levels: int = 1000) -> tuple[Array, npt.NDArray[np.int64]]:
    """Probabilities with ties (when there are few levels) and targets that may leave classes out."""
    rng = np.random.default_rng(seed)
    raw = rng.integers(1, levels, size=(n, k)).astype(np.float64)
    return raw / raw.sum(axis=1, keepdims=True), rng.integers(0, rng.integers(1, k + 1), size=n)


cases = st.tuples(st.integers(0, 10**6), st.integers(1, 40), st.integers(2, 6), st.sampled_from([3, 1000]))


@settings(max_examples=40)
@given(cases)
def test_class_scores_are_those_of_scikit_learn(case: tuple[int, int, int, int]) -> None:
    seed, n, k, levels = case
    p, target = random_classes(seed, n, k, levels)
    found = score(p, target, ids(n), classes(k), interval=False)
    predicted = p.argmax(axis=1)
    assert found.score == found.metrics["accuracy"] == reference.accuracy_score(target, predicted)
    # scikit-learn's own convention too: the mean is over classes that occur in truth or answer
    assert found.metrics["macro_f1"] == pytest.approx(reference.f1_score(target, predicted, average="macro"))
    areas = [reference.roc_auc_score(target == c, p[:, c]) for c in range(k) if 0 < (target == c).sum() < n]
    expected = pytest.approx(np.mean(areas)) if areas else None
    assert found.metrics["auroc"] == expected


def test_auroc_is_one_against_the_rest() -> None:
    p, _ = random_classes(0, 60, 4)
    target = np.arange(60) % 4
    expected = reference.roc_auc_score(target, p, multi_class="ovr", average="macro")
    assert score(p, target, ids(60), classes(4), interval=False).metrics["auroc"] == pytest.approx(expected)


@settings(max_examples=40)
@given(cases)
def test_label_scores_are_those_of_scikit_learn(case: tuple[int, int, int, int]) -> None:
    seed, n, k, levels = case
    rng = np.random.default_rng(seed)
    p, truth = rng.integers(0, levels, size=(n, k)) / levels, (rng.random((n, k)) < rng.random(k)).astype(np.float32)
    found = score(p, truth, ids(n), labels(k), interval=False)
    each = reference.f1_score(truth, p >= 0.5, average=None, zero_division=np.nan)
    defined = each[~np.isnan(each)]  # a label that nobody has and nobody was given has no F1
    assert found.score == found.metrics["macro_f1"] == (pytest.approx(defined.mean()) if len(defined) else None)
    assert found.metrics["accuracy"] == pytest.approx(((p >= 0.5) == (truth > 0)).mean())


@pytest.mark.parametrize("log", [False, True])
def test_number_scores_are_in_the_targets_own_units(log: bool) -> None:
    rng = np.random.default_rng(0)
    codec = number(log=log, mean=1.5, std=0.5)
    answers, target = rng.standard_normal((50, 1)), rng.standard_normal(50).astype(np.float32)
    found = score(answers, target, ids(50), codec, interval=False)
    own = codec.number(answers[:, 0]), codec.number(target.astype(np.float64))
    assert found.score == found.metrics["mae"] == pytest.approx(reference.mean_absolute_error(*own))
    assert found.metrics["correlation"] == pytest.approx(pearsonr(answers[:, 0], target).statistic)
    assert found.metrics["r2"] == pytest.approx(reference.r2_score(target, answers[:, 0]))


@pytest.mark.parametrize(
    ("answers", "target"),
    [
        (np.zeros((4, 1)), np.arange(4.0)),
        (np.full((4, 1), 0.1), np.arange(4.0)),
        (np.arange(4.0)[:, None], np.full(4, 0.3)),
        (np.ones((1, 1)), np.ones(1)),
        (0.1 + np.array([[0], [1e-17], [2e-17], [1e-17]]), np.arange(4.0)),
    ],
)
def test_a_constant_has_no_correlation_and_no_warning(answers: Array, target: Array) -> None:
    found = score(answers, target, ids(len(target)), number())
    assert found.metrics["correlation"] is None
    assert found.score is not None


@pytest.mark.parametrize("codec", [classes(3), labels(3), number()], ids=["class", "labels", "number"])
def test_no_rows_have_no_scores(codec: TargetCodec) -> None:
    empty = np.zeros((0, codec.target.size))
    found = score(empty, codec.encode([]), [], codec)
    assert (found.score, found.low, found.high, found.metrics) == (None, None, None, {})


def test_labels_that_nobody_has_and_nobody_was_given_have_no_score() -> None:
    found = score(np.zeros((5, 2)), np.zeros((5, 2), np.float32), ids(5), labels(2))
    assert (found.score, found.low, found.high) == (None, None, None)
    assert found.metrics == {"macro_f1": None, "accuracy": 1.0, "auroc": None}


def test_one_row_has_an_interval_of_one_point() -> None:
    found = score(np.array([[0.2, 0.8]]), np.array([1]), ["a"], classes(2))
    assert (found.score, found.low, found.high) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("codec", "name", "sign"), [(classes(2), "accuracy", 1), (labels(2), "macro_f1", 1), (number(), "mae", -1)]
)
def test_main_metric_and_its_direction(codec: TargetCodec, name: str, sign: int) -> None:
    assert (main_metric(codec), goodness_sign(codec)) == (name, sign)


# --- intervals


def accuracy_interval(right: npt.NDArray[np.bool_], names: list[str]) -> tuple[float, float]:
    p = np.where(right[:, None], [0.9, 0.1], [0.1, 0.9])
    found = score(p, np.zeros(len(right), dtype=np.int64), names, classes(2))
    assert found.low is not None and found.high is not None and found.score is not None
    assert found.low <= found.score <= found.high
    return found.low, found.high


def test_the_interval_is_the_same_every_time_and_whatever_the_global_state() -> None:
    right = np.random.default_rng(0).random(80) < 0.7
    np.random.seed(1)
    first = accuracy_interval(right, ids(80))
    np.random.seed(2)
    assert accuracy_interval(right, ids(80)) == first


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(120):
        low, high = accuracy_interval(rng.random(150) < 0.7, ids(150))
        covered += low <= 0.7 <= high
    assert 0.89 <= covered / 120 <= 0.99


def test_copies_of_an_entity_are_no_new_evidence() -> None:
    right = np.random.default_rng(0).random(60) < 0.7
    low, high = accuracy_interval(right, ids(60))
    copied = np.tile(right, 4)
    clustered = accuracy_interval(copied, ids(60) * 4)
    naive = accuracy_interval(copied, ids(240))
    assert clustered == pytest.approx((low, high), abs=0.02)
    assert clustered[1] - clustered[0] > 1.7 * (naive[1] - naive[0])  # half as wide with four times the rows


def test_interval_width_is_that_of_the_binomial() -> None:
    right = np.arange(400) % 5 != 0
    low, high = accuracy_interval(right, ids(400))
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.8 * 0.2 / 400), rel=0.1)


@pytest.mark.parametrize("codec", [labels(3), number()], ids=["labels", "number"])
def test_other_targets_have_intervals_around_their_score(codec: TargetCodec) -> None:
    rng = np.random.default_rng(0)
    answers = rng.random((90, codec.target.size))
    noise = answers + 0.3 * rng.standard_normal(answers.shape)
    target = (noise > 0.5).astype(np.float32) if codec.target.kind == "labels" else noise[:, 0].astype(np.float32)
    found = score(answers, target, ids(90), codec)
    assert found.low is not None and found.high is not None and found.score is not None
    assert found.low < found.score < found.high


def test_large_tables_are_resampled_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(50)
    largest = 0

    def mean(weights: Array) -> Array:
        nonlocal largest
        largest = max(largest, weights.size)
        return np.asarray(weights @ values / weights.sum(axis=1))

    whole = resampled_interval(ids(50), mean)
    assert largest == 50 * 1000
    monkeypatch.setattr(metrics, "AT_ONCE", 3000)
    largest = 0
    assert resampled_interval(ids(50), mean) == whole
    assert largest <= 3000
