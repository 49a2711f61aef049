"""What a person sees while a job runs: a bar with the time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from absentia.learn.loop import Validation

__all__ = ["LossWatcher", "TerminalWatcher"]


class TerminalWatcher:
    """Prints what happens; use it as a context so that the terminal is left tidy."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._stage: TaskID | None = None
        self._name, self._score = "", ""

    def __enter__(self) -> TerminalWatcher:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def say(self, line: str) -> None:
        """A remark, kept on the screen."""
        self.console.print(f"· {line}", highlight=False, markup=False)

    def part(self, name: str) -> None:
        """A training begins."""
        self._name = name

    def reading(self, what: str, done: int, total: int) -> None:
        """Rows are being read."""
        task = self._tasks.get(what)
        if task is None:
            task = self._tasks[what] = self.progress.add_task(f"reading {what}", total=total, note="")
        self.progress.update(task, completed=done)
        if done >= total:
            self.progress.remove_task(self._tasks.pop(what))

    def begin(self, stage: str, steps: int, done: int) -> None:
        """A stage of a training starts or goes on."""
        if self._stage is not None:
            self.progress.remove_task(self._stage)
        name = self._name if stage == "main" else f"{self._name}: {stage}"
        self.say(f"training {name}, {steps:,} steps" + (f", going on at {done:,}" if done else ""))
        self._score = ""
        self._stage = self.progress.add_task(name, total=steps, completed=done, note="")

    def step(self, loss: float) -> None:
        """One step was made."""
        if self._stage is not None:
            self.progress.update(self._stage, advance=1, note=f"loss {loss:.3f}{self._score}")

    def validated(self, result: Validation, best: bool) -> None:
        """A validation was made."""
        if not result.patterns:  # no validation row has anything to judge by
            return
        mean = abs(result.goodness)
        worst = min(result.patterns.values()) if result.goodness >= 0 else max(result.patterns.values())
        self._score = f"  validation mean {mean:.3f}, worst {worst:.3f}"
        if not self.console.is_terminal:
            self.console.print(f"  {self._name}:{self._score}{' (best)' if best else ''}", highlight=False)


class LossWatcher(TerminalWatcher):
    """For a training that is judged by its own loss."""

    def validated(self, result: Validation, best: bool) -> None:
        """A validation was made."""
        if result.patterns:
            self._score = f"  validation loss {-result.goodness:.3f}"
            if not self.console.is_terminal:
                self.console.print(f"  {self._name}:{self._score}{' (best)' if best else ''}", highlight=False)
