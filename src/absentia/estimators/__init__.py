"""Training and answering from Python, with the conventions of scikit-learn: a classifier, a labeler, a regressor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import r2_score

from absentia.data.schema import Target, TargetKind
from absentia.data.target import is_known
from absentia.errors import UserError
from absentia.estimators.answers import class_names
from absentia.estimators.base import Multimodal
from absentia.estimators.robustness import Robustness

__all__ = ["MultimodalClassifier", "MultimodalLabeler", "MultimodalRegressor", "Robustness"]

Array = npt.NDArray[Any]


@dataclass(kw_only=True, eq=False, repr=False)
class MultimodalClassifier(ClassifierMixin, Multimodal):  # type: ignore[misc]
    """One of several classes from rows in which modalities may be absent.

    `classes_` holds the classes, sorted and of the type that the target has. For the parameters and for what else
    is known after `fit` see `Multimodal`.

    >>> import pandas as pd
    >>> from absentia import Tabular, Text
    >>> rows = pd.DataFrame({"plot": ["a shark", None, "a kiss", "teeth"] * 9, "year": [1975, 1975, 1942, None] * 9})
    >>> rows["genre"] = ["horror", "horror", "romance", "horror"] * 9
    >>> model = MultimodalClassifier({"plot": Text(), "facts": Tabular(["year"])}, width=16, depth=1, epochs=1)
    >>> model.fit(rows, target="genre").classes_.tolist()
    ['horror', 'romance']
    >>> model.predict_proba(pd.DataFrame({"plot": ["a shark"], "year": [None]})).shape
    (1, 2)
    """

    classes_: Array = field(init=False)
    target_kind: ClassVar[TargetKind] = "class"

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Probabilities (N, K), columns in the order of `classes_`; the class shares where nothing is present."""
        shares = self._answered(X).probabilities
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    def predict(self, X: Any) -> Array:
        """The most probable class of each row (N,)."""
        best = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def score(self, X: Any, y: Any = None) -> float:
        """Accuracy on the rows whose answer is known: `y` (N,), or the target's column of `X`."""
        return self._main_score(X, y)

    def _target(self, column: str, cells: Sequence[Any], labels: list[Any] | None) -> tuple[Target, Array]:
        for cell in cells:
            if isinstance(cell, (list, dict)):
                raise UserError(f"target {column!r} holds {cell!r}; MultimodalLabeler is for several labels")
            if isinstance(cell, float) and not cell.is_integer():
                raise UserError(f"target {column!r} holds numbers like {cell!r}; MultimodalRegressor is for those")
        values = sorted(set(cells))
        return Target(column=column, kind="class", classes=class_names(values)), np.asarray(values)


@dataclass(kw_only=True, eq=False, repr=False)
class MultimodalLabeler(ClassifierMixin, Multimodal):  # type: ignore[misc]
    """Any number of several labels. The target is a column of lists, or `y` of ones and zeros (N, K).

    `classes_` holds the labels: sorted, or in the order of the columns of `y`. For the parameters and for what else
    is known after `fit` see `Multimodal`.
    """

    classes_: Array = field(init=False)
    target_kind: ClassVar[TargetKind] = "labels"

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """The probability of each label (N, K), columns in the order of `classes_`."""
        return self._answered(X).probabilities

    def predict(self, X: Any) -> npt.NDArray[np.int64]:
        """One where a label holds, else zero: (N, K)."""
        return (self.predict_proba(X) >= 0.5).astype(np.int64)

    def predict_labels(self, X: Any) -> list[list[Any]]:
        """The labels of each row, as lists."""
        return [self.classes_[row > 0].tolist() for row in self.predict(X)]

    def score(self, X: Any, y: Any = None) -> float:
        """Macro F1 on the rows whose answer is known: `y`, or the target's column of `X`."""
        return self._main_score(X, y)

    def _target(self, column: str, cells: Sequence[Any], labels: list[Any] | None) -> tuple[Target, Array]:
        for cell in cells:
            if not isinstance(cell, list):
                raise UserError(f"target {column!r} holds {cell!r}, no list; MultimodalClassifier is for one class")
        values = labels or sorted({label for cell in cells for label in cell if is_known(label)})
        if cells and not values:
            raise UserError(f"target {column!r} holds no label at all: every list is empty")
        return Target(column=column, kind="labels", classes=class_names(values)), np.asarray(values)


@dataclass(kw_only=True, eq=False, repr=False)
class MultimodalRegressor(RegressorMixin, Multimodal):  # type: ignore[misc]
    """A number from rows in which modalities may be absent.

    log: learn the logarithm of a positive number, such as a price; answers are in its own units all the same.
    For the other parameters and for what is known after `fit` see `Multimodal`.
    """

    log: bool = False
    target_kind: ClassVar[TargetKind] = "number"

    def predict(self, X: Any) -> npt.NDArray[np.float64]:
        """The number of each row (N,); the mean of the training rows where nothing is present."""
        learned = self._answered(X).probabilities[:, 0]
        return np.asarray(self.run_.fitted.codec.number(learned), dtype=np.float64)

    def score(self, X: Any, y: Any = None) -> float:
        """R² on the rows whose answer is known: `y` (N,), or the target's column of `X`."""
        known, cells = self._truth(X, y)
        self.run_.fitted.codec.encode(cells)  # says which cell is no number
        return float(r2_score(np.asarray(cells, dtype=np.float64), self.predict(X)[known]))

    def _target(self, column: str, cells: Sequence[Any], labels: list[Any] | None) -> tuple[Target, None]:
        return Target(column=column, kind="number", log=self.log), None
