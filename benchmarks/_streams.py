"""The streams that benchmarks know by name: measured tables in sessions, and rows of other classes to pretrain on.

Classes come into sessions in the order of a hash of their names, as in the catalog's own streams. What is left over
is written without its labels: a backbone pretrained on it has seen no class of any session. The digits come speaker
by speaker instead, all ten classes in every session, and leave nothing over.

    python benchmarks/_streams.py --tables fashion leaves100 --data FOLDER --out streams

writes them to be learned with `absentia learn`, and says of each its rows by session and split, the sha256 of the
assignment, and the flags for its columns.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from _tables import KNOWN, SMOKE, data_folder, open_known, smoke_table, with_encoder

from absentia.data.catalog import declaration, open_source
from absentia.data.catalog.cmml import fingerprint, hash_sessions, slashed
from absentia.data.kinds.pretrained import PretrainedDecoder
from absentia.data.schema import modality_from_flag, target_from_flag
from absentia.data.splits import assign_splits
from absentia.errors import UserError
from absentia.models.encoders.pretrained import FrozenEncoder, PretrainedEncoder

__all__ = ["STREAMS", "Dealt", "Stream", "prepared_streams"]

ROLES = ["--by", "session", "--id", "id", "--split", "split"]


@dataclass(frozen=True)
class Dealt:
    """How a table falls into sessions: `size` values of a column in each (of the target, unless it is `by`).

    least: training rows that a class needs to be in a session, where there are enough such classes.
    """

    sessions: int
    size: int
    by: str | None = None
    least: int = 0


@dataclass(frozen=True)
class Stream:
    """A stream that commands can read. table: its file or its name in the catalog.  pretrain: rows without labels."""

    name: str
    table: str
    pretrain: str | None
    modality: Sequence[str]
    target: str

    @property
    def flags(self) -> list[str]:
        """What its columns mean, for `absentia learn`."""
        modalities = [word for flag in self.modality for word in ("--modality", flag)]
        return [*modalities, "--target", self.target, *ROLES]


STREAMS: Mapping[str, Dealt | None] = {
    "glyphs-cmml": None,  # in the catalog already
    "fashion": Dealt(6, 5, least=60),
    "leaves100": Dealt(10, 6),
    "spoken_digits": Dealt(6, 1, by="speaker"),
    SMOKE: Dealt(2, 2),
}


def prepared_streams(
    names: Sequence[str], data: Path | None, out: Path, encoders: Mapping[str, str] | None = None
) -> dict[str, Stream]:
    """The streams by name, written to NAME-stream.parquet and NAME-pretrain.parquet in `out` where they are not there.

    encoders: folders by modality or kind; what such a frozen encoder makes of a cell then stands in its place, one
    vector, so that no training reads it again.
    Raises `UserError` for a table that is not in the folder `data`.
    """
    return {name: _prepared(name, STREAMS[name], data, out, encoders or {}) for name in names}


def _prepared(name: str, dealt: Dealt | None, data: Path | None, out: Path, encoders: Mapping[str, str]) -> Stream:
    if dealt is None:
        known = declaration(name)
        assert known is not None
        outside = out / f"{name}-pretrain.parquet"
        _write_once(outside, _glyphs_outside)
        return Stream(name, name, str(outside), known["modality"], known["target"])
    declared = KNOWN[name]
    stream, rest = out / f"{name}-stream.parquet", out / f"{name}-pretrain.parquet"
    if not stream.is_file():
        table = smoke_table(classes=8) if name == SMOKE else open_known(name, data)
        whole = _encoded(table.take(np.arange(len(table))), declared.modalities, encoders)
        taught, left = _dealt(name, whole, declared.modalities, target_from_flag(declared.target).column, dealt)
        out.mkdir(parents=True, exist_ok=True)
        if left.num_rows:
            pq.write_table(left, rest)
        pq.write_table(taught, stream)
    flags = [_plain(flag, encoders) for flag in declared.modalities]
    return Stream(name, str(stream), str(rest) if rest.is_file() else None, flags, declared.target)


def _plain(flag: str, encoders: Mapping[str, str]) -> str:
    """The flag of a modality that has become a vector."""
    return flag.partition("=")[0] + "=tabular" if with_encoder(flag, encoders) != flag else flag


def _encoded(table: pa.Table, modalities: Sequence[str], encoders: Mapping[str, str]) -> pa.Table:
    """The table with one vector, of a frozen encoder, in place of each cell that has such an encoder."""
    for flag in modalities:
        name, kind = modality_from_flag(with_encoder(flag, encoders))
        if not kind.encoder:
            continue
        decoder = PretrainedDecoder(kind=kind.kind, source=kind.encoder)
        encoder = FrozenEncoder(encoder=PretrainedEncoder(kind=kind.kind, source=kind.encoder), decoder=decoder)
        cells = table[name].to_pylist()
        there = [i for i, cell in enumerate(cells) if cell is not None]
        vectors: list[list[float] | None] = [None] * len(cells)
        for start in range(0, len(there), 32):
            rows = there[start : start + 32]
            for row, value in zip(rows, encoder([decoder.decode(cells[i]) for i in rows]), strict=True):
                vectors[row] = value["features"][0].tolist()
        column = pa.array(vectors, pa.list_(pa.float32()))
        table = table.set_column(table.column_names.index(name), name, column)
    return table


def _dealt(
    name: str, table: pa.Table, modalities: Sequence[str], target: str, dealt: Dealt
) -> tuple[pa.Table, pa.Table]:
    """The rows in sessions, and those of no session without target; both with a split in every row."""
    words = table["split"].to_pylist() if "split" in table.column_names else None
    splits = assign_splits(words, table["id"].to_pylist())
    inputs = [column for flag in modalities for column in _columns(flag)]
    values = table[dealt.by or target].cast(pa.string()).to_pylist()
    session_of = _session_of(name, values, splits, dealt)
    session = pa.array([session_of.get(value) for value in values], pa.int64())
    whole = {"id": table["id"], "session": session, "split": pa.array(splits.tolist())}
    whole |= {column: table[column] for column in [*inputs, target]}
    taught = pa.table(whole)
    there = pc.is_valid(taught["session"])
    return taught.filter(there), taught.filter(pc.invert(there)).drop_columns(["session", target])


def _session_of(name: str, values: Sequence[str], splits: np.ndarray, dealt: Dealt) -> dict[str, int]:
    rows = Counter(value for value, split in zip(values, splits, strict=True) if split == "train")
    wanted = dealt.sessions * dealt.size
    fit = [value for value, count in rows.items() if count >= dealt.least]
    chosen = fit if len(fit) >= wanted else list(rows)
    blocks = hash_sessions(chosen, sessions=dealt.sessions, size=dealt.size, key=name)
    return {value: session for session, block in enumerate(blocks) for value in block}


def _columns(flag: str) -> Sequence[str]:
    name, kind = modality_from_flag(flag)
    return kind.columns or (name,)


def _glyphs_outside() -> pa.Table:
    """The characters of no class of `glyphs`."""
    from absentia.data.catalog.glyphs import build

    return build(classes="outside").data.table


def _write_once(path: Path, make: Callable[[], pa.Table]) -> None:
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(make(), path)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=list(STREAMS), choices=list(STREAMS))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("streams"))
    asked = parser.parse_args()
    for name in asked.tables:
        try:
            show(prepared_streams([name], data_folder(asked.data), asked.out)[name])
        except UserError as error:
            print(f"passed over: {error}", file=sys.stderr)


def show(stream: Stream) -> None:
    """Sizes, fingerprint and flags of a stream."""
    target = target_from_flag(stream.target).column
    rows = [row for chunk in open_source(stream.table).chunks() for row in chunk.to_pylist()]
    print(f"{stream.name}: {stream.table}; to pretrain on: {stream.pretrain or 'nothing'}")
    for session in sorted({row["session"] for row in rows}):
        mine = [row for row in rows if row["session"] == session]
        labels = sorted({str(row[target]) for row in mine})
        print(f"  session {session}: {slashed(Counter(row['split'] for row in mine))} rows of {', '.join(labels)}")
    print("  sha256", fingerprint((r["id"], r["session"], r["split"], str(r[target])) for r in rows))
    print("  " + shlex.join(stream.flags))


if __name__ == "__main__":
    main()
