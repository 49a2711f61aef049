"""Rows with frozen encoders: from the cache they are what they are without it, bit by bit, and never stale."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests import checkpoints, poison, tiny

from absentia import MultimodalClassifier, Tabular
from absentia.data.absence import MaskPlan
from absentia.data.kinds import Image, Text
from absentia.data.rows import OnBad
from absentia.data.schema import Schema
from absentia.data.table import open_table
from absentia.errors import UserError
from absentia.jobs import train_run
from absentia.learn.prepare import Prepared, prepare
from absentia.models.encoders.alone import each_alone
from absentia.models.encoders.pretrained import FrozenEncoder, PretrainedEncoder

ROWS = tiny.rows(40)
Bits = dict[str, list[torch.Tensor]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two encoders and an empty cache."""
    monkeypatch.setenv("ABSENTIA_CACHE", str(tmp_path / "cache"))
    checkpoints.vit(tmp_path / "vit")
    checkpoints.bert(tmp_path / "bert")
    return tmp_path


def schema(home: Path) -> Schema:
    frozen = {"photo": Image(encoder=str(home / "vit")), "words": Text(encoder=str(home / "bert"))}
    return replace(tiny.schema(names=["photo", "words"]), modalities=frozen)


def read(
    home: Path,
    content: tiny.Rows | None = None,
    *,
    plan: MaskPlan | None = None,
    on_bad: OnBad = "error",
    cache: bool = True,
) -> Prepared:
    table = open_table(tiny.table(ROWS if content is None else content))
    return prepare(table, schema(home), plan=plan, on_bad=on_bad, cache=cache)


def counts(data: Prepared, name: str) -> tuple[int, int]:
    """Cells of a modality that were computed and that were found."""
    caches = [rows.caches[name] for rows in data.rows.values()]
    return sum(c.computed for c in caches), sum(c.found for c in caches)


def bits(data: Prepared) -> Bits:
    return {
        name: [x for split in tiny.SPLITS for x in tiny.everything(data, split).inputs[name].values()]
        for name in data.names
    }


def same(one: Bits, other: Bits) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(a, b) for n in one for a, b in zip(one[n], other[n], strict=True)
    )


def learned(folder: Path) -> Bits:
    return {key: [tensor] for key, tensor in tiny.tensors_of(folder / "weights.safetensors").items()}


def cells(data: Prepared, name: str) -> int:
    m = data.names.index(name)
    return int(sum(rows.presence[:, m].sum() for rows in data.rows.values()))


def test_the_second_time_nothing_is_computed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = read(home, cache=False)
    assert not (home / "cache").exists()
    first = read(home)
    monkeypatch.setattr(FrozenEncoder, "_features", None)
    second = read(home)
    for name in ("photo", "words"):
        assert sum(counts(first, name)) == cells(first, name) and counts(first, name)[0] > 10
        assert counts(second, name) == (0, cells(first, name))
    for data in (first, second):
        assert same(bits(plain), bits(data))
    assert second.notes == plain.notes


def test_a_cache_that_is_half_full_changes_no_bit(home: Path) -> None:
    plain = bits(read(home, cache=False))
    read(home, ROWS[:20])
    half = read(home)
    assert all(min(counts(half, name)) > 3 for name in half.names)
    assert same(plain, bits(half))


def test_threads_change_no_bit(home: Path) -> None:
    plain = bits(read(home, cache=False))
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        found = bits(read(home, cache=False))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert same(plain, found)


def test_threads_come_back_after_a_failure() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ZeroDivisionError):
            each_alone(lambda x: 1 // x, [1, 0, 2])
        assert torch.get_num_threads() == 2
        assert each_alone(lambda x: torch.get_num_threads() * x, list(range(5))) == list(range(5))
    finally:
        torch.set_num_threads(before)


def other_weights(home: Path) -> None:
    checkpoints.changed(home / "vit", lambda tensors: {key: 1.01 * x for key, x in tensors.items()})


def other_transform(home: Path) -> None:
    path = home / "vit" / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"image_mean": [0.4, 0.5, 0.5]}))


def other_epsilon(home: Path) -> None:
    path = home / "vit" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"layer_norm_eps": 1e-3}))


@pytest.mark.parametrize("change", [other_weights, other_transform, other_epsilon])
def test_another_encoder_finds_nothing(home: Path, change: Any) -> None:
    before = read(home)
    change(home)
    after = read(home)
    assert counts(after, "photo") == (cells(after, "photo"), 0)
    assert counts(after, "words")[0] == 0, "the texts' encoder is the same"
    assert same(bits(after), bits(read(home, cache=False)))
    assert not torch.equal(bits(before)["photo"][0], bits(after)["photo"][0])


@pytest.mark.parametrize("option", [{"model_max_length": 5}, {"truncation_side": "left"}, {"do_lower_case": False}])
def test_another_length_or_case_finds_nothing(home: Path, option: dict[str, Any]) -> None:
    first = read(home)
    checkpoints.bert(home / "bert", **option)
    after = read(home)
    assert counts(after, "words") == counts(first, "words"), "found are texts that stand in the table twice, no others"
    assert counts(after, "photo")[0] == 0


def test_an_encoder_in_another_folder_is_the_same(home: Path) -> None:
    read(home)
    for name in ("vit", "bert"):
        (home / name).rename(home / f"my {name}")
        shutil.copytree(home / f"my {name}", home / name)
        shutil.rmtree(home / f"my {name}")
    shutil.copytree(home / "vit", home / "elsewhere" / "vit")
    shutil.copytree(home / "bert", home / "elsewhere" / "bert")
    after = prepare(open_table(tiny.table(ROWS)), schema(home / "elsewhere"), plan=None, on_bad="error")
    assert counts(after, "photo")[0] == counts(after, "words")[0] == 0


def test_what_is_hidden_is_neither_opened_nor_computed(home: Path) -> None:
    clean, poisoned, plan = poison.hide_some(tiny.rows(40, holes=0.0), home, ["photo", "words"])
    data = read(home, poisoned, plan=plan)
    assert sum(counts(data, "photo")) == cells(data, "photo") < 37
    assert counts(read(home, clean, plan=plan), "photo") == (0, cells(data, "photo"))
    everything = read(home, clean)
    assert counts(everything, "photo") == (37 - cells(data, "photo"), cells(data, "photo")), (
        "it was not computed before"
    )


@pytest.mark.parametrize("on_bad", ["absent", "skip"])
def test_bad_cells_stay_bad(home: Path, on_bad: OnBad) -> None:
    content = [dict(row) for row in tiny.rows(40, holes=0.0)]
    content[3]["photo"] = {"bytes": b"no picture", "path": None}
    content[4]["photo"] = {"bytes": None, "path": str(home / "gone.png")}
    seen = [read(home, content, on_bad=on_bad) for _ in range(2)]
    for data in seen:
        bad = [str(record) for rows in data.rows.values() for record in rows.bad]
        assert sorted(bad)[0].startswith("row 3, column 'photo': is not an image") and len(bad) == 2
    assert counts(seen[1], "photo") == (0, 35)
    with pytest.raises(UserError, match="row 3, column 'photo'"):
        read(home, content)


def test_a_damaged_cache_is_a_note_and_the_same_bits(home: Path) -> None:
    plain = bits(read(home))
    for path in (home / "cache").rglob("*.features"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        content[-200:] = b""
        path.write_bytes(content)
    data = read(home)
    assert same(plain, bits(data))
    assert any("damaged" in note for note in data.notes)
    assert not any("damaged" in note for note in read(home, cache=False).notes)


def test_a_cache_that_cannot_be_written_is_a_note(home: Path) -> None:
    plain = bits(read(home, cache=False))
    (home / "cache").write_text("a file where the folder should be")
    data = read(home)
    assert same(plain, bits(data))
    assert any("cannot be kept" in note for note in data.notes)


def test_what_does_not_fit_into_memory_is_recalled(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = bits(read(home))
    monkeypatch.setattr(FrozenEncoder, "_features", None)
    data = read(home)
    for rows in data.rows.values():
        rows._values.clear()
    assert same(plain, bits(data))


def test_a_run_is_the_same_with_and_without(home: Path) -> None:
    modality = {name: kind.describe() for name, kind in schema(home).modalities.items()}
    runs = {"without": False, "first": True, "second": True}
    for name, cache in runs.items():
        config = replace(tiny.config(reference=False), modality=modality, cache=cache)
        train_run(config, home / name, source=tiny.table(ROWS))
    assert same(learned(home / "without"), learned(home / "first"))
    assert same(learned(home / "without"), learned(home / "second"))


def test_a_run_may_go_on_without_the_cache(home: Path) -> None:
    modality = {name: kind.describe() for name, kind in schema(home).modalities.items()}
    config = replace(tiny.config(reference=False), modality=modality)
    with pytest.raises(tiny.Killed):
        train_run(config, home / "run", source=tiny.table(ROWS), watcher=tiny.killer(2))
    train_run(replace(config, cache=False), home / "run", source=tiny.table(ROWS), resume=True)
    train_run(config, home / "whole", source=tiny.table(ROWS))
    assert same(learned(home / "run"), learned(home / "whole"))


def test_frozen_features_are_the_same_bits_in_any_company(home: Path) -> None:
    data = read(home, cache=False)
    decoder = data.fitted.decoders["photo"]
    encoder = PretrainedEncoder(kind="image", source=str(home / "vit"))
    frozen = FrozenEncoder(encoder=encoder, decoder=decoder)  # type: ignore[arg-type]
    values = [decoder.decode(row["photo"]) for row in ROWS if row["photo"] is not None]
    together = frozen(values)
    for value, found in zip(values, together, strict=True):
        assert found["features"].tobytes() == frozen([value])[0]["features"].tobytes()
        assert np.isfinite(found["features"]).all()


@pytest.mark.parametrize("cache", [True, False])
def test_an_estimator_keeps_features_only_where_it_may(home: Path, tmp_path: Path, cache: bool) -> None:
    frame = tiny.table(tiny.rows(holes=0.2)).to_pandas()
    modalities = {"words": Text(encoder=str(home / "bert")), "height": Tabular(["height"])}
    model = MultimodalClassifier(modalities, epochs=1, width=16, depth=1, heads=2, cache=cache)
    model.fit(frame[["words", "height", "kind"]], "kind")
    model.predict(frame)
    assert any(home.glob("cache/**/*.features")) is cache
    model.save(tmp_path / "run")
    again = MultimodalClassifier.load(tmp_path / "run")
    assert again.cache is cache and again.run_.fitted.cache is cache
