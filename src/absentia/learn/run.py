"""A trained run on disk: written once the training ends, read by everything that uses it afterwards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from torch import Tensor

from absentia import __version__
from absentia.config import Model, RunConfig, StreamConfig, config_from
from absentia.errors import UserError
from absentia.learn.build import build_method, fitted_from, fitted_to
from absentia.learn.folder import RunFolder, load_tensors, save_tensors
from absentia.learn.prepare import Fitted
from absentia.learn.stream import StreamFolder, load_state
from absentia.methods.base import Method

__all__ = ["Run", "counted", "load_run", "read_config", "save_method", "save_setup"]

FORMAT = 1


@dataclass(frozen=True)
class Run:
    """A finished training, ready to answer."""

    folder: RunFolder
    setup: Mapping[str, Any]
    fitted: Fitted
    method: Method
    reference: Method | None

    def cached(self, cache: bool) -> Run:
        """The same run with or without the cache of features."""
        return replace(self, fitted=self.fitted.cached(cache))

    @property
    def spacings(self) -> list[list[float]]:
        """The voxels of training rows, mm along each axis; empty where that is not known."""
        found: list[list[float]] = self.setup.get("spacings", [])
        return found

    @property
    def plan_sha256(self) -> str | None:
        """Hash of the mask plan it was trained under."""
        return self.setup.get("plan_sha256")


def save_setup(
    folder: RunFolder,
    fitted: Fitted,
    *,
    method: str,
    options: Mapping[str, Any] | None = None,
    model: Mapping[str, Any],
    seed: int,
    seen: npt.NDArray[np.bool_],
    train_presence: npt.NDArray[np.bool_],
    plan_sha256: str | None,
    spacings: Sequence[Sequence[float]] = (),
) -> dict[str, Any]:
    """Write schema.json: all that the weights need around them, and which `spacings` training rows had, if any."""
    setup = {
        "format": FORMAT,
        "absentia": __version__,
        "method": method,
        "options": dict(options or {}),
        "model": dict(model),
        "seed": seed,
        "seen": seen.tolist(),
        "train_presence": counted(train_presence),
        "plan_sha256": plan_sha256,
        **({"spacings": [list(spacing) for spacing in spacings]} if spacings else {}),
        **fitted_to(fitted),
    }
    folder.write_json(folder.schema, setup)
    return setup


def save_method(folder: RunFolder, setup: Mapping[str, Any], method: Method, part: str = "") -> None:
    """Write what a method learned; the file says which setup it belongs to."""
    save_tensors(folder.weights(part), method.learned(), {"method": method.name, "setup": fingerprint(setup)})


def load_run(path: str | Path) -> Run:
    """A run from its folder; raises `UserError` for what is missing, broken, foreign or changed."""
    folder = RunFolder(path)
    if not folder.path.is_dir():
        raise UserError(f"{path} is not a run folder")
    setup = folder.read_json(folder.schema)
    if setup.get("format") != FORMAT:
        raise UserError(f"{folder.schema} has format {setup.get('format')!r}; this version reads {FORMAT}")
    stream = StreamFolder(path)
    if stream.sessions.is_dir():
        state = load_state(stream)
        return Run(folder=stream, setup=state.setup, fitted=state.fitted, method=state.method, reference=None)
    parts = {"": str(setup.get("method"))} | ({"reference": "ignore"} if folder.weights("reference").exists() else {})
    learned = {part: _learned(folder, setup, name, part) for part, name in parts.items()}  # a changed setup ends here
    fitted = fitted_from(setup)
    methods = {part: _made(folder, setup, fitted, parts[part], part, learned[part]) for part in parts}
    return Run(folder=folder, setup=setup, fitted=fitted, method=methods[""], reference=methods.get("reference"))


def read_config(folder: RunFolder) -> RunConfig:
    """The settings of a run, or of a stream of sessions."""
    try:
        content = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder.path} is not a run folder: it has no {folder.config.name}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{folder.config} is not readable YAML: {error}") from None
    stream = isinstance(content, dict) and "sessions" in content
    return config_from(StreamConfig if stream else RunConfig, content)


def fingerprint(setup: Mapping[str, Any]) -> str:
    """SHA-256 of a setup."""
    return hashlib.sha256(json.dumps(setup, sort_keys=True).encode()).hexdigest()


def counted(presence: npt.NDArray[np.bool_]) -> list[Any]:
    """Presence bool (N, M) as its different rows, each with how often it is there."""
    patterns, counts = np.unique(presence, axis=0, return_counts=True)
    return [list(pair) for pair in zip(patterns.tolist(), counts.tolist(), strict=True)]


def _learned(folder: RunFolder, setup: Mapping[str, Any], name: str, part: str) -> dict[str, Tensor]:
    """What a method learned under exactly this setup."""
    path = folder.weights(part)
    learned, about = load_tensors(path)
    if about.get("setup") != fingerprint(setup) or about.get("method") != name:
        raise UserError(f"{path} belongs to another run than {folder.schema}; the two must stay together")
    return learned


def _made(
    folder: RunFolder, setup: Mapping[str, Any], fitted: Fitted, name: str, part: str, learned: Mapping[str, Tensor]
) -> Method:
    seen = np.asarray(setup["seen"], dtype=np.bool_)
    method = build_method(
        name,
        fitted,
        config_from(Model, setup["model"]),
        seed=setup["seed"],
        seen=seen,
        options={} if part else setup["options"],
    )
    try:
        method.restore(learned)
    except ValueError as error:
        raise UserError(f"{folder.weights(part)} does not fit {folder.schema}: {error}") from None
    return method.eval()
