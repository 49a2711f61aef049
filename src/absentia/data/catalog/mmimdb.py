"""`mmimdb:FOLDER`: MM-IMDb (Arevalo et al. 2017), a film's poster, its plot and its genres, 23 of them.

The layouts are those that `mmimdb-cmml` reads. A film is one row, its plots one text: who counts a film once for each
plot has more rows, and an F1 in which some films count twice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from absentia.data.catalog.mmimdb_cmml import EXPECTED, film_files, films_of
from absentia.data.catalog.original import Row, original_table
from absentia.data.table import Table

__all__ = ["DECLARATION", "open_folder"]

NAME = "mmimdb"
DECLARATION: dict[str, Any] = {
    "modality": ["image=image", "text=text"],
    "target": "labels=labels",
    "id": "id",
    "split": "split",
}


def open_folder(where: str) -> Table:
    """The table of the data in the folder `where`; `UserError` where it does not hold the data."""
    folder = Path(where).expanduser()
    labels, posters = film_files(folder)
    films, remarks = films_of(folder, labels)
    rows = [
        Row(film.id, film.split, f"{posters}/{film.id}.jpeg", film.text, film.genres) for film in films if film.genres
    ]
    left = len(films) - len(rows)
    remarks += [f"{left:,} films have none of the 23 genres and were left out"] if left else []
    remarks = [remark for remark in remarks if "were expected" not in remark]
    return original_table(NAME, folder, "labels", rows, EXPECTED, remarks)
