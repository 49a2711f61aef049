"""`absentia options`: every option of every method, with its values, its default and a sentence."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

import pytest

from absentia.cli import main
from absentia.errors import UserError
from absentia.methods import METHODS
from absentia.methods.described import introduction, options_of
from absentia.methods.settings import at_least, between, one_of
from absentia.pretrain import KINDS

EVERY = [*METHODS.values(), *KINDS.values()]


@dataclass(frozen=True, kw_only=True)
class Base:
    """Args:
    kind: this one,
        or that.
    """

    kind: str = "this"

    def __post_init__(self) -> None:
        one_of("kind", self.kind, ("this", "that"))


@dataclass(frozen=True, kw_only=True)
class Made(Base):
    """What a made-up method may be told. In two
    lines.

    Args:
        low, high: ends of a range: both of them.
        free: with no limit.
        mode: of two.
        kind: another word for it.
        said: in words.
    """

    low: float = 0.5
    high: float | None = None
    count: int = 3
    free: int = 0
    mode: Literal["on", "off"] = "on"
    flag: bool = True
    said: str = "two words"

    def __post_init__(self) -> None:
        super().__post_init__()
        between("low", self.low, 0, 1)
        at_least("count", self.count, 1)


def said(settings: type[Any]) -> dict[str, tuple[str, str, str]]:
    return {one.name: (one.may_be, one.default, one.sentence) for one in options_of(settings)}


def test_an_option_is_told_by_its_values_its_default_and_its_sentence() -> None:
    assert said(Made) == {
        "kind": ("this or that", "this", "another word for it."),
        "low": ("a number (from 0 to 1)", "0.5", "ends of a range: both of them."),
        "high": ("a number or null", "null", "ends of a range: both of them."),
        "count": ("a whole number (at least 1)", "3", ""),
        "free": ("a whole number", "0", "with no limit."),
        "mode": ("on or off", "on", "of two."),
        "flag": ("true or false", "true", ""),
        "said": ("a text", "'two words'", "in words."),
    }
    assert said(Base)["kind"][2] == "this one, or that."
    assert introduction(Made) == "What a made-up method may be told. In two lines." and introduction(Base) == ""


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: f"{kind.name} {kind.__name__}")
def test_every_option_of_every_method_is_explained(kind: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert introduction(kind)
    described = options_of(kind.Options)
    assert [one.name for one in described] == [field.name for field in fields(kind.Options)]
    for one in described:
        assert one.sentence.endswith((".", ")")), f"options.{one.name} of {kind.name} has no sentence"
        assert "a value" not in one.may_be
    pretrains = KINDS.get(kind.name) is kind
    assert main(["options", kind.name, *(["--pretrain"] if pretrains else [])]) == 0
    out = capsys.readouterr().out
    assert all(f"--options.{one.name}  " in out for one in described)
    assert bool(described) != ("no options of its own" in out)


def test_methods_are_listed_and_the_nearest_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    for flags, names in (([], METHODS), (["--pretrain"], KINDS)):
        assert main(["options", *flags]) == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        listed = {line[0]: line[1] for line in lines if len(line) > 1 and line[0] in names}
        assert listed == {name: str(len(fields(kind.Options))) for name, kind in names.items()}
    assert main(["options", "univeral"]) == 2
    assert "unknown method 'univeral'; did you mean 'universal'?" in capsys.readouterr().err


def test_the_help_of_training_says_how_to_list_them(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("train", "learn", "pretrain"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert "absentia options METHOD" in " ".join(capsys.readouterr().out.split())


def test_what_is_refused_is_what_was_told() -> None:
    for kind in METHODS.values():
        for one in options_of(kind.Options):
            if "(at least 1)" in one.may_be:
                with pytest.raises(UserError, match="must be at least 1"):
                    kind.Options(**{one.name: 0})
