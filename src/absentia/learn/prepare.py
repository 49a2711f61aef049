"""From a table to rows that can be learned from: schema, splits, presence, plan, fitted decoders, read cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from torch import Tensor

from absentia.data.absence import MaskPlan
from absentia.data.batch import tensors
from absentia.data.dense_rows import DenseRows
from absentia.data.entity import entity_ids
from absentia.data.features import CellCache
from absentia.data.kinds import Decoder, Kind
from absentia.data.kinds.base import pad
from absentia.data.kinds.pretrained import PretrainedDecoder
from absentia.data.presence import natural_presence
from absentia.data.reader import Transform
from absentia.data.remarkable import Remarkable
from absentia.data.rows import OnBad, Rows, present_cells
from absentia.data.schema import Schema, Target
from absentia.data.splits import SPLITS, assign_splits
from absentia.data.table import Table
from absentia.data.target import TargetCodec, is_known
from absentia.data.target_cells import mask_cells, target_cells
from absentia.errors import UserError
from absentia.learn.pretrained import Pretrained
from absentia.learn.row_notes import notes_on_rows, notes_on_sides
from absentia.models.encoders.pretrained import FrozenEncoder, PretrainedEncoder

__all__ = [
    "NO_TARGET",
    "Fitted",
    "Prepared",
    "Survey",
    "fitted_on",
    "prepare",
    "pretrained_encoder",
    "rows_of",
    "survey",
    "tuned_fingerprints",
]

Bools = npt.NDArray[np.bool_]
Advance = Callable[[str, int, int], object]
"""Hears (what, rows done, rows in all)."""
NO_TARGET = TargetCodec(target=Target(column="", kind="number"), prior=(0.0,))
"""Stands where a target would, in a training that has none."""


def _silent(what: str, done: int, total: int) -> None:
    return None


@dataclass(frozen=True)
class Fitted:
    """All that was learned before the method: what turns any table of this schema into batches and scores.

    encoders: frozen pretrained encoders by modality; their features replace the decoded values.
    backbone: the pretrained backbone that all this came with, where there is one.
    cache: whether features are looked for, and kept, in the folder that runs share.
    """

    schema: Schema
    codec: TargetCodec
    decoders: Mapping[str, Decoder]
    encoders: Mapping[str, FrozenEncoder] = field(default_factory=dict)
    backbone: Pretrained | None = None
    cache: bool = True

    def cached(self, cache: bool) -> Fitted:
        """The same with or without the cache."""
        return self if self.cache == cache else replace(self, cache=cache)

    def fingerprints(self) -> dict[str, str]:
        """By modality the SHA-256 of its pretrained encoder's weights, tuned or not."""
        frozen = {name: encoder.fingerprint for name, encoder in self.encoders.items()}
        return frozen | (tuned_fingerprints(self.schema) if self.backbone is None else {})

    def caches(self) -> dict[str, CellCache]:
        """Where features of cells are kept, by modality."""
        stores = {name: encoder.store for name, encoder in self.encoders.items()} if self.cache else {}
        decoders = {name: self.decoders[name] for name in stores}
        return {
            n: CellCache(decoder=d, store=stores[n]) for n, d in decoders.items() if isinstance(d, PretrainedDecoder)
        }

    def cache_notes(self) -> list[str]:
        """Remarks on kept features that are damaged, and on what could not be kept."""
        return [note for encoder in self.encoders.values() for note in encoder.store.notes] if self.cache else []

    def blanks(self) -> dict[str, dict[str, Tensor]]:
        """Per modality the inputs of one placeholder row."""
        return {name: self._blank(name) for name in self.schema.names}

    def _blank(self, name: str) -> dict[str, Tensor]:
        blank, encoder = self.decoders[name].blank(), self.encoders.get(name)
        if encoder is None:
            return tensors(self.decoders[name].collate([blank]))
        features, mask = pad([encoder([blank])[0]["features"]])
        return tensors({"features": features, "mask": mask})


@dataclass(frozen=True)
class Survey:
    """One walk over a table that opens no cell: identity, presence, split and target of every row."""

    ids: list[str]
    presence: Bools
    split: npt.NDArray[np.str_]
    target: list[Any]

    def of(self, split: str) -> npt.NDArray[np.int64]:
        """The numbers of a split's rows."""
        return np.flatnonzero(self.split == split)


@dataclass(frozen=True)
class Prepared:
    """A training's data: rows by split, everything fitted, and remarks for the report."""

    fitted: Fitted
    rows: Mapping[str, Rows]
    plan: MaskPlan | None
    notes: Sequence[str]

    @property
    def names(self) -> list[str]:
        """The modalities in order."""
        return self.fitted.schema.names


def survey(table: Table, schema: Schema) -> Survey:
    """Walk over the table once; raises `UserError` for a missing column or a split that cannot be understood."""
    schema.check(table.columns, table.name)
    ids: list[str] = []
    presence: list[Bools] = []
    words: list[Any] = []
    target: list[Any] = []
    for chunk in table.chunks(4096):
        ids += entity_ids(chunk, schema.id, schema.columns)
        presence.append(natural_presence(chunk, schema))
        words += chunk.column(schema.split).to_pylist() if schema.split else []
        target += target_cells(chunk, schema.target, table) if schema.target else []
    split = assign_splits(words if schema.split else None, ids, schema.split or "split")
    return Survey(ids=ids, presence=np.concatenate(presence), split=split, target=target)


def prepare(
    table: Table,
    schema: Schema,
    *,
    plan: MaskPlan | None,
    on_bad: OnBad,
    advance: Advance = _silent,
    seen: Survey | None = None,
    fitted: Fitted | None = None,
    backbone: Pretrained | None = None,
    splits: Sequence[str] = SPLITS,
    cache: bool = True,
    labels: bool = True,
) -> Prepared:
    """Everything before the first step.

    seen: the table's survey where the caller has it already.  fitted: what an interrupted run has fitted.
    backbone: a pretrained one, which knows how its modalities are read.  splits: those to read.  cache: see `Fitted`.
    labels: whether the target is learned from. Without, and where the schema has none, every row is a known one, and no
        mask is opened.
    """
    seen = seen or survey(table, schema)
    presence = seen.presence
    if plan is not None:
        plan = plan.ordered(schema.names)
        presence = plan.apply(seen.ids, presence, list(seen.split))
    labels = labels and schema.target is not None
    known = np.asarray([is_known(cell) for cell in seen.target] if labels else np.ones(len(seen.ids), bool))
    schema, presence, notes = _learnable(schema, presence, seen, known)
    there: Bools = np.asarray(presence.any(axis=1))
    notes = [
        *table.notes,
        *notes,
        *notes_on_rows(seen.split, known, there, splits),
        *notes_on_sides(seen.split, known, seen.ids, schema.id),
    ]
    train = np.flatnonzero((seen.split == "train") & known & presence.any(axis=1))
    fitted = (fitted or _fit(table, schema, train, presence[train], seen, backbone, labels)).cached(cache)
    rows = {}
    for name in splits:
        index = np.flatnonzero((seen.split == name) & known)
        part = _rows(table.take, fitted, index, presence[index], [seen.ids[i] for i in index], table.root)
        if labels:
            part.label(fitted.codec, [seen.target[i] for i in index])
        rows[name] = _read(part, on_bad, name, advance)
        if name == "train":
            _check_readable(rows[name])
    notes += [f"{remark} ({name} rows)" for name, part in rows.items() for remark in part.remarks()]
    seen_cells = Remarkable()
    for part in rows.values():
        seen_cells.add(part.remarkable)
    notes = [*notes, *seen_cells.notes(fitted.decoders), *fitted.cache_notes()]
    return Prepared(fitted=fitted, rows=rows, plan=plan, notes=notes)


def fitted_on(
    table: Table, schema: Schema, seen: Survey, backbone: Pretrained | None = None
) -> tuple[Fitted, list[str]]:
    """What the training rows of a survey teach before any method learns, and remarks for the report."""
    known = np.asarray([is_known(cell) for cell in seen.target])
    schema, presence, notes = _learnable(schema, seen.presence, seen, known)
    train = np.flatnonzero((seen.split == "train") & known & presence.any(axis=1))
    return _fit(table, schema, train, presence[train], seen, backbone, True), [*table.notes, *notes]


def rows_of(
    source: Table | pa.Table,
    fitted: Fitted,
    *,
    on_bad: OnBad,
    presence: Bools,
    index: npt.NDArray[np.int64] | None = None,
    ids: Sequence[str] | None = None,
    target: Sequence[Any] | None = None,
    first: int = 0,
    root: Path | None = None,
) -> Rows:
    """Rows of another table under what a run has fitted, with their cells read.

    presence, ids and target belong to the rows `index` (all of them by default). A chunk of a larger table says the
    number of its `first` row and the folder (`root`) that its paths start from.
    """
    index = np.arange(len(presence)) if index is None else index
    names = [str(first + i) for i in index] if ids is None else list(ids)
    root = source.root if isinstance(source, Table) else root
    rows = _rows(source.take, fitted, index, presence, names, root)
    rows.first = first
    if target is not None:
        rows.label(fitted.codec, target)
    return rows.read(on_bad)


def frozen_encoders(schema: Schema, decoders: Mapping[str, Decoder]) -> dict[str, FrozenEncoder]:
    """The pretrained encoders that are not tuned."""
    out = {}
    for name, kind in schema.modalities.items():
        decoder = decoders[name]
        if kind.encoder and not kind.tune and isinstance(decoder, PretrainedDecoder):
            out[name] = FrozenEncoder(encoder=pretrained_encoder(kind), decoder=decoder)
    return out


def pretrained_encoder(kind: Kind) -> PretrainedEncoder:
    """The encoder that a modality names, as its checkpoint has it."""
    assert kind.encoder is not None
    return PretrainedEncoder(kind=kind.kind, source=kind.encoder, pool=getattr(kind, "pool", "mean"))


def tuned_fingerprints(schema: Schema) -> dict[str, str]:
    """By modality the SHA-256 of the weights that a tuned encoder starts from; what stays frozen is not in a run."""
    tuned = {name: kind for name, kind in schema.modalities.items() if kind.encoder and kind.tune}
    return {name: pretrained_encoder(kind).fingerprint() for name, kind in tuned.items()}


def _fit(
    table: Table,
    schema: Schema,
    index: npt.NDArray[np.int64],
    presence: Bools,
    seen: Survey,
    backbone: Pretrained | None,
    labels: bool,
) -> Fitted:
    """Everything that is learned from the training rows before a method is."""
    schema = schema if backbone is None else backbone.adopt(schema)
    codec = _codec(table, schema.target, index, seen, labels) if schema.target else NO_TARGET
    schema = replace(schema, target=codec.target if schema.target else None)
    ids = [seen.ids[i] for i in index]
    train = Rows(take=table.take, schema=schema, decoders={}, index=index, presence=presence, ids=ids, keep=0)
    if backbone is not None:
        for name in schema.names:
            backbone.check_cells(name, present_cells(train, name), table.root)
        decoders, encoders = backbone.fitted_for(schema)
        return Fitted(schema=schema, codec=codec, decoders=decoders, encoders=encoders, backbone=backbone)
    decoders = {name: _decoder(train, name, table) for name in schema.names}
    return Fitted(schema=schema, codec=codec, decoders=decoders, encoders=frozen_encoders(schema, decoders))


def _codec(table: Table, target: Target, index: npt.NDArray[np.int64], seen: Survey, labels: bool) -> TargetCodec:
    if not labels:
        return TargetCodec(target=target, prior=())
    if target.kind != "mask":
        return TargetCodec.fit(target, [seen.target[i] for i in index])
    cells = (mask_cells(table.take(index[i : i + 1]), target)[0] for i in range(len(index)))
    return TargetCodec.fit(target, cells, table.root)


def _decoder(train: Rows, name: str, table: Table) -> Decoder:
    kind = train.schema.modalities[name]
    if kind.encoder:
        return PretrainedDecoder(kind=kind.kind, source=kind.encoder, root=table.root)
    return kind.fit(present_cells(train, name), root=table.root)


def _rows(
    take: Callable[[npt.NDArray[np.int64]], pa.Table],
    fitted: Fitted,
    index: npt.NDArray[np.int64],
    presence: Bools,
    ids: list[str],
    root: Path | None,
) -> Rows:
    transforms: dict[str, Transform] = dict(fitted.encoders)
    for decoder in fitted.decoders.values():
        decoder.root = root
    kind = DenseRows if fitted.codec.target.kind == "mask" else Rows
    return kind(
        take=take,
        schema=fitted.schema,
        decoders=fitted.decoders,
        index=index,
        presence=presence.copy(),
        ids=ids,
        transforms=transforms,
        caches=fitted.caches(),
        root=root,
    )


def _read(rows: Rows, on_bad: OnBad, split: str, advance: Advance) -> Rows:
    done = 0

    def heard(count: int) -> None:
        nonlocal done
        done += count
        advance(split, done, len(rows))

    return rows.read(on_bad, heard)


def _learnable(schema: Schema, presence: Bools, seen: Survey, known: Bools) -> tuple[Schema, Bools, list[str]]:
    """Without the modalities that no training row has: nothing can be learned about them."""
    train = seen.split == "train"
    if not train.any():
        raise UserError(f"no row is for training: column {schema.split!r} marks none as 'train'")
    train = train & known
    if schema.target and not train.any():
        raise UserError(f"target {schema.target.column!r}: no training row has a value")
    if not presence[train].any():
        raise UserError("no training row has anything present; look at the table with absentia inspect")
    there, later = presence[train].any(axis=0), presence[(seen.split != "train") & known]
    notes = [_note_on_unseen(name, later[:, m]) for m, name in enumerate(schema.names) if not there[m]]
    kept = {name: kind for (name, kind), t in zip(schema.modalities.items(), there, strict=True) if t}
    return replace(schema, modalities=kept), presence[:, there], notes


def _check_readable(train: Rows) -> None:
    """Raise `UserError` for a modality of which bad cells left nothing to learn from."""
    for name, there in zip(train.schema.names, np.asarray(train.presence.any(axis=0)), strict=True):
        if not there:
            raise UserError(
                f"because of {len(train.bad)} bad cells no training row is left with {name!r} "
                f"(the first: {train.bad[0]}); mend the table, or leave the modality out"
            )


def _note_on_unseen(name: str, later: npt.NDArray[np.bool_]) -> str:
    count = int(later.sum())
    if not count:
        return f"No row has {name!r}; it was left out."
    return (
        f"No training row has {name!r}, so nothing can be learned about it: it was left out, and the {count} "
        "validation and test rows that have it are answered without it."
    )
