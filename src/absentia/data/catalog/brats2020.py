"""`brats2020:FOLDER`: see `brats`."""

from __future__ import annotations

from absentia.data.catalog.brats import DECLARATION, brats_table
from absentia.data.table import Table

__all__ = ["DECLARATION", "open_folder"]


def open_folder(where: str) -> Table:
    """The table of the data in the folder `where`; `UserError` where it does not hold the data."""
    return brats_table("brats2020", where)
