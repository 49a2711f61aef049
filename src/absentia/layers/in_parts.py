"""A function of rows, part by part, whose gradient is that of all rows at once while memory holds one part.

Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" (arXiv 2101.06983): a loss
that compares rows with each other needs the outputs of all, and these are small. What is in between is not kept; each
part runs once more when its gradient has come back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

__all__ = ["in_parts"]

Named = dict[str, Tensor]


def in_parts(function: Callable[[Named], Named], inputs: Mapping[str, Tensor], size: int | None) -> Named:
    """What `function` makes of the named inputs (n, ...), rows by rows, in parts of `size`; None takes all at once.

    What it makes of a row must not depend on the others. Dropout is drawn part by part, and the same both times.
    """
    rows = len(next(iter(inputs.values())))
    if size is None or rows <= size:
        return function(dict(inputs))
    parts = [
        checkpoint(function, {name: x[start : start + size] for name, x in inputs.items()}, use_reentrant=False)
        for start in range(0, rows, size)
    ]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
