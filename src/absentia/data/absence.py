"""The mask plan: which modalities an experiment hides from which entity, with its rules, seed and hash.

A plan hides; it never brings back. A row has a modality where the table has it and the plan keeps it.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from absentia.data.absence_file import read_plan, write_plan
from absentia.data.absence_rates import beside_nature, rates
from absentia.data.absence_rules import Rule
from absentia.data.absence_split import draw_split
from absentia.errors import UserError, nearest

__all__ = ["MaskPlan"]

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Splits = Sequence[str] | str
"""The split of each row, or one split for all of them."""

SHOWN = 3  # ids that an error names
NO_ROWS: Ints = np.zeros(0, dtype=np.int64)


class MaskPlan:
    """What each entity keeps: a row for each (split, id), sorted: the order they came in is forgotten.

    modalities: M names, the order of the columns of `keep` and of every presence.
    splits, ids: (N,).  keep: bool (N, M).
    about: plain JSON: the seed, and for each split its rule (mechanism and asked rates) and its entities.

    A plan made elsewhere (a published table of masks) becomes one of ours through the constructor.
    Raises `UserError` for shapes that do not fit and for an entity that comes twice in one split.
    """

    def __init__(
        self,
        *,
        modalities: Sequence[str],
        splits: Splits,
        ids: Sequence[str],
        keep: Bools,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.modalities = _checked(modalities)
        _check_shape(keep, len(ids), self.modalities, "keep")
        rows = list(zip(_of_rows(splits, len(ids)), map(str, ids), strict=True))
        order = sorted(range(len(rows)), key=rows.__getitem__)
        self.splits = [rows[row][0] for row in order]
        self.ids = [rows[row][1] for row in order]
        self.keep = np.asarray(keep, dtype=np.bool_)[order]
        self.about: dict[str, Any] = json.loads(json.dumps(dict(about or {})))
        self._places = self._index()

    @classmethod
    def draw(
        cls,
        *,
        modalities: Sequence[str],
        splits: Splits,
        ids: Sequence[str],
        rules: Mapping[str, Rule],
        seed: int = 0,
        values: Mapping[str, Any] | None = None,
    ) -> MaskPlan:
        """Draw a plan for a table of N rows, given their `splits` and `ids` (N,).

        rules: one for each split that is to lose something; a split without a rule stays complete.
        values: the columns that mar and mnar rules depend on, each (N,): numbers, dates, or texts as
        categories.

        An entity's mask depends on its id, the seed and the rule: order and copies of rows change nothing,
        and an entity of two splits with the same mcar rule loses the same in both. Under mcar a subset of
        the rows is drawn as it is within the whole; under mar and mnar "high" and "low" are meant among the
        entities of the split, so there draw once and `apply` the plan to subsets.
        """
        names = _checked(modalities)
        rows = _rows_by_split(splits, len(ids))
        for split in rules:
            if len(ids) and split not in rows:
                raise UserError(f"there is a rule for split {split!r}, but no row of it; {nearest(split, rows)}")
        drawn = {
            split: draw_split(rules.get(split), names, ids, rows.get(split, NO_ROWS), values or {}, seed)
            for split in sorted({*rows, *rules})
        }
        return cls(
            modalities=names,
            splits=[split for split, part in drawn.items() for _ in part.ids],
            ids=[name for part in drawn.values() for name in part.ids],
            keep=np.concatenate([np.ones((0, len(names)), dtype=np.bool_), *(p.keep for p in drawn.values())]),
            about={"seed": int(seed), "splits": {split: part.about for split, part in drawn.items()}},
        )

    @classmethod
    def load(cls, path: str | Path) -> MaskPlan:
        """Read what `save` wrote; `UserError` for any other file, and for one that was changed since."""
        parts, sha256 = read_plan(Path(path))
        plan = cls(**parts)
        if plan.sha256 != sha256:
            raise UserError(f"{path}: the mask plan was changed after it was written; draw it again")
        return plan

    def save(self, path: str | Path) -> None:
        """Write Parquet, all at once or not at all: columns `split`, `id` and `keep.<modality>` (true or
        false); the metadata say how the plan was made, and its hash."""
        write_plan(Path(path), self.modalities, self.splits, self.ids, self.keep, self.about, self.sha256)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"MaskPlan({len(self)} entities, {', '.join(self.modalities)}, sha256 {self.sha256[:12]})"

    @functools.cached_property
    def sha256(self) -> str:
        """The hash of what the plan says (masks and `about`), whatever the order of rows and modalities, the
        file it is in or the library that wrote that."""
        order = np.argsort(np.asarray(self.modalities, dtype=str))
        head = {"modalities": sorted(self.modalities), "about": self.about, "rows": len(self)}
        digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
        for texts in (self.splits, self.ids):
            encoded = [text.encode() for text in texts]
            digest.update(np.asarray([len(text) for text in encoded], dtype="<i8").tobytes())
            digest.update(b"".join(encoded))
        digest.update(np.packbits(self.keep[:, order], axis=1).tobytes())
        return digest.hexdigest()

    def ordered(self, modalities: Sequence[str]) -> MaskPlan:
        """The plan with its modalities in the order of `modalities`; `UserError` if they are not the same."""
        for name in modalities:
            if name not in self.modalities:
                raise UserError(f"the mask plan says nothing about {name!r}; {nearest(name, self.modalities)}")
        for name in self.modalities:
            if name not in modalities:
                raise UserError(f"the mask plan is also about {name!r}; the modalities are {', '.join(modalities)}")
        keep = self.keep[:, [self.modalities.index(name) for name in modalities]]
        return MaskPlan(modalities=modalities, splits=self.splits, ids=self.ids, keep=keep, about=self.about)

    def apply(self, ids: Sequence[str], presence: Bools, splits: Splits | None = None) -> Bools:
        """What is left of `presence`, bool (N, M), in the rows `ids` (N,): presence & keep.

        splits: needed only where an entity is in several splits and keeps different things there.
        Raises `UserError` for rows that the plan does not know.
        """
        _check_shape(presence, len(ids), self.modalities, "presence")
        return np.asarray(presence & self.keep[self._find(ids, splits)])

    def realised(
        self, ids: Sequence[str] = (), presence: Bools | None = None, splits: Splits | None = None
    ) -> dict[str, dict[str, Any]]:
        """The asked rates beside those that came about, by split.

        Each split has `entities`, `asked` (None without a rule) and `planned`, the plan's own rates over its
        entities. Given the rows of a table, their `ids` (N,) and natural `presence` (N, M), also `rows`,
        `natural` (absent in the table), `together` (in the table or by the plan) and `emptied`: how many
        rows had something and have nothing left. Rates are `p_absent` by modality, `p_incomplete`,
        `patterns` as shares.
        """
        if presence is not None:
            _check_shape(presence, len(ids), self.modalities, "presence")
        where = None if presence is None else self._find(ids, splits)
        split_of = np.asarray(self.splits, dtype=object)
        report: dict[str, dict[str, Any]] = {}
        for split in sorted({*self._places, *self.about.get("splits", {})}):
            mine = split_of == split
            rule = self.about.get("splits", {}).get(split, {}).get("rule")
            asked = Rule(**rule).asked(self.modalities) if rule else None
            planned = rates(self.keep[mine], self.modalities)
            report[split] = {"entities": int(mine.sum()), "asked": asked, "planned": planned}
            if presence is not None and where is not None:
                rows = mine[where]
                report[split] |= beside_nature(presence[rows], self.keep[where[rows]], self.modalities)
        return report

    def _index(self) -> dict[str, dict[str, int]]:
        """The plan's row by split and id."""
        places: dict[str, dict[str, int]] = defaultdict(dict)
        for row, (split, name) in enumerate(zip(self.splits, self.ids, strict=True)):
            if places[split].setdefault(name, row) != row:
                raise UserError(f"entity {name!r} comes twice in split {split!r} of the mask plan")
        return dict(places)

    @functools.cached_property
    def _anywhere(self) -> dict[str, int]:
        """The plan's row by id alone; -1 where splits differ about it."""
        rows: dict[str, int] = {}
        for row, name in enumerate(self.ids):
            other = rows.setdefault(name, row)
            if other != row and (other < 0 or (self.keep[other] != self.keep[row]).any()):
                rows[name] = -1
        return rows

    def _find(self, ids: Sequence[str], splits: Splits | None) -> Ints:
        """The plan's row for each of `ids`, int64 (N,)."""
        if splits is None:
            found = [self._anywhere.get(name) for name in ids]
        elif isinstance(splits, str):
            found = [self._places.get(splits, {}).get(name) for name in ids]
        else:
            found = [self._places.get(s, {}).get(name) for s, name in zip(_of_rows(splits, len(ids)), ids, strict=True)]
        if None in found:
            raise UserError(self._stranger([name for name, row in zip(ids, found, strict=True) if row is None]))
        rows = np.asarray(found, dtype=np.int64)
        if (rows < 0).any():
            name = ids[int(np.argmin(rows))]
            raise UserError(f"entity {name!r} keeps different things in different splits; say which is meant")
        return rows

    def _stranger(self, names: list[str]) -> str:
        distinct = list(dict.fromkeys(names))
        listed = ", ".join([repr(str(name)) for name in distinct[:SHOWN]] + ["..."] * (len(distinct) > SHOWN))
        elsewhere = any(name in self._anywhere for name in distinct)
        reason = "another split" if elsewhere else "another table or id column"
        return (
            f"the mask plan does not know {len(distinct)} of the entities ({listed}): "
            f"it was drawn for {reason}; draw a plan for these rows"
        )


def _rows_by_split(splits: Splits, size: int) -> dict[str, Ints]:
    rows: dict[str, list[int]] = defaultdict(list)
    for row, split in enumerate(_of_rows(splits, size)):
        rows[split].append(row)
    return {split: np.asarray(numbers, dtype=np.int64) for split, numbers in rows.items()}


def _of_rows(splits: Splits, size: int) -> list[str]:
    names = [splits] * size if isinstance(splits, str) else list(map(str, splits))
    if len(names) != size:
        raise UserError(f"there are {len(names)} splits for {size} rows")
    return names


def _checked(modalities: Sequence[str]) -> tuple[str, ...]:
    names = tuple(modalities)
    if not names or len(set(names)) < len(names):
        raise UserError(f"a mask plan needs modalities with different names, not {list(names)}")
    return names


def _check_shape(array: Bools, rows: int, modalities: Sequence[str], what: str) -> None:
    if np.shape(array) != (rows, len(modalities)):
        raise UserError(f"{what} has shape {np.shape(array)}; for these rows it is ({rows}, {len(modalities)})")
