"""The commands: parse, call, print. What they do is in jobs.py and the rooms behind it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentError, Namespace

from absentia.asked import config_of_run, plain, required_table
from absentia.config import RunConfig
from absentia.errors import UserError
from absentia.flags import classes_of, explained, modalities_of, parser_of_all, underscored
from absentia.writing import replacing, spared

if TYPE_CHECKING:
    from rich.console import Console

    from absentia.data.schema import Schema
    from absentia.data.table import Table

__all__ = ["main"]

INTERRUPTED = 130
GOES_ON = dict.fromkeys(("train", "pretrain", "demo"), "with --resume goes on")
GOES_ON |= dict.fromkeys(("learn", "embed"), "goes on, for what is done is kept")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for a mistake of the user, 130 after Ctrl-C."""
    words = [underscored(word) for word in (sys.argv[1:] if argv is None else argv)]
    parser, commands = parser_of_all()
    try:
        parsed = parser.parse_args(words or ["--help"])
        return COMMANDS[parsed.subcommand](parsed[parsed.subcommand]) or 0
    except ArgumentError as error:
        return _complain(explained(str(error), commands, words))
    except UserError as error:
        return _complain(str(error))
    except KeyboardInterrupt:
        how = GOES_ON.get("".join(words[:1]), "begins again")
        print(f"\nabsentia: stopped. The same command {how}.", file=sys.stderr)
        return INTERRUPTED


def train(asked: Namespace) -> None:
    """The command `train`."""
    given = plain(asked)
    out, resume = given.pop("out"), given.pop("resume")
    config = config_of_run(given, out, resume=resume)
    _run(config, out or _fresh(Path(config.table).stem), resume=resume)


def pretrain(asked: Namespace) -> None:
    """The command `pretrain`."""
    from absentia.pretrain import described, pretrain_run
    from absentia.watch import LossWatcher

    given = plain(asked)
    out, resume = given.pop("out"), given.pop("resume")
    config = config_of_run(given, out, resume=resume)
    console = _console()
    with LossWatcher(console) as watcher:
        made = pretrain_run(config, out, resume=resume, watcher=watcher)
    for line in described(made):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"The backbone is in {out}; use it with --model.backbone {out}", highlight=False, soft_wrap=True)


def demo(asked: Namespace) -> None:
    """The command `demo`."""
    from absentia.demo import demo_settings

    if asked.continual:
        _continual_demo(asked)
        return
    method = asked.method or "dropout"
    epochs = 6.0 if asked.epochs is None else asked.epochs
    config, table, plan = demo_settings(method=method, seed=asked.seed, epochs=epochs, on_bad=asked.on_bad)
    _run(config, asked.out or _fresh("demo"), resume=asked.resume, source=table, plan=plan)


def learn(asked: Namespace) -> None:
    """The command `learn`."""
    from absentia.learn.stream import StreamFolder
    from absentia.streams import learn_run, settings_of
    from absentia.watch import TerminalWatcher

    given = plain(asked)
    out, session = given.pop("run"), given.pop("session")
    given |= {"modality": modalities_of(given["modality"]), "classes": classes_of(given["classes"])}
    config = settings_of(StreamFolder(out), given)
    console = _console()
    with TerminalWatcher(console) as watcher:
        report = learn_run(config, out, session=session, watcher=watcher, command=_command())
    _show_stream(console, report, out)


def sessions(asked: Namespace) -> None:
    """The command `sessions`."""
    from absentia.learn.stream import StreamFolder
    from absentia.streams import report_of

    folder, console = StreamFolder(asked.run), _console()
    if asked.roll_back is not None:
        aside = folder.roll_back(asked.roll_back)
        where = f"later ones are in {aside}" if aside else "there was no later one"
        console.print(f"session {asked.roll_back} is the latest; {where}", highlight=False, soft_wrap=True)
    _show_stream(console, report_of(folder), asked.run)


def adapt(asked: Namespace) -> None:
    """The command `adapt`."""
    from absentia.adaptation.study import ROWS, WHOLE, Study
    from absentia.adapters import adapt_run
    from absentia.evaluate.adapters import StudyTable

    given, console = plain(asked), _console()
    factory, data, out, whole = (given.pop(key) for key in ("factory", "data", "out", "whole"))
    given["rows"] = [*(given["rows"] or ROWS), *(WHOLE if whole else ())]
    given["patterns"] = given["patterns"] or "all"
    out = out or _fresh(str(factory).rpartition(":")[2])

    def say(line: str) -> None:
        console.print(f"· {line}", highlight=False, markup=False, soft_wrap=True)

    report = adapt_run(factory, data, Study(**given), out, command=_command(), hear=say)
    console.print(StudyTable(report))
    console.print(
        f"Adapters and report are in {out}; open {Path(out) / 'report.html'}", highlight=False, soft_wrap=True
    )


def evaluate(asked: Namespace) -> None:
    """The command `evaluate`."""
    import json

    from absentia.data.absence import MaskPlan
    from absentia.evaluate.terminal import PatternTable
    from absentia.jobs import evaluate_run, own_table
    from absentia.learn.run import load_run

    spared(asked.out, asked.table)
    run = load_run(asked.run).cached(asked.cache)
    plan = MaskPlan.load(asked.plan) if asked.plan else None
    table, part = asked.table, asked.part
    if table is None:
        table, plan = own_table(run, plan)
        part = part or "report"
    report = evaluate_run(run, table, patterns=asked.patterns, on_bad=asked.on_bad, part=part, plan=plan)
    console = _console()
    _say(console, run.fitted.cache_notes())
    console.print(PatternTable(report))
    if asked.out:
        run.folder.write_text(Path(asked.out), json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def retrieve(asked: Namespace) -> None:
    """The command `retrieve`."""
    from absentia.evaluate.found import FoundTable
    from absentia.jobs import own_table
    from absentia.learn.run import load_run
    from absentia.retrieve import retrieve_run

    spared(asked.out, asked.table)
    run = load_run(asked.run).cached(asked.cache)
    table, part = (asked.table, asked.part) if asked.table else (own_table(run, None)[0], asked.part or "report")
    report = retrieve_run(run, table, by=asked.by, part=part, on_bad=asked.on_bad, most=asked.most)
    _console().print(FoundTable(report))
    if asked.out:
        run.folder.write_json(Path(asked.out), report)


def predict(asked: Namespace) -> None:
    """The command `predict`."""
    from absentia.learn.run import load_run
    from absentia.predict import predict_run

    run = load_run(asked.run).cached(asked.cache)
    console = _console(stderr=True)
    with console.status("predicting") as status:
        done = predict_run(
            run,
            asked.table,
            asked.out,
            on_bad=asked.on_bad,
            absent=asked.absent,
            advance=lambda rows: status.update(f"predicting, {rows:,} rows"),
            say=lambda line: status.update(f"predicting, {line}"),
        )
    _say(console, [*done.notes, *run.fitted.cache_notes()])
    for line in done.told(asked.out):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def inspect(asked: Namespace) -> None:
    """The command `inspect`."""
    import yaml

    from absentia.data.inspect import inspect as look
    from absentia.declared import settings_of_schema

    console = _console()
    spared(asked.save, plain(asked)["table"])
    table, schema = _table_and_schema(asked, console, need_target=False, streaming=True)
    with console.status("reading") as status:
        found = look(table, schema, advance=lambda rows: status.update(f"reading, {rows:,} rows"))
    console.print(found.render())
    if asked.save:
        with replacing(Path(asked.save)) as temporary:
            temporary.write_text(yaml.safe_dump(settings_of_schema(schema), sort_keys=False), encoding="utf-8")
        console.print(f"the schema is in {asked.save}; use it with --config {asked.save}", highlight=False)


def embed(asked: Namespace) -> None:
    """The command `embed`."""
    from absentia.data.absence import MaskPlan
    from absentia.embed import embed_table

    console = _console()
    table, schema = _table_and_schema(asked, console, need_target=False)
    with console.status("embedding") as status:
        done = embed_table(
            *(table, schema),
            source=required_table(plain(asked))["table"],
            plan=MaskPlan.load(asked.plan) if asked.plan else None,
            on_bad=asked.on_bad,
            workers=asked.workers,
            advance=lambda rows, total: status.update(f"embedding, {rows:,} of {total:,} rows"),
        )
    _say(console, done.notes)
    for line in done.told():
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def mask(asked: Namespace) -> None:
    """The command `mask`."""
    from absentia.data.absence_check import self_test
    from absentia.masking import checks_table, draw_plan, rates_table

    console = _console()
    if asked.self_test:
        console.print(checks_table(self_test()))
        return
    if asked.out is None:
        raise UserError("where to? say --out PLAN, a Parquet file")
    spared(asked.out, plain(asked)["table"])
    table, schema = _table_and_schema(asked, console, need_target=False)
    plan, rates = draw_plan(table, schema, plain(asked))
    plan.save(asked.out)
    console.print(rates_table(rates))
    console.print(f"{len(plan):,} entities in {asked.out}, sha256 {plan.sha256}", highlight=False)


def options(asked: Namespace) -> None:
    """The command `options`."""
    from absentia.options import MethodTable, OptionList, kinds_of

    kinds = kinds_of(pretrain=asked.pretrain)
    _console().print(OptionList(asked.method, kinds) if asked.method else MethodTable(kinds))


def compare(asked: Namespace) -> None:
    """The command `compare`."""
    from absentia.evaluate.compare import compare as side_by_side
    from absentia.learn.folder import RunFolder

    folders = [RunFolder(path) for path in asked.runs]
    reports = [folder.read_json(folder.report) for folder in folders]
    names = [folder.path.name for folder in folders]
    _console().print(side_by_side(reports, names))
    if asked.csv:
        from absentia.evaluate.sheet import sheet

        folders[0].write_text(Path(asked.csv), sheet(reports, names))
        _console().print(f"every pattern's scores are in {asked.csv}", highlight=False, soft_wrap=True)
    if asked.page:
        from absentia.evaluate.streams.side_by_side import write_streams

        write_streams(asked.page, reports, names)
        _console().print(f"side by side in {asked.page}", highlight=False, soft_wrap=True)


COMMANDS: dict[str, Callable[[Namespace], int | None]] = {
    "train": train,
    "pretrain": pretrain,
    "learn": learn,
    "adapt": adapt,
    "sessions": sessions,
    "evaluate": evaluate,
    "retrieve": retrieve,
    "predict": predict,
    "inspect": inspect,
    "embed": embed,
    "mask": mask,
    "compare": compare,
    "options": options,
    "demo": demo,
}


def _continual_demo(asked: Namespace) -> None:
    from absentia.demo_continual import continual_demo
    from absentia.watch import LossWatcher

    out, method, console = asked.out or _fresh("demo-continual"), asked.method or "rebq", _console()
    epochs = 3.0 if asked.epochs is None else asked.epochs
    with LossWatcher(console) as watcher:
        report = continual_demo(out, method=method, seed=asked.seed, epochs=epochs, watcher=watcher, command=_command())
    _show_stream(console, report, str(Path(out) / method))
    console.print(f"Both ways are beside each other in {Path(out) / 'report.html'}", highlight=False, soft_wrap=True)


def _run(config: RunConfig, out: str, *, resume: bool, source: Any = None, plan: Any = None) -> None:
    """Train, then print the table of patterns and where the run is."""
    from absentia.evaluate.terminal import PatternTable
    from absentia.jobs import train_run
    from absentia.watch import TerminalWatcher

    console = _console()
    with TerminalWatcher(console) as watcher:
        report = train_run(config, out, resume=resume, source=source, plan=plan, watcher=watcher, command=_command())
    console.print(PatternTable(report))
    console.print(f"The run is in {out}; open {Path(out) / 'report.html'}", highlight=False, soft_wrap=True)


def _show_stream(console: Console, report: dict[str, Any], out: str) -> None:
    """The table of sessions, and where the page is."""
    from absentia.evaluate.streams.terminal import StreamTable

    console.print(StreamTable(report))
    console.print(f"The stream is in {out}; open {Path(out) / 'report.html'}", highlight=False, soft_wrap=True)


def _table_and_schema(
    asked: Namespace, console: Console, *, need_target: bool, streaming: bool = False
) -> tuple[Table, Schema]:
    from absentia.data.catalog import open_source
    from absentia.jobs import declared_schema

    given = required_table(plain(asked))
    table = open_source(given["table"], streaming=streaming)
    roles = {key: given[key] for key in ("table", "target", "id", "split")}
    config = RunConfig(modality=modalities_of(given["modality"]), **roles)

    _say(console, table.notes)
    return table, declared_schema(config, table, lambda line: _say(console, [line]), need_target=need_target)


def _say(console: Console, notes: Sequence[str]) -> None:
    for note in notes:
        console.print(f"· {note}", highlight=False, markup=False, soft_wrap=True)


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


def _complain(message: str) -> int:
    print(f"absentia: {message}", file=sys.stderr)
    return 2
