from __future__ import annotations

import subprocess
import sys

HEAVY = {"torch", "transformers", "datasets", "pyarrow", "pandas", "sklearn", "scipy", "matplotlib"}


def run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_import_is_light_and_silent() -> None:
    done = run("import absentia, sys; print(*sys.modules)")
    assert done.stderr == ""
    assert HEAVY.isdisjoint(done.stdout.split())


def test_every_public_name_is_there() -> None:
    done = run("import absentia\nfor name in absentia.__all__: getattr(absentia, name)")
    assert done.stderr == ""
