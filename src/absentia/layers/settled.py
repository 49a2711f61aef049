"""Parameters that have learned enough: they stay under their names, and nothing can move them any more."""

from __future__ import annotations

from torch import nn

__all__ = ["settle"]


def settle(module: nn.Module) -> None:
    """Turn all parameters of a module into buffers of the same names.

    No gradient, no optimizer and no weight decay reaches a buffer, and it is still kept as what was learned.
    """
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, parameter.detach().clone())
