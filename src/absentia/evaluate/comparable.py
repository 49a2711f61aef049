"""Whether runs may stand beside each other: what they have to share, and a sentence where they do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from absentia.errors import UserError
from absentia.evaluate.wording import clean, metric_words, short, value_words

__all__ = ["SHARED", "Check", "differing", "differing_in", "here", "run_names"]


def here(row: Mapping[str, Any]) -> frozenset[str]:
    """The modalities that are present in a row of `patterns`, whatever their order."""
    return frozenset(name for name, is_here in row["present"].items() if is_here)


class Check(NamedTuple):
    """Something that runs must share: `read` finds it in a report, `say` shortens it for the warning."""

    what: str
    read: Callable[[Mapping[str, Any]], Any]
    say: Callable[[Any], str]
    follows: str


def _target(report: Mapping[str, Any]) -> Any:
    return (report.get("target") or {}).get("column")


def _classes(report: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(sorted(str(name) for name in (report.get("target") or {}).get("classes") or []))


def _test_rows(report: Mapping[str, Any]) -> Any:
    return ((report.get("splits") or {}).get("test") or {}).get("rows")


SHARED = (
    Check("metrics", lambda report: report["metric"], metric_words, "no difference can be shown"),
    Check("targets", _target, lambda name: value_words(name, 40), "they answer different questions"),
    Check("classes", _classes, lambda names: f"{len(names)}: {value_words(names, 40)}", "so do the questions"),
    Check(
        "mask plans",
        lambda report: report.get("plan_sha256"),
        lambda code: short(code or "none", 12),
        "a difference may come from the plan, not from the method",
    ),
    Check(
        "modalities",
        lambda report: tuple(sorted(report["modalities"])),
        lambda names: value_words(names, 60),
        "patterns that only some of them know have gaps",
    ),
)
CHECKS = (*SHARED, Check("test rows", _test_rows, value_words, "they were not tested on the same rows"))


def differing(reports: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A sentence for each thing that the runs should share and do not."""
    yield from differing_in(reports, CHECKS)
    if len({_test_rows(report) for report in reports}) == 1:
        yield from _other_rows(reports)


def differing_in(reports: Sequence[Mapping[str, Any]], checks: Sequence[Check]) -> Iterator[str]:
    """A sentence for each check that does not find the same in all reports."""
    for check in checks:
        found = list(dict.fromkeys(check.read(report) for report in reports))
        if len(found) > 1:
            said = " / ".join(check.say(value) for value in found)
            yield f"the {check.what} differ ({said}): {check.follows}."


def run_names(reports: Sequence[Mapping[str, Any]], given: Sequence[str] | None) -> tuple[str, ...]:
    """What each run is called: as given, else by method and seed; those that share a name are numbered.

    Raises UserError where there is not one name for each run.
    """
    wanted = [f"{report['method']}, seed {report.get('seed')}" for report in reports]
    if given is not None:
        wanted = [clean(str(name)) for name in given]
    if len(wanted) != len(reports):
        raise UserError(f"{len(reports)} runs were given with {len(wanted)} names: give one name for each run.")
    seen: Counter[str] = Counter()
    named = []
    for name in wanted:
        seen[name] += 1
        named.append(f"{name} ({seen[name]})" if seen[name] > 1 else name)
    return tuple(named)


def _other_rows(reports: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The same number of test rows can still be other rows: then patterns have other counts."""
    shared = set.intersection(*({here(row) for row in report["patterns"]} for report in reports))
    for pattern in sorted(shared, key=sorted):
        counts = list(dict.fromkeys(_counted(pattern, report) for report in reports))
        if len(counts) > 1:
            said = " / ".join(value_words(count) for count in counts)
            yield f"the test rows differ: {short('+'.join(sorted(pattern)))} was scored on {said} of them."
            return


def _counted(pattern: frozenset[str], report: Mapping[str, Any]) -> Any:
    return next(row.get("n") for row in report["patterns"] if here(row) == pattern)
