"""A small table of films whose cells are often empty, and settings for trainings of a fraction of a second."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image as Pillow

from absentia import Tabular, Text

GENRES = ("drama", "horror", "western")
WORDS = ("tears and a wedding", "teeth in the water", "a horse and a duel")
COLOURS = ((200, 40, 40), (40, 200, 40), (40, 40, 200))
MODALITIES = {"plot": Text(), "facts": Tabular(["year", "runtime"])}
QUICK: dict[str, Any] = {"width": 16, "depth": 1, "heads": 2, "epochs": 4, "batch": 32, "lr": 5e-3}


def movies(rows: int = 120, *, seed: int = 0, pictures: bool = False) -> pd.DataFrame:
    """Films with `plot`, `year` and `runtime`, a third of them absent, their `genre`, its number and a `price`."""
    draw = np.random.default_rng(seed)
    kind = draw.integers(0, len(GENRES), rows)
    table = pd.DataFrame({"plot": [WORDS[k] for k in kind], "year": 1950 + 20.0 * kind + draw.normal(size=rows)})
    table["runtime"] = 90 + draw.normal(size=rows)
    if pictures:
        table["poster"] = [picture(COLOURS[k]) for k in kind]
    table.loc[draw.random(rows) < 0.3, "plot"] = None
    table.loc[draw.random(rows) < 0.3, ["year", "runtime"]] = np.nan
    table["genre"] = [GENRES[k] for k in kind]
    table["code"] = kind
    table["price"] = np.exp(kind + 0.1 * draw.normal(size=rows))
    table["tags"] = [[GENRES[k]] + ["long"] * int(r) for k, r in zip(kind, draw.random(rows) < 0.5, strict=True)]
    return table


def picture(colour: tuple[int, int, int]) -> bytes:
    """A PNG of one colour."""
    out = io.BytesIO()
    Pillow.new("RGB", (8, 8), colour).save(out, "PNG")
    return out.getvalue()
