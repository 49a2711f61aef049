"""What the numbers of a run depend on, beside its settings."""

from __future__ import annotations

import platform

import numpy as np
import torch

from absentia import __version__

__all__ = ["hardware", "versions"]


def versions() -> dict[str, str]:
    """Of what the numbers depend on."""
    import datasets
    import sklearn
    import transformers

    return {
        "absentia": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "datasets": datasets.__version__,
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
    }


def hardware() -> str:
    """Processor or accelerator, and how many threads were used."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
