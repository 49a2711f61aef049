"""What is left of `absentia embed` when it is stopped from outside: nothing that runs on, and what it says then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests import checkpoints, tiny

from absentia.cli import main

ORPHANS = Path("/proc").is_dir()


def started(home: Path, *more: str) -> subprocess.Popen[bytes]:
    checkpoints.vit(home / "vit")
    pq.write_table(tiny.table(tiny.rows(4000, holes=0.0)), home / "table.parquet")
    words = ["embed", str(home / "table.parquet"), "--modality", f"photo=image:{home / 'vit'}", "--id", "id", *more]
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\nfrom absentia.cli import main"
    environment = os.environ | {"ABSENTIA_CACHE": str(home / "cache")}
    return subprocess.Popen(
        [sys.executable, "-c", f"{code}\nif __name__ == '__main__': sys.exit(main(sys.argv[1:]))", *words],
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_for(what: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def some(home: Path) -> bool:
    return sum(path.stat().st_size for path in (home / "cache").rglob("*.features")) > 20_000


def in_session(number: int) -> list[str]:
    """Processes of a session that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it has just ended
            continue
        if int(session) == number and state not in "ZX":
            found.append(path.parent.name)
    return found


@pytest.mark.skipif(not ORPHANS, reason="looks at /proc")
def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    process = started(tmp_path, "--workers", "2")
    wait_for(lambda: some(tmp_path))
    process.kill()
    process.communicate()
    wait_for(lambda: not in_session(process.pid), 30)


def test_ctrl_c_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = started(tmp_path)
    wait_for(lambda: some(tmp_path))
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1].decode()
    assert process.returncode == 130 and said.strip() == (
        "absentia: stopped. The same command goes on, for what is done is kept."
    )
    monkeypatch.setenv("ABSENTIA_CACHE", str(tmp_path / "cache"))
    kept = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.features"))
    assert kept > 20_000


@pytest.mark.parametrize(
    ("command", "said"), [("train", "with --resume goes on"), ("embed", "The same command goes on")]
)
def test_other_commands_say_what_they_can(
    command: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(_: object) -> None:
        raise KeyboardInterrupt

    for name in (command, "inspect"):
        monkeypatch.setitem(main.__globals__["COMMANDS"], name, stopped)
    assert main([command, "table.csv"]) == 130 and said in capsys.readouterr().err
    assert main(["inspect", "table.csv"]) == 130 and "The same command begins again" in capsys.readouterr().err
