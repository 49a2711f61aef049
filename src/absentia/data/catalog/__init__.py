"""The data sets that Absentia knows by name: one file each, and one line here.

A data set is a module with a function `build()` that returns a `datasets.Dataset`; one that is made from the
user's own copy has `open_folder(where)` instead, and is called `NAME:FOLDER`. `DECLARATION` says what its columns mean.
Nothing is imported before it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from absentia.errors import UserError, nearest

if TYPE_CHECKING:
    import datasets

    from absentia.data.table import Table

__all__ = ["CATALOG", "declaration", "load", "open_source"]

CATALOG: dict[str, str] = {
    "brats2018": "absentia.data.catalog.brats2018",
    "brats2020": "absentia.data.catalog.brats2020",
    "cohort": "absentia.data.catalog.cohort",
    "cohort-volumes": "absentia.data.catalog.cohort_volumes",
    "food101": "absentia.data.catalog.food101",
    "food101-cmml": "absentia.data.catalog.food101_cmml",
    "glyphs": "absentia.data.catalog.glyphs",
    "glyphs-cmml": "absentia.data.catalog.glyphs_cmml",
    "glyphs-outside": "absentia.data.catalog.glyphs_outside",
    "hateful-memes": "absentia.data.catalog.hateful_memes",
    "mmimdb": "absentia.data.catalog.mmimdb",
    "mmimdb-cmml": "absentia.data.catalog.mmimdb_cmml",
}


def open_source(source: Any, *, streaming: bool = False) -> Table:
    """A table from the name of a known data set, or from anything that `open_table` takes."""
    from absentia.data.table import open_table

    name, where = _known(source)
    if name is None:
        return open_table(source, streaming=streaming)
    module = _module(name)
    if not hasattr(module, "open_folder"):
        if where:
            raise UserError(f"{name!r} is built here and takes no folder; say {name}")
        return open_table(module.build())
    if not where:
        raise UserError(f"{name!r} is made from a copy of the data; say {name}:FOLDER")
    return cast("Table", module.open_folder(where))


def load(name: str) -> datasets.Dataset:
    """The data set called `name`, built here or taken from its cache; `UserError` if there is none."""
    module = _module(name)
    if hasattr(module, "open_folder"):
        raise UserError(f"{name!r} is made from a copy of the data; open it with open_source({name + ':FOLDER'!r})")
    return cast("datasets.Dataset", module.build())


def declaration(source: Any) -> dict[str, Any] | None:
    """What the columns of a known data set mean, in the words of the command line; None for any other source."""
    name, _ = _known(source)
    return None if name is None else cast("dict[str, Any]", _module(name).DECLARATION)


def _known(source: Any) -> tuple[str | None, str]:
    """The name of a data set of the catalog, and the folder behind it."""
    name, _, where = source.partition(":") if isinstance(source, str) else ("", "", "")
    return (name, where) if name in CATALOG else (None, "")


def _module(name: str) -> ModuleType:
    if name not in CATALOG:
        raise UserError(f"There is no data set called {name!r} in the catalog; {nearest(name, CATALOG)}")
    return import_module(CATALOG[name])
