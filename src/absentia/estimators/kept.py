"""Where an estimator keeps its run: a temporary folder while nobody else holds it, and copies of run folders."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

from absentia.errors import UserError
from absentia.learn.folder import RunFolder
from absentia.writing import replacing

__all__ = ["ESTIMATOR", "Scratch", "copy_run"]

ESTIMATOR = "estimator.json"  # what only the Python side needs


class Scratch:
    """A temporary folder that goes with the last object that holds this one, copies of it included."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="absentia-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def __deepcopy__(self, memo: dict[int, Any]) -> Scratch:
        return self


def copy_run(run: RunFolder, path: str | Path, *, overwrite: bool) -> None:
    """Write a run's files into another folder; raises `UserError` where a run is already, unless it may go."""
    to = RunFolder(path)
    if not run.schema.exists():
        raise UserError(f"the run folder {run.path}, which this model was loaded from, is not there any more")
    if to.path.resolve() == run.path.resolve():
        return
    if to.config.exists() and not overwrite:
        raise UserError(f"{to.path} already holds a run; choose another folder, or say overwrite=True")
    to.create(resume=True)
    for source, goal in zip(_files(run), _files(to), strict=True):
        if source.exists():
            with replacing(goal) as temporary:
                shutil.copyfile(source, temporary)
        else:
            goal.unlink(missing_ok=True)


def _files(folder: RunFolder) -> list[Path]:
    """All that a finished run may hold, the weights last."""
    about = [folder.config, folder.schema, folder.plan, folder.metrics, folder.report, folder.page]
    return [*about, folder.path / ESTIMATOR, folder.weights("reference"), folder.weights()]
