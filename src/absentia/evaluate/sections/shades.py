"""Colours of the heat map: one ramp from pale sand to deep blue, darker all the way, with readable ink."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from absentia.evaluate.wording import Scale, finite

__all__ = ["contrast", "shade", "shaded"]

Colour = tuple[float, float, float]
RAMP: tuple[Colour, ...] = (
    (0.973, 0.902, 0.788),
    (0.635, 0.816, 0.788),
    (0.235, 0.588, 0.714),
    (0.055, 0.298, 0.490),
)


def shade(rank: float) -> tuple[str, str]:
    """Background and ink, as hex codes, of a cell; `rank` runs from 0 (worst) to 1 (best)."""
    place = min(1.0, max(0.0, rank)) * (len(RAMP) - 1)
    start = min(int(place), len(RAMP) - 2)
    colour = _mixed(RAMP[start], RAMP[start + 1], place - start)
    inks: tuple[Colour, Colour] = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return _code(colour), _code(max(inks, key=lambda ink: contrast(colour, ink)))


def shaded(
    values: Sequence[Any], scale: Scale, *, higher: bool, among: Sequence[Any] | None = None
) -> list[dict[str, Any] | None]:
    """A cell with text and style for each value, None for what is no number.

    The ramp runs over `among`, else over the values themselves; deep blue is the best of them.
    """
    known = [number for value in (values if among is None else among) if (number := finite(value)) is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    cells: list[dict[str, Any] | None] = []
    for value in values:
        number = finite(value)
        if number is None:
            cells.append(None)
            continue
        rank = 0.5 if high == low else (number - low) / (high - low)
        background, ink = shade(rank if higher else 1 - rank)
        cells.append({"text": scale.bare(number), "style": f"background:{background};color:{ink}", "mute": False})
    return cells


def contrast(one: Colour, other: Colour) -> float:
    """The WCAG contrast ratio of two colours with parts in [0, 1]: 1 (equal) to 21 (black on white)."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: Colour) -> float:
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _mixed(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (a + (b - a) * share for a, b in zip(one, other, strict=True))
    return red, green, blue


def _code(colour: Colour) -> str:
    return "#" + "".join(f"{round(part * 255):02x}" for part in colour)
