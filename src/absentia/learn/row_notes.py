"""What a reader of scores has to know about the rows that were learned from and those that were asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["notes_on_rows", "notes_on_sides"]

Bools = npt.NDArray[np.bool_]
NAMED = 5  # entities that a note lists


def notes_on_rows(split: npt.NDArray[np.str_], known: Bools, there: Bools, splits: Sequence[str]) -> list[str]:
    """Which rows (N,) were left out, for they have no target or nothing present, and which splits have none.

    known: whether the target is.  there: whether anything is present.  splits: those that are read.
    """
    notes = []
    if not known.all():
        notes.append(f"{int((~known).sum())} rows have no target and were left out.")
    nothing = (split == "train") & known & ~there
    if nothing.any():
        notes.append(f"{int(nothing.sum())} training rows have nothing present and were left out.")
    validated, tested = (bool((known & (split == name)).any()) for name in ("val", "test"))
    if not validated:
        notes.append("There are no validation rows, so training could not stop early and its last weights were kept.")
    if "test" not in splits:
        return notes
    if not tested and validated:
        notes.append("There is no test split; the scores are those of the validation rows.")
    if not tested and not validated:
        notes.append("There are no test rows either, so nothing was scored.")
    return notes


def notes_on_sides(split: npt.NDArray[np.str_], known: Bools, ids: Sequence[str], column: str | None) -> list[str]:
    """Which validation and test rows are of an entity that training rows have, and whether scores are of one alone.

    column: where the ids are from; None where rows with equal cells are one entity.
    """
    entity = np.asarray(ids, dtype=np.str_)
    learned = entity[(split == "train") & known]
    notes = []
    for name, called in (("val", "validation"), ("test", "test")):
        asked = entity[(split == name) & known]
        again = asked[np.isin(asked, learned)]
        if len(again):
            notes.append(_on_both_sides(again, len(asked), called, column))
    scored = entity[(split == ("test" if known[split == "test"].any() else "val")) & known]
    if column is not None and len(scored) > 1 and len(set(scored)) == 1:
        notes.append(
            f"All {len(scored)} rows that were scored are of one entity (column {column!r}: {scored[0]}), so the "
            "intervals have no width and say nothing about other entities."
        )
    return notes


def _on_both_sides(again: npt.NDArray[np.str_], asked: int, called: str, column: str | None) -> str:
    if column is None:
        many = f"{len(again)} of {asked} {called} rows equal a training row in every modality"
        return f"{many}: their scores are not those of new rows."
    names = np.unique(again)
    listed = ", ".join(names[:NAMED]) + (" and others" if len(names) > NAMED else "")
    return (
        f"{len(again)} of {asked} {called} rows are of entities that training rows are of too (column {column!r}: "
        f"{listed}): their scores are not those of new entities."
    )
