"""Runs on disk that were written without a training, and ways to damage them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests import tiny
from torch import Tensor

from absentia.config import Model, config_to
from absentia.data.spacings import of_rows
from absentia.learn.build import patterns_seen
from absentia.learn.folder import RunFolder
from absentia.learn.prepare import Prepared
from absentia.learn.run import save_method, save_setup
from absentia.methods import Method

Tensors = dict[str, Tensor]


def write_run(
    method: Method, data: Prepared, folder: Path, model: Model = tiny.SMALL, *, spacings: bool = True
) -> RunFolder:
    """The files of a finished run around a method that was made, not trained; old ones say nothing of spacings."""
    run = RunFolder(folder)
    run.create(resume=False)
    setup = save_setup(
        run,
        data.fitted,
        method=method.name,
        model=config_to(model),
        seed=0,
        seen=patterns_seen(data.rows["train"].presence),
        train_presence=data.rows["train"].presence,
        plan_sha256=None,
        spacings=of_rows(data.rows["train"]) if spacings else (),
    )
    save_method(run, setup, method)
    return run


def edit_weights(run: RunFolder, change: Callable[[Tensors], Tensors]) -> None:
    with safe_open(run.weights(), framework="pt") as file:
        about = file.metadata()
    save_file(change(load_file(run.weights())), run.weights(), metadata=about)


def edit_schema(run: RunFolder, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(run.schema.read_text())
    change(content)
    run.schema.write_text(json.dumps(content))


def _first(tensors: Tensors) -> str:
    """A learned matrix (not the prior, which every method has)."""
    return next(name for name, tensor in sorted(tensors.items()) if tensor.dim() == 2 and tensor.is_floating_point())


DAMAGE: dict[str, Callable[[RunFolder], object]] = {
    "a tensor is missing": lambda run: edit_weights(run, lambda t: {k: v for k, v in t.items() if k != _first(t)}),
    "a tensor too many": lambda run: edit_weights(run, lambda t: t | {"more": torch.zeros(1)}),
    "another shape": lambda run: edit_weights(run, lambda t: t | {_first(t): t[_first(t)][:, 1:].contiguous()}),
    "another type": lambda run: edit_weights(run, lambda t: t | {_first(t): t[_first(t)].half()}),
    "truncated weights": lambda run: run.weights().write_bytes(run.weights().read_bytes()[:-100]),
    "half a header": lambda run: run.weights().write_bytes(run.weights().read_bytes()[:20]),
    "empty weights": lambda run: run.weights().write_bytes(b""),
    "noise for weights": lambda run: run.weights().write_bytes(np.random.default_rng(0).bytes(5000)),
    "no weights": lambda run: run.weights().unlink(),
    "weights of no run": lambda run: save_file({"x": torch.zeros(1)}, run.weights()),
    "another seed": lambda run: edit_schema(run, lambda s: s.update(seed=1)),
    "another class name": lambda run: edit_schema(run, lambda s: s["target"].update(prior=[1.0, 0.0, 0.0])),
    "another modality": lambda run: edit_schema(run, lambda s: s["schema"]["modalities"].pop("words")),
    "no decoders": lambda run: edit_schema(run, lambda s: s.pop("decoders")),
    "no method": lambda run: edit_schema(run, lambda s: s.pop("method")),
    "another format": lambda run: edit_schema(run, lambda s: s.update(format=99)),
    "no format": lambda run: edit_schema(run, lambda s: s.clear()),
    "a list": lambda run: run.schema.write_text("[]"),
    "no JSON": lambda run: run.schema.write_text('{"format": 1, '),
    "no text": lambda run: run.schema.write_bytes(b"\xff\xfe\x00"),
    "no schema": lambda run: run.schema.unlink(),
}
