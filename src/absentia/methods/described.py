"""The options of a method in words: what each may be, what it is by default, and the sentence that explains it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import Field, fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from absentia.errors import UserError

__all__ = ["Described", "introduction", "options_of"]

ENTRY = re.compile(r"( *)(\w+(?:, \w+)*): (.*)")
WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", NoneType: "null"}
BEYOND: dict[type, Any] = {int: -(10**12), float: float("-inf"), str: "?"}  # what no limited option may be


class Described:
    """One option.

    name: as it follows --options.  may_be: its values.  default: as YAML says it.  sentence: from the docstring.
    """

    def __init__(self, settings: type[Any], field: Field[Any], hint: Any, sentence: str) -> None:
        self.name, self.sentence = field.name, sentence
        self.default = _yaml(field.default)
        self.may_be = _or([*_kinds(hint), *_limits(settings, field.name, hint)])


def options_of(settings: type[Any]) -> list[Described]:
    """Every option of a method's `Options`, in their order, those that it shares with others first."""
    hints, said = get_type_hints(settings), dict(_sentences(settings))
    return [Described(settings, field, hints[field.name], said.get(field.name, "")) for field in fields(settings)]


def introduction(documented: type[Any]) -> str:
    """The first paragraph of a docstring in one line; empty where there is none of its own."""
    first = inspect.cleandoc(documented.__dict__.get("__doc__") or "").split("\n\n")[0]
    return "" if first.startswith(("Args:", "As `")) else " ".join(first.split())


def _sentences(settings: type[Any]) -> Iterator[tuple[str, str]]:
    """What the docstrings of a class and of those it builds on say under Args, the class itself last."""
    for kind in reversed(settings.__mro__):
        _, _, args = inspect.cleandoc(kind.__dict__.get("__doc__") or "").partition("Args:\n")
        found: list[tuple[str, str]] = []
        margin: str | None = None
        for line in args.splitlines():
            entry = ENTRY.fullmatch(line)
            if entry and (margin is None or entry[1] == margin):
                margin = entry[1]
                found.append((entry[2], entry[3]))
            elif found and line.strip():
                found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}")
        yield from ((name, sentence) for names, sentence in found for name in names.split(", "))


def _kinds(hint: Any) -> list[str]:
    """The values of a type in words."""
    if get_origin(hint) in (UnionType, Union):
        return [word for option in get_args(hint) for word in _kinds(option)]
    if get_origin(hint) is Literal:
        return [str(value) for value in get_args(hint)]
    origin = get_origin(hint) or hint
    return [WORDS.get(origin) or {list: "a list", tuple: "a list", dict: "names with values"}.get(origin, "a value")]


def _limits(settings: type[Any], name: str, hint: Any) -> list[str]:
    """What the class itself says of a value that lies beyond every limit; nothing where it takes it."""
    for kind in get_args(hint) or (hint,):
        if kind not in BEYOND:
            continue
        try:
            settings(**{name: BEYOND[kind]})
        except UserError as error:
            about, _, rule = str(error).partition(": ")
            if about.startswith(f"options.{name} ") and rule.startswith(("must be ", "known: ")):
                return [f"({rule.removeprefix('must be ').removeprefix('a number ')})"]
    return []


def _or(words: list[str]) -> str:
    known = next((word[len("(known: ") : -1].split(", ") for word in words if word.startswith("(known: ")), [])
    limits = [word for word in words if word.startswith("(") and not known]
    plain = [*known, *(word for word in words if not word.startswith("(") and not (known and word == WORDS[str]))]
    listed = f"{', '.join(plain[:-1])} or {plain[-1]}" if len(plain) > 1 else plain[0]
    return " ".join([listed, *limits])


def _yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str) and " " in value:
        return repr(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
