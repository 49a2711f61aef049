"""`food101:FOLDER`: UPMC Food-101 (Wang et al. 2015), a photo and the title of its web page, 101 dishes.

The layout and the splits are those that `food101-cmml` reads; rows without a title are left out, as in the published
counts of those who came after.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from absentia.data.catalog.food101_cmml import EXPECTED, food_splits, food_titles, picture_id
from absentia.data.catalog.original import Row, original_table
from absentia.data.table import Table

__all__ = ["DECLARATION", "open_folder"]

NAME = "food101"
DECLARATION: dict[str, Any] = {
    "modality": ["image=image", "text=text"],
    "target": "label=class",
    "id": "id",
    "split": "split",
}


def open_folder(where: str) -> Table:
    """The table of the data in the folder `where`; `UserError` where it does not hold the data."""
    folder = Path(where).expanduser()
    titles, _ = food_titles(folder)
    split, remarks = food_splits(folder, titles)
    rows = [Row(picture_id(t), split[t], f"images/{picture_id(t)}", t.text, t.dish) for t in titles if t in split]
    remarks = [r.replace("sessions by hash, ", "").replace("sessions by hash; ", "") for r in remarks]
    return original_table(NAME, folder, "label", rows, EXPECTED, remarks)
