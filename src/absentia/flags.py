"""The flags of every command; each is a YAML key too."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser  # type: ignore[attr-defined]

from absentia import __version__
from absentia.config import Model, Training
from absentia.data.segmentation import Masks
from absentia.errors import UserError, nearest

__all__ = ["classes_of", "explained", "modalities_of", "parser_of_all", "underscored"]

METHOD = (
    "dropout, ignore, dedicated, modulation, joint-embedding, single-branch or universal, or one for streams of "
    "sessions; dropout, ignore, dedicated and universal also answer masks"
)
OPTIONS = "the method's own, --options.NAME VALUE; to list them: absentia options METHOD"
ON_BAD = "what becomes of cells that cannot be read: error, absent or skip"


def parser_of_all() -> tuple[ArgumentParser, dict[str, ArgumentParser]]:
    """The parser of the whole command line, and those of its commands by name."""
    parser = ArgumentParser(
        prog="absentia",
        description="Multimodal models that keep working when modalities are absent.",
        version=__version__,
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
    parser.add_argument("--method", type=str, default="dropout", help=METHOD)
    parser.add_argument("--options", type=dict[str, Any], default={}, help=OPTIONS)
    parser.add_argument("--plan", type=str | None, help="mask plan (see absentia mask)")
    _add_run(parser)
    _add_cache(parser)
    parser.add_argument("--reference", type=bool, default=True, help="also train `ignore`, with the same budget")
    parser.add_argument("--patterns", type=list[str], default=[], help="patterns to score, as [image,image+text]")
    parser.add_class_arguments(Model, "model")
    parser.add_class_arguments(Training, "training")
    parser.add_class_arguments(Masks, "masks")


def _learn(parser: ArgumentParser) -> None:
    """Learn sessions one after the other. New classes or new data arrive, and the old data is gone."""
    parser.add_argument("run", type=str, help="folder of the stream; begun if it is not there, else it goes on")
    parser.add_argument("table", type=str | None, nargs="?", help="the next session, or with the flags below all")
    _add_config(parser)
    _add_schema(parser)
    parser.add_argument("--sessions", type=int | None, help="the table is so many sessions of equally many classes")
    parser.add_argument("--by", type=str | None, help="the table is a stream: every value of this column is a session")
    parser.add_argument("--classes", action="append", default=[], help="A,B,...: classes of a session, repeatable")
    parser.add_argument("--order", type=str, default="sorted", help="classes come sorted, or shuffled by the seed")
    parser.add_argument("--session", type=int | None, help="learn only this one, which must be the next")
    parser.add_argument("--method", type=str, default="rebq", help="how to learn")
    parser.add_argument("--options", type=dict[str, Any], default={}, help=OPTIONS)
    parser.add_argument("--plan", type=str | None, help="mask plan (see absentia mask)")
    parser.add_argument("--on_bad", type=str, default="error", help=ON_BAD)
    _add_cache(parser)
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    parser.add_argument("--patterns", type=list[str], default=[], help="patterns to score, as [image,image+text]")
    parser.add_class_arguments(Model, "model")
    parser.add_class_arguments(Training, "training")


def _pretrain(parser: ArgumentParser) -> None:
    """Make a backbone from a table, labels or not; --model.backbone takes it up. For masks it is a dense network."""
    parser.add_argument("table", type=str | None, nargs="?", help="file, folder or hub name of the table")
    _add_config(parser)
    _add_schema(parser)
    parser.add_argument("--plan", type=str | None, help="mask plan (see absentia mask)")
    parser.add_argument(
        "--method",
        type=str,
        default="pretraining",
        help="pretraining (puzzles), or universal (its first stage; also of a dense network, where --target is a mask)",
    )
    parser.add_argument("--options", type=dict[str, Any], default={}, help=f"{OPTIONS} --pretrain")
    parser.add_argument("--on_bad", type=str, default="error", help=ON_BAD)
    _add_cache(parser)
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    parser.add_argument("--out", type=str, required=True, help="folder for the backbone")
    parser.add_argument("--resume", type=bool, nargs="?", const=True, default=False, help="go on with what is in --out")
    parser.add_class_arguments(Model, "model")
    parser.add_class_arguments(Training, "training")
    parser.add_class_arguments(Masks, "masks")


def _adapt(parser: ArgumentParser) -> None:
    """Adapt a trained network of your own to every combination of its modalities, and compare the ways to do it."""
    parser.add_argument("factory", type=str, help="MODULE:FUNCTION or FILE.py:FUNCTION that gives an absentia.Subject")
    parser.add_argument("--data", type=str | None, help="what the function is given, such as a folder")
    parser.add_argument("--rows", nargs="+", default=[], help="ways to compare; all kinds of adapters by default")
    parser.add_argument("--patterns", nargs="+", default=[], help="patterns to learn and score; all by default")
    parser.add_argument("--epochs", type=int, default=20, help="passes of adapters; in each a row shows one pattern")
    parser.add_argument("--lr", type=float, default=3e-3, help="highest learning rate of adapters")
    parser.add_argument("--budget", type=float | None, help="also scale-shift on this share of the channels alone")
    parser.add_argument(
        "--whole", type=bool, nargs="?", const=True, default=False, help="whole networks for each pattern beside them"
    )
    parser.add_argument("--whole_epochs", type=int, default=10, help="passes of each of those")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    parser.add_argument("--out", type=str | None, help="folder for report and adapters; a new one below runs/")


def _sessions(parser: ArgumentParser) -> None:
    """List the sessions of a stream, or go back to an earlier one."""
    parser.add_argument("run", type=str, help="folder of the stream")
    parser.add_argument("--roll_back", type=int | None, help="make this session the latest; later ones are set aside")


def _evaluate(parser: ArgumentParser) -> None:
    """Score a finished run again, or on another table."""
    parser.add_argument("run", type=str, help="run folder")
    parser.add_argument("table", type=str | None, nargs="?", help="table to score on; the run's own by default")
    parser.add_argument("--patterns", nargs="+", default=[], help="patterns to score, such as image image+text")
    parser.add_argument("--part", type=str | None, help="rows to score: train, val, test or all")
    parser.add_argument("--plan", type=str | None, help="mask plan that hides modalities of these rows first")
    parser.add_argument("--on_bad", type=str, default="error", help=ON_BAD)
    _add_cache(parser)
    parser.add_argument("--out", type=str | None, help="JSON file for the scores")


def _retrieve(parser: ArgumentParser) -> None:
    """Let the modalities of a run find each other's rows. Recall, ranks, equal error rates."""
    parser.add_argument("run", type=str, help="run folder")
    parser.add_argument("table", type=str | None, nargs="?", help="table to search; the run's own by default")
    parser.add_argument(
        "--by",
        type=str | None,
        help="column that says which rows belong together, with any values; the target by default",
    )
    parser.add_argument("--part", type=str | None, help="rows to search: train, val, test or all")
    parser.add_argument("--most", type=int, default=2000, help="rows compared for each pair of modalities")
    parser.add_argument("--on_bad", type=str, default="error", help=ON_BAD)
    _add_cache(parser)
    parser.add_argument("--out", type=str | None, help="JSON file for the numbers")


def _predict(parser: ArgumentParser) -> None:
    """Answer every row of a table; tables larger than memory stream through."""
    parser.add_argument("run", type=str, help="run folder")
    parser.add_argument("table", type=str, help="file, folder or hub name of the table")
    parser.add_argument(
        "--out", type=str, required=True, help="file for the answers, .parquet or .csv; a folder for masks"
    )
    parser.add_argument("--absent", nargs="+", default=[], help="modalities to leave out, even if the table has them")
    parser.add_argument("--on_bad", type=str, default="error", help=ON_BAD)
    _add_cache(parser)


def _inspect(parser: ArgumentParser) -> None:
    """Show what a table holds. Its kinds, what is present, the patterns, and the cells that cannot be read."""
    parser.add_argument("table", type=str | None, nargs="?", help="file, folder or hub name of the table")
    _add_config(parser)
    _add_schema(parser)
    parser.add_argument("--save", type=str | None, help="YAML file for the schema, to be read by --config")


def _embed(parser: ArgumentParser) -> None:
    """Compute what frozen encoders make of a table, ahead of every run that uses them."""
    parser.add_argument("table", type=str | None, nargs="?", help="file, folder or hub name of the table")
    _add_config(parser)
    _add_schema(parser)
    parser.add_argument("--plan", type=str | None, help="mask plan; what it hides is not computed")
    parser.add_argument("--on_bad", type=str, default="error", help=ON_BAD)
    parser.add_argument("--workers", type=int, default=1, help="processes, each with one thread")


def _mask(parser: ArgumentParser) -> None:
    """Draw a mask plan. Which modalities an experiment hides from which rows, by which mechanism."""
    parser.add_argument("table", type=str | None, nargs="?", help="file, folder or hub name of the table")
    _add_config(parser)
    _add_schema(parser)
    parser.add_argument("--eta", type=float | None, help="share of rows that lack one modality, in every split")
    parser.add_argument("--absent", type=str | None, help="what those of --eta lack: a modality, or both (any), evenly")
    parser.add_argument("--bernoulli", type=float | None, help="drop each with this probability, again if none is left")
    parser.add_argument("--per_modality", action="append", default=[], help="the same by MODALITY=RATE, repeatable")
    parser.add_argument(
        "--exact", type=bool, nargs="?", const=True, default=False, help="of both, in counts: only the rest by chance"
    )
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
    parser.add_argument("--out", type=str | None, help="Parquet file for the plan")
    parser.add_argument(
        "--self_test", type=bool, nargs="?", const=True, default=False, help="show that the mechanisms do what they say"
    )


def _compare(parser: ArgumentParser) -> None:
    """Put finished runs side by side, and say when they cannot be compared."""
    parser.add_argument("runs", nargs="+", help="run folders")
    parser.add_argument("--page", type=str | None, help="HTML file that shows streams beside each other")
    parser.add_argument("--csv", type=str | None, help="CSV file with every pattern's scores, in the order asked for")


def _options(parser: ArgumentParser) -> None:
    """List the options of a method, or all methods. What each may be, its default, and what it does."""
    parser.add_argument(
        "method", type=str | None, nargs="?", help="such as universal; all methods in a line by default"
    )
    parser.add_argument(
        "--pretrain", type=bool, nargs="?", const=True, default=False, help="of absentia pretrain --method METHOD"
    )


def _demo(parser: ArgumentParser) -> None:
    """Train on the embedded data set with 70 % of the training rows incomplete."""
    parser.add_argument("--method", type=str | None, help="dropout, or with --continual rebq, unless another is named")
    _add_run(parser)
    parser.add_argument("--epochs", type=float | None, help="passes over the training rows: 6, or 3 in each session")
    parser.add_argument(
        "--continual", type=bool, nargs="?", const=True, default=False, help="five sessions of classes, one by one"
    )


def _add_config(parser: ArgumentParser) -> None:
    parser.add_argument("--config", action=_Settings, help="YAML file with these settings")


class _Settings(ActionConfigFile):
    """`--config`, which also says in a sentence that a file is no text, or holds no settings."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        if Path(str(values)).is_file():
            _check_settings(Path(str(values)))
        super().__call__(parser, cfg, values, option_string)  # type: ignore[no-untyped-call]


def _check_settings(path: Path) -> None:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"--config {path}: byte {error.start} is no UTF-8; settings are a YAML text") from None
    except yaml.YAMLError as error:
        raise UserError(f"--config {path}: no YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        what = "is empty" if content is None else f"holds a {type(content).__name__}"
        raise UserError(f"--config {path}: {what}, where lines such as `target: price=number` are expected")


def _add_schema(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--modality", action="append", default=[], help="NAME=KIND[:ENCODER][@COLUMN,...], repeatable; else inferred"
    )
    parser.add_argument("--target", type=str | None, help="COLUMN or COLUMN=class|labels|number|log|mask")
    parser.add_argument("--id", type=str | None, help="column that says which rows are the same entity")
    parser.add_argument("--split", type=str | None, help="column with train, val and test")


def _add_cache(parser: ArgumentParser) -> None:
    parser.add_argument("--cache", type=bool, default=True, help="whether features of frozen encoders are kept on disk")


def _add_run(parser: ArgumentParser) -> None:
    parser.add_argument("--on_bad", type=str, default="error", help=ON_BAD)
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    parser.add_argument("--out", type=str | None, help="run folder; a new one below runs/ by default")
    parser.add_argument("--resume", type=bool, nargs="?", const=True, default=False, help="go on with the run in --out")


BUILDERS: dict[str, Callable[[ArgumentParser], None]] = {
    "train": _train,
    "pretrain": _pretrain,
    "learn": _learn,
    "adapt": _adapt,
    "sessions": _sessions,
    "evaluate": _evaluate,
    "retrieve": _retrieve,
    "predict": _predict,
    "inspect": _inspect,
    "embed": _embed,
    "mask": _mask,
    "compare": _compare,
    "options": _options,
    "demo": _demo,
}


def modalities_of(given: Any) -> dict[str, Any]:
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


def classes_of(given: Any) -> list[list[str]]:
    """The classes of each session, from flags ("a,b") or from YAML (lists)."""
    return [block if isinstance(block, list) else [c.strip() for c in str(block).split(",")] for block in given]


def underscored(word: str) -> str:
    """--on-bad and --on_bad are the same flag."""
    name, sign, value = word.partition("=")
    return name[:2] + name[2:].replace("-", "_") + sign + value if name.startswith("--") else word


def explained(message: str, commands: dict[str, ArgumentParser], words: Sequence[str]) -> str:
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
