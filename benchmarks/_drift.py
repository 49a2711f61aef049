"""How far what RebQ's head reads of a session's rows moves when later sessions add prompts, and what that costs.

Prompts of earlier sessions stand still; what moves are the components that later sessions added, which the same rows
draw on as well. A stream's folder holds its state after every session, so old rows can be read as they were then.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from absentia.data.batch import Batch
from absentia.evaluate.metrics import score
from absentia.layers.heads import probabilities
from absentia.learn.arrived import reopened, test_rows
from absentia.learn.stream import StreamFolder, StreamState, load_state
from absentia.methods.rebq import RebQ

__all__ = ["DRIFT", "drift_of"]

DRIFT = ("drift", "drift_cosine", "average_held")


@torch.inference_mode()
def drift_of(folder: Path) -> dict[str, float]:
    """Of a learned stream; nothing where the method is not RebQ.

    drift: of session 0's test rows, how far the last session's features are from those of session 0, root mean square,
        in the spread of these.  drift_cosine: the mean cosine between the two.
    average_held: `average_last` if every row were read with the prompts as they stood when its session was new. That
        takes the drift away, and may give the session away too: where rows then stand tells which session it was.
    """
    stream = StreamFolder(folder)
    last = load_state(stream)
    if not isinstance(last.method, RebQ):
        return {}
    batches, ids = zip(*(_judged(stream, last, number) for number in range(last.sessions)), strict=True)
    held = [_features(load_state(stream, number + 1), batch) for number, batch in enumerate(batches)]
    before, after = held[0], _features(last, batches[0])
    moved = (after - before).square().sum(dim=1).mean() / (before - before.mean(dim=0)).square().sum(dim=1).mean()
    scores = [_score(last, *one) for one in zip(batches, held, ids, strict=True)]
    cosine = F.cosine_similarity(before, after, dim=1).mean()
    return dict(zip(DRIFT, (float(moved.sqrt()), float(cosine), fmean(scores)), strict=True))


def _judged(stream: StreamFolder, state: StreamState, number: int) -> tuple[Batch, Sequence[str]]:
    """The test rows of a session that have anything, and their ids."""
    arrived = reopened(stream, number)
    rows = None if arrived is None else test_rows(state.fitted, arrived, "error")
    assert rows is not None, "a stream of the benchmark keeps its table"
    batch = rows.batch(np.arange(len(rows)))
    there = ~batch.empty
    return batch.select(there, state.method.parts.names), [rows.ids[i] for i in np.flatnonzero(there.numpy())]


def _features(state: StreamState, batch: Batch) -> Tensor:
    """(B, D)"""
    assert isinstance(state.method, RebQ)
    return state.method.features(batch)


def _score(state: StreamState, batch: Batch, features: Tensor, ids: Sequence[str]) -> float:
    """The stream's main score of features."""
    assert isinstance(state.method, RebQ) and batch.target is not None
    said = probabilities(state.method.scores(features), state.codec).numpy()
    return score(said, batch.target.numpy(), ids, state.codec, interval=False).score
