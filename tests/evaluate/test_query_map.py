"""The map of queries: deterministic, true pairs near each other, and a fit that means something."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from absentia.evaluate.query_map import cosine_fit, query_map


def queries(rows: int, width: int = 16, noise: float = 0.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Three clouds of true queries, and reconstructions near them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, size=rows)
    true = 4 * rng.normal(size=(3, width))[labels] + rng.normal(size=(rows, width))
    return true, true + noise * rng.normal(size=true.shape), labels.tolist()


def test_pairs_lie_together_and_labels_stay_with_their_rows() -> None:
    true, again, labels = queries(60)
    found = query_map(true, again, labels, modality="text")
    here, there = np.array(found["true"]), np.array(found["reconstructed"])
    assert here.shape == there.shape == (60, 2) and found["labels"] == labels and found["layout"] == "t-SNE"
    pairs = np.linalg.norm(here - there, axis=1)
    assert np.median(pairs) < 0.2 * np.median(np.linalg.norm(here[:, None] - here[None], axis=2))
    assert found["fit"] > 0.98 > 0.6 > found["fit_shuffled"]
    json.dumps(found, allow_nan=False)


def test_same_arrays_same_map() -> None:
    assert query_map(*queries(40), modality="a") == query_map(*queries(40), modality="a")


def test_many_rows_are_thinned_but_all_count_for_the_fit() -> None:
    true, again, labels = queries(700, width=3)
    found = query_map(true, again, labels, modality="a")
    assert len(found["true"]) == len(found["labels"]) == 300 and found["rows"] == 700
    assert found["fit"] == cosine_fit(true, again)[0]


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 14])
def test_few_rows_are_laid_out_by_their_main_axes(rows: int) -> None:
    found = query_map(*queries(rows, width=1 if rows == 3 else 8), modality="a")
    assert found["layout"] == "pca" and np.isfinite(found["true"]).all() and len(found["true"]) == rows
    assert (found["fit"] is None) == (rows == 0) and (found["fit_shuffled"] is None) == (rows < 2)


def test_points_that_are_all_the_same() -> None:
    found = query_map(np.ones((50, 4)), np.ones((50, 4)), [0] * 50, modality="a")
    assert found["layout"] == "pca" and found["fit"] == pytest.approx(1) == found["fit_shuffled"]


@settings(max_examples=30)
@given(st.integers(2, 12), st.integers(1, 5), st.integers(0, 10**6))
def test_shuffled_fit_is_the_mean_over_all_other_pairs(rows: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    true, again = rng.normal(size=(2, rows, width))
    true[0] = 0  # has no direction
    fit, shuffled = cosine_fit(true, again)
    length = np.linalg.norm(true, axis=1)[:, None] * np.linalg.norm(again, axis=1)
    table = np.divide(true @ again.T, length, out=np.zeros((rows, rows)), where=length > 0)
    assert fit == pytest.approx(np.diag(table).mean(), abs=1e-12)
    assert shuffled == pytest.approx(table[~np.eye(rows, dtype=bool)].mean(), abs=1e-12)
    assert cosine_fit(true * 7, again * 0.1) == (pytest.approx(fit, abs=1e-12), pytest.approx(shuffled, abs=1e-12))


def test_what_does_not_fit_is_refused() -> None:
    true, again, labels = queries(20)
    with pytest.raises(ValueError, match="do not fit"):
        query_map(true, again[:19], labels, modality="a")
    with pytest.raises(ValueError, match="do not fit"):
        query_map(true, again, labels[:-1], modality="a")
    with pytest.raises(ValueError, match="finite"):
        query_map(true * np.nan, again, labels, modality="a")
