"""What `absentia options` prints: the methods, or the options of one of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from absentia.errors import UserError, nearest
from absentia.evaluate.terminal import printable
from absentia.methods import METHODS, Method
from absentia.methods.described import Described, introduction, options_of
from absentia.pretrain import KINDS

__all__ = ["MethodTable", "OptionList", "kinds_of"]


def kinds_of(*, pretrain: bool) -> dict[str, type[Method]]:
    """The methods by name, those of `absentia pretrain` or all others."""
    return dict(KINDS) if pretrain else dict(METHODS)


class MethodTable:
    """What rich prints for all methods: a line each, with how many options they have."""

    def __init__(self, kinds: dict[str, type[Method]]) -> None:
        self.kinds = kinds

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        return printable(iter([self._table()]), console, options)

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for heading in ("method", "options", ""):
            table.add_column(heading, no_wrap=bool(heading))
        for name, kind in self.kinds.items():
            table.add_row(name, str(len(options_of(kind.Options))), Text(introduction(kind)))
        return table


class OptionList:
    """What rich prints for one method. Raises `UserError` with the nearest name for one that is not known."""

    def __init__(self, name: str, kinds: dict[str, type[Method]]) -> None:
        if name not in kinds:
            raise UserError(f"unknown method {name!r}; {nearest(name, kinds)}")
        self.kind = kinds[name]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        return printable(self._parts(), console, options)

    def _parts(self) -> Iterator[RenderableType]:
        own: type[Any] = self.kind.Options
        described = options_of(own)
        yield Text(introduction(self.kind))
        if not described:
            yield Text("It has no options of its own.")
            return
        if introduction(own):
            yield Text(introduction(own), style="dim")
        for option in described:
            yield from _entry(option)


def _entry(option: Described) -> Iterator[RenderableType]:
    yield Text.assemble((f"--options.{option.name}", "bold"), f"  {option.may_be}; {option.default} by default")
    yield Padding(Text(option.sentence), (0, 0, 0, 4))
