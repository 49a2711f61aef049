"""What people do about absent modalities with scikit-learn alone; every choice is made on validation rows.

A peer learns from training rows and is tuned on validation rows, both as the mask plan leaves them, and answers
like our methods: class probabilities (n, K) in the order of the classes, or a standardised number (n, 1).
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from _features import Part
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from absentia.data.target import TargetCodec

__all__ = ["PEERS", "Imputation", "LateFusion", "Peer", "Trees"]

Array = npt.NDArray[Any]

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)  # C of logistic regression
RIDGES = (1e4, 1e3, 1e2, 1e1, 1e0)
SMALLEST = 1e-6  # probability of a class that a model has never seen
WIDE = 256  # columns of a modality beyond which trees get principal components
COMPONENTS = 64
BOOSTED: dict[str, Any] = {  # without the penalty boosting diverges on a hundred small classes
    "max_iter": 300,
    "early_stopping": True,
    "l2_regularization": 1.0,
    "max_features": 0.2,
    "max_bins": 64,
}
GROWN: tuple[dict[str, int], ...] = (
    {"max_leaf_nodes": 8, "min_samples_leaf": 5},
    {"max_leaf_nodes": 31, "min_samples_leaf": 20},
)


class Peer(ABC):
    """One way of living with absent modalities."""

    name: ClassVar[str]

    def __init__(self, codec: TargetCodec, seed: int) -> None:
        self.codec, self.seed = codec, seed
        self.number = codec.target.kind == "number"

    @abstractmethod
    def fit(self, train: Part, val: Part) -> Peer:
        """Learn from `train`, choose by `val`."""

    @abstractmethod
    def answer(self, part: Part) -> Array:
        """(n, K) probabilities or (n, 1) numbers."""

    def _prior(self, rows: int) -> Array:
        return np.repeat(np.asarray(self.codec.prior)[None], rows, axis=0)

    def _wrong(self, answers: Array, y: Array) -> float:
        """How wrong answers are: cross-entropy, or the mean squared difference."""
        if self.number:
            return float(((answers[:, 0] - y) ** 2).mean())
        return float(-np.log(np.maximum(answers[np.arange(len(y)), y], SMALLEST)).mean())

    def _spread(self, model: Any, x: Array) -> Array:
        """A fitted model's answers for any number of rows, in the order of all classes."""
        if not len(x):
            return np.zeros((0, self.codec.target.size))
        if self.number:
            return np.asarray(model.predict(x), dtype=np.float64)[:, None]
        out = np.full((len(x), len(self.codec.target.classes)), SMALLEST)
        out[:, model.classes_] = np.maximum(model.predict_proba(x), SMALLEST)
        return np.asarray(out / out.sum(axis=1, keepdims=True))

    def _linear(self, x: Array, y: Array, x_val: Array, y_val: Array) -> Any:
        """The logistic (ridge) regression whose strength suits the validation rows best."""
        if not len(y_val):
            x_val, y_val = x, y
        fitted = (self._fitted(x, y, strength) for strength in (RIDGES if self.number else STRENGTHS))
        return min(fitted, key=lambda model: self._wrong(self._spread(model, x_val), y_val))

    def _fitted(self, x: Array, y: Array, strength: float) -> Any:
        if self.number:
            return Ridge(alpha=strength).fit(x, y)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # weakly regularised models need not be exact
            return LogisticRegression(C=strength, max_iter=500).fit(x, y)


class LateFusion(Peer):
    """One linear model for each modality; the mean of the log-probabilities (numbers) of those that are present."""

    name = "late fusion"

    def fit(self, train: Part, val: Part) -> LateFusion:
        self.models = {
            name: self._linear(x[there], train.y[there], val.x[name][also], val.y[also])
            for ((name, x), there), also in zip(_columns(train), val.presence.T, strict=True)
            if len(np.unique(train.y[there])) > 1
        }
        return self

    def answer(self, part: Part) -> Array:
        total, count = np.zeros((len(part.y), self.codec.target.size)), np.zeros((len(part.y), 1))
        for (name, x), there in _columns(part):
            if name in self.models:
                said = self._spread(self.models[name], x[there])
                total[there] += said if self.number else np.log(said)
                count[there] += 1
        mean = total / np.maximum(count, 1)
        return np.where(count > 0, mean if self.number else _normalised(mean), self._prior(len(part.y)))


class Trees(Peer):
    """Gradient-boosted trees on all columns side by side, NaN where a modality is absent."""

    name = "trees"

    def fit(self, train: Part, val: Part) -> Trees:
        self.shorten = {name: _shortened(x, there) for (name, x), there in _columns(train)}
        x, x_val = self._wide(train), self._wide(val)
        models = [self._grown(x, train.y, x_val, val.y, size) for size in GROWN]
        self.model = min(models, key=lambda model: self._wrong(self._spread(model, x_val), val.y))
        return self

    def answer(self, part: Part) -> Array:
        return self._spread(self.model, self._wide(part))

    def _grown(self, x: Array, y: Array, x_val: Array, y_val: Array, size: dict[str, int]) -> Any:
        kind = HistGradientBoostingRegressor if self.number else HistGradientBoostingClassifier
        known = np.ones(len(y_val), dtype=np.bool_) if self.number else np.isin(y_val, y)
        trees = kind(**size, **BOOSTED, random_state=self.seed)
        return trees.fit(x, y, X_val=x_val[known], y_val=y_val[known])

    def _wide(self, part: Part) -> Array:
        return np.concatenate([self.shorten[name](x, there) for (name, x), there in _columns(part)], axis=1)


class Imputation(Peer):
    """The mean in place of what is absent, with a column for each modality that says so, and one linear model."""

    name = "imputation"

    def fit(self, train: Part, val: Part) -> Imputation:
        self.mean = np.nan_to_num(np.nanmean(train.wide(), axis=0)) if len(train.y) else 0.0
        self.model = self._linear(self._filled(train), train.y, self._filled(val), val.y)
        return self

    def answer(self, part: Part) -> Array:
        return self._spread(self.model, self._filled(part))

    def _filled(self, part: Part) -> Array:
        x = part.wide()
        return np.concatenate([np.where(np.isnan(x), self.mean, x), part.presence], axis=1).astype(np.float32)


PEERS: dict[str, type[Peer]] = {kind.name: kind for kind in (LateFusion, Trees, Imputation)}


def _columns(part: Part) -> Iterator[tuple[tuple[str, Array], Array]]:
    """Name and matrix of each modality, and which rows have it, bool (N,)."""
    return zip(part.x.items(), part.presence.T, strict=True)


def _normalised(logs: Array) -> Array:
    """Logarithms (n, K) to probabilities."""
    raised = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _shortened(x: Array, there: Array) -> Callable[[Array, Array], Array]:
    """The function that keeps a modality's columns as they are, or its leading principal components if it is wide."""
    if x.shape[1] <= WIDE or there.sum() <= COMPONENTS:
        return lambda x, there: x
    pca = PCA(COMPONENTS, random_state=0).fit(x[there])

    def shorter(x: Array, there: Array) -> Array:
        out = np.full((len(x), COMPONENTS), np.nan, dtype=np.float32)
        if there.any():
            out[there] = pca.transform(x[there])
        return out

    return shorter
