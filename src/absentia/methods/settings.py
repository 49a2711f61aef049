"""What a method's own settings may be; a bad one is an error that names the nearest right one."""

from __future__ import annotations

from collections.abc import Sequence

from absentia.errors import UserError, nearest

__all__ = ["at_least", "between", "even", "one_of"]


def one_of(name: str, value: str, known: Sequence[str]) -> None:
    """Raise `UserError` unless `value` is known."""
    if value not in known:
        raise UserError(f"options.{name} {value!r}: {nearest(value, known)}")


def at_least(name: str, value: int, least: int) -> None:
    """Raise `UserError` unless `value` is `least` or more."""
    if value < least:
        raise UserError(f"options.{name} {value}: must be at least {least}")


def between(name: str, value: float, low: float, high: float) -> None:
    """Raise `UserError` unless `value` lies between `low` and `high`."""
    if not low <= value <= high:
        raise UserError(f"options.{name} {value}: must be a number from {low:g} to {high:g}")


def even(name: str, value: int) -> None:
    """Raise `UserError` unless `value` is even and positive."""
    if value < 2 or value % 2:
        raise UserError(f"options.{name} {value}: must be even and positive (half of it are keys, half values)")
