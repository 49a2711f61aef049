"""Everything that what a frozen encoder makes of a cell depends on, as JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from absentia.data.kinds.pretrained import settings_of

__all__ = ["identity_of_encoder"]

FORMAT = 2  # to be raised when the same encoder is made to give other features
PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "pillow", "soundfile", "soxr")


def identity_of_encoder(model: Any, fingerprint: str, preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    """What tells an encoder's features from all others.

    fingerprint: SHA-256 of its weights.  preprocessing: what becomes of a cell before.  Libraries and the processor's
    instructions are part of it: others give other last bits.
    """
    about = {
        "format": FORMAT,
        "model": type(model).__name__,
        "weights": fingerprint,
        "config": settings_of(model.config),
        "attention": getattr(model.config, "_attn_implementation", None),
        "preprocessing": dict(preprocessing),
        "versions": {name: _version(name) for name in PACKAGES},
        "machine": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
    }
    plain: dict[str, Any] = json.loads(
        json.dumps(about, default=str)
    )  # what JSON does not know counts as it is written
    return plain


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
