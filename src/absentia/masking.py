"""The job behind `absentia mask`: rules from flags or YAML, the plan they draw, and its rates as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table as RichTable

from absentia.config import config_from
from absentia.data.absence import MaskPlan
from absentia.data.absence_check import Check
from absentia.data.absence_protocols import bernoulli, eta, per_modality
from absentia.data.absence_rules import Rule
from absentia.data.schema import Schema
from absentia.data.splits import SPLITS
from absentia.data.table import Table
from absentia.errors import UserError, nearest
from absentia.learn.prepare import survey

__all__ = ["checks_table", "draw_plan", "rates_table", "rules_from"]

Rates = Mapping[str, Mapping[str, Any]]
OTHERS = ("rules", "p_absent", "p_incomplete", "composition", "pattern", "depends_on")


def draw_plan(table: Table, schema: Schema, asked: Mapping[str, Any]) -> tuple[MaskPlan, Rates]:
    """A plan for a table's rows, and asked, planned and realised rates by split."""
    rules = rules_from(asked, schema.names)
    for split in rules:
        if split not in SPLITS:
            raise UserError(f"there are no rows called {split!r} to hide something from; {nearest(split, SPLITS)}")
    seen = survey(table, schema)
    splits = seen.split.tolist()
    rules = {split: rule for split, rule in rules.items() if split in set(splits)}
    if not rules:
        raise UserError(f"{table.name} has no rows of the splits {', '.join(asked['parts'])}")
    plan = MaskPlan.draw(
        modalities=schema.names,
        splits=splits,
        ids=seen.ids,
        rules=rules,
        seed=asked["seed"],
        values=_values(table, rules),
    )
    return plan, plan.realised(seen.ids, seen.presence, splits)


def rules_from(asked: Mapping[str, Any], modalities: Sequence[str]) -> dict[str, Rule]:
    """A rule for each split, from `rules` (YAML), from `eta`, or from the flags of one rule; for its `parts`."""
    if asked["exact"] and asked["bernoulli"] is None and not asked["per_modality"]:
        raise UserError("--exact draws the patterns of --bernoulli or --per_modality in counts; say one of them too")
    if asked["eta"] is not None or asked["absent"] is not None:
        return dict.fromkeys(asked["parts"], _eta(asked, modalities))
    if asked["bernoulli"] is not None:
        _alone(asked, "bernoulli", ("per_modality", *OTHERS))
        return dict.fromkeys(asked["parts"], bernoulli(asked["bernoulli"], modalities, exact=asked["exact"]))
    if asked["per_modality"]:
        _alone(asked, "per_modality", OTHERS)
        rates = _numbers(asked["per_modality"], "per_modality") or {}
        return dict.fromkeys(asked["parts"], per_modality(rates, modalities, exact=asked["exact"]))
    if asked["rules"]:
        return {str(split): config_from(Rule, rule, f"rules.{split}.") for split, rule in asked["rules"].items()}
    rule = Rule(
        mechanism=asked["mechanism"],
        p_absent=_numbers(asked["p_absent"], "p_absent"),
        p_incomplete=asked["p_incomplete"],
        composition=_numbers(asked["composition"], "composition"),
        patterns=_numbers(asked["pattern"], "pattern"),
        depends_on=_depends(asked["depends_on"]),
        strength=asked["strength"],
        allow_empty=asked["allow_empty"],
    )
    return {part: rule for part in asked["parts"]}


def _eta(asked: Mapping[str, Any], modalities: Sequence[str]) -> Rule:
    """The protocol of η, which says everything about a rule."""
    if asked["eta"] is None:
        raise UserError("--absent says what the rows of --eta lack; say --eta RATIO too")
    _alone(asked, "eta", ("bernoulli", "per_modality", *OTHERS))
    return eta(asked["eta"], absent=asked["absent"] or "both", modalities=modalities)


def _alone(asked: Mapping[str, Any], protocol: str, others: Sequence[str]) -> None:
    """Raise `UserError` where something stands beside a protocol, which says everything about a rule."""
    given = [name for name in others if asked[name] or asked[name] == 0]
    given += ["mechanism"] if asked["mechanism"] != "mcar" else []
    if given:
        raise UserError(
            f"--{protocol} is a protocol of its own: leave --{given[0]} out, or say the rates without --{protocol}"
        )


def rates_table(rates: Rates) -> RichTable:
    """Asked rates beside what came about."""
    table = RichTable(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for column in ("split", "rate", "asked", "planned", "with what the table lacks"):
        table.add_column(column, justify="left" if column in ("split", "rate") else "right")
    for split, found in rates.items():
        for name, asked, planned, together in _lines(found):
            table.add_row(split, name, asked, planned, together)
    return table


def checks_table(checks: Sequence[Check]) -> RichTable:
    """What the self-test of the mechanisms found."""
    table = RichTable(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for column in ("what", "asked", "found", "within", ""):
        table.add_column(column, justify="left" if column in ("what", "") else "right")
    for check in checks:
        figures = (f"{value:.3f}" for value in (check.asked, check.found, check.within))
        table.add_row(check.what, *figures, "good" if check.good else "NOT GOOD")
    return table


def _lines(found: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    asked, planned, together = found.get("asked") or {}, found["planned"], found.get("together") or {}
    rows = [("p_incomplete", asked.get("p_incomplete"), planned["p_incomplete"], together.get("p_incomplete"))]
    for kind in ("p_absent", "patterns"):
        names = {**(asked.get(kind) or {}), **planned[kind]}
        parts = [part.get(kind) or {} for part in (asked, planned, together)]
        title = "p_absent {}" if kind == "p_absent" else "{}"
        rows += [(title.format(n), parts[0].get(n), parts[1].get(n), parts[2].get(n)) for n in names]
    return [(name, _percent(a), _percent(p), _percent(t)) for name, a, p, t in rows]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _numbers(flags: Sequence[str] | Mapping[str, float], name: str) -> dict[str, float] | None:
    """NAME=NUMBER flags as a mapping; None when there are none."""
    if isinstance(flags, Mapping):
        return {str(k): float(v) for k, v in flags.items()}
    out = {}
    for flag in flags:
        key, _, value = flag.rpartition("=")
        try:
            out[key] = float(value)
        except ValueError:
            raise UserError(f"--{name} {flag!r}: expected NAME=NUMBER") from None
    return out or None


def _depends(flags: Sequence[str]) -> str | dict[str, str] | None:
    if not flags:
        return None
    if len(flags) == 1 and "=" not in flags[0]:
        return flags[0]
    wrong = [flag for flag in flags if "=" not in flag]
    if wrong:
        raise UserError(f"--depends_on {wrong[0]!r}: several are MODALITY=COLUMN, one for mar is COLUMN")
    return dict(flag.split("=", 1) for flag in flags)


def _values(table: Table, rules: Mapping[str, Rule]) -> dict[str, Any]:
    columns = sorted({column for rule in rules.values() for column in rule.columns()})
    for column in columns:
        if column not in table.columns:
            raise UserError(f"{table.name} has no column {column!r} (depends_on); {nearest(column, table.columns)}")
    rows = table.take(np.arange(len(table))) if columns else None
    return {column: rows.column(column).to_pylist() for column in columns} if rows is not None else {}
