"""What every benchmark writes in the same way: where it ran, how it was called, and its rows."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

__all__ = ["LEDGER", "RESULTS", "absentia", "epochs_of", "hardware", "record", "write"]

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
LEDGER = ROOT / "benchmarks" / "LEDGER.md"
IMAGINE = {"universal": 0.25}  # epochs of the first stage, beside those of the last one

HEADING = """# Ledger

Every measurement that counts, newest last: what was measured, how to repeat it, where, and what came out.
The rows behind a line are in its file; the scripts say in their first lines how to read them.
One line is one run; a line that was wrong stays, and a later one says why.

| date | what | command | seeds | hardware | figures | file |
|---|---|---|---|---|---|---|
"""


def epochs_of(method: str, total: float, options: Sequence[str] = ()) -> str:
    """What to say as training.epochs, so that all stages of a method together have `total`; others have one stage.

    options: the method's own as NAME=VALUE, where `imagine` may be another.
    """
    said = dict(option.split("=", 1) for option in options)
    return f"{total / (1 + float(said.get('imagine', IMAGINE.get(method, 0.0)))):.4f}"


def absentia(words: Sequence[str]) -> None:
    """Run a command of ours in a process with one thread; ends the benchmark with what it said if it fails."""
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "absentia", *words]
    done = subprocess.run(command, env=one_thread, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"absentia {' '.join(words)}\n{done.stderr}")


def hardware() -> dict[str, Any]:
    """The machine and the versions that set the speed."""
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(gigabytes, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def write(name: str, rows: Sequence[dict[str, Any]], seeds: int | Sequence[int], folder: Path = RESULTS) -> Path:
    """Write `<folder>/<name>.json` with command, date, seeds, hardware and rows; returns where it is."""
    result = {
        "command": _command(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seeds": [seeds] if isinstance(seeds, int) else list(seeds),
        "hardware": hardware(),
        "rows": list(rows),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return path


def record(
    what: str, figures: str | Sequence[str], seeds: int | Sequence[int], file: Path, ledger: Path = LEDGER
) -> None:
    """Add a line to the ledger (made when it is not there): what was measured, its figures, the JSON behind them."""
    where = hardware()
    machine = f"{where['cpu']}, {where['threads']} of {where['cores']} threads" + (
        f", {where['gpu']}" if where["gpu"] else ""
    )
    cells = [
        datetime.now(UTC).date().isoformat(),
        what,
        f"`{_command()}`",
        ", ".join(str(s) for s in ([seeds] if isinstance(seeds, int) else seeds)),
        machine,
        figures if isinstance(figures, str) else "; ".join(figures),
        f"`{_shown(file)}`",
    ]
    before = ledger.read_text(encoding="utf-8") if ledger.exists() else HEADING
    line = "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |\n"
    ledger.write_text(before.rstrip("\n") + "\n" + line, encoding="utf-8")


def _shown(path: Path) -> Path:
    path = path.resolve()
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else Path(path.name)


def _command() -> str:
    return shlex.join(["python", str(_shown(Path(sys.argv[0]))), *sys.argv[1:]])


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
