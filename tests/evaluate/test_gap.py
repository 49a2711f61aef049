"""The share of the gap that guesses close: its arithmetic, its rows, and what page and terminal say of it."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests import tiny
from tests.evaluate.pages import Page
from torch import Tensor

from absentia.data.batch import Batch
from absentia.data.rows import Rows
from absentia.evaluate.gap import gap_closed, shares_closed
from absentia.evaluate.metrics import score
from absentia.evaluate.patterns import Answers, answer_patterns
from absentia.evaluate.report import render
from absentia.evaluate.sections.gap import gap_sentence
from absentia.layers.heads import probabilities
from absentia.layers.subsets import all_patterns
from absentia.learn.session import rows_to_close
from absentia.methods import Method

PATTERNS = all_patterns(len(tiny.NAMES))


def ready(target: str = tiny.TARGETS[0], **options: Any) -> Method:
    """Joint-embedding prediction with random weights, whose moments and guard have seen rows."""
    data = tiny.prepared(target=target)
    made = tiny.method_of("joint-embedding", data, options=options)
    tiny.close(made, data)
    made.check(partial(rows_to_close, data.rows["val"]))
    return made


def mixed() -> Rows:
    """Rows of which some have everything."""
    return tiny.prepared().rows["train"]


def found(made: Method, rows: Rows) -> dict[str, Any]:
    gap = gap_closed(made, rows, PATTERNS, answer_patterns(made, rows, PATTERNS))
    assert gap is not None
    return gap


def with_bounds(made: Method, rows: Rows, unaided: float, truth: float, answered: float) -> dict[str, Any]:
    """What is found where so many of the rows are answered rightly, always the first ones, on all patterns alike."""
    assert rows.target is not None
    full = np.flatnonzero(rows.presence.all(axis=1))
    classes = torch.as_tensor(rows.target)

    def said(share: float, positions: np.ndarray[Any, Any]) -> Tensor:
        right = torch.from_numpy(np.isin(positions, full[: round(share * len(full))]))
        wrong = (classes[positions] + 1) % 3
        return 5.0 * torch.nn.functional.one_hot(torch.where(right, classes[positions], wrong), 3)

    def bounds(batch: Batch, patterns: Tensor) -> tuple[Tensor, Tensor]:
        positions = np.flatnonzero(np.isin(rows.index, batch.index.numpy()))
        low, high = said(unaided, positions), said(truth, positions)
        return low.expand(len(patterns), -1, -1), high.expand(len(patterns), -1, -1)

    made.bounds = bounds  # type: ignore[method-assign]
    positions = np.arange(len(rows))
    every = probabilities(said(answered, positions), made.parts.codec).double().numpy()
    gap = gap_closed(made, rows, PATTERNS, [Answers(positions, every, every[:, 0])] * len(PATTERNS))
    assert gap is not None
    return gap


def whole(target: str = tiny.TARGETS[0]) -> Rows:
    """Rows that have everything."""
    rows = tiny.prepared(tiny.rows(120, holes=0.0), target=target).rows["train"]
    return rows.where(rows.presence.all(axis=1))


def test_shares_are_gains_over_gaps_and_in_all_over_their_sum() -> None:
    shares, in_all = shares_closed({"a": 0.1, "b": -0.1, "c": 9.0}, {"a": 0.2, "b": 0.4})
    assert shares == {"a": 0.5, "b": -0.25}
    assert in_all == pytest.approx(0.0)
    assert shares_closed({"a": 1.0}, {}) == ({}, None)


def test_all_three_scores_are_of_the_rows_that_have_everything() -> None:
    made, rows = ready(), mixed()
    gap = found(made, rows)
    full = rows.presence.all(axis=1)
    assert 0 < gap["rows"] == full.sum() < len(rows)
    part = rows.where(full)
    codec = made.parts.codec
    for line, answers in zip(gap["patterns"], answer_patterns(made, part, PATTERNS[:-1]), strict=True):
        assert line["score"] == score(answers.probabilities, part.target, part.ids, codec).score  # type: ignore[arg-type]
    (complete,) = answer_patterns(made, part, PATTERNS[-1:])
    best = score(complete.probabilities, part.target, part.ids, codec).score  # type: ignore[arg-type]
    assert {line["truth"] for line in gap["patterns"]} == {best}


@pytest.mark.parametrize("target", tiny.TARGETS)
@pytest.mark.parametrize("predictor", ["gaussian", "pooled"])
def test_without_guesses_it_answers_as_one_that_never_guessed(target: str, predictor: str) -> None:
    made, plain = ready(target, predictor=predictor), ready(target, predictor="none")
    same = {k: x for k, x in made.state_dict().items() if k in plain.state_dict() and not k.startswith("guard.")}
    plain.load_state_dict(same, strict=False)
    plain.check(partial(rows_to_close, tiny.prepared(target=target).rows["val"]))
    batch = tiny.everything(tiny.prepared(target=target), "train")
    full = batch.select(batch.presence.all(dim=1), tiny.NAMES)
    unaided, truth = made.bounds(full, torch.from_numpy(PATTERNS))
    for pattern, scores, true in zip(torch.from_numpy(PATTERNS), unaided, truth, strict=True):
        torch.testing.assert_close(scores, plain(full.restrict(pattern, tiny.NAMES)).scores)
        torch.testing.assert_close(true, plain(full).scores)


def test_a_share_with_its_interval_where_there_is_a_gap() -> None:
    gap = with_bounds(ready(), whole(), unaided=0.4, answered=0.6, truth=0.8)
    for line in [*gap["patterns"], gap]:
        assert line["closed"] == pytest.approx(0.5, abs=0.05)
        assert line["low"] < line["closed"] < line["high"]
    assert json.loads(json.dumps(gap)) == gap


@pytest.mark.parametrize(("unaided", "truth"), [(0.5, 0.5), (0.6, 0.4), (0.5, 0.52)])
def test_no_gap_where_the_truth_is_not_surely_better(unaided: float, truth: float) -> None:
    gap = with_bounds(ready(), whole(), unaided=unaided, answered=0.9, truth=truth)
    assert all(line["closed"] is None and line["low"] is None for line in gap["patterns"])
    assert gap["closed"] is None and gap["rows"] > 50
    assert "no gap" in gap_sentence({"gap": gap})


def test_guesses_that_mislead_close_less_than_nothing() -> None:
    gap = with_bounds(ready(), whole(), unaided=0.5, answered=0.3, truth=0.9)
    assert gap["closed"] == pytest.approx(-0.5, abs=0.05)
    assert "−5" in gap_sentence({"gap": gap})


def test_of_errors_lower_ones_close_the_gap() -> None:
    made, rows = ready(tiny.TARGETS[2], predictor="gaussian", guard=False), whole(tiny.TARGETS[2])
    assert rows.target is not None
    target = torch.as_tensor(rows.target, dtype=torch.float32)[:, None]

    def bounds(batch: Batch, patterns: Tensor) -> tuple[Tensor, Tensor]:
        there = target[np.flatnonzero(np.isin(rows.index, batch.index.numpy()))].expand(len(patterns), -1, -1)
        return there + 2.0, there + 0.5

    made.bounds = bounds  # type: ignore[method-assign]
    off = (target + 1.0).double().numpy()
    gap = gap_closed(made, rows, PATTERNS, [Answers(np.arange(len(rows)), off, off[:, 0])] * len(PATTERNS))
    assert gap is not None and gap["closed"] == pytest.approx(2 / 3, abs=1e-5)
    assert gap["patterns"][0]["unaided"] > gap["patterns"][0]["score"] > gap["patterns"][0]["truth"]


def test_nothing_is_said_of_methods_without_guesses_nor_of_complete_rows_alone() -> None:
    rows = mixed()
    for made in (ready(predictor="none"), tiny.method_of("dropout", tiny.prepared())):
        assert gap_closed(made, rows, PATTERNS, answer_patterns(made, rows, PATTERNS)) is None
    with pytest.raises(NotImplementedError, match="no guesses"):
        made.bounds(rows.batch(np.arange(3)), torch.from_numpy(PATTERNS))
    made = ready()
    assert gap_closed(made, rows, PATTERNS[-1:], answer_patterns(made, rows, PATTERNS[-1:])) is None


def test_without_a_complete_row_it_says_that_nothing_says_so(fake: SimpleNamespace) -> None:
    made, rows = ready(), mixed()
    gap = found(made, rows.where(~rows.presence.all(axis=1)))
    assert gap == {"rows": 0, "patterns": [], "closed": None, "low": None, "high": None}
    page = Page(render(fake.glyphs() | {"gap": gap}, []))
    assert "No test row has everything" in page.text and "without guesses" not in page.text


def test_the_page_and_its_sentence(fake: SimpleNamespace) -> None:
    text = Page(render(fake.glyphs(), [])).text
    assert "Guesses close 43 % (21 to 60) of the gap" in text and "412 test rows" in text
    assert "no gap" in text and "−25 %" in text and "50 % 30 to 70" in text
    report = fake.glyphs()
    del report["gap"]
    assert gap_sentence(report) == "" and "What guesses are worth" not in Page(render(report, [])).text


def test_one_complete_row_is_said_as_one() -> None:
    gap = {"rows": 1, "patterns": [], "closed": None}
    assert gap_sentence({"gap": gap}).endswith("on the 1 test row with everything.")


def test_rows_of_one_entity_are_drawn_together() -> None:
    rows = whole()
    same = replace(rows, ids=["one"] * len(rows))
    line = with_bounds(ready(), same, unaided=0.4, answered=0.6, truth=0.8)["patterns"][0]
    assert line["low"] == line["closed"] == line["high"]
