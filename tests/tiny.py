"""A small table with four modalities, holes and three kinds of target, and what tests build on it in a moment."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from PIL import Image as Pillow
from safetensors.torch import load_file

from absentia.config import Model, RunConfig, Training
from absentia.data.absence import MaskPlan
from absentia.data.batch import Batch
from absentia.data.rows import OnBad
from absentia.data.schema import Schema, modality_from, target_from_flag
from absentia.data.storage import MEDIA
from absentia.data.table import open_table
from absentia.evaluate.patterns import validate
from absentia.layers.subsets import all_patterns
from absentia.learn.build import build_method, patterns_seen
from absentia.learn.folder import RunFolder
from absentia.learn.loop import Listener, Loop, Validation
from absentia.learn.prepare import Prepared, prepare
from absentia.learn.session import rows_to_close
from absentia.methods import Method, Stage

MODALITY = {"photo": "image", "words": "text", "facts": "tabular@height,colour", "wave": "series"}
NAMES = list(MODALITY)
COLUMNS = {"photo": ["photo"], "words": ["words"], "facts": ["height", "colour"], "wave": ["wave"]}
TARGETS = ("kind=class", "tags=labels", "weight=number")
SPLITS = ("train", "val", "test")
KINDS = ("ant", "bee", "cat")
SAID = {"ant": "six small legs", "bee": "stripes and wings", "cat": "soft fur, four legs"}
SMALL = Model(width=16, depth=1, heads=2, mlp=1)
QUICK = Training(epochs=2, batch=16, validations=3, checkpoint_seconds=0.0, lr=1e-2)
BRIEF = Training(epochs=0.5, batch=16, validations=1, checkpoint_seconds=1e6, lr=1e-2)

Rows = list[dict[str, Any]]
Bools = npt.NDArray[np.bool_]


def rows(count: int = 90, seed: int = 0, *, holes: float = 0.25) -> Rows:
    """`count` rows: every modality says something about the target; each is absent at a rate of `holes`.

    Rows 0, 10, 20, ... are complete; 7, 8 and 9 have nothing; train, val and test turn up everywhere.
    """
    rng = np.random.default_rng(seed)
    made = [_row(i, rng) for i in range(count)]
    for i, row in enumerate(made):
        for columns in COLUMNS.values():
            hide = rng.random() < holes
            if (hide and i % 10) or i in (7, 8, 9):
                row |= dict.fromkeys(columns)
    return made


def _row(i: int, rng: np.random.Generator) -> dict[str, Any]:
    number = i % len(KINDS)
    kind = KINDS[number]
    height = number + 0.3 * rng.standard_normal()
    return {
        "id": f"row-{i}",
        "split": dict(zip((7, 8, 9), SPLITS, strict=True)).get(i, ("train", "train", *SPLITS)[i % 5]),
        "photo": {"bytes": picture(int(80 * number + rng.integers(20)), rng), "path": None},
        "words": f"{SAID[kind]} {rng.integers(100)}" if i % 11 else "",
        "height": None if i % 4 == 0 else height,
        "colour": ("red", "green", "blue")[(number + int(rng.integers(2))) % 3],
        "wave": (number + rng.standard_normal(int(rng.integers(1, 12)))).tolist(),
        "kind": kind,
        "tags": [t for t, there in (("legs", number != 1), ("wings", number == 1), ("odd", i % 2)) if there],
        "weight": 2.5 * number + 0.1 * float(rng.standard_normal()),
    }


def picture(level: int, rng: np.random.Generator) -> bytes:
    """A grey picture of 8 x 16 pixels around one brightness, as PNG."""
    pixels = np.clip(level + rng.integers(0, 40, size=(8, 16)), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def table(content: Rows) -> pa.Table:
    """Rows as an Arrow table with settled types, so that an all-null column keeps its own."""
    types = {"photo": MEDIA, "wave": pa.list_(pa.float64()), "height": pa.float64(), "tags": pa.list_(pa.string())}
    names = list(content[0])
    arrays = [pa.array([row[name] for row in content], type=types.get(name)) for name in names]
    return pa.table(dict(zip(names, arrays, strict=True)))


def schema(target: str = TARGETS[0], names: Sequence[str] = NAMES) -> Schema:
    """The declaration of the table, with some of its modalities in any order."""
    modalities = {name: modality_from(name, MODALITY[name]) for name in names}
    return Schema(modalities=modalities, target=target_from_flag(target), id="id", split="split")


def prepared(
    content: Rows | None = None,
    target: str = TARGETS[0],
    names: Sequence[str] = NAMES,
    *,
    plan: MaskPlan | None = None,
    on_bad: OnBad = "error",
) -> Prepared:
    """Everything before the first step."""
    source = table(rows() if content is None else content)
    return prepare(open_table(source), schema(target, names), plan=plan, on_bad=on_bad)


def plan_of(content: Rows, hidden: Mapping[int, Sequence[str]], names: Sequence[str] = NAMES) -> MaskPlan:
    """A mask plan that hides these modalities of these rows, and nothing else."""
    keep = np.ones((len(content), len(names)), dtype=np.bool_)
    for row, gone in hidden.items():
        keep[row, [names.index(name) for name in gone]] = False
    ids, splits = [row["id"] for row in content], [row["split"] for row in content]
    return MaskPlan(modalities=names, splits=splits, ids=ids, keep=keep)


def method_of(
    name: str,
    data: Prepared,
    *,
    stir: float = 0.3,
    model: Model = SMALL,
    seen: Bools | None = None,
    options: Mapping[str, Any] | None = None,
) -> Method:
    """A method with weights that are far from how they start, as a training would leave them."""
    seen = patterns_seen(data.rows["train"].presence) if seen is None else seen
    method = build_method(name, data.fitted, model, seed=0, seen=seen, options=options)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.requires_grad:
                parameter += stir * torch.randn(parameter.shape, generator=draw)
    if stir and not method.stages():
        close(method, data)
    return method.eval()


def close(method: Method, data: Prepared) -> None:
    """End a session whose training rows are those of the data."""
    method.close_session(partial(rows_to_close, data.rows["train"]))


def everything(data: Prepared, split: str = "train") -> Batch:
    """All rows of a split as one batch."""
    return data.rows[split].batch(np.arange(len(data.rows[split])))


def config(
    method: str = "dropout", target: str = TARGETS[0], names: Sequence[str] = NAMES[1:], **more: Any
) -> RunConfig:
    """Settings of a training of about a second. `training` may be given as a mapping."""
    training = replace(QUICK, **more.pop("training", {}))
    modality = {name: MODALITY[name] for name in names}
    settings = {"table": "tiny", "modality": modality, "target": target, "method": method, "model": SMALL}
    return RunConfig(**(settings | {"training": training} | more))


def loop_of(
    method: Method,
    data: Prepared,
    folder: Path,
    *,
    settings: Training = QUICK,
    listener: Listener | None = None,
    judge: Callable[[Method, Stage], Validation] | None = None,
    seed: int = 0,
    part: str = "",
) -> Loop:
    """A training of a method, as a run does it."""
    patterns = all_patterns(len(data.names))
    usual = partial(validate, rows=data.rows["val"], patterns=patterns, codec=data.fitted.codec)
    folder.mkdir(parents=True, exist_ok=True)
    return Loop(
        method=method,
        rows=data.rows["train"],
        settings=settings,
        seed=seed,
        folder=RunFolder(folder),
        validate=judge or usual,
        run="tiny",
        part=part,
        listener=listener,
    )


class Heard:
    """A listener that keeps what it hears, and can do something after a step."""

    def __init__(self, after: Callable[[int], object] = lambda step: None) -> None:
        self.losses: list[float] = []
        self.stages: list[tuple[str, int, int]] = []
        self.results: list[tuple[Validation, bool]] = []
        self.after = after

    def begin(self, stage: str, steps: int, done: int) -> None:
        self.stages.append((stage, steps, done))

    def step(self, loss: float) -> None:
        self.losses.append(loss)
        self.after(len(self.losses))

    def validated(self, result: Validation, best: bool) -> None:
        self.results.append((result, best))

    def say(self, line: str) -> None: ...
    def part(self, name: str) -> None: ...
    def reading(self, what: str, done: int, total: int) -> None: ...


class Killed(BaseException):
    """A training that ends at once, like one that is killed: nothing of the library may catch it."""


def killer(step: int) -> Heard:
    """Ends a training within its `step`-th step, before anything of it is kept."""

    def kill(done: int) -> None:
        if done == step:
            raise Killed

    return Heard(kill)


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics, without what a clock says."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file."""
    return load_file(path)
