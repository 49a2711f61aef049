from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import absentia

LATE = re.compile(r"^ +from (absentia[.\w]+) import", re.MULTILINE)
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


def test_what_is_imported_late_may_be_the_first_to_be_imported() -> None:
    """A command imports what it needs when it runs: nothing may lean on another module having been there before."""
    source = Path(absentia.__file__).parent
    late = {name for file in source.rglob("*.py") for name in LATE.findall(file.read_text(encoding="utf-8"))}
    done = run(f"""
import importlib, sys
import absentia.jobs, absentia.predict, absentia.streams
for name in {sorted(late)}:
    for known in [n for n in sys.modules if n.partition(".")[0] == "absentia"]:
        del sys.modules[known]
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(name, error)
""")
    assert len(late) > 20 and done.stdout == "" and done.stderr == ""
