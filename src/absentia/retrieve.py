"""The job behind `absentia retrieve`: how well the modalities of a run find and verify each other's rows in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from absentia.data.catalog import open_source
from absentia.data.rows import OnBad
from absentia.data.table import Table
from absentia.data.target import is_known
from absentia.errors import UserError, nearest
from absentia.evaluate.retrieval import MOST, retrieve
from absentia.jobs import part_of, rows_of_part
from absentia.learn.prepare import rows_of, survey
from absentia.learn.run import Run
from absentia.run_report import bad_cells

__all__ = ["retrieve_run"]

ROWS = 4096


def retrieve_run(
    run: Run,
    source: Any,
    *,
    by: str | None = None,
    part: str | None = None,
    on_bad: OnBad = "error",
    most: int = MOST,
) -> dict[str, Any]:
    """The numbers of every ordered pair of modalities, as JSON.

    by: the column that says which rows belong together, such as a person's name, also of people that training never
        saw; lists do where they share something, and a row without a value belongs with itself alone. None takes the
        run's target, whose classes it must know; without one a row is alone.
    part: as in `evaluate_run`.  most: rows compared per pair. What a mask plan hid in training is searched too.
    """
    if most < 2:
        raise UserError(f"--most {most}: must be at least 2")
    table = source if isinstance(source, Table) else open_source(source)
    if by is not None and by not in table.columns:
        raise UserError(f"--by {by!r}: {table.name} has no such column; {nearest(by, table.columns)}")
    schema = run.fitted.schema
    own = {role: getattr(schema, role) for role in ("id", "split") if getattr(schema, role) in table.columns}
    labelled = by is None and schema.target is not None and schema.target.column in table.columns
    schema = replace(schema, **({"id": None, "split": None} | own), target=schema.target if labelled else None)
    seen = survey(table, schema)
    known = np.asarray([is_known(cell) for cell in seen.target] if labelled else np.ones(len(seen.ids)), dtype=np.bool_)
    index = rows_of_part(known, seen.split, part_of(seen, schema, part), table.name)
    rows = rows_of(
        table,
        run.fitted,
        on_bad=on_bad,
        ids=[seen.ids[i] for i in index],
        presence=seen.presence[index],
        index=index,
        target=[seen.target[i] for i in index] if labelled else None,
    )
    groups = None if by is None else _values(table, by, rows.index)
    return {
        "table": table.name,
        "method": run.method.name,
        "by": by if by is not None else schema.target.column if schema.target else None,
        "rows": len(rows),
        "pairs": [asdict(pair) for pair in retrieve(run.method, rows, groups=groups, most=most)],
        "bad_cells": bad_cells(rows.bad, on_bad),
        "notes": [*rows.remarkable.notes(run.fitted.decoders), *run.fitted.cache_notes()],
    }


def _values(table: Table, column: str, index: npt.NDArray[np.int64]) -> Sequence[Any]:
    """What a column says of these rows."""
    values: list[Any] = []
    for chunk in table.chunks(ROWS):
        values += chunk.column(column).to_pylist()
    return [values[i] for i in index]
