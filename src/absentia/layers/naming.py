"""Names of modalities: as names of modules, which may hold no dot and none of torch's own words, and as an order."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["module_key", "places_by_name", "places_in_order"]


def module_key(name: str) -> str:
    """A key for `nn.ModuleDict`; different names give different keys.

    >>> module_key("sensor.left")
    'm_sensor%2Eleft'
    """
    return "m_" + name.replace("%", "%25").replace(".", "%2E")


def places_by_name(names: Sequence[str]) -> list[int]:
    """Where the names stand, taken by the alphabet: what is drawn in this order does not depend on the schema's.

    >>> places_by_name(["text", "audio", "image"])
    [1, 2, 0]
    """
    return sorted(range(len(names)), key=lambda place: names[place])


def places_in_order(names: Sequence[str]) -> list[int]:
    """Where the names stand once they are sorted: it takes what was made by name back into the schema's order.

    >>> places_in_order(["text", "audio", "image"])
    [2, 0, 1]
    """
    order = sorted(names)
    return [order.index(name) for name in names]
