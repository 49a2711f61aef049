"""Which weights a module has, as a short text: what was made with them is worth keeping under it."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

__all__ = ["Fingerprint", "fingerprint"]


def fingerprint(module: nn.Module) -> str:
    """SHA-256 of all names, parameters and buffers of a module; half a second for a hundred million weights."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class Fingerprint:
    """The fingerprint of a module that stands still for long: read again only after a tensor of it was written to."""

    def __init__(self) -> None:
        self._state: tuple[tuple[int, int], ...] | None = None
        self._known = ""

    def of(self, module: nn.Module) -> str:
        """`fingerprint(module)`."""
        state = tuple((x.data_ptr(), x._version) for x in module.state_dict(keep_vars=True).values())
        if state != self._state:
            self._state, self._known = state, fingerprint(module)
        return self._known
