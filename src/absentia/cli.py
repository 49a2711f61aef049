"""The commands: parse, call, print. What they do is in jobs.py and the rooms behind it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import (  # type: ignore[attr-defined]
    ActionConfigFile,
    ArgumentError,
    ArgumentParser,
    Namespace,
)

from absentia.config import Model, RunConfig, Training, config_from
from absentia.errors import UserError, nearest

if TYPE_CHECKING:
    from rich.console import Console

    from absentia.data.schema import Schema
    from absentia.data.table import Table

__all__ = ["main"]

ON_BAD = "what becomes of cells that cannot be read: error, absent or skip"
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for a mistake of the user, 130 after Ctrl-C."""
    words = [_underscored(word) for word in (sys.argv[1:] if argv is None else argv)]
    parser, commands = _parser()
    try:
        parsed = parser.parse_args(words or ["--help"])
        return COMMANDS[parsed.subcommand](parsed[parsed.subcommand]) or 0
    except ArgumentError as error:
        return _complain(_explained(str(error), commands, words))
    except UserError as error:
        return _complain(str(error))
    except KeyboardInterrupt:
        print("\nabsentia: stopped. The same command with --resume goes on.", file=sys.stderr)
        return INTERRUPTED


def _parser() -> tuple[ArgumentParser, dict[str, ArgumentParser]]:
    parser = ArgumentParser(
        prog="absentia",
        description="Multimodal models that keep working when modalities are absent.",
        version=_version(),
        exit_on_error=False,
    )
    subcommands = parser.add_subcommands(title="commands", metavar="COMMAND")
    made = {}
    for name, build in BUILDERS.items():
        made[name] = ArgumentParser(description=build.__doc__, exit_on_error=False)
        build(made[name])
        subcommands.add_subcommand(name, made[name], help=str(build.__doc__).split(". ")[0].rstrip("."))
    return parser, made


def _train(parser: ArgumentParser) -> None:
    """Train a method on a table and write a robustness report."""
    parser.add_argument("table", type=str | None, nargs="?", help="file, folder or hub name of the table")
    _add_config(parser)
    _add_schema(parser)
    parser.add_argument("--method", type=str, default="dropout", help="dropout, ignore or dedicated")
    parser.add_argument("--plan", type=str | None, help="mask plan (see absentia mask)")
    _add_run(parser)
    parser.add_argument("--reference", type=bool, default=True, help="also train `ignore`, with the same budget")
    parser.add_argument("--patterns", type=list[str], default=[], help="patterns to score, as [image,image+text]")
    parser.add_class_arguments(Model, "model")
    parser.add_class_arguments(Training, "training")


def _evaluate(parser: ArgumentParser) -> None:
    """Score a finished run again, or on another table."""
    parser.add_argument("run", type=str, help="run folder")
    parser.add_argument("table", type=str | None, nargs="?", help="table to score on; the run's own by default")
    parser.add_argument("--patterns", nargs="+", default=[], help="patterns to score, such as image image+text")
    parser.add_argument("--part", type=str | None, help="rows to score: train, val, test or all")
    parser.add_argument("--plan", type=str | None, help="mask plan that hides modalities of these rows first")
    parser.add_argument("--on_bad", type=str, default="error", help=ON_BAD)
    parser.add_argument("--out", type=str | None, help="JSON file for the scores")


def _predict(parser: ArgumentParser) -> None:
    """Answer every row of a table; tables larger than memory stream through."""
    parser.add_argument("run", type=str, help="run folder")
    parser.add_argument("table", type=str, help="file, folder or hub name of the table")
    parser.add_argument("--out", type=str, required=True, help="file for the answers, .parquet or .csv")
    parser.add_argument("--absent", nargs="+", default=[], help="modalities to leave out, even if the table has them")
    parser.add_argument("--on_bad", type=str, default="error", help=ON_BAD)


def _inspect(parser: ArgumentParser) -> None:
    """Show what a table holds. Its kinds, what is present, the patterns, and the cells that cannot be read."""
    parser.add_argument("table", type=str | None, nargs="?", help="file, folder or hub name of the table")
    _add_config(parser)
    _add_schema(parser)
    parser.add_argument("--save", type=str | None, help="YAML file for the schema, to be read by --config")


def _mask(parser: ArgumentParser) -> None:
    """Draw a mask plan. Which modalities an experiment hides from which rows, by which mechanism."""
    parser.add_argument("table", type=str | None, nargs="?", help="file, folder or hub name of the table")
    _add_config(parser)
    _add_schema(parser)
    parser.add_argument("--p_absent", action="append", default=[], help="MODALITY=RATE, repeatable")
    parser.add_argument("--p_incomplete", type=float | None, help="share of rows that lack something")
    parser.add_argument("--composition", action="append", default=[], help="what remains of those, PATTERN=WEIGHT")
    parser.add_argument("--pattern", action="append", default=[], help="share of all rows, PATTERN=WEIGHT, repeatable")
    parser.add_argument("--mechanism", type=str, default="mcar", help="mcar, mar or mnar")
    parser.add_argument("--depends_on", action="append", default=[], help="mar: COLUMN; mnar: MODALITY=COLUMN")
    parser.add_argument("--strength", type=float, default=1.0, help="log-odds per standard deviation of that column")
    parser.add_argument("--allow_empty", type=bool, default=False, help="whether rows may lose everything")
    parser.add_argument("--parts", nargs="+", default=["train", "val", "test"], help="splits that the rule is for")
    parser.add_argument("--rules", type=dict[str, Any], default={}, help="a rule for each split, instead (in YAML)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--out", type=str, required=True, help="Parquet file for the plan")


def _compare(parser: ArgumentParser) -> None:
    """Put finished runs side by side, and say when they cannot be compared."""
    parser.add_argument("runs", nargs="+", help="run folders")


def _demo(parser: ArgumentParser) -> None:
    """Train on the embedded data set with 70 % of the training rows incomplete."""
    parser.add_argument("--method", type=str, default="dropout", help="dropout, ignore or dedicated")
    _add_run(parser)
    parser.add_argument("--epochs", type=float, default=8, help="passes over the training rows")


def _add_config(parser: ArgumentParser) -> None:
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file with these settings")


def _add_schema(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--modality", action="append", default=[], help="NAME=KIND[:ENCODER][@COLUMN,...], repeatable; else inferred"
    )
    parser.add_argument("--target", type=str | None, help="COLUMN or COLUMN=class|labels|number|log")
    parser.add_argument("--id", type=str | None, help="column that says which rows are the same entity")
    parser.add_argument("--split", type=str | None, help="column with train, val and test")


def _add_run(parser: ArgumentParser) -> None:
    parser.add_argument("--on_bad", type=str, default="error", help=ON_BAD)
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    parser.add_argument("--out", type=str | None, help="run folder; a new one below runs/ by default")
    parser.add_argument("--resume", type=bool, nargs="?", const=True, default=False, help="go on with the run in --out")


def train(asked: Namespace) -> None:
    """The command `train`."""
    given = _plain(asked)
    out, resume = given.pop("out"), given.pop("resume")
    if resume and given["table"] is None:
        config = _config_of(out)
    else:
        config = config_from(RunConfig, _required_table(given) | {"modality": _modalities(given["modality"])})
    _run(config, out or _fresh(Path(config.table).stem), resume=resume)


def demo(asked: Namespace) -> None:
    """The command `demo`."""
    from absentia.demo import demo_settings

    config, table, plan = demo_settings(
        method=asked.method, seed=asked.seed, epochs=asked.epochs, on_bad=asked.on_bad
    )
    _run(config, asked.out or _fresh("demo"), resume=asked.resume, source=table, plan=plan)


def evaluate(asked: Namespace) -> None:
    """The command `evaluate`."""
    import json

    from absentia.data.absence import MaskPlan
    from absentia.evaluate.terminal import PatternTable
    from absentia.jobs import evaluate_run, own_table
    from absentia.learn.run import load_run

    run = load_run(asked.run)
    plan = MaskPlan.load(asked.plan) if asked.plan else None
    if asked.table is None:
        table, plan = own_table(run, plan)
    else:
        table = asked.table
    report = evaluate_run(run, table, patterns=asked.patterns, on_bad=asked.on_bad, part=asked.part, plan=plan)
    _console().print(PatternTable(report))
    if asked.out:
        run.folder.write_text(Path(asked.out), json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def predict(asked: Namespace) -> None:
    """The command `predict`."""
    from absentia.learn.run import load_run
    from absentia.predict import predict_run

    run = load_run(asked.run)
    console = _console(stderr=True)
    with console.status("predicting") as status:
        done = predict_run(
            run,
            asked.table,
            asked.out,
            on_bad=asked.on_bad,
            absent=asked.absent,
            advance=lambda rows: status.update(f"predicting, {rows:,} rows"),
        )
    console.print(f"{done.rows:,} rows answered in {asked.out}", highlight=False)
    if done.bad:
        skipped = f"; {done.skipped:,} rows skipped" if done.skipped else ""
        line = f"{len(done.bad):,} cells could not be read{skipped}; first: {done.bad[0]}"
        console.print(line, highlight=False, markup=False)


def inspect(asked: Namespace) -> None:
    """The command `inspect`."""
    import yaml

    from absentia.data.inspect import inspect as look

    console = _console()
    table, schema = _table_and_schema(asked, console, need_target=False, streaming=True)
    with console.status("reading") as status:
        found = look(table, schema, advance=lambda rows: status.update(f"reading, {rows:,} rows"))
    console.print(found.render())
    if asked.save:
        Path(asked.save).write_text(yaml.safe_dump(_as_settings(schema), sort_keys=False), encoding="utf-8")
        console.print(f"the schema is in {asked.save}; use it with --config {asked.save}", highlight=False)


def mask(asked: Namespace) -> None:
    """The command `mask`."""
    from absentia.masking import draw_plan, rates_table

    console = _console()
    table, schema = _table_and_schema(asked, console, need_target=False)
    plan, rates = draw_plan(table, schema, _plain(asked))
    plan.save(asked.out)
    console.print(rates_table(rates))
    console.print(f"{len(plan):,} entities in {asked.out}, sha256 {plan.sha256}", highlight=False)


def compare(asked: Namespace) -> None:
    """The command `compare`."""
    from absentia.evaluate.compare import compare as side_by_side
    from absentia.learn.folder import RunFolder

    folders = [RunFolder(path) for path in asked.runs]
    reports = [folder.read_json(folder.report) for folder in folders]
    _console().print(side_by_side(reports, [folder.path.name for folder in folders]))


COMMANDS: dict[str, Callable[[Namespace], int | None]] = {
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "inspect": inspect,
    "mask": mask,
    "compare": compare,
    "demo": demo,
}
BUILDERS: dict[str, Callable[[ArgumentParser], None]] = {
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "inspect": _inspect,
    "mask": _mask,
    "compare": _compare,
    "demo": _demo,
}


def _run(config: RunConfig, out: str, *, resume: bool, source: Any = None, plan: Any = None) -> None:
    """Train, then print the table of patterns and where the run is."""
    from absentia.evaluate.terminal import PatternTable
    from absentia.jobs import train_run
    from absentia.watch import TerminalWatcher

    console = _console()
    with TerminalWatcher(console) as watcher:
        report = train_run(
            config, out, resume=resume, source=source, plan=plan, watcher=watcher, command=_command()
        )
    console.print(PatternTable(report))
    console.print(f"The run is in {out}; open {Path(out) / 'report.html'}", highlight=False, soft_wrap=True)


def _table_and_schema(
    asked: Namespace, console: Console, *, need_target: bool, streaming: bool = False
) -> tuple[Table, Schema]:
    from absentia.data.table import open_table
    from absentia.jobs import declared_schema

    given = _required_table(_plain(asked))
    table = open_table(given["table"], streaming=streaming)
    roles = {key: given[key] for key in ("table", "target", "id", "split")}
    config = RunConfig(modality=_modalities(given["modality"]), **roles)

    def say(line: str) -> None:
        console.print(f"· {line}", highlight=False, markup=False)

    return table, declared_schema(config, table, say, need_target=need_target)


def _as_settings(schema: Schema) -> dict[str, Any]:
    target = schema.target
    kind = "" if target is None or target.kind is None else f"={'log' if target.log else target.kind}"
    return {
        "modality": {name: kind.describe() for name, kind in schema.modalities.items()},
        "target": None if target is None else target.column + kind,
        "id": schema.id,
        "split": schema.split,
    }


def _modalities(given: Any) -> dict[str, Any]:
    """Flags, or a mapping from YAML, as a mapping from names."""
    if isinstance(given, dict):
        return given
    out = {}
    for flag in given:
        name, sign, options = str(flag).partition("=")
        if not sign:
            raise UserError(f"--modality {flag!r}: expected NAME=KIND[:ENCODER][@COLUMN,...], for example poster=image")
        if name in out:
            raise UserError(f"--modality {name!r} is declared twice")
        out[name] = options
    return out


def _plain(asked: Namespace) -> dict[str, Any]:
    given: dict[str, Any] = asked.as_dict()
    return {key: value for key, value in given.items() if key not in ("config", "__default_config__")}


def _required_table(given: dict[str, Any]) -> dict[str, Any]:
    if given["table"] is None:
        raise UserError("which table? Give a file, a folder or a hub name")
    return given


def _config_of(out: str | None) -> RunConfig:
    from absentia.learn.folder import RunFolder
    from absentia.learn.run import read_config

    if out is None:
        raise UserError("--resume needs --out, the folder of the run")
    return read_config(RunFolder(out))


def _fresh(name: str) -> str:
    """A folder below runs/ that is not there yet."""
    path, number = Path("runs") / name, 2
    while path.exists():
        path, number = Path("runs") / f"{name}-{number}", number + 1
    return str(path)


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr)


def _command() -> str:
    import shlex

    return shlex.join(["absentia", *sys.argv[1:]])


def _version() -> str:
    from absentia import __version__

    return __version__


def _underscored(word: str) -> str:
    """--on-bad and --on_bad are the same flag."""
    name, sign, value = word.partition("=")
    return name[:2] + name[2:].replace("-", "_") + sign + value if name.startswith("--") else word


def _explained(message: str, commands: dict[str, ArgumentParser], words: Sequence[str]) -> str:
    """One line about a mistake in flags or YAML, with the nearest known name."""
    command = commands.get(words[0]) if words else None
    line = " ".join(message.split())
    unknown = re.search(r"unrecognized arguments: (--[\w.]+)|not accept option '([\w.]+)'", line)
    if unknown is None or command is None:
        return line
    name = next(group for group in unknown.groups() if group)
    known = [o for action in command._actions for o in action.option_strings if o.startswith("--")]
    wanted = name if name.startswith("--") else "--" + name.split(".")[0]
    return f"{line}; {nearest(wanted, known)}"


def _complain(message: str) -> int:
    print(f"absentia: {message}", file=sys.stderr)
    return 2
