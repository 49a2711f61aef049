"""Absentia: multimodal models that keep working when modalities are absent."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "adapt": "absentia.adaptation",
    "Adapted": "absentia.adaptation",
    "Audio": "absentia.data.kinds",
    "Image": "absentia.data.kinds",
    "MaskPlan": "absentia.data.absence",
    "MultimodalClassifier": "absentia.estimators",
    "MultimodalLabeler": "absentia.estimators",
    "MultimodalRegressor": "absentia.estimators",
    "NotFittedError": "sklearn.exceptions",
    "open_table": "absentia.data.table",
    "register_site": "absentia.adaptation",
    "Series": "absentia.data.kinds",
    "Subject": "absentia.adaptation.study",
    "Tabular": "absentia.data.kinds",
    "Text": "absentia.data.kinds",
    "UserError": "absentia.errors",
    "Volume": "absentia.data.kinds",
}

__all__ = [*sorted(_HOMES), "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'absentia' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
