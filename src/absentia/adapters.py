"""The job behind `absentia adapt`: a factory's network, adapted in every way that was asked for, and its report."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from absentia.adaptation.study import Study, Subject, run_study
from absentia.environment import hardware, versions
from absentia.errors import UserError, nearest
from absentia.evaluate.adapters import render_study
from absentia.learn.folder import RunFolder

__all__ = ["adapt_run", "subject_from"]


def adapt_run(
    factory: str,
    data: str | None,
    study: Study,
    out: str,
    *,
    command: str = "",
    hear: Callable[[str], Any] | None = None,
) -> dict[str, Any]:
    """Adapt and score a factory's network; writes report.json, report.html and the adapters of each kind into `out`.

    Raises `UserError` for a factory that is not there or gives something else.
    """
    subject = subject_from(factory, data)
    folder = RunFolder(out)
    folder.path.mkdir(parents=True, exist_ok=True)
    report = run_study(subject, study, folder=folder.path, hear=hear)
    report |= {
        "network": factory,
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "hardware": hardware(),
    }
    folder.write_json(folder.report, report)
    folder.write_text(folder.page, render_study(report))
    return report


def subject_from(factory: str, data: str | None) -> Subject:
    """What "module:function" or "file.py:function" makes; the function is given `data` if it takes an argument.

    It returns a `Subject`, or a mapping with the fields of one.
    """
    name, _, function = factory.rpartition(":")
    if not name or not function:
        raise UserError(f"factory {factory!r}: expected MODULE:FUNCTION or FILE.py:FUNCTION")
    module = _module(name)
    if not callable(getattr(module, function, None)):
        known = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        raise UserError(f"factory {factory!r}: {name} has no function {function!r}; {nearest(function, known)}")
    make = getattr(module, function)
    takes = len(inspect.signature(make).parameters)
    if data is not None and not takes:
        raise UserError(f"factory {factory!r}: {function}() takes no argument, so --data cannot reach it")
    made = make(data) if takes else make()
    return made if isinstance(made, Subject) else _from_mapping(factory, made)


def _from_mapping(factory: str, made: Any) -> Subject:
    if not isinstance(made, Mapping):
        raise UserError(f"factory {factory!r}: gave a {type(made).__name__}, expected absentia.Subject or a mapping")
    known = [field.name for field in fields(Subject)]
    for key in made:
        if key not in known:
            raise UserError(f"factory {factory!r}: unknown key {key!r}; {nearest(str(key), known)}")
    needed = ("network", "modalities", "train", "test", "loss", "score")
    if lacking := [key for key in needed if key not in made]:
        raise UserError(f"factory {factory!r}: gave no {', '.join(lacking)}")
    return Subject(**made)


def _module(name: str) -> ModuleType:
    if name.endswith(".py"):
        path = Path(name)
        if not path.is_file():
            raise UserError(f"factory: there is no file {name}")
        sys.path.insert(0, str(path.resolve().parent))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
        return module
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and not name.startswith(error.name):
            raise
        raise UserError(f"factory: there is no module {name!r} here or among what is installed") from None
