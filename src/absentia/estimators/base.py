"""What the three estimators share: parameters, training, answers for a table, robustness, saving and loading."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from absentia.config import Model, RunConfig, Training
from absentia.data.absence import MaskPlan
from absentia.data.kinds import Kind
from absentia.data.masks import looks_like_mask
from absentia.data.rows import BadCellRecord, OnBad
from absentia.data.schema import Schema, Target, TargetKind
from absentia.data.table import open_table
from absentia.errors import UserError
from absentia.estimators.answers import class_values
from absentia.estimators.gather import Gathered, gather
from absentia.estimators.guest import as_guest, watching
from absentia.estimators.kept import ESTIMATOR, Scratch, copy_run
from absentia.estimators.robustness import Robustness
from absentia.estimators.scored import known_answers, with_answers
from absentia.estimators.settings import declared_kinds, parameters_of, settings_of, target_flag
from absentia.evaluate.metrics import score
from absentia.jobs import evaluate_run, train_run
from absentia.learn.folder import RunFolder
from absentia.learn.run import Run, load_run
from absentia.predict import answer_chunk
from absentia.run_report import write_page

__all__ = ["Answered", "Multimodal"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
LOADERS: dict[str | None, str] = {
    "class": "MultimodalClassifier",
    "labels": "MultimodalLabeler",
    "number": "MultimodalRegressor",
}


class Answered(NamedTuple):
    """Answers for the rows of a table: (N, K) probabilities (numbers in learned units), (N,) uncertainty."""

    probabilities: Floats
    uncertainty: Floats


@dataclass(kw_only=True, eq=False, repr=False)
class Multimodal(BaseEstimator, ABC):  # type: ignore[misc]
    """An estimator for tables in which modalities may be absent: `None` and `NaN` are absent, an empty text is not.

    A table is a DataFrame, a `datasets.Dataset`, an Arrow table, a list of dicts, or a path or hub name.

    Args:
        modalities: what the columns are, by name: `Image()`, `Text()`, `Tabular([...])`, `Series()`, `Audio()`. A
            modality reads the column with its name unless it says another one, as in `Image("poster_path")`.
        method: what is done about absence, by its name: dropout, ignore, dedicated, joint-embedding, single-branch...
        options: the method's own settings by name, such as {"predictor": "gaussian"} of joint-embedding.
        seed: of everything that is drawn.
        epochs: passes over the training rows; None chooses enough for about 1,500 steps, at least 10 and at most 200.
        batch: rows per step.
        lr: highest learning rate.
        weight_decay: of matrices.
        warmup: share of the steps in which the rate rises; it falls as a cosine afterwards.
        accumulate: batches added up before one step.
        clip: largest norm of the gradient.
        precision: no (float32) or bf16.
        patience: validations without a better score before training stops; None never stops early.
        validations: how often a training is validated, at most once per epoch.
        width: size of a token.
        depth: transformer layers.
        heads: attention heads per layer.
        mlp: hidden units of a layer's network, as a multiple of the width.
        dropout: inside the network (of units, not of modalities).
        backbone: folder of a pretrained backbone or of a ViLT checkpoint, or the hub name of one; its sizes then count.
        freeze: whether the pretrained backbone stays as it is.
        on_bad: what becomes of cells that cannot be read: error, absent, or skip, which leaves their rows out of
            training and scores; where every row needs an answer, skip means absent.
        id: column that says which rows are the same entity; None takes a column `id` if there is one.
        split: column with train, val and test; None takes a column `split` if there is one.
        reference: whether `ignore` is trained beside the method, so that `robustness` has something to compare to.
        cache: whether what frozen encoders make of cells is kept on disk, for this estimator and others to find.
        progress: whether `fit` shows how far it is.

    Attributes:
        report_: what the training found, as report.json holds it; its scores are those of the test rows where the
            training table has some, else of the validation rows.
        feature_names_in_, n_features_in_: the columns that answers are made from, and how many.
        run_: the trained run.
    """

    modalities: Mapping[str, Kind] = field(kw_only=False)
    method: str = "dropout"
    options: Mapping[str, Any] | None = None
    seed: int = 0
    epochs: float | None = Training.epochs
    batch: int = Training.batch
    lr: float = Training.lr
    weight_decay: float = Training.weight_decay
    warmup: float = Training.warmup
    accumulate: int = Training.accumulate
    clip: float = Training.clip
    precision: str = Training.precision
    patience: int | None = Training.patience
    validations: int = Training.validations
    width: int = Model.width
    depth: int = Model.depth
    heads: int = Model.heads
    mlp: int = Model.mlp
    dropout: float = Model.dropout
    backbone: str | None = Model.backbone
    freeze: bool = Model.freeze
    on_bad: OnBad = "error"
    id: str | None = None
    split: str | None = None
    reference: bool = False
    cache: bool = RunConfig.cache
    progress: bool = False

    report_: dict[str, Any] = field(init=False)
    feature_names_in_: Array = field(init=False)
    n_features_in_: int = field(init=False)
    run_: Run = field(init=False)
    target_kind: ClassVar[TargetKind]

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        target: str | None = None,
        validation: Any = None,
        plan: MaskPlan | str | Path | None = None,
    ) -> Self:
        """Train on a table, exactly as the command line does; returns self.

        y: the answers (N,), where they are not a column of the table; or that column's name.  target: the column's
        name.  validation: a table with the target's column, or (table, y). Without it a `split` column of `X` says
        which rows validate (and test); without that column, a hash takes about 15 % of the rows.  plan: a mask plan
        that hides modalities of these rows.

        Rows without a target are left out. In messages the validation rows are counted on from the training rows.
        Raises `UserError`, which is a `ValueError`, for everything that can be mended.
        """
        settings = settings_of(self.get_params(deep=False))
        schema = Schema(modalities=declared_kinds(self.modalities), id=self.id, split=self.split)
        given = gather(X, y, target, validation, schema, several=self.target_kind == "labels")
        _check_no_mask(given.column, given.answers)
        goal, classes = self._target(given.column, given.answers, given.labels)
        plan = plan if plan is None or isinstance(plan, MaskPlan) else MaskPlan.load(plan)
        scratch = Scratch()
        run = self._trained(replace(settings, target=target_flag(goal)), given, goal, plan, scratch.path / "run")
        run.folder.write_json(run.folder.path / ESTIMATOR, {"classes": None if classes is None else classes.dtype.kind})
        self._take(run, scratch)
        self._warn_about_training(schema)
        return self

    def uncertainty(self, X: Any) -> Floats:
        """How unsure each answer is (N,): from 0 to 1, which is as unsure as without any input.

        A number's is 0 wherever anything is present.
        """
        return self._answered(X).uncertainty

    def robustness(
        self,
        X: Any,
        y: Any = None,
        *,
        patterns: Sequence[str] = (),
        plan: MaskPlan | None = None,
    ) -> Robustness:
        """The score of every pattern of presence, worst first, on the rows of a table with a target.

        y: the answers where they are not a column of `X`.  patterns: those to score, such as "image+text"; by default
        all of them (above 8 modalities, those that rows have).  plan: hides what it hides in these rows first.

        Where the table's split column marks training and test rows, the test rows are scored, else all of them.
        """
        check_is_fitted(self)
        table = with_answers(X, y, self.run_.fitted.schema, self._labels())
        report = evaluate_run(self.run_, table, patterns=patterns, on_bad=self.on_bad, plan=plan)
        return Robustness(report)

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the run folder, which `load` and the commands `evaluate` and `predict` read."""
        check_is_fitted(self)
        copy_run(self.run_.folder, path, overwrite=overwrite)
        if not RunFolder(path).page.exists():
            write_page(RunFolder(path), self.report_)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """A trained estimator from a run folder, its own or one that the command line wrote.

        Raises `UserError` for what is missing, broken or changed, and for a run with another kind of target.
        """
        run = load_run(path)
        kind = run.fitted.codec.target.kind
        if kind == "mask":
            raise UserError(f"the target of {path} is a mask: answer with absentia predict {path} TABLE --out FOLDER")
        if kind != cls.target_kind:
            raise UserError(f"the target of {path} is of kind {kind!r}; load it with {LOADERS[kind]}.load")
        model = cls(**parameters_of(run, [f.name for f in fields(cls) if f.init]))
        model._take(run.cached(model.cache), None)
        return model

    @abstractmethod
    def _target(self, column: str, cells: Sequence[Any], labels: list[Any] | None) -> tuple[Target, Array | None]:
        """The target that these training cells make, and its classes as they are."""

    def _trained(self, settings: RunConfig, given: Gathered, goal: Target, plan: MaskPlan | None, path: Path) -> Run:
        with as_guest(), watching(self.progress) as watcher:
            train_run(
                replace(settings, table=given.name),
                path,
                source=given.table,
                schema=replace(given.schema, target=goal),
                plan=plan,
                watcher=watcher,
                command=" ".join(repr(self).split()) + ".fit(...)",
                page=False,
            )
        return load_run(path).cached(self.cache)

    def _take(self, run: Run, scratch: Scratch | None) -> None:
        """Become the estimator of this run."""
        self.run_, self._scratch = run, scratch
        self.report_ = run.folder.read_json(run.folder.report)
        self.feature_names_in_ = np.asarray(run.fitted.schema.columns, dtype=object)
        self.n_features_in_ = len(self.feature_names_in_)
        names = run.fitted.codec.target.classes
        if names:
            about = run.folder.path / ESTIMATOR
            kind = run.folder.read_json(about).get("classes") if about.exists() else None
            self.classes_: Array = class_values(names, str(kind))

    def _answered(self, X: Any) -> Answered:
        """Answers for every row; `UserError` for a column that is not there."""
        check_is_fitted(self)
        run, table = self.run_, open_table(X, streaming=True)
        replace(run.fitted.schema, id=None, split=None).check(table.columns, table.name, target=False)
        on_bad: OnBad = "error" if self.on_bad == "error" else "absent"
        parts, bad, first = [], [], 0
        for chunk in table.chunks():
            rows, answers = answer_chunk(run, chunk, on_bad=on_bad, first=first, root=table.root)
            parts.append(answers)
            bad += rows.bad
            first += chunk.num_rows
        _warn_about_cells(bad, table.name)
        return Answered(
            np.concatenate([part.probabilities for part in parts]), np.concatenate([part.uncertainty for part in parts])
        )

    def _labels(self) -> list[Any] | None:
        """What the columns of ones and zeros mean, where answers may come as such."""
        return list(self.classes_) if self.target_kind == "labels" else None

    def _truth(self, X: Any, y: Any) -> tuple[npt.NDArray[np.bool_], list[Any]]:
        check_is_fitted(self)
        table = with_answers(X, y, self.run_.fitted.schema, self._labels())
        return known_answers(table, self.run_.fitted.schema)

    def _main_score(self, X: Any, y: Any) -> float:
        """The report's metric on the rows whose answer is known."""
        known, cells = self._truth(X, y)
        codec = self.run_.fitted.codec
        truth = codec.encode(cells)
        value = score(self._answered(X).probabilities[known], truth, [], codec, interval=False).score
        assert value is not None  # there are rows
        return value

    def _warn_about_training(self, declared: Schema) -> None:
        lost = [name for name in declared.names if name not in self.run_.fitted.schema.names]
        if lost:
            notes = [note for note in self.report_["notes"] if any(repr(name) in note for name in lost)]
            warnings.warn(" ".join(notes), stacklevel=3)
        bad = self.report_["bad_cells"]
        if bad["count"]:
            first = BadCellRecord(**bad["cells"][0])
            warnings.warn(f"{bad['count']} cells could not be read; first: {first}", stacklevel=3)


def _check_no_mask(column: str, cells: Sequence[Any]) -> None:
    cell = next((cell for cell in cells if cell is not None), None)
    nested = isinstance(cell, list) and any(isinstance(part, list) for part in cell)
    if nested or looks_like_mask(cell):
        raise UserError(
            f"target {column!r} holds pictures, volumes or nested lists, as a mask does. Estimators answer no masks: "
            f"absentia train TABLE --target {column}=mask does"
        )


def _warn_about_cells(bad: Sequence[BadCellRecord], name: str) -> None:
    if bad:
        message = f"{len(bad)} cells of {name} could not be read and count as absent; first: {bad[0]}"
        warnings.warn(message, stacklevel=4)
