"""A folder of features of one encoder: every process appends to a file of its own and maps those of all."""

from __future__ import annotations

import json
import mmap
import os
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absentia.data.catalog.cache import default_folder
from absentia.data.features.records import Place, packed, scan, sound
from absentia.data.features.writer import SUFFIX, Writer
from absentia.data.kinds.base import Array

__all__ = ["FeatureStore", "features_folder"]


def features_folder() -> Path:
    """The folder `features` in the cache of Absentia: `$ABSENTIA_CACHE`, or what `default_folder` says."""
    return default_folder() / "features"


class FeatureStore:
    """Features (T, D) by a key of 32 bytes; nothing that goes wrong on disk is more than a note.

    folder: made when something is kept.  about: what the features depend on, written beside them for people.

    A file has one writer at a time and only ever grows. So readers need no lock, and a process that is killed leaves at
    most a torn end, which nobody writes behind. Files are looked for once, when something is first asked for.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.folder, self.about = folder, about
        self._places: dict[bytes, list[tuple[Path, Place]]] | None = None
        self._maps: dict[Path, mmap.mmap] = {}
        self._whole: list[Path] = []  # files that end with a whole record
        self._writer: Writer | None = None
        self._damaged = 0
        self._trouble: dict[str, str] = {}
        self._lock = threading.RLock()

    def __reduce__(self) -> tuple[type[FeatureStore], tuple[Path, Mapping[str, Any]]]:
        return FeatureStore, (self.folder, self.about)

    @property
    def stuck(self) -> str | None:
        """Why nothing can be kept, where that is so."""
        return self._trouble.get("writing")

    @property
    def notes(self) -> list[str]:
        """Remarks for people on what is damaged and what could not be read or kept."""
        damaged = f"{self._damaged} features kept in {self.folder} are damaged; where needed they were computed again."
        return [*([damaged] if self._damaged else []), *self._trouble.values()]

    def recall(self, key: bytes) -> Array | None:
        """The features kept under a key, bit by bit; None where there are none that are sound."""
        with self._lock:
            places = self._index().get(key, [])
            for path, place in places:
                content = self._mapped(path, place.end)
                found = None if content is None else sound(content, key, place)
                if found is not None:
                    return found
            self._damaged += len(self._index().pop(key, []))
            return None

    def keep(self, key: bytes, features: Array) -> None:
        """Append features; after a first failure nothing more is tried."""
        with self._lock:
            if self.stuck or key in self._index():
                return
            try:
                writer = self._own()
                record, place = packed(key, features, writer.size)
                writer.append(record)
            except OSError as error:
                why = f"Features cannot be kept in {self.folder} ({error.strerror}); it goes on without."
                self._trouble["writing"], self._writer = why, None
                return
            self._index().setdefault(key, []).append((writer.path, place))

    def _index(self) -> dict[bytes, list[tuple[Path, Place]]]:
        if self._places is None:
            self._places = {}
            for path in self._files():
                self._read(path, self._places)
        return self._places

    def _files(self) -> list[Path]:
        try:
            return sorted(path for path in self.folder.iterdir() if path.suffix == SUFFIX)
        except FileNotFoundError:
            return []
        except OSError as error:
            self._trouble["reading"] = f"Features kept in {self.folder} cannot be read ({error.strerror})."
            return []

    def _read(self, path: Path, places: dict[bytes, list[tuple[Path, Place]]]) -> None:
        content = self._mapped(path, 1)
        if content is None:
            return
        found = scan(content)
        for key, place in found.places:
            places.setdefault(key, []).append((path, place))
        self._damaged += found.damaged
        if found.end == len(content):
            self._whole.append(path)

    def _mapped(self, path: Path, end: int) -> mmap.mmap | None:
        """A file, mapped at least up to `end`; None where it is shorter or cannot be read."""
        known = self._maps.get(path)
        if known is not None and len(known) >= end:
            return known
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size < end:
                    return None
                self._maps[path] = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        except OSError as error:
            self._trouble["reading"] = f"Features kept in {path} cannot be read ({error.strerror})."
            return None
        return self._maps[path]

    def _own(self) -> Writer:
        """The file of this process; a forked child does not write on in its parent's."""
        if self._writer is None or self._writer.process != os.getpid():
            self._index()
            self.folder.mkdir(parents=True, exist_ok=True)
            self._say_what_about()
            self._writer = next(filter(None, map(self._taken_over, self._whole)), None) or Writer.fresh(self.folder)
        return self._writer

    def _taken_over(self, path: Path) -> Writer | None:
        """A writer of a file that has not grown since it was read, so that folders do not fill with small files."""
        writer = Writer.free(path)
        return writer if writer is not None and writer.size == len(self._maps[path]) else None

    def _say_what_about(self) -> None:
        path = self.folder / "about.json"
        if not path.exists():
            beside = self.folder / f"{uuid.uuid4().hex}.tmp"
            beside.write_text(json.dumps(self.about, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            beside.replace(path)
