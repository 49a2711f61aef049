"""How many parameters a method has: which learned, which answers read, and which are there in training alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from absentia.methods.base import Method

__all__ = ["counted"]


def counted(method: Method) -> dict[str, Any]:
    """`trained` of `total`; `answering` is what answers need of these, `scaffold` by name what only training needs."""
    parameters, seen, scaffold = list(method.parameters()), set[int](), {}
    following = {id(p) for stage in method.stages() for p in stage.follows()}  # no gradient moves these
    for name, own in method.scaffold().items():
        fresh = [p for p in _once(own) if id(p) not in seen]
        seen |= {id(p) for p in fresh}
        scaffold[name] = sum(p.numel() for p in fresh)
    total = sum(p.numel() for p in parameters)
    return {
        "trained": sum(p.numel() for p in parameters if p.requires_grad and id(p) not in following),
        "total": total,
        "answering": total - sum(scaffold.values()),
        "scaffold": {name: count for name, count in scaffold.items() if count},
    }


def _once(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return list({id(p): p for p in parameters}.values())
