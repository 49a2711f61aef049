"""Hidden inputs that must not be opened, and what notices it when they are."""

from __future__ import annotations

import copy
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests import tiny
from torch import Tensor

from absentia.data.absence import MaskPlan
from absentia.data.batch import Batch
from absentia.data.kinds.image import ImageDecoder
from absentia.data.kinds.series import SeriesDecoder
from absentia.data.kinds.tabular import TabularDecoder
from absentia.data.kinds.text import TextDecoder
from absentia.layers.packing import Packing
from absentia.models.fused import FusedTransformer, Prompts

DECODERS = {"photo": ImageDecoder, "words": TextDecoder, "facts": TabularDecoder, "wave": SeriesDecoder}


def hide_some(
    content: tiny.Rows, folder: Path, names: Sequence[str] = tiny.NAMES
) -> tuple[tiny.Rows, tiny.Rows, MaskPlan]:
    """A plan, the table it is for, and the same table with poison in every hidden cell.

    Every other picture is a file; of the hidden ones the second table has nothing but the path.
    """
    rng = np.random.default_rng(4)
    hidden = {i: [n for n in names if rng.random() < 0.4] for i in range(0, len(content), 2)}
    hidden[5] = list(names)
    clean = [_with_file(row, i, folder) if i % 4 < 2 else dict(row) for i, row in enumerate(content)]
    poisoned = [_poisoned(row, hidden.get(i, []), rng, folder) for i, row in enumerate(clean)]
    return clean, poisoned, tiny.plan_of(content, hidden, names)


def _with_file(row: dict[str, Any], i: int, folder: Path) -> dict[str, Any]:
    if row["photo"] is None:
        return dict(row)
    path = folder / f"{i}.png"
    path.write_bytes(row["photo"]["bytes"])
    return row | {"photo": {"bytes": None, "path": str(path)}}


def _poisoned(row: dict[str, Any], gone: Sequence[str], rng: np.random.Generator, folder: Path) -> dict[str, Any]:
    photo = row["photo"]
    deleted = photo is not None and photo["path"] is not None
    noise = {"bytes": None, "path": str(folder / "deleted.png")} if deleted else {"bytes": rng.bytes(40), "path": None}
    poison = {
        "photo": {"photo": noise},
        "words": {"words": "\x00 \N{REPLACEMENT CHARACTER} poison " * 9},
        "facts": {"height": float("inf"), "colour": "poison"},
        "wave": {"wave": [float("nan"), float("inf")]},
    }
    return functools.reduce(lambda made, name: made | poison[name], gone, dict(row))


def poison_tensors(batch: Batch, shown: Tensor, names: Sequence[str]) -> Batch:
    """NaN, or the largest number, in the inputs of what `shown` (B, M) leaves out."""
    inputs = copy.deepcopy(batch.inputs)
    for m, name in enumerate(names):
        hidden = ~shown[batch.presence[:, m], m]
        for x in inputs.get(name, {}).values():
            x[hidden] = poison_for(x.dtype)
    return Batch(presence=batch.presence, inputs=inputs, index=batch.index, target=batch.target)


def poison_for(kind: torch.dtype) -> float:
    if kind == torch.bool:
        return True
    return torch.nan if kind.is_floating_point else torch.iinfo(kind).max


def count_opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many cells of each modality were decoded so far; to decode one that is not there is an error."""
    counts: Counter[str] = Counter()
    for name, kind in DECODERS.items():
        monkeypatch.setattr(kind, "decode", _counted(kind.decode, name, counts))
    return counts


def _counted(decode: Callable[..., Any], name: str, counts: Counter[str]) -> Callable[..., Any]:
    def counted(self: Any, cell: Any) -> Any:
        parts = cell.values() if isinstance(cell, dict) else [cell]
        assert any(part is not None for part in parts), f"an absent cell of {name} was opened"
        counts[name] += 1
        return decode(self, cell)

    return counted


@contextmanager
def packed_tokens() -> Iterator[list[int]]:
    """The number of tokens in each pass of a transformer, prompts left out."""
    passes: list[int] = []
    before = FusedTransformer.run

    def run(self: FusedTransformer, packing: Packing, prompts: Prompts | None = None, rows: Any = "all") -> Any:
        passes.append(sum(int(s.valid.sum()) for s in packing.segments[: packing.modalities]))
        return before(self, packing, prompts, rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FusedTransformer, "run", run)
        yield passes


def tokens_there(batch: Batch, patch: int) -> int:
    """How many tokens the present inputs of the tiny table are, [CLS] included; an independent count.

    `patch` steps of a series make a token.
    """
    photo, words, facts, wave = (batch.inputs.get(name) for name in tiny.NAMES)
    count = sum(len(next(iter(inputs.values()))) for inputs in batch.inputs.values())  # a [CLS] each
    count += 2 * len(photo["pixels"]) if photo else 0  # 8 x 16 pixels are two squares of 8
    count += int(words["mask"].sum()) if words else 0
    count += 2 * len(facts["numbers"]) if facts else 0  # height and colour
    return count + (sum(-(-int(length) // patch) for length in wave["mask"].sum(dim=1)) if wave else 0)
