"""Well-known data sets from a copy that the user has, as they are: pictures, texts, labels and the published splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import datasets
import pyarrow as pa

from absentia.data.catalog.cmml import listed, slashed
from absentia.data.storage import Part
from absentia.data.table import Table

__all__ = ["Row", "original_table"]


class Row(NamedTuple):
    """image: path below the folder.  text: None where it is absent.  label: a class, a list of labels, or None."""

    id: str
    split: str
    image: str
    text: str | None
    label: str | list[str] | None


def original_table(
    name: str, folder: Path, target: str, rows: Sequence[Row], expected: Mapping[str, int], remarks: Sequence[str]
) -> Table:
    """Columns `id`, `split`, `image` (paths below the folder), `text` and the target, and notes on this copy.

    expected: published rows by split; other counts are said in a note, as are pictures that are not there.
    """
    counts = Counter(row.split for row in rows)
    notes = [f"{name}: train/val/test rows {slashed(counts)}"]
    if {split: counts[split] for split in expected} != expected:
        notes.append(f"{slashed(expected)} rows were expected")
    there = {
        str(path.relative_to(folder))
        for base in {Path(r.image).parent for r in rows}
        for path in _inside(folder / base)
    }
    missing = [row.image for row in rows if row.image not in there]
    if missing:
        notes.append(f"{len(missing):,} pictures are not there: {listed(missing)}")
    words = pa.string()
    label = pa.list_(words) if any(isinstance(row.label, list) for row in rows) else words
    types = {"id": words, "split": words, "image": words, "text": words, target: label}
    columns = zip(*rows, strict=True) if rows else ([] for _ in types)
    arrays = [pa.array(list(cells), kind) for cells, kind in zip(columns, types.values(), strict=True)]
    data = datasets.Dataset(pa.table(arrays, schema=pa.schema(list(types.items()))))
    return Table([Part(data)], name=f"{name}:{folder}", root=folder, notes=(*notes, *remarks))


def _inside(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
