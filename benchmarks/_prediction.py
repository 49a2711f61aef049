"""What the benchmark of predicted embeddings measures: scores by pattern, the guard's decisions, R² of each pair."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from absentia.config import RunConfig
from absentia.data.absence import MaskPlan
from absentia.data.absence_rules import Rule
from absentia.data.rows import Rows
from absentia.data.schema import Schema, pattern_name
from absentia.data.table import Table
from absentia.errors import UserError
from absentia.evaluate.metrics import score
from absentia.evaluate.patterns import Answers, answer, answer_patterns, chosen_patterns, validate
from absentia.evaluate.retrieval import retrieve
from absentia.learn.build import build_method, patterns_seen
from absentia.learn.checkpoint import Position
from absentia.learn.folder import RunFolder
from absentia.learn.loop import Loop
from absentia.learn.prepare import Prepared, prepare, rows_of, survey
from absentia.learn.session import rows_to_close
from absentia.methods.base import Method
from absentia.methods.joint_embedding import JointEmbedding

__all__ = [
    *("Bench", "Trained", "derived", "explained", "found_by_each_other", "prepared", "say_of_guesses", "scores_of"),
    "trained",
]

COUNTED = ("moments.", "nearest.", "guard.")  # what a method finds out once training has ended
Scores = dict[str, float]


@dataclass(frozen=True)
class Bench:
    """A table under a mask plan. asked: its test rows as the plan leaves them; whole: the same with all they have.

    To choose settings, validation rows stand in place of test rows.
    """

    data: Prepared
    asked: Rows
    whole: Rows
    config: RunConfig


@dataclass(frozen=True)
class Trained:
    """A method and how long it learned."""

    method: Method
    seconds: float


def prepared(table: Table, schema: Schema, config: RunConfig, rates: Mapping[str, float], asks: str = "test") -> Bench:
    """rates: by split the share of rows that the plan makes incomplete, proper patterns drawn evenly.

    asks: the split whose rows are answered.
    """
    seen = survey(table, schema)
    plan = MaskPlan.draw(
        modalities=schema.names,
        splits=list(seen.split),
        ids=seen.ids,
        rules={split: Rule(p_incomplete=rate) for split, rate in rates.items() if rate},
        seed=config.seed,
    )
    data = prepare(table, schema, plan=plan, on_bad="error", seen=seen)
    index = data.rows[asks].index
    whole = rows_of(
        table,
        data.fitted,
        on_bad="error",
        index=index,
        presence=seen.presence[index],
        ids=[seen.ids[i] for i in index],
        target=[seen.target[i] for i in index],
    )
    return Bench(data=data, asked=data.rows[asks], whole=whole, config=config)


def trained(
    bench: Bench, name: str, options: Mapping[str, Any], epochs: float, encoded: Trained | None = None
) -> Trained:
    """A fresh method, trained as `absentia train` trains it.

    encoded: one whose encoders and heads the first stage would give again, to the last bit; it is left out then.
    """
    method, data = built(bench, name, options), bench.data
    val = data.rows["val"]
    patterns = chosen_patterns(data.names, (), val.presence)
    with tempfile.TemporaryDirectory() as folder:
        loop = Loop(
            method=method,
            rows=data.rows["train"],
            settings=replace(bench.config.training, epochs=epochs),
            seed=bench.config.seed,
            folder=RunFolder(Path(folder)),
            validate=partial(validate, rows=val, patterns=patterns, codec=data.fitted.codec),
            run="benchmark",
        )
        if encoded is not None:
            _take(method, encoded.method, ("encoders.", "heads."))
            loop.position = Position(stage=1)
        started = time.process_time()
        loop.fit()
    settled(bench, method)
    return Trained(method, round(time.process_time() - started, 1))


def derived(bench: Bench, source: Trained, options: Mapping[str, Any]) -> Trained:
    """The same encoders and heads under options that train nothing more."""
    made = built(bench, source.method.name, options)
    _take(made, source.method, ("",))
    settled(bench, made)
    return Trained(made, 0.0)


def _take(method: Method, other: Method, parts: tuple[str, ...]) -> None:
    """What both have, of the parts whose names begin so, but for what is found out once training has ended."""
    mine, given = method.state_dict(), other.state_dict()
    fitting = {k: x for k, x in given.items() if k in mine and k.startswith(parts) and not k.startswith(COUNTED)}
    method.load_state_dict(fitting, strict=False)


def built(bench: Bench, name: str, options: Mapping[str, Any]) -> Method:
    seen = patterns_seen(bench.data.rows["train"].presence)
    return build_method(
        name, bench.data.fitted, bench.config.model, seed=bench.config.seed, seen=seen, options=options
    ).eval()


def settled(bench: Bench, method: Method) -> None:
    """What a training does once its last step is done."""
    method.close_session(partial(rows_to_close, bench.data.rows["train"]))
    method.check(partial(rows_to_close, bench.data.rows["val"]))


def scores_of(bench: Bench, method: Method) -> tuple[Scores, float]:
    """The score of every pattern on all test rows, and of the test rows as the plan leaves them."""
    patterns = chosen_patterns(bench.data.names, (), bench.whole.presence)
    answers = answer_patterns(method, bench.whole, patterns)
    names = [pattern_name(bench.data.names, pattern.tolist()) for pattern in patterns]
    by_pattern = {name: _score(bench, bench.whole, part) for name, part in zip(names, answers, strict=True)}
    return by_pattern, _score(bench, bench.asked, answer(method, bench.asked))


def _score(bench: Bench, rows: Rows, answers: Answers) -> float:
    assert rows.target is not None
    ids = [rows.ids[p] for p in answers.positions]
    codec = bench.data.fitted.codec
    return float(score(answers.probabilities, rows.target[answers.positions], ids, codec, interval=False).score or 0)


def say_of_guesses(bench: Bench, method: Method) -> dict[str, float]:
    """By incomplete pattern how much of a say held-out rows gave to guesses, from 0 (switched off) to 1."""
    if not isinstance(method, JointEmbedding) or method.options.predictor == "none":
        return {}
    names = sorted(bench.data.names)
    patterns = method.guard.patterns[~method.guard.patterns.all(dim=1)]
    shown = [[bool(p[names.index(name)]) for name in bench.data.names] for p in patterns]
    return {
        pattern_name(bench.data.names, p): s for p, s in zip(shown, method.guard.says(patterns).tolist(), strict=True)
    }


@torch.inference_mode()
def explained(bench: Bench, method: Method) -> dict[str, float]:
    """R² on test rows of each embedding as guessed from each other modality alone."""
    if not isinstance(method, JointEmbedding) or method.options.predictor == "none":
        return {}
    found: dict[str, tuple[list[npt.NDArray[Any]], list[npt.NDArray[Any]]]] = {}
    names = bench.data.names
    for batch in bench.whole.batches(256):
        batch = batch.select(batch.presence.all(dim=1), names)
        true = method(batch).embeddings
        for s, t in permutations(range(len(names)), 2):
            made = method(batch.restrict(torch.arange(len(names)) == s, names)).reconstructed[names[t]]
            guesses, truths = found.setdefault(f"{names[t]} from {names[s]}", ([], []))
            guesses.append(made.double().numpy())
            truths.append(true[names[t]].double().numpy())
    return {pair: _r2(np.concatenate(made), np.concatenate(true)) for pair, (made, true) in found.items()}


def found_by_each_other(bench: Bench, method: Method) -> dict[str, float]:
    """Recall at k and equal error rate of every ordered pair of modalities, on test rows; none without embeddings."""
    try:
        found = retrieve(method, bench.whole)
    except UserError:
        return {}
    out = {}
    for one in found:
        pair = f"{one.found} by {one.query}"
        out |= {f"{pair}, recall@{k}": share for k, share in one.recall.items()}
        out |= {} if one.eer is None else {f"{pair}, eer": one.eer}
    return out


def _r2(made: npt.NDArray[Any], true: npt.NDArray[Any]) -> float:
    total = np.square(true - true.mean(axis=0)).sum()
    return cast(float, float(1 - np.square(true - made).sum() / max(total, 1e-12)))
