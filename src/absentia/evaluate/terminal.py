"""The table of patterns for a terminal of 80 columns: squares for what is there, worst first, never long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from absentia.evaluate.headline import headline
from absentia.evaluate.ranking import full_row, initials, loss_from_full, ranked
from absentia.evaluate.sections.gap import gap_sentence
from absentia.evaluate.wording import Scale, clean, finite, metric_words, short

__all__ = ["PatternTable", "legend", "printable", "squares"]

MOST_SQUARES = 16
MOST_ROWS, WORST_ROWS = 20, 12
BAR = 14
IN_ASCII = str.maketrans({"■": "#", "□": ".", "━": "=", "┃": "|", "–": "-", "−": "-", "…": "~", "\u00a0": " "})


def squares(present: Mapping[str, bool]) -> Text:
    """A filled square for each modality that is there, a hollow one for each that is not, in that order."""
    gap = " " if len(present) <= 6 else ""
    marks = [("■", "bold") if here else ("□", "dim") for here in list(present.values())[:MOST_SQUARES]]
    text = Text(gap).join(Text(mark, style=style) for mark, style in marks)
    return text.append("…" if len(present) > MOST_SQUARES else "")


def legend(names: Sequence[str]) -> tuple[str, Text]:
    """The heading above the squares, a letter for each modality, and a line that says which is which."""
    shown = list(names)[:MOST_SQUARES]
    letters = initials(shown)
    left = len(names) - len(shown)
    words = [f"{letter} {short(name, 30)}" for letter, name in zip(letters, shown, strict=True)] + (
        [f"and {left} more"] if left else []
    )
    return (" " if len(names) <= 6 else "").join(letters), Text(", ".join(words), style="dim")


def printable(parts: Iterable[RenderableType], console: Console, options: ConsoleOptions) -> RenderResult:
    """The parts as they are, or in ASCII where the terminal's encoding knows nothing else."""
    for part in parts:
        if not options.ascii_only:
            yield part
            continue
        for segment in console.render(part, options):
            text = segment.text.translate(IN_ASCII).encode("ascii", "replace").decode()
            yield Segment(text, segment.style, segment.control)


class PatternTable:
    """What rich prints for a report: its headline, then the table of patterns beside the reference."""

    def __init__(self, report: Mapping[str, Any]) -> None:
        self.report: dict[str, Any] = clean(report)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        return printable(self._parts(console, options), console, options)

    def _parts(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        yield Text("".join(piece.words for piece in headline(self.report)).replace("\u00a0", " "), style="bold")
        yield legend(list(self.report["modalities"]))[1]
        yield self._fitting(console, options)
        if left := len(self.report["patterns"]) - len(self._shown()):
            yield Text(f"{left} more patterns, none of them worse, are in report.html and report.json.", style="dim")
        if said := gap_sentence(self.report):
            yield Text(said.replace("\u00a0", " "))
        for note in self.report.get("notes") or []:
            yield Text(f"Note: {short(note, 400)}", style="yellow")

    def _fitting(self, console: Console, options: ConsoleOptions) -> Table:
        """The table; without its bars, then its intervals, where long figures leave no room for them."""
        for leave_out in ((), ("bar",), ("bar", "interval")):
            table = self._table(leave_out)
            if console.measure(table, options=options.update(width=10_000)).maximum <= options.max_width:
                break
        return table

    def _shown(self) -> list[dict[str, Any]]:
        rows = ranked(self.report)
        if len(rows) <= MOST_ROWS:
            return rows
        full, worst = full_row(self.report), rows[:WORST_ROWS]
        return worst if full is None or any(row is full for row in worst) else [*worst, full]

    def _table(self, leave_out: Sequence[str]) -> Table:
        columns = [column for column in self._columns() if column not in leave_out]
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column(legend(list(self.report["modalities"]))[0], no_wrap=True)
        for column in columns:
            justify: JustifyMethod = "left" if column == "bar" else "right"
            table.add_column(Text(self._columns()[column]), justify=justify, no_wrap=True)
        for row in self._shown():
            mask = {name: bool(row["present"].get(name)) for name in self.report["modalities"]}
            cells = self._cells(row)
            table.add_row(squares(mask), *(cells[column] for column in columns))
        if given := self.report.get("as_given"):
            cells = self._cells(given)
            table.add_row(Text("as given"), *(cells[column] for column in columns))
        return table

    def _columns(self) -> dict[str, str]:
        """Columns and their headings, in order."""
        score = "error" if self.report["metric"] == "mae" else short(metric_words(self.report["metric"]), 10)
        columns = {"rows": "rows", "score": score, "interval": "95 %", "change": "from full"}
        if self._has_reference():
            columns["reference"] = short(self.report["reference_method"], 9)
        return {**columns, "bar": ""}

    def _cells(self, row: Mapping[str, Any]) -> dict[str, Text]:
        scale, loss = Scale.of_report(self.report), loss_from_full(row, self.report)
        low, high = finite(row.get("low")), finite(row.get("high"))
        interval = "" if low is None or high is None else f"{scale.bare(low)}–{scale.bare(high)}"
        change = None if loss is None else -loss if self.report["higher_is_better"] else loss
        changes = change is not None and not all(row.get("present", {}).values())
        return {
            "rows": Text(f"{row['n']:,}" if finite(row.get("n")) is not None else "–", style="dim"),
            "score": Text(scale.bare(row.get("score")), style="bold cyan"),
            "interval": Text(interval, style="dim"),
            "change": Text(scale.signed(change) if changes else ""),
            "reference": Text(scale.bare(row.get("reference")), style="yellow"),
            "bar": _bar(row, self._longest()),
        }

    def _has_reference(self) -> bool:
        return any(finite(row.get("reference")) is not None for row in self.report["patterns"])

    def _longest(self) -> float:
        """The value of a full bar: 1 for a share, else the largest value in the table."""
        values = (finite(row.get(key)) or 0.0 for row in self.report["patterns"] for key in ("score", "reference"))
        return max(1.0 if self.report["higher_is_better"] else 1e-12, *(abs(value) for value in values))


def _bar(row: Mapping[str, Any], longest: float) -> Text:
    """The score as a bar with a tick where the reference stands."""
    score, reference = finite(row.get("score")), finite(row.get("reference"))
    length = min(BAR, round(BAR * max(0.0, score or 0.0) / longest))
    bar = Text("━" * length + " " * (BAR - length), style="cyan")
    if reference is not None:
        place = min(BAR - 1, max(0, round(BAR * reference / longest) - 1))
        bar = Text.assemble(bar[:place], ("┃", "yellow"), bar[place + 1 :])
    return bar
