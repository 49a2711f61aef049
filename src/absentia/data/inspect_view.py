"""An inspection on a terminal: shares, a picture of the patterns, the target, bad cells and remarks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from absentia.data.inspect import Inspection
    from absentia.data.inspect_target import TargetSummary

__all__ = ["InspectionView"]

_COLUMNS, _PATTERNS, _CLASSES, _BAD = 8, 16, 12, 12  # shown of each
_BAR = 16
_IN_ASCII = str.maketrans({"■": "#", "□": ".", "━": "=", "…": "~"})


class InspectionView:
    """What rich prints of an inspection; in ASCII where the terminal's encoding knows nothing else."""

    def __init__(self, found: Inspection) -> None:
        self.found = found

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for part in self._parts(_BAR if options.max_width >= 80 else 0):
            if not options.ascii_only:
                yield part
                continue
            for segment in console.render(part, options):
                text = segment.text.translate(_IN_ASCII).encode("ascii", "replace").decode()
                yield Segment(text, segment.style, segment.control)

    def _parts(self, bar: int) -> Iterator[RenderableType]:
        found = self.found
        yield Text.assemble((found.table, "bold"), f"  {found.rows:,} rows, {_count(len(found.kinds), 'modality')}")
        yield ""
        yield self._modalities(bar)
        for name, columns in found.columns.items():
            if columns != (name,):
                more = f" and {len(columns) - _COLUMNS} more" if len(columns) > _COLUMNS else ""
                yield Text(f"{name} from {', '.join(columns[:_COLUMNS])}{more}", style="dim")
        yield ""
        yield self._patterns(bar)
        if len(found.patterns) > _PATTERNS:
            yield Text(f"{len(found.patterns) - _PATTERNS} more patterns, none with more rows", style="dim")
        if found.target is not None:
            yield ""
            yield _target(found.target)
        yield ""
        yield from self._bad()
        for note in found.notes:
            yield Text(f"Note: {note}", style="yellow")

    def _modalities(self, bar: int) -> Table:
        """A row for each modality: its kind, and how many rows have it, in all and by split."""
        found, by_split = self.found, self.found.present_by_split
        table = _table("modality", "kind")
        table.add_column("" if not bar else "present", no_wrap=True, min_width=bar)
        for heading in ("" if bar else "present", *by_split, *(["bad"] if found.bad_cells else [])):
            table.add_column(heading, justify="right", no_wrap=True)
        for name, kind in found.kinds.items():
            share = found.present[name] / max(1, found.rows)
            splits = [
                _percent(present[name] / max(1, sum(found.splits[word].values()))) for word, present in by_split.items()
            ]
            bad = [f"{found.bad_cells.get(name, 0):,}"] if found.bad_cells else []
            table.add_row(Text(name, style="bold"), kind, _bar(bar * share), _percent(share), *splits, *bad)
        return table

    def _patterns(self, bar: int) -> Table:
        """Squares for what is there, and a bar of how many rows are so; the most common pattern first."""
        found = self.found
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("pattern", no_wrap=True)
        for heading in ("rows", "share"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("", no_wrap=True, min_width=bar)
        table.add_column("", style="dim")
        most = max(found.patterns.values(), default=1)
        for pattern, rows in list(found.patterns.items())[:_PATTERNS]:
            there = set(pattern.split("+"))
            squares = _squares([name in there for name in found.kinds])
            share = _percent(rows / max(1, found.rows))
            table.add_row(
                squares, f"{rows:,}", share, _bar(bar * rows / most), pattern.replace("+", " + ") if bar else ""
            )
        return table

    def _bad(self) -> Iterator[RenderableType]:
        found, total = self.found, sum(self.found.bad_cells.values())
        if not found.decoded:
            yield Text("Cells were not opened.", style="dim")
        elif not total:
            yield Text("Every present cell can be read.", style="green")
        else:
            yield Text(f"{_count(total, 'cell')} cannot be read:", style="red")
            for cell in found.bad[:_BAD]:
                yield Padding(Text(str(cell)), (0, 0, 0, 2))
            if total > len(found.bad[:_BAD]):
                yield Text(f"  and {total - len(found.bad[:_BAD]):,} more", style="dim")


def _squares(present: list[bool]) -> Text:
    marks = [("■", "bold cyan") if here else ("□", "dim") for here in present]
    return Text(" ").join(Text(mark, style=style) for mark, style in marks)


def _bar(length: float) -> Text:
    """Anything that is there at all shows."""
    return Text("━" * max(round(length), int(length > 0)), style="cyan", no_wrap=True)


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    return table


def _target(target: TargetSummary) -> Text:
    unknown = f", {target.unknown:,} rows without" if target.unknown else ""
    head = Text.assemble("target ", (target.column, "bold"), f" ({target.kind}{unknown}): ")
    if target.kind == "number":
        return head.append(f"{target.low:.6g} to {target.high:.6g}, mean {target.mean:.6g}, spread {target.std:.6g}")
    if target.kind == "other":
        return head.append("neither classes nor numbers")
    shown = ", ".join(f"{name} {rows:,}" for name, rows in list(target.classes.items())[:_CLASSES])
    more = len(target.classes) - _CLASSES
    return head.append(f"{len(target.classes)} different: {shown}" + (f" and {more} more" if more > 0 else ""))


def _percent(share: float) -> str:
    """Never 0 % or 100 % unless it is exactly so."""
    if 0 < share < 0.001:
        return "<0.1 %"
    return ">99.9 %" if 0.999 < share < 1 else f"{100 * share:.1f} %"


def _count(number: int, what: str) -> str:
    plural = what.removesuffix("y") + "ies" if what.endswith("y") else what + "s"
    return f"{number:,} {what if number == 1 else plural}"
