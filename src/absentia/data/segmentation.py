"""What a dense target is: which labels make which region, how rows are cut for training, how answers are scored."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from absentia.errors import UserError, nearest

__all__ = ["Masks"]

LOSSES, EMPTY = ("edice", "dice_ce"), ("one", "nan", "zero")


@dataclass(frozen=True, kw_only=True)
class Masks:
    """Settings of a target of kind `mask`.

    Args:
        regions: the labels of each region, as {"WT": [1, 2, 4], "TC": [1, 4]}; regions may overlap. Empty makes a
            region of each label that training rows have (or of each column, where a mask has several).
        loss: edice (0.7 soft Dice + 0.3 cross-entropy) or dice_ce (one each).
        crop: sides of what a training step sees of a row, one length or one per axis; none shows whole rows.
        around: share of the crops that are centred on a voxel of the mask, where it has any.
        flips: whether training mirrors axes at random.
        intensity: training scales and shifts each contrast by up to this much, such as 0.1.
        window: sides of the sliding window that answers are made in; by default those of the crop.
        overlap: of neighbouring windows.
        empty: Dice of a region that is empty in truth and in the answer: one, zero, or nan (does not count).
        lone: HD95 in mm where exactly one of the two is empty (papers take 1.0 or 373.13); it is 0 where both are.
            none counts neither.
        fewest: what is predicted of a region with fewer voxels than this is taken back, such as {"ET": 500}. Scores are
            of answers as they are, and `dice_post` beside them of what is left.
    """

    regions: dict[str, list[int]] = field(default_factory=dict)
    loss: str = "edice"
    crop: list[int] = field(default_factory=list)
    around: float = 0.33
    flips: bool = False
    intensity: float = 0.0
    window: list[int] = field(default_factory=list)
    overlap: float = 0.5
    empty: str = "one"
    lone: float | None = None
    fewest: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, known in (("loss", LOSSES), ("empty", EMPTY)):
            if getattr(self, name) not in known:
                raise UserError(f"masks.{name} {getattr(self, name)!r}: {nearest(str(getattr(self, name)), known)}")
        for name, most in (("around", 1), ("intensity", 1), ("overlap", 0.99)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
                raise UserError(f"masks.{name} {value!r}: must be a number from 0 to {most}")
        for name in ("crop", "window"):
            self._check_sides(name)
        for region, labels in self.regions.items():
            if not isinstance(labels, list | tuple) or not labels or not all(_is_label(x) for x in labels):
                raise UserError(f"masks.regions.{region} {labels!r}: must be a list of labels, whole numbers but 0")
        for region, count in self.fewest.items():
            if self.regions and region not in self.regions:
                raise UserError(f"masks.fewest {region!r}: {nearest(region, self.regions)}")
            if not _is_label(count):
                raise UserError(f"masks.fewest.{region} {count!r}: must be a number of voxels")

    def sides(self, name: str, dims: int) -> tuple[int, ...] | None:
        """`crop` or `window` for so many axes; None where it was not given."""
        given = list(getattr(self, name) or (self.crop if name == "window" else ()))
        if not given:
            return None
        if len(given) not in (1, dims):
            raise UserError(f"masks.{name} {given}: rows have {dims} axes; give one length, or {dims}")
        return tuple(given * dims if len(given) == 1 else given)

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON."""
        return asdict(self)

    def _check_sides(self, name: str) -> None:
        sides = getattr(self, name)
        if not isinstance(sides, list | tuple) or not all(_is_label(n) for n in sides):
            raise UserError(f"masks.{name} {sides!r}: must be a list of lengths in voxels, such as [64]")


def _is_label(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
