"""Answers and truth of a mask, voxel by voxel, kept as a few numbers per row: from these every score is made.

Rows of one entity are one subject: the slices of a patient count as one volume.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from absentia.data.segmentation import Masks
from absentia.data.target import TargetCodec

__all__ = ["FIELDS", "hd95", "overlaps", "region_scores", "resampled_dice", "subject_dice", "taken_back"]

FIELDS = ("in common", "answered", "true", "hd95")
Array = npt.NDArray[np.float64]


def taken_back(chosen: Tensor, codec: TargetCodec) -> Tensor:
    """Answers bool (B, K, *space) without those of a region that have too few voxels (`fewest`)."""
    fewest = [codec.target.masks.fewest.get(name, 0) for name in codec.target.classes]
    enough = chosen.flatten(2).sum(dim=2) >= torch.tensor(fewest, device=chosen.device)
    return chosen & enough.view(*enough.shape, *(1 for _ in chosen.shape[2:]))


def overlaps(
    chosen: Tensor, truth: Tensor, spacing: Sequence[Sequence[float]] | None = None, lone: float | None = None
) -> Tensor:
    """(B, K, 4) from answers and truth (B, K, *space): voxels in common, answered and true, and HD95 in mm.

    spacing: of each row in mm; None leaves HD95 out (NaN).  lone: HD95 where exactly one side is empty, and then it is
    0 where both are; None makes it NaN wherever a side is empty, which does not count.
    """
    a, t = chosen.flatten(2), truth.flatten(2) > 0.5
    counts = torch.stack([(a & t).sum(dim=2), a.sum(dim=2), t.sum(dim=2)], dim=2).double()
    far = torch.full((*counts.shape[:2], 1), torch.nan, dtype=torch.float64)
    if spacing is not None:
        if lone is not None:
            far[(counts[..., 1] == 0) & (counts[..., 2] == 0)] = 0.0
            far[(counts[..., 1] == 0) ^ (counts[..., 2] == 0)] = lone
        for row, k in ((counts[..., 1] > 0) & (counts[..., 2] > 0)).nonzero().tolist():
            far[row, k, 0] = hd95(chosen[row, k].cpu().numpy(), (truth[row, k] > 0.5).cpu().numpy(), spacing[row])
    return torch.cat([counts.cpu(), far], dim=2)


def subject_dice(overlap: Array, ids: Sequence[str], masks: Masks) -> tuple[Array, npt.NDArray[np.int64]]:
    """Dice (S, K) of each subject from (n, K, 4), and the subject of each row (n,); NaN does not count."""
    subjects, of_row = np.unique(np.asarray(ids, dtype=np.str_), return_inverse=True)
    sums = np.zeros((len(subjects), overlap.shape[1], 3))
    np.add.at(sums, of_row, overlap[..., :3])
    both = sums[..., 1] + sums[..., 2]
    empty = {"one": 1.0, "zero": 0.0, "nan": np.nan}[masks.empty]
    return np.divide(2 * sums[..., 0], both, out=np.full(both.shape, empty), where=both > 0), of_row


def region_scores(overlap: Array, ids: Sequence[str], codec: TargetCodec) -> dict[str, float | None]:
    """All metrics by name: Dice (the mean over regions, then subjects), Dice and HD95 of each region.

    Of regions with `fewest` also `dice_post`, their Dice once small answers are taken back.
    """
    names, masks = codec.target.classes, codec.target.masks
    dice, of_row = subject_dice(overlap, ids, masks)
    far = np.full(dice.shape, np.nan)
    for k in range(len(names)):
        known = ~np.isnan(overlap[:, k, 3])
        sums, counts = (
            np.bincount(of_row[known], weights=w, minlength=len(dice)) for w in (overlap[known, k, 3], None)
        )
        np.divide(sums, counts, out=far[:, k], where=counts > 0)
    out: dict[str, float | None] = {"dice": _mean(_rows(dice)), "hd95": _mean(_rows(far))}
    if len(names) > 1:
        out |= {f"dice {name}": _mean(dice[:, k]) for k, name in enumerate(names)}
        out |= {f"hd95 {name}": _mean(far[:, k]) for k, name in enumerate(names)}
    after = subject_dice(_post(overlap, codec), ids, masks)[0] if masks.fewest else dice
    post = {name: _mean(after[:, k]) for k, name in enumerate(names) if name in masks.fewest}
    return out | {f"dice_post {name}" if len(names) > 1 else "dice_post": value for name, value in post.items()}


def _post(overlap: Array, codec: TargetCodec) -> Array:
    """What is kept of answers of which small ones are taken back."""
    fewest = np.asarray([codec.target.masks.fewest.get(name, 0) for name in codec.target.classes])
    out, few = overlap.copy(), overlap[..., 1] < fewest
    out[few, :2] = 0
    return out


def hd95(answer: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_], spacing: Sequence[float]) -> float:
    """The 95th percentile of the distances between two surfaces, in mm, the larger of both ways; neither is empty."""
    sides = [
        np.flatnonzero((answer | truth).any(axis=tuple(b for b in range(answer.ndim) if b != a)))
        for a in range(answer.ndim)
    ]
    box = tuple(slice(s[0], s[-1] + 1) for s in sides)
    edges = [_edge(np.pad(x[box], 1)) for x in (answer, truth)]
    far = [ndimage.distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    return float(max(np.percentile(far[1][edges[0]], 95), np.percentile(far[0][edges[1]], 95)))


def _edge(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    return np.asarray(mask & ~ndimage.binary_erosion(mask))


def _rows(values: Array) -> Array:
    """The mean over the regions of each subject that count, (S,)."""
    known = ~np.isnan(values)
    counts = known.sum(axis=1)
    sums = np.where(known, values, 0).sum(axis=1)
    mean: Array = np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)
    return mean


def _mean(values: Array) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def resampled_dice(overlap: Array, ids: Sequence[str], codec: TargetCodec) -> tuple[Array, Array]:
    """For a bootstrap over subjects: each row's share of its subject (n,), and its subject's Dice (n,)."""
    dice, of_row = subject_dice(overlap, ids, codec.target.masks)
    return 1 / np.bincount(of_row)[of_row], _rows(dice)[of_row]
