"""Cross-modal retrieval: does a row's picture find its text among the texts of all rows?

Each modality is embedded by itself, whatever else a row has, so that nothing of the answer leaks into the question.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from absentia.data.batch import Batch
from absentia.data.rows import Rows
from absentia.errors import UserError
from absentia.evaluate.verification import area_under_curve, equal_error_rate
from absentia.layers.ridge import columns_of
from absentia.methods.base import Method

__all__ = ["MOST", "Retrieval", "average_precision", "embeddings_alone", "ranks", "retrieve", "score_retrieval"]

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
AT = (1, 5, 10)
AT_ONCE = 256  # rows embedded, or queries scored, at a time
MOST = 2000  # rows of a pair: every query is compared with every other row


@dataclass(frozen=True)
class Retrieval:
    """From the modality `query` to the modality `found`, over rows that have both.

    rows: how many were compared, of `available`.  recall: by k, the share of queries whose own row is among the first
    k.  median_rank: of the own row, 1 is best.  mean_reciprocal_rank: of the own row.
    mean_average_precision: where every row of the query's class counts as right; None without classes.
    eer, auc: of verification, whether two rows are of one class (without classes: the same row); None where all or
    none are.
    """

    query: str
    found: str
    rows: int
    available: int
    recall: dict[int, float]
    median_rank: float
    mean_reciprocal_rank: float
    mean_average_precision: float | None
    eer: float | None
    auc: float | None


def retrieve(
    method: Method, rows: Rows, *, groups: Sequence[Any] | None = None, at: Sequence[int] = AT, most: int = MOST
) -> list[Retrieval]:
    """A report for every ordered pair of modalities that some rows have together.

    groups: what each row belongs to, a value or a list of them; a row of None belongs with itself alone. By default
    the classes of the rows' target.  most: rows compared per pair; of more, evenly spaced ones are taken.
    Raises `UserError` where no row has two modalities, or the method gives no embeddings.
    """
    embedded, names = embeddings_alone(method, rows), method.parts.names
    out = []
    for one, other in permutations(range(len(names)), 2):
        both = np.flatnonzero(rows.presence[:, one] & rows.presence[:, other])
        if not len(both):
            continue
        chosen = both[np.linspace(0, len(both) - 1, min(most, len(both))).astype(np.int64)]
        query, found = (embedded[names[m]][chosen] for m in (one, other))
        alike = _alike(method, rows, chosen) if groups is None else _together([groups[i] for i in chosen])
        out.append(score_retrieval(query, found, alike, (names[one], names[other]), len(both), at))
    if not out:
        raise UserError("no row has two modalities, so there is nothing to find by one that has the other")
    return out


@torch.inference_mode()
def embeddings_alone(method: Method, rows: Rows) -> dict[str, Array]:
    """Per modality (N, D): the embedding that it gets by itself; NaN where it is absent."""
    method.eval()
    out: dict[str, Array] = {}
    for start, batch in zip(range(0, len(rows), AT_ONCE), rows.batches(AT_ONCE), strict=True):
        for name, there, part in _each_alone(method, batch):
            if name not in out:
                out[name] = np.full((len(rows), part.shape[1]), np.nan)
            out[name][start + there] = part
    return out


def score_retrieval(
    query: Array,
    found: Array,
    alike: Bools | None = None,
    names: tuple[str, str] = ("query", "found"),
    available: int | None = None,
    at: Sequence[int] = AT,
) -> Retrieval:
    """Row i of `query` (n, D) is to find row i of `found` (n, D), by cosine.

    alike: bool (n, n), which rows are of one class. Raises `UserError` for no row and for what is not finite.
    """
    scores = _cosines(query, found)
    own = np.eye(len(scores), dtype=np.bool_)
    places = ranks(scores)
    genuine = own if alike is None else alike
    mixed = genuine.any() and not genuine.all()
    return Retrieval(
        query=names[0],
        found=names[1],
        rows=len(scores),
        available=len(scores) if available is None else available,
        recall={k: float((places <= k).mean()) for k in at},
        median_rank=float(np.median(places)),
        mean_reciprocal_rank=float((1 / places).mean()),
        mean_average_precision=None if alike is None else average_precision(scores, alike),
        eer=equal_error_rate(scores.ravel(), genuine.ravel()) if mixed else None,
        auc=area_under_curve(scores.ravel(), genuine.ravel()) if mixed else None,
    )


def ranks(scores: Array) -> Array:
    """(n,): the rank of the own row among all, from scores (n, n); among equal ones the middle of their places."""
    own = np.diagonal(scores)[:, None]
    return np.asarray(1 + (scores > own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) / 2)


def average_precision(scores: Array, relevant: Bools) -> float:
    """The mean over queries that have something relevant; equal scores come at once, in no order.

    scores, relevant: (q, n). Raises `UserError` where no query has anything relevant.
    """
    some = relevant.any(axis=1)
    if not some.any():
        raise UserError("no query has anything relevant to find")
    return float(np.mean([_precision(s, r) for s, r in zip(scores[some], relevant[some], strict=True)]))


def _precision(scores: Array, relevant: Bools) -> float:
    """Of one query: precision at each threshold, weighted by the recall that it adds."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)
    hits = np.cumsum(relevant[order])[last]
    seen = np.flatnonzero(last) + 1
    return float((np.diff(hits, prepend=0) * hits / seen).sum() / hits[-1])


def _cosines(query: Array, found: Array) -> Array:
    """(n, n)"""
    for side, part in (("query", query), ("found", found)):
        if part.shape != query.shape or part.ndim != 2 or not len(part):
            raise UserError(f"{side} {part.shape}: two arrays (n, D) of the same rows are needed, one row at least")
        if not np.isfinite(part).all():
            raise UserError(f"{side}: row {int((~np.isfinite(part)).any(axis=1).argmax())} is not finite")
    one, other = (part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12) for part in (query, found))
    return np.asarray(one @ other.T)


def _each_alone(method: Method, batch: Batch) -> Iterator[tuple[str, npt.NDArray[np.int64], Array]]:
    """Of each modality that is there: its name, its rows of the batch, and their embeddings (n, D)."""
    names = method.parts.names
    for m, name in enumerate(names):
        having = batch.presence[:, m]
        if not having.any():
            continue
        lone = batch.select(having, names).restrict(torch.arange(len(names)) == m, names)
        part = method(lone.to(method.prior.device)).embeddings.get(name)
        if part is None or len(part) != int(having.sum()):
            raise UserError(f"method {method.name} gives no embeddings of {name} alone to find anything by")
        yield name, having.nonzero()[:, 0].numpy(), part.double().cpu().numpy()


def _together(groups: Sequence[Any]) -> Bools:
    """bool (n, n): rows with a group in common, and every row with itself."""
    several = [set(map(str, g)) if isinstance(g, list | tuple) else set() if g is None else {str(g)} for g in groups]
    places = {name: number for number, name in enumerate(sorted(set().union(*several)))}
    marks = np.zeros((len(several), len(places)), dtype=np.float32)
    for row, names in enumerate(several):
        marks[row, [places[name] for name in names]] = 1
    return np.asarray((marks @ marks.T > 0) | np.eye(len(several), dtype=np.bool_))


def _alike(method: Method, rows: Rows, chosen: npt.NDArray[np.int64]) -> Bools | None:
    """bool (n, n): rows with a class in common; None for a number or without a target."""
    codec = method.parts.codec
    if rows.target is None or codec.target.kind == "number":
        return None
    marks = columns_of(torch.from_numpy(rows.target[chosen]), codec).numpy()
    return np.asarray(marks @ marks.T > 0)
