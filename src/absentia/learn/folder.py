"""The run folder: everything of one training, written so that a kill at any moment leaves it whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from absentia.errors import UserError
from absentia.writing import replacing

__all__ = ["RunFolder", "load_tensors", "save_tensors", "sha256_of"]

FORMAT = "absentia-run-1"


class RunFolder:
    """Names and safe writing of a run's files."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def config(self) -> Path:
        """What was asked for."""
        return self.path / "config.yaml"

    @property
    def schema(self) -> Path:
        """Modalities, fitted decoders, target, method: all that the weights need around them."""
        return self.path / "schema.json"

    @property
    def plan(self) -> Path:
        """The mask plan that was used."""
        return self.path / "plan.parquet"

    @property
    def metrics(self) -> Path:
        """One JSON object per line."""
        return self.path / "metrics.jsonl"

    @property
    def report(self) -> Path:
        """Scores of every pattern."""
        return self.path / "report.json"

    @property
    def page(self) -> Path:
        """The report for people."""
        return self.path / "report.html"

    def weights(self, part: str = "") -> Path:
        """What a method learned; `part` is "reference" for the reference."""
        return self.path / (f"{part}.safetensors" if part else "weights.safetensors")

    def checkpoint(self, part: str = "") -> Path:
        """The state of a training that has not ended."""
        return self.path / f"checkpoint{'-' + part if part else ''}.safetensors"

    def create(self, *, resume: bool) -> None:
        """Make the folder; raises `UserError` when a run is there and is not to be resumed."""
        if self.config.exists() and not resume:
            raise UserError(f"{self.path} already holds a run; say --resume to go on with it, or another --out")
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path} is a file; --out needs a folder")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for half_written in self.path.glob(".*.[0-9]*"):
                half_written.unlink()
        except OSError as error:
            raise UserError(f"the folder {self.path} cannot be made: {error.strerror}") from None

    @contextmanager
    def undone(self) -> Iterator[None]:
        """A new run that ends in a `UserError` before anything was learned leaves nothing behind.

        What is wrong can then be mended and the same command given again.
        """
        fresh = not self.config.exists()
        try:
            yield
        except UserError:
            if fresh and not self.metrics.exists() and not any(self.path.glob("checkpoint*.safetensors")):
                self._forget()
            raise

    def _forget(self) -> None:
        """Undo `create` and what was written about a run that has not begun; other files stay."""
        if not self.path.is_dir():  # a file that stands where the folder should be is not ours
            return
        for path in (self.config, self.schema, self.plan):
            path.unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def write_json(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write JSON in one go; floats keep every digit."""
        self.write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def write_yaml(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write YAML in one go."""
        self.write_text(path, yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True))

    def write_text(self, path: Path, text: str) -> None:
        """Write a text file in one go: readers see the old or the new, never a part."""
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def read_json(self, path: Path) -> dict[str, Any]:
        """A JSON file of the run; raises `UserError` when it is not there or broken."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{self.path} is not a finished run: it has no {path.name}") from None
        except ValueError as error:
            raise UserError(f"{path} is not readable JSON: {error}") from None
        if not isinstance(content, dict):
            raise UserError(f"{path} holds no JSON object: it is not a file of a run")
        return content


def save_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """safetensors in one go, with `about` as JSON in its header."""
    clean = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    with replacing(path) as temporary:
        try:
            save_file(clean, temporary, metadata={"absentia": json.dumps({"format": FORMAT} | dict(about))})
        except SafetensorError as error:
            raise UserError(f"{path} cannot be written: {error}") from None


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_tensors` wrote; raises `UserError` for a missing, broken or foreign file."""
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("absentia", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path} is broken: {error}") from None
    if about.get("format") != FORMAT:
        raise UserError(f"{path} was not written by this version of absentia")
    return tensors, about


def sha256_of(folder: Path, names: Sequence[str]) -> str:
    """One hash of those of the named files that are in a folder."""
    digest = hashlib.sha256()
    for name in names:
        if (folder / name).is_file():
            with (folder / name).open("rb") as file:
                digest.update(name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
