"""Reconstructed queries beside the true ones: how like they are, and a map of both on the plane."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.manifold import TSNE

__all__ = ["cosine_fit", "query_map"]

MOST_POINTS = 300
FEW_POINTS = 15  # rows; below, t-SNE has no neighbourhoods to keep
PERPLEXITY = 30.0
Array = npt.NDArray[np.floating]


def query_map(true: Array, reconstructed: Array, labels: Sequence[Any], *, modality: str) -> dict[str, Any]:
    """One entry of a stream report's "queries".

    true, reconstructed: (n, D), row i of both belongs to the same row of the table; labels: n, of any kind.
    Of more than 300 rows, 300 are drawn evenly. Both kinds of points are laid out together, so that they may be
    compared: by t-SNE, by the two main axes where rows are few. The same arrays give the same map.
    Raises ValueError where the shapes do not fit, or a value is not finite.
    """
    true, reconstructed = _checked(true, reconstructed, labels)
    fit, shuffled = cosine_fit(true, reconstructed)
    chosen = np.unique(np.linspace(0, len(true) - 1, min(len(true), MOST_POINTS)).round().astype(int))
    points, layout = _plane(np.concatenate([true[chosen], reconstructed[chosen]]))
    here, there = np.split(points.round(3), 2)
    return {
        "modality": modality,
        "true": here.tolist(),
        "reconstructed": there.tolist(),
        "labels": [_plain(labels[i]) for i in chosen],
        "fit": fit,
        "fit_shuffled": shuffled,
        "rows": len(true),
        "layout": layout,
    }


def cosine_fit(true: Array, reconstructed: Array) -> tuple[float | None, float | None]:
    """The mean cosine similarity of (n, D) with (n, D) row by row, and that of every row with all the others.

    The second is what a reconstruction reaches that knows nothing of its row. None where it is not defined: no row,
    or a single one that has no other. A row of zeros has similarity 0.
    """
    count = len(true)
    if not count:
        return None, None
    a, b = (_unit(np.asarray(part, dtype=np.float64)) for part in (true, reconstructed))
    own = float((a * b).sum())
    every = float(a.sum(axis=0) @ b.sum(axis=0))  # the mean over all shuffles, without drawing any
    return own / count, (every - own) / (count * (count - 1)) if count > 1 else None


def _plain(label: Any) -> Any:
    """A label that JSON knows."""
    return label.item() if isinstance(label, np.generic) else label


def _checked(true: Array, reconstructed: Array, labels: Sequence[Any]) -> tuple[Array, Array]:
    true, reconstructed = (np.asarray(part, dtype=np.float64) for part in (true, reconstructed))
    if true.ndim != 2 or true.shape != reconstructed.shape or len(labels) != len(true):
        raise ValueError(f"true {true.shape}, reconstructed {reconstructed.shape} and {len(labels)} labels do not fit")
    if not (np.isfinite(true).all() and np.isfinite(reconstructed).all()):
        raise ValueError("queries must be finite numbers")
    return true, reconstructed


def _plane(points: Array) -> tuple[npt.NDArray[np.float64], str]:
    """(2n, 2) places of (2n, D) points and how they were found."""
    if len(points) < 2 * FEW_POINTS or np.ptp(points, axis=0).max(initial=0.0) == 0:
        return _main_axes(points), "pca"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        layout = TSNE(
            perplexity=min(PERPLEXITY, (len(points) - 1) / 3),
            init=_start(points),
            random_state=0,
            n_jobs=1,
        )
        return np.asarray(layout.fit_transform(points), dtype=np.float64), "t-SNE"


def _main_axes(points: Array) -> npt.NDArray[np.float64]:
    """The two axes of greatest spread; zeros for those that are not there."""
    out = np.zeros((len(points), 2))
    axes = min(2, *points.shape)
    if len(points) > 1 and axes and np.ptp(points, axis=0).max() > 0:
        out[:, :axes] = PCA(axes, svd_solver="full").fit_transform(points)
    return out


def _start(points: Array) -> npt.NDArray[np.float32]:
    """Where t-SNE begins: the main axes, as small as its method wants them."""
    axes = _main_axes(points)
    return np.asarray(axes / max(axes[:, 0].std(), 1e-12) * 1e-4, dtype=np.float32)


def _unit(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: npt.NDArray[np.float64] = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    return unit
