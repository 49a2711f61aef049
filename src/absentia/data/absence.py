"""The mask plan: which modalities an experiment hides from which entity, as a table with its rule, seed and hash.

A plan hides; it never brings back. A modality is there for a row where the table has it and the plan keeps it.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from absentia.data.absence_draw import draw_keep
from absentia.data.absence_rules import Rule
from absentia.data.absence_scores import normal_scores, ordered_values
from absentia.data.schema import pattern_name
from absentia.errors import UserError, nearest

__all__ = ["MaskPlan"]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SHOWN = 3  # ids that an error names


class MaskPlan:
    """What each entity keeps: one row for each (split, id), sorted, so that the order it came in is forgotten.

    modalities: M names, the order of the columns of `keep` and of every presence.
    splits, ids: Arrow strings (N,).  keep: bool (N, M).
    about: plain JSON: the seed, and for each split its rule, the asked rates and the number of entities.

    Rows may repeat; `UserError` if an entity is to keep different things in one split.
    """

    def __init__(
        self,
        *,
        modalities: Sequence[str],
        splits: Sequence[str] | str,
        ids: Sequence[str],
        keep: Bools,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.modalities = _checked(modalities)
        if np.shape(keep) != (len(ids), len(self.modalities)):
            raise UserError(f"keep has shape {np.shape(keep)}, not ({len(ids)}, {len(self.modalities)})")
        rows = pa.table({"split": _strings(splits, len(ids)), "id": _strings(ids), "row": np.arange(len(ids))})
        rows = rows.sort_by([("split", "ascending"), ("id", "ascending"), ("row", "ascending")])
        first = _first_of_runs(rows)
        self.keep = np.asarray(keep, dtype=np.bool_)[rows.column("row").to_numpy()]
        self._check_copies(rows, first)
        kept = rows.filter(pa.array(first))
        self.splits: pa.Array = kept.column("split").combine_chunks()
        self.ids: pa.Array = kept.column("id").combine_chunks()
        self.keep = self.keep[first]
        self.about: dict[str, Any] = json.loads(json.dumps(dict(about or {})))

    @classmethod
    def draw(
        cls,
        *,
        modalities: Sequence[str],
        splits: Sequence[str] | str,
        ids: Sequence[str],
        rules: Mapping[str, Rule],
        seed: int = 0,
        values: Mapping[str, Any] | None = None,
    ) -> MaskPlan:
        """Draw a plan for a table of N rows: `splits` and `ids` (N,), one `rules` entry for each split to be thinned.

        A split without a rule stays complete. `values` holds the columns that mar and mnar rules depend on, each
        (N,): numbers, dates, or texts as categories; the rows of one entity must agree in them.

        Each entity is drawn from hash(seed, id) and the rule, so that order and copies of rows change nothing; under
        mcar a subset of the rows is drawn as within the whole. For mar and mnar "high" and "low" are meant among the
        entities of the split, so keep the plan, and apply it to subsets. The same entity in two splits with the
        same mcar rule loses the same.
        """
        names, splits, ids = _checked(modalities), _strings(splits, len(ids)), _strings(ids)
        present = pc.unique(splits).to_pylist()
        for split in rules:
            if len(ids) and split not in present:
                raise UserError(f"the mask plan has a rule for split {split!r}, which no row has; {nearest(split, present)}")
        keep = np.ones((len(ids), len(names)), dtype=np.bool_)
        about: dict[str, Any] = {"seed": int(seed), "splits": {}}
        for split in sorted({*present, *rules}):
            rows = np.flatnonzero(pc.equal(splits, split).to_numpy(zero_copy_only=False))
            keep[rows], about["splits"][split] = _draw_split(rules.get(split), names, ids.take(rows), rows, values, seed)
        return cls(modalities=names, splits=splits, ids=ids, keep=keep, about=about)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"MaskPlan({len(self)} entities, {', '.join(self.modalities)}, sha256 {self.sha256[:12]})"

    @functools.cached_property
    def sha256(self) -> str:
        """The hash of what the plan says: equal for equal plans, whatever the order of rows and modalities, the file
        they are in or the library that wrote it."""
        order = np.argsort(np.asarray(self.modalities, dtype=str))
        head = {"modalities": [self.modalities[m] for m in order], "about": self.about, "rows": len(self)}
        digest = hashlib.sha256(json.dumps(head, sort_keys=True, ensure_ascii=True).encode())
        for texts in (self.splits, self.ids):
            digest.update(pc.binary_length(texts).to_numpy(zero_copy_only=False).astype("<i8").tobytes())
            digest.update("".join(texts.to_pylist()).encode())
        digest.update(np.packbits(self.keep[:, order], axis=1).tobytes())
        return digest.hexdigest()

    def ordered(self, modalities: Sequence[str]) -> MaskPlan:
        """The same plan with the modalities in another order; `UserError` if they are not the same ones."""
        for name in modalities:
            if name not in self.modalities:
                raise UserError(f"the mask plan says nothing about {name!r}; {nearest(name, self.modalities)}")
        for name in self.modalities:
            if name not in modalities:
                raise UserError(f"the mask plan is about {name!r} too, which is not among {', '.join(modalities)}")
        order = [self.modalities.index(name) for name in modalities]
        return MaskPlan(
            modalities=modalities, splits=self.splits, ids=self.ids, keep=self.keep[:, order], about=self.about
        )

    def apply(self, ids: Sequence[str], presence: Bools, splits: Sequence[str] | str | None = None) -> Bools:
        """What is left of `presence`, bool (N, M), of the rows `ids` (N,): presence & keep.

        splits: of the rows, or of all of them; needed where an entity is in several splits and keeps different
        things there. Raises `UserError` for rows the plan does not know.
        """
        if np.shape(presence) != (len(ids), len(self.modalities)):
            raise UserError(f"presence has shape {np.shape(presence)}, not ({len(ids)}, {len(self.modalities)})")
        return np.asarray(presence & self.keep[self._find(_strings(ids), splits)])

    def realised(
        self,
        ids: Sequence[str] | None = None,
        presence: Bools | None = None,
        splits: Sequence[str] | str | None = None,
    ) -> dict[str, dict[str, Any]]:
        """The asked rates beside those that came about, by split.

        Each split has `entities`, `asked` (None where there was no rule) and `planned`, the plan alone over its
        entities. With the rows of a table (`ids` (N,) and their natural `presence` (N, M)) also `rows`, `natural`
        (absent in the table), `together` (natural or planned) and `emptied`, the number of rows that had something
        and have nothing left. Rates are `p_absent` by modality, `p_incomplete`, and `patterns` as shares.
        """
        where = None if ids is None else self._find(_strings(ids), splits)
        report = {}
        for split in pc.unique(self.splits).to_pylist():
            mine = pc.equal(self.splits, split).to_numpy(zero_copy_only=False)
            about = self.about.get("splits", {}).get(split) or {}
            report[split] = {
                "entities": int(mine.sum()),
                "asked": about.get("asked"),
                "planned": _rates(self.keep[mine], self.modalities),
            }
            if where is not None and presence is not None:
                rows = mine[where]
                report[split] |= self._beside_nature(presence[rows], self.keep[where[rows]])
        return report

    def _beside_nature(self, presence: Bools, keep: Bools) -> dict[str, Any]:
        left = presence & keep
        return {
            "rows": len(presence),
            "natural": _rates(presence, self.modalities),
            "together": _rates(left, self.modalities),
            "emptied": int((presence.any(axis=1) & ~left.any(axis=1)).sum()),
        }

    def _find(self, ids: pa.Array, splits: Sequence[str] | str | None) -> Ints:
        """The plan's row for each of `ids`, int64 (N,)."""
        if splits is None:
            found = _places(ids, self.ids)
            self._check_unambiguous(ids)
        else:
            names = _strings(splits, len(ids))
            found = np.full(len(ids), -1, dtype=np.int64)
            for split in pc.unique(names).to_pylist():
                asked = np.flatnonzero(pc.equal(names, split).to_numpy(zero_copy_only=False))
                mine = np.flatnonzero(pc.equal(self.splits, split).to_numpy(zero_copy_only=False))
                place = _places(ids.take(pa.array(asked)), self.ids.take(pa.array(mine)))
                found[asked] = np.where(place < 0, -1, mine[place]) if len(mine) else -1
        if (found < 0).any():
            raise UserError(self._unknown(ids.filter(pa.array(found < 0)), splits))
        return found

    def _unknown(self, strangers: pa.Array, splits: Sequence[str] | str | None) -> str:
        names = pc.unique(strangers)
        listed = ", ".join(map(repr, names.slice(0, SHOWN).to_pylist())) + (", ..." if len(names) > SHOWN else "")
        elsewhere = splits is not None and pc.any(pc.is_in(names, value_set=self.ids)).as_py()
        reason = "it was drawn with another split, or other ids" if elsewhere else "it was drawn for another table"
        return f"the mask plan does not know {len(names)} of the entities ({listed}): {reason}; draw a plan for this one"

    def _check_unambiguous(self, ids: pa.Array) -> None:
        if len(pc.unique(self.ids)) == len(self.ids):
            return
        first = _places(self.ids, self.ids)
        differing = pc.unique(self.ids.filter(pa.array((self.keep != self.keep[first]).any(axis=1))))
        asked = differing.filter(pc.is_in(differing, value_set=ids)).to_pylist()
        if asked:
            raise UserError(
                f"entity {asked[0]!r} is in several splits of the mask plan and keeps different things there; "
                "say which split the rows belong to"
            )

    def _check_copies(self, rows: pa.Table, first: Bools) -> None:
        run = np.maximum.accumulate(np.where(first, np.arange(len(first)), 0))
        bad = np.flatnonzero((self.keep != self.keep[run]).any(axis=1))
        if len(bad):
            split, name = (rows.column(c)[int(bad[0])].as_py() for c in ("split", "id"))
            raise UserError(f"entity {name!r} of split {split!r} is to keep different things in different rows")


def _draw_split(
    rule: Rule | None,
    modalities: Sequence[str],
    ids: pa.Array,
    rows: Ints,
    values: Mapping[str, Any] | None,
    seed: int,
) -> tuple[Bools, dict[str, Any]]:
    """What the rows of one split keep, bool (n, M), and what there is to say about it."""
    entities = _Entities(ids)
    about: dict[str, Any] = {"entities": len(entities.names), "rule": None, "asked": None}
    if rule is None:
        return np.ones((len(ids), len(modalities)), dtype=np.bool_), about
    about |= {"rule": rule.to_json(), "asked": rule.asked(modalities)}
    if not len(ids):
        return np.ones((0, len(modalities)), dtype=np.bool_), about
    scores, about["unknown"] = _scores(rule, modalities, entities, rows, values or {})
    return draw_keep(rule, modalities, entities.names, scores, seed)[entities.of_row], about


class _Entities:
    """The different ids of some rows, sorted, so that sums over them do not depend on the order of the rows.

    names: (E,).  of_row: int64 (n,), the entity of each row.  first_row: int64 (E,), a row of each entity.
    """

    def __init__(self, ids: pa.Array) -> None:
        coded = ids.dictionary_encode()
        order = pc.sort_indices(coded.dictionary).to_numpy()
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        self.names: list[str] = coded.dictionary.take(pa.array(order)).to_pylist()
        self.of_row = place[coded.indices.to_numpy()]
        self.first_row = np.unique(self.of_row, return_index=True)[1]

    def values(self, of_rows: Floats, name: str) -> Floats:
        """One value for each entity (E,) from those of its rows (n,), which have to agree."""
        each = of_rows[self.first_row]
        differ = np.flatnonzero((of_rows != each[self.of_row]) & ~(np.isnan(of_rows) & np.isnan(each[self.of_row])))
        if len(differ):
            entity = self.names[self.of_row[differ[0]]]
            raise UserError(
                f"column {name!r} differs between rows of the entity {entity!r}, which is masked as one; "
                "choose a column that is the same in all rows of an entity, or other ids"
            )
        return each


def _scores(
    rule: Rule, modalities: Sequence[str], entities: _Entities, rows: Ints, values: Mapping[str, Any]
) -> tuple[Floats | None, dict[str, int]]:
    """Scores (E, M) of the entities (None for mcar), and for each column how many entities have no value in it."""
    if rule.mechanism == "mcar":
        return None, {}
    columns = _column_of_each(rule, modalities)
    score, unknown = {}, {}
    for name in dict.fromkeys(filter(None, columns)):
        if name not in values:
            raise UserError(f"absence is to depend on column {name!r}, which is not there; {nearest(name, values)}")
        each = entities.values(ordered_values(values[name], name)[rows], name)
        score[name], unknown[name] = normal_scores(each, name), int(np.isnan(each).sum())
    zero = np.zeros(len(entities.names))
    return np.stack([score[c] if c else zero for c in columns], axis=1), unknown


def _column_of_each(rule: Rule, modalities: Sequence[str]) -> list[str | None]:
    """The column that each modality's absence depends on; None for one that is never absent."""
    lost = rule.asked(modalities)["p_absent"]
    depends = rule.depends_on
    if isinstance(depends, str):
        return [depends] * len(modalities)
    assert depends is not None
    for name in depends:
        if name not in modalities:
            raise UserError(f"depends_on: unknown modality {name!r}; {nearest(name, modalities)}")
    for name in modalities:
        if lost[name] > 0 and name not in depends:
            raise UserError(f"mnar hides {name!r} too: say in depends_on which of its values that depends on")
    return [depends.get(name) for name in modalities]


def _rates(present: Bools, modalities: Sequence[str]) -> dict[str, Any]:
    """`p_absent` by modality, `p_incomplete` and `patterns`, the most frequent first, of presence (n, M)."""
    n = max(len(present), 1)
    kinds, counts = np.unique(np.packbits(present, axis=1), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    patterns = np.unpackbits(kinds[order], axis=1, count=len(modalities)).tolist()
    return {
        "p_absent": dict(zip(modalities, ((~present).sum(axis=0) / n).tolist(), strict=True)),
        "p_incomplete": float((~present.all(axis=1)).sum() / n),
        "patterns": {pattern_name(modalities, p): c / n for p, c in zip(patterns, counts[order].tolist(), strict=True)},
    }


def _checked(modalities: Sequence[str]) -> tuple[str, ...]:
    names = tuple(modalities)
    if not names or len(set(names)) < len(names):
        raise UserError(f"a mask plan needs modalities with different names, not {list(names)}")
    return names


def _strings(texts: Sequence[str] | str, size: int = 0) -> pa.Array:
    """Texts as Arrow strings; one text stands for `size` of them."""
    if isinstance(texts, str):
        return pa.repeat(pa.scalar(texts, pa.string()), size)
    if isinstance(texts, pa.ChunkedArray):
        return texts.combine_chunks()
    return texts if isinstance(texts, pa.Array) else pa.array(texts, pa.string())


def _places(names: pa.Array, known: pa.Array) -> Ints:
    """Where each name is first among the known ones, int64 (N,), -1 where it is not."""
    found = pc.index_in(names, value_set=known).fill_null(-1)
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.int64)


def _first_of_runs(rows: pa.Table) -> Bools:
    """Where a new (split, id) begins in sorted rows, bool (N,)."""
    first = np.ones(rows.num_rows, dtype=np.bool_)
    for name in ("split", "id") if rows.num_rows > 1 else ():
        column = rows.column(name).combine_chunks()
        differs = pc.not_equal(column.slice(1), column.slice(0, len(column) - 1)).to_numpy(zero_copy_only=False)
        first[1:] = differs if name == "split" else first[1:] | differs
    return first
