"""Table files as data sets: small ones in memory, large ones in the Arrow cache of `datasets`, or streamed."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import datasets
import pyarrow as pa
from datasets.exceptions import DatasetGenerationError

from absentia.data.builder import FilesBuilder
from absentia.data.formats import format_of, known_rows, read_features, read_tables
from absentia.data.storage import Part
from absentia.errors import UserError

__all__ = ["file_parts", "quiet"]

SMALL = 32 << 20  # bytes of files that are read into memory rather than into a cache


def file_parts(files: Mapping[str | None, Sequence[Path]], *, streaming: bool) -> list[Part]:
    """One part for each split and format. The types of a column are decided over all files of a format."""
    forms = {path: format_of(path) for paths in files.values() for path in paths}
    features = {
        form: read_features(form, [path for path, its in forms.items() if its == form])
        for form in dict.fromkeys(forms.values())
    }
    parts = []
    for split, paths in files.items():
        for form in dict.fromkeys(forms[path] for path in paths):
            chosen = [path for path in paths if forms[path] == form]
            dataset = _dataset(form, chosen, features[form], streaming=streaming)
            parts.append(Part(dataset, split, known_rows(form, chosen)))
    return parts


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and log lines of `datasets` inside; afterwards as before."""
    bars, verbosity = not datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    if bars:
        datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if bars:
            datasets.enable_progress_bars()


def _dataset(
    form: str, paths: Sequence[Path], features: datasets.Features, *, streaming: bool
) -> datasets.Dataset | datasets.IterableDataset:
    if not streaming and sum(path.stat().st_size for path in paths) <= SMALL:
        schema = features.arrow_schema
        tables = [table for path in paths for table in read_tables(form, str(path), schema)]
        return datasets.Dataset(pa.concat_tables(tables) if tables else schema.empty_table())
    names = tuple(str(path.resolve()) for path in paths)
    with quiet():
        builder = FilesBuilder(
            dataset_name="absentia", features=features, format=form, files=names, stamp=_stamp(paths)
        )
        return builder.as_streaming_dataset("train") if streaming else _cached(builder)


def _cached(builder: FilesBuilder) -> datasets.Dataset:
    try:
        builder.download_and_prepare()
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise UserError(f"{builder.config.files[0]} cannot be read: {error.__cause__ or error}") from error
    except OSError as error:
        raise UserError(f"no room for the cache in {builder.cache_dir}: {error}; set HF_DATASETS_CACHE") from error
    return builder.as_dataset("train")


def _stamp(paths: Sequence[Path]) -> str:
    states = [(path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return hashlib.sha256(repr(states).encode()).hexdigest()[:16]
