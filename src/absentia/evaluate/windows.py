"""Scores of every voxel of whole rows: at once, or where they are large in windows that slide over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from absentia.data.batch import Batch
from absentia.errors import extra
from absentia.layers.heads import uncertainty_of
from absentia.methods.base import Method

__all__ = ["dense_scores"]

WINDOWS = 2  # that go through a network together


def dense_scores(
    method: Method, batch: Batch, *, advance: Callable[[], object] = lambda: None
) -> tuple[Tensor, Tensor]:
    """Scores (B, K, *space) and uncertainty (B,) of whole rows; `advance` hears of every window.

    A window sees what its row has and nothing else; no network ever sees more than 2 windows at once.
    """
    window = method.parts.codec.target.masks.sides("window", len(batch.space))
    batch = batch.to(method.prior.device)
    if window is None or all(n <= side for n, side in zip(batch.space, window, strict=True)):
        output = method(batch)
        return output.scores.float(), output.uncertainty
    names = method.parts.names
    rows = [batch.select(torch.arange(len(batch), device=batch.index.device) == i, names) for i in range(len(batch))]
    parts = [_slid(method, row, window, advance) for row in rows]
    return torch.cat([scores for scores, _ in parts]), torch.cat([unsure for _, unsure in parts])


def _slid(method: Method, row: Batch, window: Sequence[int], advance: Callable[[], object]) -> tuple[Tensor, Tensor]:
    if bool(row.empty[0]):
        output = method(row)
        return output.scores, output.uncertainty
    with extra("mri", "windows over volumes"):
        from monai.inferers.utils import sliding_window_inference
    masks = method.parts.codec.target.masks
    scores = sliding_window_inference(
        inputs=torch.cat([inputs["voxels"] for inputs in row.inputs.values()], dim=1),
        roi_size=[min(n, side) for n, side in zip(row.space, window, strict=True)],
        sw_batch_size=WINDOWS,
        predictor=_Seen(method, row, advance),
        overlap=masks.overlap,
        mode="gaussian",
        with_coord=True,
    )
    assert isinstance(scores, Tensor)
    return scores.float(), uncertainty_of(scores, method.parts.codec)


@dataclass(frozen=True)
class _Seen:
    """Answers windows of one row."""

    method: Method
    row: Batch
    advance: Callable[[], object]

    def __call__(self, windows: Tensor, places: Sequence[Sequence[slice]]) -> Tensor:
        """Windows (n, channels of what is present, *sides) to scores (n, K, *sides); where each one begins."""
        widths = [inputs["voxels"].shape[1] for inputs in self.row.inputs.values()]
        parts = dict(zip(self.row.inputs, torch.split(windows, widths, dim=1), strict=True))
        seen = replace(
            self.row,
            presence=self.row.presence.expand(len(windows), -1),
            inputs={name: {"voxels": x} for name, x in parts.items()},
            index=self.row.index.expand(len(windows)),
            target=None,
            memo=None,
            places=None,
            space=tuple(windows.shape[2:]),
            corner=torch.tensor([[p.start for p in place[2:]] for place in places], device=windows.device),
        )
        for _ in places:
            self.advance()
        scores: Tensor = self.method(seen).scores
        return scores
