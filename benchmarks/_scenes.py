"""Scenes in colour and depth, drawn by a formula: each of the two tells some things well and others badly.

Things on a wall, each an ellipse of any size and turn, so that outlines say nothing. Colour says red from blue and
hardly, by a faint shade, dome from plate; depth says dome from plate and hardly, by how high they are, red from blue. A
dome in the grey of the wall is seen by depth, and a yellow poster flat on the wall by colour alone. All of it is noisy.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["CLASSES", "SIDE", "scenes"]

SIDE = 32
CLASSES = ("wall", "red dome", "red plate", "blue dome", "blue plate", "grey dome", "poster")
RED, BLUE, GREY, YELLOW = (0.3, -0.1, -0.1), (-0.1, -0.05, 0.3), (0.0, 0.0, 0.0), (0.2, 0.15, -0.2)  # beside the wall
COLOURS = torch.tensor([GREY, RED, RED, BLUE, BLUE, GREY, YELLOW])
DOMES = torch.tensor([False, True, False, True, False, True, False])
HEIGHTS = torch.tensor([0.0, 0.5, 0.5, 0.3, 0.3, 0.4, 0.0])  # above the wall
SHADE = 0.15  # by which a dome is brighter in the middle and darker at the rim
THINGS = 4
NOISE = {"rgb": 0.12, "depth": 0.08}  # standard deviation at every pixel


def scenes(count: int, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """rgb (N, 3, SIDE, SIDE), depth (N, 1, SIDE, SIDE) without its mean, and each pixel's class, long (N, SIDE, SIDE).

    The same seed draws the same scenes.
    """
    draw = torch.Generator().manual_seed(seed)
    labels, rise = _things(count, draw)
    shade = SHADE * DOMES[labels] * (2 * rise - 1)
    rgb = _uniform(draw, -0.2, 0.2, count, 1, 1, 1) + COLOURS[labels].movedim(-1, 1) + shade[:, None]
    depth = (_wall(count, draw) - HEIGHTS[labels] * rise)[:, None]
    made = {"rgb": rgb, "depth": depth - depth.mean((1, 2, 3), keepdim=True)}
    return {n: 3 * (x + NOISE[n] * torch.randn(x.shape, generator=draw)) for n, x in made.items()}, labels


def _wall(count: int, draw: torch.Generator) -> Tensor:
    """The distance (N, SIDE, SIDE) of walls that are turned away to any side."""
    y, x = _grid()
    across, along = _uniform(draw, -0.5, 0.5, 2, count, 1, 1)
    return across * x + along * y


def _things(count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Classes, and how far domes and plates rise, of their height, (N, SIDE, SIDE); the last drawn stands in front."""
    labels, rise = torch.zeros(count, SIDE, SIDE, dtype=torch.long), torch.zeros(count, SIDE, SIDE)
    for _ in range(THINGS):
        kinds = torch.randint(1, len(CLASSES), (count,), generator=draw)[:, None, None]
        within = 1 - _ellipse(count, draw)  # 1 in the middle, 0 at the rim
        mine = torch.where(DOMES[kinds], within.clamp(min=0).sqrt(), 2 / 3)  # a plate is as high as a dome's mean
        labels, rise = (torch.where(within > 0, new, old) for new, old in ((kinds, labels), (mine, rise)))
    return labels, rise


def _ellipse(count: int, draw: torch.Generator) -> Tensor:
    """Squared distances from the middle of an ellipse, (N, SIDE, SIDE), 1 at its rim."""
    y, x = _grid()
    up, right = _uniform(draw, -0.4, 0.4, 2, count, 1, 1)
    long, short = _uniform(draw, 0.12, 0.25, 2, count, 1, 1)
    turn = _uniform(draw, 0, math.pi, count, 1, 1)
    y, x = y - up, x - right
    return ((x * turn.cos() + y * turn.sin()) / long) ** 2 + ((y * turn.cos() - x * turn.sin()) / short) ** 2


def _grid() -> tuple[Tensor, Tensor]:
    """From -0.5 to 0.5, down (SIDE, 1) and across (SIDE,)."""
    places = torch.linspace(-0.5, 0.5, SIDE)
    return places[:, None], places


def _uniform(draw: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=draw)
