"""A session's rows as they come: which of a table's rows are meant, what they show, and what to say about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from absentia.data.catalog import open_source
from absentia.data.rows import OnBad, Rows
from absentia.data.schema import Schema
from absentia.data.table import Table
from absentia.data.target import is_known
from absentia.errors import UserError
from absentia.learn.prepare import Fitted, Survey, rows_of, survey
from absentia.learn.stream import StreamFolder
from absentia.methods.base import Bools

__all__ = ["Arrived", "arrived_before", "list_rows", "read_rows", "remarks", "reopened", "schema_for", "test_rows"]


@dataclass(frozen=True)
class Arrived:
    """A session's rows as they come: a table, and which of its rows are meant.

    source: how the table is opened again, None if it is not a file.  schema: what its columns mean.
    seen: the survey of all its rows, `seen.presence` as the mask plan leaves it.  mine: bool (N,).
    name: what the session is called.  classes: its classes, where they are listed.
    """

    table: Table
    source: str | None
    schema: Schema
    seen: Survey
    mine: Bools
    name: str
    classes: Sequence[str] = ()
    plan_sha256: str | None = None

    def rows(self, split: str) -> npt.NDArray[np.int64]:
        """The numbers of a split's rows that have a target."""
        known = np.asarray([is_known(cell) for cell in self.seen.target])
        return np.flatnonzero(self.mine & known & (self.seen.split == split))

    def cells(self, index: npt.NDArray[np.int64]) -> list[Any]:
        """Targets as they stand in the table."""
        return [self.seen.target[i] for i in index]

    def presence(self, names: Sequence[str], index: npt.NDArray[np.int64]) -> Bools:
        """bool (n, M): what the rows `index` have of these modalities; none of what the table does not know."""
        own = self.schema.names
        absent = np.zeros(len(index), dtype=np.bool_)
        columns = [self.seen.presence[index, own.index(n)] if n in own else absent for n in names]
        return np.stack(columns, axis=1)


def test_rows(fitted: Fitted, arrived: Arrived, on_bad: OnBad) -> Rows | None:
    """The rows a session is judged by, read: its test rows, or its validation rows where there are none."""
    index = arrived.rows("test") if len(arrived.rows("test")) else arrived.rows("val")
    return read_rows(fitted, arrived, index, on_bad, strict=False) if len(index) else None


def read_rows(
    fitted: Fitted, arrived: Arrived, index: npt.NDArray[np.int64], on_bad: OnBad, *, strict: bool = True
) -> Rows:
    """Rows by number, their cells read and their targets encoded."""
    rows = rows_of(
        arrived.table,
        fitted,
        on_bad=on_bad,
        presence=arrived.presence(fitted.schema.names, index),
        ids=[arrived.seen.ids[i] for i in index],
        index=index,
    )
    rows.target = fitted.codec.encode([arrived.seen.target[i] for i in rows.index], strict=strict)
    return rows


def reopened(folder: StreamFolder, number: int) -> Arrived | None:
    """The rows of an earlier session from its table; None where that is gone or has changed."""
    about, own = folder.about(number), folder.session(number)
    if about["table"] is None or not own.rows.exists():
        return None
    kept = pq.read_table(own.rows)
    schema = Schema.from_json(folder.read_json(folder.schema)["schema"])
    try:
        table = open_source(about["table"])
        schema = schema_for(schema, table)
        seen = survey(table, schema)
    except UserError:
        return None
    index = kept.column("row").to_numpy()
    if len(index) and (index.max() >= len(seen.ids) or [seen.ids[i] for i in index] != kept.column("id").to_pylist()):
        return None
    mine, split, presence = np.zeros(len(seen.ids), np.bool_), seen.split.copy(), seen.presence.copy()
    mine[index], split[index] = True, kept.column("split").to_numpy(zero_copy_only=False)
    presence[index] = np.stack([kept.column(f"present:{name}").to_numpy() for name in schema.names], axis=1)
    seen = replace(seen, split=split, presence=presence)
    return Arrived(table, about["table"], schema, seen, mine, about["name"], (), about["plan_sha256"])


def arrived_before(folder: StreamFolder, number: int, arrived: Arrived) -> bool:
    """Whether a session that has been learned had these very rows of this very source, and the same mask plan."""
    about, kept = folder.about(number), pq.read_table(folder.session(number).rows)
    mine = np.flatnonzero(arrived.mine)
    return (
        (about["table"], about["plan_sha256"]) == (arrived.source, arrived.plan_sha256)
        and kept.column("row").to_pylist() == mine.tolist()
        and kept.column("id").to_pylist() == [arrived.seen.ids[i] for i in mine]
    )


def schema_for(schema: Schema, table: Table) -> Schema:
    """A stream's schema for another table, which may lack columns: their modalities are absent from all its rows."""
    kept = {n: k for n, k in schema.modalities.items() if all(c in table.columns for c in schema.columns_of(n))}
    if not kept:
        raise UserError(
            f"{table.name} has none of the stream's modalities; expected columns such as {schema.columns[0]!r}"
        )
    split = schema.split if schema.split in table.columns else None
    return replace(schema, modalities=kept, split=split)


def list_rows(path: Path, arrived: Arrived, names: Sequence[str]) -> None:
    """Write which rows the session had, with their presence."""
    index = np.flatnonzero(arrived.mine)
    columns: dict[str, Any] = {
        "id": [arrived.seen.ids[i] for i in index],
        "row": index,
        "split": arrived.seen.split[index].tolist(),
    }
    presence = arrived.presence(names, index)
    columns |= {f"present:{name}": presence[:, m] for m, name in enumerate(names)}
    pq.write_table(pa.table(columns), path)


def remarks(
    number: int, taught: Sequence[str], known: Sequence[str], train: Rows, arrived: Arrived, *, settles: bool
) -> list[str]:
    """What a person should know of a session's rows."""
    notes = []
    there: list[bool] = np.asarray(train.presence.any(axis=0)).tolist()
    for name, some in zip(train.schema.names, there, strict=True):
        if not some:
            notes.append(f"Session {number} has no training row with {name!r}.")
    again = [name for name in taught if name in known] if number else []
    if again and set(taught) != set(known):
        stay = "; what was learned of them stays as it is" if settles else ""
        notes.append(f"Classes that come back in session {number}: {', '.join(again[:20])}{stay}.")
    if len(taught) == 1:
        notes.append(f"Session {number} has one class, so there is nothing to tell it from within the session.")
    if not train.presence.all(axis=1).any():
        notes.append(f"No training row of session {number} is complete.")
    if train.bad:
        notes.append(f"{len(train.bad)} cells of session {number} could not be read; the first: {train.bad[0]}.")
    return notes
