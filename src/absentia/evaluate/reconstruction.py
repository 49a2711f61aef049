"""What a method makes of contrasts that are hidden from it, beside what they truly are and beside the mean image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from absentia.data.batch import Batch
from absentia.data.dense_rows import DenseRows
from absentia.data.rows import Rows
from absentia.data.schema import pattern_name
from absentia.evaluate.pictures import Cut, difference, picture
from absentia.evaluate.slices import chosen_rows
from absentia.evaluate.windows import dense_imagined
from absentia.methods.base import Method

__all__ = ["reconstruction"]

VOXELS = 2**26  # of all contrasts of the rows that errors are measured on
TESTED, FEWEST = 64, 3  # rows at most, and where they are large
TIMES = 4  # as many training rows make the mean image
SHOWN, LEAST = 2, 3  # rows with pictures; of each contrast, patterns with the fewest others
Bools = npt.NDArray[np.bool_]
Errors = dict[str, list[tuple[float, float]]]
"""Per contrast and row the error of the reconstruction, and that of the mean image."""


@torch.inference_mode()
def reconstruction(method: Method, rows: Rows, train: Rows, patterns: Bools) -> dict[str, Any] | None:
    """How far off reconstructions are, and pictures of some; None for a method that makes no voxels.

    The error is the mean absolute one of brightness (0 to 1) where any contrast of a row is above 0. Beside it stands
    that of the mean image of training rows, or where rows differ in size, of their mean brightness.
    """
    if not isinstance(rows, DenseRows) or not isinstance(train, DenseRows):
        return None
    method.eval()
    tested = _spread(rows, 2, TESTED)
    patterns = patterns[patterns.any(axis=1) & ~patterns.all(axis=1)]
    if not _makes_something(method, tested, patterns):
        return None
    usual = _usual(_spread(train, 1, TIMES * TESTED), tested)
    return {
        "usual": usual.name,
        "train_rows": usual.rows,
        "rows": len(tested),
        "patterns": list(_lines(method, tested, patterns, usual)),
        "shown": [_shown(method, rows, position, patterns) for position in chosen_rows(rows)[:SHOWN]],
    }


def _spread(rows: DenseRows, contrasts: int, most: int) -> DenseRows:
    """Some of the rows that have so many contrasts, evenly spread; fewer where they are large."""
    places = np.flatnonzero(rows.presence.sum(axis=1) >= contrasts)
    size = max((math.prod(rows.space(int(p))) for p in places), default=1) * len(rows.schema.names)
    share = most / TESTED
    count = min(len(places), most, max(round(share * FEWEST), round(share * VOXELS) // size))
    chosen = np.zeros(len(rows), dtype=np.bool_)
    chosen[places[np.linspace(0, len(places) - 1, count).astype(int)]] = True
    found = rows.where(chosen)
    assert isinstance(found, DenseRows)
    return found


def _makes_something(method: Method, rows: DenseRows, patterns: Bools) -> bool:
    for positions in rows.portions(1):
        for _, _, part in _hidden(method, rows.batch(positions), patterns):
            return bool(dense_imagined(method, part))
    return False


def _hidden(method: Method, batch: Batch, patterns: Bools) -> Iterator[tuple[int, Tensor, Batch]]:
    """Of each pattern its number, the rows that have more than it, bool (B,), and these rows with nothing more."""
    for number, pattern in enumerate(torch.from_numpy(patterns)):
        able = (batch.presence | ~pattern).all(dim=1) & (batch.presence & ~pattern).any(dim=1)
        if able.any():
            yield number, able, batch.select(able, method.parts.names).restrict(pattern, method.parts.names)


def _truths(batch: Batch, names: Sequence[str]) -> list[dict[str, Tensor]]:
    """Of each row the contrasts that it has, (C, *space)."""
    of_row: list[dict[str, Tensor]] = [{} for _ in range(len(batch))]
    for m, name in enumerate(names):
        for place, row in enumerate(batch.presence[:, m].nonzero()[:, 0].tolist()):
            of_row[row][name] = batch.inputs[name]["voxels"][place]
    return of_row


def _head(truth: Mapping[str, Tensor]) -> Tensor:
    """Where any contrast of a row is above 0, bool (*space); everywhere if none is."""
    found = torch.stack([(x > 0).any(dim=0) for x in truth.values()]).any(dim=0)
    return found if found.any() else ~found


# ------------------------------------------------------------------------------------------------- the mean image


@dataclass(frozen=True)
class _Usual:
    """What may be said of a contrast without looking at its row: means (C, *space), or (C, 1, ...) of brightness."""

    name: str
    rows: int
    means: Mapping[str, Tensor]


def _usual(train: DenseRows, rows: DenseRows) -> _Usual:
    alike = len({part.space(p) for part in (train, rows) for p in range(len(part))}) == 1
    sums: dict[str, Tensor] = {}
    counts: dict[str, float] = {}
    for batch in train.batches(TESTED):
        for truth in _truths(batch, train.schema.names):
            head = _head(truth)
            for name, x in truth.items():
                part = x.double() if alike else x[:, head].double().sum(dim=1).view(-1, *[1] * head.dim())
                sums[name] = sums[name] + part if name in sums else part
                counts[name] = counts.get(name, 0.0) + (1.0 if alike else float(head.sum()))
    means = {name: (total / counts[name]).float() for name, total in sums.items()}
    return _Usual("mean image" if alike else "mean brightness", len(train), means)


# ---------------------------------------------------------------------------------------------------- the figures


def _lines(method: Method, rows: DenseRows, patterns: Bools, usual: _Usual) -> Iterator[dict[str, Any]]:
    """Of each pattern and hidden contrast the mean over rows of both errors."""
    names = method.parts.names
    found: list[Errors] = [{} for _ in patterns]
    for batch in rows.batches(TESTED):
        truths = _truths(batch, names)
        for number, able, part in _hidden(method, batch, patterns):
            for name, made in dense_imagined(method, part).items():
                for guess, row in zip(made.cpu(), able.nonzero()[:, 0].tolist(), strict=True):
                    if name in truths[row]:
                        both = _errors(guess, usual.means.get(name), truths[row], name)
                        found[number].setdefault(name, []).append(both)
    for pattern, errors in zip(patterns, found, strict=True):
        yield {
            "pattern": pattern_name(names, pattern.tolist()),
            "present": dict(zip(names, pattern.tolist(), strict=True)),
            "errors": {name: _mean(errors[name]) for name in names if name in errors},
        }


def _errors(guess: Tensor, usual: Tensor | None, truth: Mapping[str, Tensor], name: str) -> tuple[float, float]:
    head, true = _head(truth), truth[name]
    off = (guess - true).abs()[:, head].mean()
    return float(off), math.nan if usual is None else float((usual - true).abs()[:, head].mean())


def _mean(errors: Sequence[tuple[float, float]]) -> dict[str, Any]:
    made, usual = np.asarray(errors).mean(axis=0).tolist()
    return {"n": len(errors), "error": made, "usual": None if math.isnan(usual) else usual}


# --------------------------------------------------------------------------------------------------- the pictures


def _shown(method: Method, rows: DenseRows, position: int, patterns: Bools) -> dict[str, Any]:
    names = method.parts.names
    batch = rows.batch(np.asarray([position]))
    assert batch.target is not None
    truth, cut = _truths(batch, names)[0], Cut(batch.target[0].numpy() > 0.5)
    return {
        "id": rows.ids[position],
        "contrasts": [
            {
                "name": name,
                "truth": picture(cut(x.mean(dim=0).numpy())),
                "made": [_made(method, batch, truth, cut, name, p) for p in _few(patterns, truth, names, name)],
            }
            for name, x in truth.items()
            if len(truth) > 1
        ],
    }


def _few(patterns: Bools, truth: Mapping[str, Tensor], names: Sequence[str], name: str) -> list[Bools]:
    """Without a contrast: all others that the row has, and patterns with the fewest of them."""
    have = np.asarray([other in truth and other != name for other in names])
    able = [p for p in patterns if (have | ~p).all() and (p != have).any()]
    return [have, *sorted(able, key=lambda p: -int(p.sum()))[-LEAST:]]


def _made(
    method: Method, batch: Batch, truth: Mapping[str, Tensor], cut: Cut, name: str, pattern: Bools
) -> dict[str, Any]:
    names = method.parts.names
    made = dense_imagined(method, batch.restrict(torch.from_numpy(pattern), names))[name][0].cpu()
    true, guess = (cut(x.mean(dim=0).numpy()) for x in (truth[name], made))
    return {
        "present": dict(zip(names, pattern.tolist(), strict=True)),
        "error": _errors(made, None, truth, name)[0],
        "src": picture(guess),
        "off": difference(guess, true) if pattern.sum() == len(truth) - 1 else "",
    }
