"""Names of modalities as names of modules, which may hold no dot and none of torch's own words."""

from __future__ import annotations

__all__ = ["module_key"]


def module_key(name: str) -> str:
    """A key for `nn.ModuleDict`; different names give different keys.

    >>> module_key("sensor.left")
    'm_sensor%2Eleft'
    """
    return "m_" + name.replace("%", "%25").replace(".", "%2E")
