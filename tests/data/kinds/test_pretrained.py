"""Cells through the processors of pretrained encoders, and every way a checkpoint's folder can be wrong."""

from __future__ import annotations

import io
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from PIL import Image as Pillow
from tests import checkpoints

from absentia.data.kinds import Series, Tabular, Text
from absentia.data.kinds.pretrained import PretrainedDecoder, can_be_pretrained, loading
from absentia.errors import BadCell, UserError


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoders")
    for name in ("vit", "mobilenet", "bert", "wav2vec2"):
        checkpoints.ENCODERS[name](folder / name)
    return folder


def png(height: int, width: int) -> bytes:
    noise = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    out = io.BytesIO()
    Pillow.fromarray(noise).save(out, "PNG")
    return out.getvalue()


def sound(count: int, rate: int = 8000) -> dict[str, Any]:
    return {"array": np.sin(np.arange(count) / 9).astype(np.float32), "sampling_rate": rate}


def test_which_kinds_can_be_pretrained() -> None:
    assert can_be_pretrained(Text()) and not can_be_pretrained(Series()) and not can_be_pretrained(Tabular())
    with pytest.raises(UserError, match="kind 'series' takes no pretrained encoder"):
        PretrainedDecoder(kind="series", source="bert")


@pytest.mark.parametrize("name", ["vit", "mobilenet"])
@pytest.mark.parametrize("shape", [(20, 30), (1, 1), (3, 40), (40, 3), (3, 3), (1, 3000)])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_any_picture_becomes_the_encoders_size(home: Path, name: str, shape: tuple[int, int], mode: str) -> None:
    out = io.BytesIO()
    Pillow.new("RGB", (shape[1], shape[0]), (250, 5, 5)).convert(mode).save(out, "PNG")
    value = PretrainedDecoder(kind="image", source=str(home / name)).decode(out.getvalue())
    side = {"vit": 16, "mobilenet": 32}[name]
    assert list(value) == ["pixel_values"] and value["pixel_values"].shape == (3, side, side)
    assert value["pixel_values"].dtype == np.float32
    red, green, blue = value["pixel_values"].mean(axis=(1, 2))
    assert (green == blue) and (red > green or mode == "L")


def test_texts_are_cut_to_the_places_the_encoder_has(home: Path, tmp_path: Path) -> None:
    decoder = PretrainedDecoder(kind="text", source=str(home / "bert"))
    cut = decoder.decode("a b c " * 100_000)["input_ids"]
    assert len(cut) == 11 and cut[[0, -1]].tolist() == [2, 3]  # 12 places, the padding's number aside
    said = PretrainedDecoder(kind="text", source=str(checkpoints.bert(tmp_path, 40, model_max_length=8)))
    assert len(said.decode("a " * 99)["input_ids"]) == 8


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *(("", []), ("hello world", ["hello", "world"]), ("ABC", ["a", "##b", "##c"])),
        *(("🙂", ["[UNK]"]), (b"hello!", ["hello", "!"])),
    ],
)
def test_texts(home: Path, text: Any, words: list[str]) -> None:
    value = PretrainedDecoder(kind="text", source=str(home / "bert")).decode(text)
    assert [checkpoints.WORDS[i] for i in value["input_ids"]] == ["[CLS]", *words, "[SEP]"]
    assert (value["attention_mask"] == 1).all()


@pytest.mark.parametrize(
    ("samples", "rate", "length"),
    [(1, 8000, 800), (799, 8000, 800), (1000, 8000, 1000), (4410, 44100, 800), (10**6, 8000, 240_000)],
)
def test_sounds_are_resampled_filled_up_and_cut(home: Path, samples: int, rate: int, length: int) -> None:
    value = PretrainedDecoder(kind="audio", source=str(home / "wav2vec2")).decode(sound(samples, rate))
    assert value["input_values"].shape == (length,)


@pytest.mark.parametrize(
    ("kind", "name", "cell"),
    [("image", "vit", b"no picture"), ("text", "bert", b"\xff"), ("audio", "wav2vec2", b"no sound")],
)
def test_bad_cells_are_those_of_the_kind(home: Path, kind: str, name: str, cell: bytes) -> None:
    with pytest.raises(BadCell, match="is not"):
        PretrainedDecoder(kind=kind, source=str(home / name)).decode(cell)


def test_relative_paths_start_from_the_root(home: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(9, 9))
    decoder = PretrainedDecoder(kind="image", source=str(home / "vit"), root=tmp_path)
    assert (decoder.decode("a.png")["pixel_values"] == decoder.decode(png(9, 9))["pixel_values"]).all()


def test_batches(home: Path) -> None:
    text = PretrainedDecoder(kind="text", source=str(home / "bert"))
    batch = text.collate([text.decode(t) for t in ("", "a b c")] + [text.blank()])
    assert batch["input_ids"][0].tolist() == [2, 3, 0, 0, 0]
    assert batch["attention_mask"].sum(axis=1).tolist() == [2, 5, 2]
    audio = PretrainedDecoder(kind="audio", source=str(home / "wav2vec2"))
    batch = audio.collate([audio.decode(sound(n)) for n in (900, 1200)] + [audio.blank()])
    assert batch["input_values"].shape == (3, 1200)
    assert batch["attention_mask"].sum(axis=1).tolist() == [900, 1200, 800]
    image = PretrainedDecoder(kind="image", source=str(home / "vit"))
    batch = image.collate([image.decode(png(9, 9)), image.blank()])
    assert batch["pixel_values"].shape == (2, 3, 16, 16) and (batch["pixel_values"][1] == 0).all()


def test_the_state_names_the_encoder(home: Path) -> None:
    decoder = PretrainedDecoder(kind="text", source=str(home / "bert"))
    state = json.loads(json.dumps(decoder.state()))
    assert state == {"pretrained": str(home / "bert"), "kind": "text", "prepares": decoder.prepares()}


@pytest.mark.parametrize(("name", "kind", "cell"), [("bert", "text", "a b"), ("vit", "image", png(9, 9))])
def test_what_a_processor_does_is_known_again(home: Path, tmp_path: Path, name: str, kind: str, cell: Any) -> None:
    before = PretrainedDecoder(kind=kind, source=str(home / name)).prepares()
    shutil.copytree(home / name, tmp_path / "copy")
    again = PretrainedDecoder(kind=kind, source=str(tmp_path / "copy"), before=before)
    again.decode(cell)  # a call leaves traces in a tokenizer
    assert not again.changed and again.prepares() == before


def test_a_tokenizer_of_another_model_is_one_clear_error(home: Path, tmp_path: Path) -> None:
    folder = checkpoints.bert(tmp_path / "more")
    (folder / "vocab.txt").write_text("\n".join([*checkpoints.WORDS, "zebra"]) + "\n")
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    decoder = PretrainedDecoder(kind="text", source=str(folder))
    decoder.decode("hello")
    with pytest.raises(UserError, match=r"more': its tokenizer has words that its model \(14 of them\) does not know"):
        decoder.decode("hello zebra")


def without(*names: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return remove


def with_text(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


REMOTE = {"auto_map": {"AutoModel": "x.Y", "AutoConfig": "x.C", "AutoTokenizer": ["x.Z", None]}, "model_type": "foo"}
WRONG = [
    ("bert", "text", without("vocab.txt", "tokenizer.json", "tokenizer_config.json"), "has no words; is its"),
    ("bert", "text", without("vocab.txt", "tokenizer.json"), "has no words"),
    ("bert", "text", with_text("tokenizer.json", "{"), "text processor cannot be loaded"),
    ("bert", "text", with_text("config.json", "{"), "cannot be loaded: .*not a valid JSON"),
    ("bert", "text", with_text("config.json", '{"model_type": "nosuch"}'), "cannot be loaded: .*nosuch"),
    ("bert", "text", with_text("config.json", json.dumps(REMOTE)), "cannot be loaded: .*custom code"),
    ("vit", "image", without("preprocessor_config.json"), "image processor cannot be loaded"),
    ("vit", "image", with_text("preprocessor_config.json", "{"), "image processor cannot be loaded"),
    ("vit", "text", lambda folder: None, "text processor cannot be loaded"),
    ("bert", "image", lambda folder: None, "image processor cannot be loaded"),
    ("bert", "audio", lambda folder: None, "audio processor cannot be loaded"),
]


@pytest.mark.parametrize(("name", "kind", "spoil", "message"), WRONG)
def test_folders_that_are_no_encoder_of_the_kind(
    home: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    name: str,
    kind: str,
    spoil: Callable[[Path], None],
    message: str,
) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(home / name, folder)
    spoil(folder)
    cell = {"text": "hello", "image": png(9, 9), "audio": sound(800)}[kind]
    with pytest.raises(UserError, match=f"encoder '{folder}': .*{message}") as caught:
        PretrainedDecoder(kind=kind, source=str(folder)).decode(cell)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")  # nor does anything ask a question


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/nowhere/at/all", "there is no such folder"),
        ("./nowhere", "there is no such folder"),
        ("a/b/c", "there is no such folder"),
        ("no such name!", "text processor cannot be loaded"),
        ("some/name", "text processor cannot be loaded"),
    ],
)
def test_encoders_that_do_not_exist(source: str, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=f"encoder '{source}': .*{message}"):
        PretrainedDecoder(kind="text", source=source).decode("hello")
    assert capfd.readouterr() == ("", "")


def test_loading_leaves_the_settings_of_transformers_as_they_were() -> None:
    noise = transformers.utils.logging
    before = noise.get_verbosity(), noise.is_progress_bar_enabled()
    with pytest.raises(UserError, match="encoder 'x': its model cannot be loaded: broken"), loading("x", "model"):
        assert noise.get_verbosity() == logging.CRITICAL and not noise.is_progress_bar_enabled()
        raise OSError("broken\nand more")
    assert (noise.get_verbosity(), noise.is_progress_bar_enabled()) == before
