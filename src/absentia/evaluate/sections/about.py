"""How the run was made: everything that one needs to get the same again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from absentia.evaluate.sections.listing import MOST_ROWS
from absentia.evaluate.wording import classes_words, finite, seconds_words, short, value_words

__all__ = ["Fact", "about"]

Json = Mapping[str, Any]
COLUMNS = 8  # of a modality that are named


class Fact(NamedTuple):
    """A name and a value; `code` values are set in a typewriter face."""

    name: str
    value: str
    code: bool = False


def about(report: Json) -> list[Fact]:
    """The facts of a run that are known."""
    target = report.get("target") or {}
    classes = target.get("classes") or []
    modalities = list(report["modalities"].items())[:MOST_ROWS]
    facts = [
        Fact("Target", value_words(target.get("column") or ""), True),
        Fact(classes_words(target), value_words(classes[:60], 400) if classes else ""),
        Fact("Method", value_words(report["method"]), True),
        Fact("Reference", value_words(report.get("reference_method") or "none"), True),
        *[Fact(f"Modality {short(name, 40)}", _modality(kind)) for name, kind in modalities],
        Fact("Seed", value_words(report.get("seed", "")), True),
        Fact("Mask plan", value_words(report.get("plan_sha256") or "none"), True),
        Fact("Parameters", _parameters(report.get("parameters") or {})),
        Fact("Time", _pairs({k: seconds_words(v) for k, v in (report.get("seconds") or {}).items()})),
        Fact("Hardware", value_words(report.get("hardware") or "", 200)),
        Fact("Made", value_words(report.get("created") or "")),
        Fact("Versions", _pairs(report.get("versions") or {})),
    ]
    return [fact for fact in facts if fact.value]


def _modality(kind: Json) -> str:
    columns = kind.get("columns") or []
    shown = ", ".join(short(column, 40) for column in columns[:COLUMNS])
    more = f" and {len(columns) - COLUMNS} more" if len(columns) > COLUMNS else ""
    reader = f", read by {short(kind['encoder'], 80)}" if kind.get("encoder") else ""
    return f"{short(kind.get('kind', ''), 20)} from {shown}{more}{reader}"


def _parameters(parameters: Json) -> str:
    trained, total = finite(parameters.get("trained")), finite(parameters.get("total"))
    if trained is None or not total:
        return ""
    share = f" ({trained / total:.2%})" if trained < total else ""
    return f"{trained:,.0f} trained of {total:,.0f}{share}{_apart(parameters)}"


def _apart(parameters: Json) -> str:
    """What answers need, where training needed more."""
    scaffold = {name: finite(count) for name, count in (parameters.get("scaffold") or {}).items()}
    answering = finite(parameters.get("answering"))
    named = ", ".join(f"{short(name, 30)} {count:,.0f}" for name, count in list(scaffold.items())[:MOST_ROWS] if count)
    return f"; {answering:,.0f} answer, in training alone {named}" if answering is not None and named else ""


def _pairs(values: Json) -> str:
    return ", ".join(f"{short(key, 30)} {short(value, 40)}" for key, value in list(values.items())[:MOST_ROWS])
