"""What every test stands on: one thread, no network, and caches of its own."""

from __future__ import annotations

import atexit
import os
import tempfile

# Before anything is imported that reads them. Subprocesses that tests start inherit them too.
_cache = tempfile.TemporaryDirectory(prefix="absentia-tests-")
atexit.register(_cache.cleanup)
os.environ.update(
    {
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "MPLBACKEND": "agg",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": _cache.name,
        "HF_DATASETS_CACHE": os.path.join(_cache.name, "datasets"),
    }
)

os.environ.pop("ABSENTIA_CACHE", None)

import hypothesis  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)  # sums in one order: runs that should be equal are equal bit for bit

# Examples come from the test itself, not from chance or the clock: a red test stays red, on any machine.
hypothesis.settings.register_profile("absentia", deadline=None, derandomize=True)
hypothesis.settings.load_profile("absentia")
