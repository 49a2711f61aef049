"""The tables that benchmarks know by name: where they lie, and what their columns mean.

`glyphs` and the small one for smoke runs are made here; the others are looked for as NAME/table.parquet in the
folder that --data (or the variable ABSENTIA_DATA) names. A table that is not there is a `UserError` that says so.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from absentia.data.catalog import load
from absentia.data.catalog.glyphs import DECLARATION
from absentia.data.schema import Schema, modality_from_flag, target_from_flag
from absentia.data.table import Table, open_table
from absentia.errors import UserError, nearest

__all__ = [
    "KNOWN",
    "SMOKE",
    "Declared",
    "data_folder",
    "encoder_folders",
    "open_known",
    "schema_of",
    "smoke_table",
    "with_encoder",
]

SMOKE = "smoke"
TREES = ("ash", "birch", "cedar", "elm", "fir", "holly", "larch", "oak")


@dataclass(frozen=True)
class Declared:
    """The columns of a table in the words of the command line."""

    modalities: Sequence[str]
    target: str


KNOWN: Mapping[str, Declared] = {
    "glyphs": Declared(DECLARATION["modality"], DECLARATION["target"]),
    "mfeat": Declared([f"{view}=tabular" for view in ("pix", "fou", "fac", "zer", "kar", "mor")], "label=class"),
    "leaves100": Declared([f"{view}=tabular" for view in ("margin", "shape", "texture")], "label=class"),
    "gestures_imu": Declared(
        [f"{place}_{sensor}=series" for place in ("hand", "lower", "upper") for sensor in ("acc", "gyro")], "gesture"
    ),
    "spoken_digits": Declared(["audio=audio", "image=image"], "digit=class"),
    "fashion": Declared(["image=image", "text=text", "attributes=tabular@colour,usage"], "article"),
    "houses": Declared(
        [f"{room}=image" for room in ("frontal", "kitchen", "bedroom", "bathroom")]
        + ["facts=tabular@bedrooms,bathrooms,area"],  # the zip code alone would give the price away
        "price=log",
    ),
    "youtube_sentiment": Declared([f"{sense}=series" for sense in ("audio", "vision", "text")], "sentiment=class"),
    SMOKE: Declared(["left=tabular", "right=tabular", "word=text"], "label"),
}


def data_folder(given: Path | None) -> Path | None:
    """The folder of the measured tables: the flag's, else that of the environment; None for neither."""
    named = os.environ.get("ABSENTIA_DATA")
    return given or (Path(named) if named else None)


def open_known(name: str, folder: Path | None) -> Table:
    """A table by its name; `UserError` says what is missing where it cannot be opened."""
    if name not in KNOWN:
        raise UserError(f"no table called {name!r} is known here; {nearest(name, KNOWN)}")
    if name == "glyphs":
        return open_table(load(name))
    if name == SMOKE:
        return smoke_table()
    if folder is None:
        raise UserError(f"{name}: no data folder given; say --data FOLDER or set ABSENTIA_DATA")
    path = folder / name / "table.parquet"
    if not path.is_file():
        raise UserError(f"{name}: there is no {path}")
    return open_table(path)


def encoder_folders(flags: Sequence[str], folder: Path | None) -> dict[str, str]:
    """NAME=FOLDER flags by name; a folder that is not there as such is looked for in the data folder."""
    found = {}
    for name, _, given in (flag.partition("=") for flag in flags):
        places = [Path(given), *([folder / given] if folder else [])]
        there = [str(place) for place in places if given and place.is_dir()]
        if not there:
            raise UserError(f"--encoder {name}={given}: there is no such folder")
        found[name] = there[0]
    return found


def with_encoder(flag: str, encoders: Mapping[str, str]) -> str:
    """A --modality flag with the encoder of its name or kind, where there is one."""
    name, _, kind = flag.partition("=")
    folder = encoders.get(name) or encoders.get(kind.partition("@")[0])
    return f"{flag}:{folder}" if folder and "@" not in flag else flag


def schema_of(declared: Declared, table: Table, encoders: Mapping[str, str], tune: bool | str = False) -> Schema:
    """The schema of a table. `encoders` has folders by modality, or by kind for all modalities of that kind.

    tune: what of these encoders learns.
    """
    modalities = dict(modality_from_flag(flag) for flag in declared.modalities)
    for name, kind in modalities.items():
        folder = encoders.get(name) or encoders.get(kind.kind)
        modalities[name] = replace(kind, encoder=folder, tune=tune) if folder else kind
    return Schema(
        modalities=modalities,
        target=target_from_flag(declared.target),
        id="id" if "id" in table.columns else None,
        split="split" if "split" in table.columns else None,
    )


def smoke_table(rows: int = 600, classes: int = 3) -> Table:
    """Two noisy views and a word that each tell something of one of a few classes."""
    draw = np.random.default_rng(0)
    label = draw.integers(0, classes, rows)
    words = draw.choice(TREES[:classes], rows)
    words[::2] = np.asarray(TREES)[label[::2]]
    views = (np.eye(classes)[label] @ draw.normal(size=(classes, 5)) + draw.normal(size=(rows, 5)) for _ in range(2))
    columns = {name: list(view) for name, view in zip(("left", "right"), views, strict=True)}
    ids = [str(i) for i in range(rows)]
    return open_table(pa.table({"id": ids, **columns, "word": words, "label": label.astype(str)}))
