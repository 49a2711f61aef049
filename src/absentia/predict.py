"""Answers for the rows of a table, written as they come: a table larger than memory streams through."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from absentia.data.catalog import open_source
from absentia.data.dense_rows import DenseRows
from absentia.data.presence import natural_presence
from absentia.data.remarkable import Remarkable
from absentia.data.rows import BadCellRecord, OnBad, Rows
from absentia.data.schema import Schema, pattern_name
from absentia.data.spacings import Spacing, unlike
from absentia.data.table import Table
from absentia.data.target import TargetCodec
from absentia.errors import UserError, nearest
from absentia.evaluate.patterns import Answers, answer
from absentia.learn.prepare import Fitted, rows_of
from absentia.learn.run import Run
from absentia.predict_masks import MaskFolder
from absentia.writing import replacing, spared

__all__ = ["Predicted", "answer_chunk", "predict_run"]

CHUNK, PLANES, VOLUMES = 1024, 32, 1  # rows at once, and where masks are answered


@dataclass(frozen=True)
class Predicted:
    """What a prediction did: rows answered, rows skipped, the cells that could not be read, and remarks."""

    rows: int
    skipped: int
    bad: list[BadCellRecord]
    notes: list[str] = field(default_factory=list)

    def told(self, out: str) -> Iterator[str]:
        """The same in lines for people, but for the remarks."""
        yield f"{self.rows:,} rows answered in {out}"
        if self.bad:
            skipped = f"; {self.skipped:,} rows skipped" if self.skipped else ""
            yield f"{len(self.bad):,} cells could not be read{skipped}; first: {self.bad[0]}"


class _Writer(Protocol):
    def write_table(self, table: pa.Table) -> None: ...


def predict_run(
    run: Run,
    source: Any,
    out: str | Path,
    *,
    on_bad: OnBad = "error",
    absent: Sequence[str] = (),
    advance: Callable[[int], object] = lambda rows: None,
    say: Callable[[str], object] = lambda line: None,
) -> Predicted:
    """Answer every row of a table; write Parquet or CSV (by the ending of `out`), in one go at the end.

    The columns are row, id (where the run's table had one), prediction, probability (of the predicted class),
    uncertainty (0 sure, 1 as without any input) and pattern (what was there). absent: modalities to leave out,
    also those whose columns the table lacks. Masks go into a folder `out`, with a table beside them; `say` hears of
    each window that is answered.
    """
    spared(out, source)
    table = source if isinstance(source, Table) else open_source(source, streaming=True)
    check_columns(table, run.fitted.schema, absent)
    if run.fitted.codec.target.kind == "mask":
        return _predict_masks(run, table, Path(out), on_bad, absent, advance, say)
    rows, skipped, bad, remarkable = 0, 0, [], Remarkable()
    with _writing(Path(out), _columns(run.fitted, table)) as writer:
        for chunk in table.chunks(CHUNK):
            part, answers = answer_chunk(run, chunk, on_bad=on_bad, absent=absent, first=rows, root=table.root)
            writer.write_table(_as_table(part, answers, run.fitted, chunk))
            rows, skipped = rows + chunk.num_rows, skipped + chunk.num_rows - len(part)
            bad += part.bad
            remarkable.add(part.remarkable)
            advance(rows)
    return Predicted(rows - skipped, skipped, bad, remarkable.notes(run.fitted.decoders))


def answer_chunk(
    run: Run, chunk: pa.Table, *, on_bad: OnBad, absent: Sequence[str] = (), first: int = 0, root: Path | None = None
) -> tuple[Rows, Answers]:
    """Answers for a few rows in memory; `first` is the number of the first one, for messages."""
    rows = _read(run, chunk, on_bad, absent, first, root)
    return rows, answer(run.method, rows)


def _predict_masks(
    run: Run,
    table: Table,
    out: Path,
    on_bad: OnBad,
    absent: Sequence[str],
    advance: Callable[[int], object],
    say: Callable[[str], object],
) -> Predicted:
    folder, rows, skipped, bad, spacings = MaskFolder(run, out), 0, 0, [], list[tuple[str, Spacing]]()
    dims = next(iter(run.fitted.decoders.values())).dims  # type: ignore[attr-defined]
    for chunk in table.chunks(VOLUMES if dims == 3 else PLANES):
        part = _read(run, chunk, on_bad, absent, rows, table.root)
        assert isinstance(part, DenseRows)
        names = _entities(chunk, run.fitted.schema)
        folder.add(part, [names[i] if names else None for i in part.index], say)
        rows, skipped = rows + chunk.num_rows, skipped + chunk.num_rows - len(part)
        bad += part.bad
        spacings += part.spacings()
        advance(rows)
    folder.close()
    return Predicted(rows=rows - skipped, skipped=skipped, bad=bad, notes=unlike(spacings, run.spacings))


def _read(run: Run, chunk: pa.Table, on_bad: OnBad, absent: Sequence[str], first: int, root: Path | None) -> Rows:
    schema = run.fitted.schema
    for column in (c for name in absent for c in schema.columns_of(name) if c not in chunk.column_names):
        chunk = chunk.append_column(column, pa.nulls(chunk.num_rows))
    presence = natural_presence(chunk, schema)
    presence[:, [schema.names.index(name) for name in absent]] = False
    names = _entities(chunk, schema)
    ids = [name or str(first + i) for i, name in enumerate(names)] if names else None
    return rows_of(chunk, run.fitted, on_bad=on_bad, presence=presence, ids=ids, first=first, root=root)


def _entities(chunk: pa.Table, schema: Schema) -> list[str | None] | None:
    """Of each row its entity, where the table says them."""
    return chunk.column(schema.id).cast(pa.string()).to_pylist() if schema.id in chunk.column_names else None


def check_columns(table: Table, schema: Schema, absent: Sequence[str]) -> None:
    """Raise `UserError` for a modality without its columns, unless it was said to be absent."""
    for name in absent:
        if name not in schema.names:
            raise UserError(f"--absent {name!r}: no such modality; {nearest(name, schema.names)}")
    for name in schema.names:
        for column in schema.columns_of(name):
            if name not in absent and column not in table.columns:
                raise UserError(
                    f"{table.name} has no column {column!r} (modality {name!r}); {nearest(column, table.columns)} "
                    f"If the modality is absent in every row, say --absent {name}"
                )


def _columns(fitted: Fitted, table: Table) -> pa.Schema:
    several = fitted.codec.target.kind == "labels"
    number = fitted.codec.target.kind == "number"
    fields = [("row", pa.int64())]
    fields += [("id", pa.string())] if fitted.schema.id in table.columns else []
    fields += [("prediction", pa.float64() if number else pa.string())]
    fields += [] if number else [("probability", pa.string() if several else pa.float64())]
    return pa.schema([*fields, ("uncertainty", pa.float64()), ("pattern", pa.string())])


def _as_table(rows: Rows, answers: Answers, fitted: Fitted, chunk: pa.Table) -> pa.Table:
    prediction, probability = said(answers, fitted.codec)
    columns: dict[str, Any] = {"row": rows.index + rows.first}
    if fitted.schema.id in chunk.column_names:
        columns["id"] = chunk.column(fitted.schema.id).take(pa.array(rows.index)).cast(pa.string())
    columns |= {"prediction": prediction} | ({} if probability is None else {"probability": probability})
    columns |= {"uncertainty": answers.uncertainty}
    return pa.table(columns | {"pattern": [pattern_name(rows.schema.names, p) for p in rows.presence.tolist()]})


def said(answers: Answers, codec: TargetCodec) -> tuple[Any, Any]:
    """Predictions and their probabilities: a class and its share, labels and theirs (joined by "; "), or a number."""
    p, classes = answers.probabilities, np.asarray(codec.target.classes, dtype=object)
    if codec.target.kind == "number":
        return codec.number(p[:, 0]), None
    if codec.target.kind == "class":
        return classes[p.argmax(axis=1)].tolist(), p.max(axis=1)
    chosen = [np.flatnonzero(row >= 0.5) for row in p]
    labels = ["; ".join(classes[c]) for c in chosen]
    return labels, ["; ".join(f"{x:.4f}" for x in row[c]) for row, c in zip(p, chosen, strict=True)]


@contextmanager
def _writing(out: Path, schema: pa.Schema) -> Iterator[_Writer]:
    endings = {".parquet": pq.ParquetWriter, ".csv": pacsv.CSVWriter}
    if out.suffix not in endings:
        raise UserError(f"--out {str(out)!r}: must end in .parquet or .csv")
    if not out.parent.is_dir():
        raise UserError(f"--out {str(out)!r}: the folder {out.parent} does not exist")
    with replacing(out) as temporary, endings[out.suffix](temporary, schema) as writer:
        yield writer
