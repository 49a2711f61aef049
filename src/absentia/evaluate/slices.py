"""Slices for people to look at: the contrasts of a row, its true mask, and what is answered under every pattern."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from absentia.data.batch import Batch
from absentia.data.dense_rows import DenseRows
from absentia.data.kinds.base import Array
from absentia.data.rows import Rows
from absentia.data.schema import pattern_name
from absentia.evaluate.overlap import overlaps, subject_dice
from absentia.evaluate.pictures import COLOURS, Cut, hexadecimal, picture
from absentia.evaluate.windows import dense_scores
from absentia.methods.base import Method

__all__ = ["chosen_rows", "slices"]

ROWS, PATTERNS = 3, 15
Bools = npt.NDArray[np.bool_]


@torch.inference_mode()
def slices(method: Method, rows: Rows, patterns: Bools) -> list[dict[str, Any]]:
    """Up to 3 rows, of a large, a usual and a small mask, under up to 15 patterns; none where targets are no masks."""
    if not isinstance(rows, DenseRows):
        return []
    method.eval()
    return [_shown(method, rows, position, patterns[:PATTERNS]) for position in chosen_rows(rows)]


def chosen_rows(rows: DenseRows) -> list[int]:
    """Rows of different entities that have a mask, and if possible everything else."""
    assert rows.target is not None
    sizes, have = rows.target.sum(axis=1), rows.presence.sum(axis=1)
    able = [int(p) for p in np.lexsort((np.arange(len(rows)), -sizes, -have)) if sizes[p] and have[p]]
    able = [p for p in able if have[p] == have[able[0]]]
    first = {rows.ids[p]: p for p in reversed(able)}  # of each entity the row with most of it
    found = sorted(first.values(), key=lambda p: (-int(sizes[p]), p))
    return list(dict.fromkeys(found[i] for i in (0, len(found) // 2, len(found) - 1)))[:ROWS] if found else []


def _shown(method: Method, rows: DenseRows, position: int, patterns: Bools) -> dict[str, Any]:
    batch = rows.batch(np.asarray([position]))
    assert batch.target is not None
    truth = batch.target[0].numpy() > 0.5
    cut = Cut(truth)
    scans = {name: cut(x["voxels"][0].mean(dim=0).numpy()) for name, x in batch.inputs.items()}
    ground = np.mean(list(scans.values()), axis=0)
    there = [p for p in patterns if (rows.presence[position] | ~p).all()]
    return {
        "id": rows.ids[position],
        "scans": {name: picture(scan) for name, scan in scans.items()},
        "absent": [n for n, here in zip(rows.schema.names, rows.presence[position], strict=True) if not here],
        "truth": picture(ground, [cut(t) for t in truth], truth=True),
        "answers": list(_answers(method, batch, there, ground, cut)),
        "regions": dict(zip(method.parts.codec.target.classes, map(hexadecimal, COLOURS), strict=False)),
    }


def _answers(method: Method, batch: Batch, patterns: list[Bools], ground: Array, cut: Cut) -> Iterator[dict[str, Any]]:
    names, codec = method.parts.names, method.parts.codec
    assert batch.target is not None
    outline = [cut(t) for t in batch.target[0].numpy() > 0.5]
    for pattern in patterns:
        scores, _ = dense_scores(method, batch.restrict(torch.from_numpy(pattern), names))
        chosen = (scores > 0).cpu()
        dice, _ = subject_dice(overlaps(chosen, batch.target).numpy(), ["row"], codec.target.masks)
        yield {
            "pattern": pattern_name(names, pattern.tolist()),
            "present": dict(zip(names, pattern.tolist(), strict=True)),
            "dice": float(np.nanmean(dice)) if (~np.isnan(dice)).any() else None,
            "src": picture(ground, [cut(c) for c in chosen[0].numpy()], outline),
        }
