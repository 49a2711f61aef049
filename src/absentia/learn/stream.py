"""The folder of a stream: one run, and below it one folder for each session, which no later session touches.

What a session learned is written as the tensors that are new or changed since the session before; the state after
session k is the first setup and the files of the sessions 0 to k, laid over one another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from absentia.config import Model, config_from
from absentia.data.target import TargetCodec
from absentia.errors import UserError
from absentia.learn.build import build_method, fitted_from
from absentia.learn.draws import number_of
from absentia.learn.folder import RunFolder, load_tensors, save_tensors
from absentia.learn.prepare import Fitted
from absentia.methods.base import Method

__all__ = [
    "SessionFolder",
    "StreamFolder",
    "StreamState",
    "changed",
    "load_state",
    "new_method",
    "open_session",
    "with_codec",
    "write_session",
]

FORMAT = 1
Tensors = Mapping[str, Tensor]


class SessionFolder(RunFolder):
    """What belongs to one session; `session.json` is written last and says that it is whole."""

    @property
    def session(self) -> Path:
        """What was learned from, when, and how it is to be laid over the sessions before."""
        return self.path / "session.json"

    @property
    def learned(self) -> Path:
        """The tensors that are new or changed."""
        return self.path / "learned.safetensors"

    @property
    def rows(self) -> Path:
        """Which rows it had."""
        return self.path / "rows.parquet"

    @property
    def memory(self) -> Path:
        """Training rows that later sessions may see again."""
        return self.path / "memory.parquet"

    @property
    def scores(self) -> Path:
        """Scores on the rows of all sessions so far."""
        return self.path / "scores.json"

    @property
    def inside(self) -> Path:
        """What a page shows of the method's inside."""
        return self.path / "inside.json"

    def losses(self) -> list[dict[str, Any]]:
        """The lines of the metrics file."""
        if not self.metrics.exists():
            return []
        return [json.loads(line) for line in self.metrics.read_text(encoding="utf-8").splitlines()]

    def steps(self) -> int:
        """How many steps its stages took."""
        last = {line["stage"]: line["step"] for line in self.losses() if line["event"] == "train"}
        return sum(last.values())


class StreamFolder(RunFolder):
    """A run whose weights are those of its sessions."""

    @property
    def sessions(self) -> Path:
        """One folder for each session."""
        return self.path / "sessions"

    def session(self, number: int) -> SessionFolder:
        """The folder of a session."""
        return SessionFolder(self.sessions / str(number))

    def learned_sessions(self) -> int:
        """How many sessions are whole."""
        count = 0
        while self.session(count).session.exists():
            count += 1
        return count

    def about(self, number: int) -> dict[str, Any]:
        """The session.json of a session."""
        folder = self.session(number)
        content = folder.read_json(folder.session)
        if content.get("format") != FORMAT:
            raise UserError(f"{folder.session} has format {content.get('format')!r}; this version reads {FORMAT}")
        return content

    def roll_back(self, last: int) -> Path | None:
        """Make session `last` the latest one; the later ones are moved aside, to the folder that is returned."""
        count = self.learned_sessions()
        if not 0 <= last < count:
            raise UserError(f"{self.path} has the sessions 0 to {count - 1}, not {last}")
        later = [p for p in self.sessions.iterdir() if p.name.isdigit() and int(p.name) > last]
        if not later:
            return None
        aside = next(p for i in range(10**6) if not (p := self.path / f"rolled-back-{i}").exists())
        aside.mkdir()
        for path in sorted(later, key=lambda p: -int(p.name)):  # from the end, so that a kill leaves no gap
            path.rename(aside / path.name)
        return aside


@dataclass
class StreamState:
    """A stream as it stands after some sessions, ready to answer or to learn the next one.

    tensors: what the method has learned, as its files say.  rows: training rows so far, which the prior counts.
    """

    setup: Mapping[str, Any]
    fitted: Fitted
    method: Method
    tensors: Tensors
    sessions: int
    rows: int

    @property
    def codec(self) -> TargetCodec:
        """The target with all classes so far."""
        return self.fitted.codec


def with_codec(fitted: Fitted, codec: TargetCodec) -> Fitted:
    """What was fitted, with another codec."""
    return replace(fitted, schema=replace(fitted.schema, target=codec.target), codec=codec)


def new_method(setup: Mapping[str, Any], fitted: Fitted) -> Method:
    """The method as it was before its first session."""
    return build_method(
        setup["method"],
        fitted,
        config_from(Model, setup["model"]),
        seed=setup["seed"],
        seen=np.asarray(setup["seen"], dtype=np.bool_),
        options=setup["options"],
    )


def load_state(folder: StreamFolder, sessions: int | None = None, fitted: Fitted | None = None) -> StreamState:
    """The stream after so many sessions (None: all); raises `UserError` for what is missing, broken or changed."""
    known = folder.learned_sessions()
    count = known if sessions is None else sessions
    if not 1 <= count <= known:
        raise UserError(f"{folder.path} has {known} whole sessions, not {count}")
    setup = folder.read_json(folder.schema)
    fitted = fitted or fitted_from(setup)
    method, tensors = new_method(setup, fitted), dict[str, Tensor]()
    abouts = [folder.about(number) for number in range(count)]
    for number, about in enumerate(abouts):
        codec = _codec(fitted, about)
        if number:
            open_session(method, codec, about["taught"], number, seed=setup["seed"])
        fitted = with_codec(fitted, codec)
        tensors = _laid_over(tensors, folder.session(number), about)
    try:
        method.restore(tensors)
    except ValueError as error:
        raise UserError(f"{folder.sessions}: what the sessions learned does not fit together: {error}") from None
    rows = sum(about["rows"]["train"] for about in abouts)
    setup |= {"train_presence": [pair for about in abouts for pair in about["train_presence"]]}
    return StreamState(setup, fitted, method.eval(), tensors, count, rows)


def open_session(method: Method, codec: TargetCodec, taught: Sequence[str], number: int, *, seed: int) -> None:
    """Open a session; what it draws is the same wherever that session is opened."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number_of(seed, "session", number, *codec.target.classes))
        method.open_session(codec, taught)


def write_session(folder: SessionFolder, about: Mapping[str, Any], before: Tensors, after: Tensors) -> dict[str, Any]:
    """What a session learned, then that it is whole; returns what session.json holds."""
    save_tensors(folder.learned, changed(before, after), {"session": about["number"], "follows": about["follows"]})
    size = folder.learned.stat().st_size
    content = {"format": FORMAT, **about, "removed": sorted(before.keys() - after.keys()), "bytes": size}
    folder.write_json(folder.session, content)
    return content


def changed(before: Tensors, after: Tensors) -> dict[str, Tensor]:
    """The tensors that are new, or other in any bit, type or shape."""
    return {name: tensor for name, tensor in after.items() if name not in before or not _same(before[name], tensor)}


def _laid_over(tensors: Tensors, folder: SessionFolder, about: Mapping[str, Any]) -> dict[str, Tensor]:
    learned, said = load_tensors(folder.learned)
    if said.get("session") != about["number"] or said.get("follows") != about["follows"]:
        raise UserError(f"{folder.learned} belongs to another stream than {folder.session}; they must stay together")
    gone = set(about["removed"])
    return {name: t for name, t in tensors.items() if name not in gone} | learned


def _codec(fitted: Fitted, about: Mapping[str, Any]) -> TargetCodec:
    target = replace(fitted.codec.target, classes=tuple(about["known"]))
    return replace(fitted.codec, target=target, prior=tuple(about["prior"]))


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(_bits(one), _bits(other))


def _bits(tensor: Tensor) -> Tensor:
    """Its bytes, so that NaN equals itself and -0.0 is not 0.0."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
