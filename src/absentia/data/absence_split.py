"""One split of a mask plan: from rows to entities, from columns to scores, from a rule to what they keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from absentia.data.absence_draw import draw_keep
from absentia.data.absence_rules import Rule
from absentia.data.absence_scores import normal_scores, ordered_values
from absentia.errors import UserError, nearest

__all__ = ["Drawn", "draw_split"]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Drawn(NamedTuple):
    """Entities `ids` (E,), what they keep, bool (E, M), and plain JSON about how that came."""

    ids: list[str]
    keep: Bools
    about: dict[str, Any]


class Entities(NamedTuple):
    """The entities that some rows belong to, sorted: sums over them do not depend on the order of the rows.

    ids: (E,).  of_row: int64 (n,), the entity of each row.  a_row: int64 (E,), a row of each entity.
    """

    ids: list[str]
    of_row: Ints
    a_row: Ints


def draw_split(
    rule: Rule | None,
    modalities: Sequence[str],
    ids: Sequence[str],
    rows: Ints,
    values: Mapping[str, Any],
    seed: int,
) -> Drawn:
    """What the entities of one split keep.

    ids: of all rows of the table (N,).  rows: those of the split, int64 (n,).  values: columns (N,) by name.
    about: the rule, the number of entities, and of how many the value that absence depends on is unknown.
    """
    entities = _entities([str(ids[row]) for row in rows.tolist()])
    size = len(entities.ids)
    about: dict[str, Any] = {"entities": size, "rule": None}
    if rule is None:
        return Drawn(entities.ids, np.ones((size, len(modalities)), dtype=np.bool_), about)
    about["rule"] = rule.to_json()
    columns = _columns(rule, modalities)
    scores, about["unknown"] = None, {}
    if rule.mechanism != "mcar" and size:
        known = {name: _values(values, name, len(ids))[rows] for name in dict.fromkeys(filter(None, columns))}
        each = {name: _of_entities(array, entities, name) for name, array in known.items()}
        about["unknown"] = {name: int(np.isnan(array).sum()) for name, array in each.items()}
        score = {name: normal_scores(array, name) for name, array in each.items()}
        scores = np.stack([score[name] if name else np.zeros(size) for name in columns], axis=1)
    return Drawn(entities.ids, draw_keep(rule, modalities, entities.ids, scores, seed), about)


def _entities(ids: list[str]) -> Entities:
    a_row = dict(zip(ids, range(len(ids)), strict=True))
    names = sorted(a_row)
    place = dict(zip(names, range(len(names)), strict=True))
    of_row = np.fromiter(map(place.__getitem__, ids), dtype=np.int64, count=len(ids))
    return Entities(names, of_row, np.fromiter(map(a_row.__getitem__, names), dtype=np.int64, count=len(names)))


def _columns(rule: Rule, modalities: Sequence[str]) -> list[str | None]:
    """The column that each modality's absence depends on (M,); None for one that is never absent."""
    if isinstance(rule.depends_on, str) or rule.depends_on is None:
        return [rule.depends_on] * len(modalities)
    lost = rule.asked(modalities)["p_absent"]
    for name in rule.depends_on:
        if name not in modalities:
            raise UserError(f"depends_on: unknown modality {name!r}; {nearest(name, modalities)}")
    for name in modalities:
        if lost[name] > 0 and name not in rule.depends_on:
            raise UserError(f"mnar hides {name!r} too; say in depends_on which of its values that depends on")
    return [rule.depends_on[name] if lost[name] > 0 else None for name in modalities]


def _values(values: Mapping[str, Any], name: str, size: int) -> Floats:
    if name not in values:
        raise UserError(f"absence is to depend on column {name!r}, which is not given; {nearest(name, values)}")
    column = ordered_values(values[name], name)
    if len(column) != size:
        raise UserError(f"column {name!r} has {len(column)} values for {size} rows")
    return column


def _of_entities(of_rows: Floats, entities: Entities, name: str) -> Floats:
    """One value for each entity (E,) from those of its rows (n,), which have to agree."""
    each = of_rows[entities.a_row]
    same = np.equal(of_rows, each[entities.of_row]) | (np.isnan(of_rows) & np.isnan(each[entities.of_row]))
    if not same.all():
        entity = entities.ids[entities.of_row[np.argmin(same)]]
        raise UserError(
            f"column {name!r} differs between rows of entity {entity!r}, which is masked as one; "
            "choose a column that is the same in all rows of an entity, or other ids"
        )
    return each
