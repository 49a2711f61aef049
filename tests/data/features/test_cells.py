"""What a cell is known by: its content and nothing else; and files that change while they are read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import checkpoints

from absentia.data.features import CellCache, FeatureStore
from absentia.data.features.cells import cell_digest
from absentia.data.kinds.pretrained import PretrainedDecoder


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"content")
    (tmp_path / "b.jpg").write_bytes(b"content")
    same = [b"content", "a.png", "b.jpg", str(tmp_path / "a.png"), {"bytes": b"content", "path": "gone.png"}]
    same += [{"bytes": None, "path": "a.png"}, bytearray(b"content")]
    assert len({cell_digest("image", cell, tmp_path) for cell in same}) == 1
    (tmp_path / "a.png").write_bytes(b"contenT")
    assert cell_digest("image", "a.png", tmp_path) != cell_digest("image", "b.jpg", tmp_path)


def test_texts_and_files_of_the_same_bytes_are_two_things(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"7")
    assert cell_digest("text", "7", None) == cell_digest("text", b"7", None) == cell_digest("text", 7, None)
    assert len({cell_digest("text", "7", None), cell_digest("image", b"7", None), cell_digest("text", "", None)}) == 3


def test_samples_are_known_by_values_type_shape_and_rate() -> None:
    sound = np.arange(6, dtype=np.float32)
    cells = [
        {"array": sound, "sampling_rate": 8000},
        {"array": sound, "sampling_rate": 16000},
        {"array": sound.astype(np.float64), "sampling_rate": 8000},
        {"array": sound.reshape(2, 3), "sampling_rate": 8000},
        {"array": sound + 1, "sampling_rate": 8000},
    ]
    assert len({cell_digest("audio", cell, None) for cell in cells}) == 5
    assert cell_digest("audio", cells[2], None) == cell_digest(
        "audio", {"array": sound.tolist(), "sampling_rate": 8000}, None
    )


@pytest.mark.parametrize(
    ("kind", "cell"),
    [
        *(("image", None), ("image", 3), ("image", b""), ("image", "gone.png"), ("image", "")),
        *(("image", {"bytes": None, "path": None}), ("image", "x" * 5000)),
        *(("text", None), ("text", b"\xff"), ("text", "\ud800"), ("text", [1])),
        ("audio", {"array": [[1], [1, 2]], "sampling_rate": 1}),
        ("audio", {"array": np.asarray([object()]), "sampling_rate": 1}),
    ],
)
def test_what_cannot_be_read_has_no_key(tmp_path: Path, kind: str, cell: Any) -> None:
    assert cell_digest(kind, cell, tmp_path) is None


def test_a_file_that_may_not_be_opened_has_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(b"content")
    monkeypatch.setattr(Path, "open", lambda *_: os.open(tmp_path / "gone", os.O_RDONLY))
    assert cell_digest("image", "a.png", tmp_path) is None


def test_a_file_that_changed_meanwhile_is_not_kept(tmp_path: Path) -> None:
    decoder = PretrainedDecoder(kind="image", source=str(checkpoints.vit(tmp_path / "vit")), root=tmp_path)
    cache = CellCache(decoder=decoder, store=FeatureStore(tmp_path / "store", {}))
    (tmp_path / "a.png").write_bytes(b"before")
    key, value = cache.key("a.png"), {"features": np.zeros((1, 2), np.float32)}
    (tmp_path / "a.png").write_bytes(b"after!")
    cache.keep(key, "a.png", value)
    assert cache.recall(key) is None and cache.recall(cache.key("a.png")) is None
    cache.keep(cache.key("a.png"), "a.png", value)
    assert cache.recall(cache.key("a.png")) is not None
    assert (cache.computed, cache.found) == (2, 1)
    cache.keep(None, "a.png", value)
    assert cache.recall(None) is None
