"""How `datasets` reads our files: a builder that streams them, or keeps them as Arrow in its own cache.

`datasets` replaces `open`, `os` and `Path` in the module of a builder that streams, so none of them is here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import datasets
import pyarrow as pa
from datasets.builder import Key

from absentia.data.formats import read_tables

__all__ = ["FilesBuilder", "FilesConfig"]


@dataclass
class FilesConfig(datasets.BuilderConfig):  # type: ignore[misc]
    """Files of one format; `stamp` says in which state they are, so that a changed file is read again."""

    format: str = ""
    files: tuple[str, ...] = ()
    stamp: str = ""


class FilesBuilder(datasets.ArrowBasedBuilder):  # type: ignore[misc]
    """Rows of `config.files`, in the columns and types of the features that the builder was given."""

    BUILDER_CONFIG_CLASS = FilesConfig

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo()

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        return [datasets.SplitGenerator(name="train", gen_kwargs={"files": list(self.config.files)})]

    def _generate_shards(self, files: list[str]) -> Iterator[str]:
        yield from files

    def _generate_tables(self, files: list[str]) -> Iterator[tuple[Key, pa.Table]]:
        schema = self.info.features.arrow_schema
        for f, file in enumerate(files):
            for t, table in enumerate(read_tables(self.config.format, file, schema)):
                yield Key(f, t), table
