"""A data set of the Hugging Face hub, or a folder laid out like one; text tables are read by our own rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets.exceptions import DatasetGenerationError, DatasetsError

from absentia.data.files import file_parts, quiet
from absentia.data.formats import is_table
from absentia.data.memory import split_name, splits_parts
from absentia.data.storage import Part
from absentia.errors import UserError

__all__ = ["hub_parts"]

_OWN = ("datasets.packaged_modules.csv", "datasets.packaged_modules.json")


def hub_parts(name: str, config: str | None, *, streaming: bool) -> list[Part]:
    """The splits of data set `name` ("owner/name" or a folder) in configuration `config`."""
    with quiet():
        builder = _builder(name, config)
        if type(builder).__module__.startswith(_OWN) and _all_known(builder):
            return _text_parts(builder, streaming=streaming)
        try:
            if streaming:
                return splits_parts(builder.as_streaming_dataset())
            builder.download_and_prepare()
            return splits_parts(builder.as_dataset())
        except (OSError, ValueError, DatasetsError, DatasetGenerationError, pa.ArrowException) as error:
            raise UserError(f"the data set {name!r} cannot be read: {error.__cause__ or error}") from error


def _builder(name: str, config: str | None) -> Any:
    try:
        return datasets.load_dataset_builder(name, config)
    except (OSError, DatasetsError) as error:
        raise UserError(
            f"{name!r} is no file or folder here, and no data set that the Hugging Face hub answers for; "
            f"check the name, and the network ({_in_short(error)})"
        ) from error
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"the data set {name!r}: {_in_short(error)}; a configuration is chosen with NAME:CONFIG"
        ) from error


def _text_parts(builder: Any, *, streaming: bool) -> list[Part]:
    """CSV and JSON come as files, so that an empty cell and an empty text stay different things."""
    data_files = builder.config.data_files
    download = datasets.DownloadManager(dataset_name=builder.dataset_name)
    local = {split: [Path(p) for p in download.download(list(files))] for split, files in data_files.items()}
    one = len(local) == 1
    parts = file_parts({None if one else split_name(str(s)): p for s, p in local.items()}, streaming=streaming)
    features = builder.info.features
    return parts if features is None else [_with_classes(part, features) for part in parts]


def _all_known(builder: Any) -> bool:
    return all(is_table(Path(file)) for files in builder.config.data_files.values() for file in files)


def _with_classes(part: Part, features: datasets.Features) -> Part:
    own = dict(part.dataset.features)
    labels = {n: f for n, f in features.items() if isinstance(f, datasets.ClassLabel) and n in own}
    if not labels:
        return part
    return Part(part.dataset.cast(datasets.Features({**own, **labels})), part.split, part.rows)


def _in_short(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
