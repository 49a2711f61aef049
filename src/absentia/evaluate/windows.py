"""Scores of every voxel of whole rows: at once, or where they are large in windows that slide over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from absentia.data.batch import Batch
from absentia.errors import extra
from absentia.layers.heads import uncertainty_of
from absentia.methods.base import Method

__all__ = ["dense_imagined", "dense_scores"]

WINDOWS = 2  # that go through a network together


def dense_scores(
    method: Method, batch: Batch, *, advance: Callable[[], object] = lambda: None
) -> tuple[Tensor, Tensor]:
    """Scores (B, K, *space) and uncertainty (B,) of whole rows; `advance` hears of every window.

    A window sees what its row has and nothing else; no network ever sees more than 2 windows at once.
    """
    batch = batch.to(method.prior.device)
    if not _is_large(method, batch):
        output = method(batch)
        return output.scores.float(), output.uncertainty
    parts = [_scored(method, row, advance) for row in _one_by_one(method, batch)]
    return torch.cat([scores for scores, _ in parts]), torch.cat([unsure for _, unsure in parts])


def dense_imagined(method: Method, batch: Batch) -> dict[str, Tensor]:
    """Per modality voxels (B, C, *space) of what all these rows lack, as a method that imagines it does.

    The rows lack the same and have something.
    """
    batch = batch.to(method.prior.device)
    if not _is_large(method, batch):
        return {name: made.float() for name, made in method.imagined(batch).items() if len(made)}
    widths: dict[str, int] = {}

    def together(windows: Batch) -> Tensor:
        made = {name: part for name, part in method.imagined(windows).items() if len(part)}
        widths.update({name: part.shape[1] for name, part in made.items()})
        return torch.cat([*made.values(), torch.zeros(len(windows), 1, *windows.space, device=batch.index.device)], 1)

    whole = torch.cat([_slid(method, row, together).float() for row in _one_by_one(method, batch)])
    return dict(zip(widths, torch.split(whole[:, :-1], list(widths.values()), dim=1), strict=True))


def _scored(method: Method, row: Batch, advance: Callable[[], object]) -> tuple[Tensor, Tensor]:
    if bool(row.empty[0]):
        output = method(row)
        return output.scores, output.uncertainty
    scores = _slid(method, row, lambda windows: method(windows).scores, advance)
    return scores.float(), uncertainty_of(scores, method.parts.codec)


def _slid(
    method: Method, row: Batch, say: Callable[[Batch], Tensor], advance: Callable[[], object] = lambda: None
) -> Tensor:
    with extra("mri", "windows over volumes"):
        from monai.inferers.utils import sliding_window_inference
    masks = method.parts.codec.target.masks
    window = masks.sides("window", len(row.space))
    assert window is not None
    said = sliding_window_inference(
        inputs=torch.cat([inputs["voxels"] for inputs in row.inputs.values()], dim=1),
        roi_size=[min(n, side) for n, side in zip(row.space, window, strict=True)],
        sw_batch_size=WINDOWS,
        predictor=_Seen(row, say, advance),
        overlap=masks.overlap,
        mode="gaussian",
        with_coord=True,
    )
    assert isinstance(said, Tensor)
    return said


def _is_large(method: Method, batch: Batch) -> bool:
    """Whether rows are larger than a window."""
    window = method.parts.codec.target.masks.sides("window", len(batch.space))
    return window is not None and any(n > side for n, side in zip(batch.space, window, strict=True))


def _one_by_one(method: Method, batch: Batch) -> Iterator[Batch]:
    places = torch.arange(len(batch), device=batch.index.device)
    yield from (batch.select(places == i, method.parts.names) for i in range(len(batch)))


@dataclass(frozen=True)
class _Seen:
    """Windows of one row as rows of their own, and what is said of them."""

    row: Batch
    say: Callable[[Batch], Tensor]
    advance: Callable[[], object]

    def __call__(self, windows: Tensor, places: Sequence[Sequence[slice]]) -> Tensor:
        """Windows (n, channels of what is present, *sides) to (n, K, *sides); where each one begins."""
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
        return self.say(seen)
