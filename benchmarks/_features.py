"""Modalities as plain numbers: one matrix each, what scikit-learn asks for.

Vectors and columns as they are (categories one-hot), series and sounds flattened (averaged over 16 spans
where their lengths differ), pictures as pixels, texts as tf-idf, or what a frozen encoder makes of them. Every
cell of the complete table is read once; scaling and the words of tf-idf are learned from the training rows that
a mask plan keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import StandardScaler

from absentia.data.batch import Batch
from absentia.data.rows import Rows, present_cells
from absentia.learn.prepare import Prepared

__all__ = ["Part", "parts_under", "read_parts"]

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]

SPANS = 16  # that a series of any length is averaged over
LONGEST = 4096  # numbers of a series that is taken as it is
WORDS = 2000
AT_ONCE = 256


@dataclass(frozen=True)
class Part:
    """The rows of a split.

    x: per modality (N, F), NaN where it is absent; texts, before they are words, are (N,).  presence: bool (N, M).
    y: (N,) as the target codec encodes it.  ids: (N,).
    """

    x: Mapping[str, Array]
    presence: Bools
    y: Array
    ids: list[str]

    def under(self, pattern: Bools) -> Part:
        """The rows that have at least `pattern` (M,), with nothing else shown."""
        able = np.flatnonzero((self.presence | ~pattern).all(axis=1))
        shown = np.broadcast_to(pattern, (len(able), len(pattern)))
        x = {name: _hidden(part[able], shown[:, m]) for m, (name, part) in enumerate(self.x.items())}
        return Part(x=x, presence=shown, y=self.y[able], ids=[self.ids[i] for i in able])

    def wide(self) -> Array:
        """All modalities side by side, float32 (N, sum of F)."""
        return np.concatenate(list(self.x.values()), axis=1).astype(np.float32)


def read_parts(data: Prepared) -> dict[str, Part]:
    """Every split with all that its rows have, texts still as they are."""
    matrices: dict[str, dict[str, Array]] = {split: {} for split in data.rows}
    for name in data.names:
        for split, matrix in _read(data, name).items():
            matrices[split][name] = matrix
    return {
        split: Part(x=matrices[split], presence=rows.presence, y=_target(rows), ids=rows.ids)
        for split, rows in data.rows.items()
    }


def parts_under(parts: Mapping[str, Part], presence: Mapping[str, Bools]) -> dict[str, Part]:
    """The splits as a plan leaves them (bool (N, M) by split), standardised by what training rows keep."""
    columns: dict[str, dict[str, Array]] = {split: {} for split in parts}
    for m, name in enumerate(parts["train"].x):
        kept = {split: parts[split].presence[:, m] & presence[split][:, m] for split in parts}
        learner = _learner(parts["train"].x[name]).fit(parts["train"].x[name][kept["train"]])
        for split, part in parts.items():
            columns[split][name] = _applied(learner, part.x[name], kept[split])
    return {
        split: replace(part, x=columns[split], presence=part.presence & presence[split])
        for split, part in parts.items()
    }


def _read(data: Prepared, name: str) -> dict[str, Array]:
    """A modality's matrix in every split, from the batches that a model would get."""
    kind = data.fitted.schema.modalities[name]
    if kind.kind == "text" and not kind.encoder:
        return {split: _texts(rows, name) for split, rows in data.rows.items()}
    m = data.names.index(name)
    found = {split: [b.inputs[name] for b in _batches(rows) if name in b.inputs] for split, rows in data.rows.items()}
    arrays = [{k: t.numpy() for k, t in inputs.items()} for each in found.values() for inputs in each]
    flat = _flattener(arrays, data, name)
    filled = {}
    for split, each in found.items():
        present = [flat({k: t.numpy() for k, t in inputs.items()}) for inputs in each]
        filled[split] = _spread(present, data.rows[split].presence[:, m], flat(arrays[0]).shape[1])
    return filled


def _batches(rows: Rows) -> list[Batch]:
    return list(rows.batches(AT_ONCE))


def _flattener(arrays: list[dict[str, Array]], data: Prepared, name: str) -> Any:
    """The function that makes (n, F) of collated inputs (n, ...), the same for all batches of a modality."""
    if "pixels" in arrays[0]:
        return lambda one: one["pixels"].reshape(len(one["pixels"]), -1) / np.float32(255)
    if "features" in arrays[0]:
        return lambda one: one["features"].reshape(len(one["features"]), -1)
    if "numbers" in arrays[0]:
        holes = np.any([one["holes"].any(axis=0) for one in arrays], axis=0)
        sizes = data.fitted.decoders[name].category_sizes  # type: ignore[attr-defined]
        return lambda one: _columns(one, holes, sizes)
    steps = {one["steps"].shape[1] for one in arrays}
    same = len(steps) == 1 and all(one["mask"].all() for one in arrays)
    if same and arrays[0]["steps"][0].size <= LONGEST:
        return lambda one: one["steps"].reshape(len(one["steps"]), -1)
    return _averaged


def _columns(one: Mapping[str, Array], holes: Bools, sizes: list[int]) -> Array:
    """Numbers, which of them are holes where there are any, and categories one-hot."""
    codes = [np.eye(size, dtype=np.float32)[one["categories"][:, i]] for i, size in enumerate(sizes)]
    return np.concatenate([one["numbers"], one["holes"][:, holes].astype(np.float32), *codes], axis=1)


def _averaged(one: Mapping[str, Array]) -> Array:
    """Steps (n, T, C) to means over 16 spans of each row's own length, (n, 16 C)."""
    out = []
    for steps, real in zip(one["steps"], one["mask"], strict=True):
        known = steps[real]
        starts = np.linspace(0, len(known), SPANS, endpoint=False).astype(int)
        ends = np.maximum(np.append(starts[1:], len(known)), starts + 1)
        out.append(np.stack([known[a:b].mean(axis=0) for a, b in zip(starts, ends, strict=True)]).ravel())
    return np.stack(out)


def _spread(present: list[Array], there: Bools, width: int) -> Array:
    out = np.full((len(there), width), np.nan, dtype=np.float32)
    if present:
        out[there] = np.concatenate(present)
    return out


def _texts(rows: Rows, name: str) -> Array:
    out = np.full(len(rows), "", dtype=object)
    out[rows.presence[:, rows.schema.names.index(name)]] = list(present_cells(rows, name))
    return out


def _target(rows: Rows) -> Array:
    assert rows.target is not None
    return rows.target


def _learner(x: Array) -> Any:
    if x.dtype == object:
        return TfidfVectorizer(max_features=WORDS, ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+")
    return StandardScaler()


def _applied(learner: Any, x: Array, kept: Bools) -> Array:
    made = learner.transform(x[kept]) if kept.any() else learner.transform(x[:1])[:0]
    if isinstance(learner, TfidfVectorizer):  # rows of length 1 beside standardised ones of length sqrt(F)
        made = made.toarray() * np.sqrt(made.shape[1])
    return _spread([made], kept, made.shape[1])


def _hidden(x: Array, shown: Bools) -> Array:
    return np.where(shown[:, None], x, np.float32(np.nan))
