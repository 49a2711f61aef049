"""The data sets that Absentia knows by name: one file each, and one line here.

A data set is a module with a function `build()` that returns a `datasets.Dataset`, and, where its columns do not
explain themselves, a `DECLARATION`.
Nothing is imported before it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from absentia.errors import UserError, nearest

if TYPE_CHECKING:
    import datasets

    from absentia.data.table import Table

__all__ = ["CATALOG", "declaration", "load", "open_source"]

CATALOG: dict[str, str] = {
    "glyphs": "absentia.data.catalog.glyphs",
    "glyphs-outside": "absentia.data.catalog.glyphs_outside",
}


def open_source(source: Any, *, streaming: bool = False) -> Table:
    """A table from the name of a known data set, or from anything that `open_table` takes."""
    from absentia.data.table import open_table

    known = isinstance(source, str) and source in CATALOG
    return open_table(load(source) if known else source, streaming=streaming and not known)


def declaration(source: Any) -> dict[str, Any]:
    """What a known data set says of its own columns, in the words of the command line; nothing for other tables."""
    if not isinstance(source, str) or source not in CATALOG:
        return {}
    return dict(getattr(import_module(CATALOG[source]), "DECLARATION", {}))


def load(name: str) -> datasets.Dataset:
    """The data set called `name`, built here or taken from its cache; `UserError` if there is none."""
    if name not in CATALOG:
        raise UserError(f"There is no data set called {name!r} in the catalog; {nearest(name, CATALOG)}")
    return cast("datasets.Dataset", import_module(CATALOG[name]).build())
