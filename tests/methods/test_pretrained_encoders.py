"""Pretrained encoders of every family under joint-embedding prediction: what learns, what is kept, what is read."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image as Pillow
from safetensors.torch import load_file
from tests import checkpoints, tiny
from tests.laws import in_double, losses_and_gradients, rows_with_something
from transformers import AutoModel

from absentia.config import RunConfig, Training
from absentia.data.kinds.pretrained import PretrainedDecoder
from absentia.data.table import open_table
from absentia.errors import UserError
from absentia.jobs import declared_schema, evaluate_run, train_run
from absentia.learn.build import fitted_from
from absentia.learn.prepare import prepare
from absentia.learn.run import load_run
from absentia.methods.joint_embedding import JointEmbedding
from absentia.models.encoders import pretrained
from absentia.models.encoders.pretrained import PretrainedEncoder, TunedEmbedder
from absentia.models.tuning import tune

# encoder, kind, how it is tuned, whether prompts read its own layers
CASES = [
    ("vit", "image", True, True),
    ("dinov2", "image", "lora", True),
    ("clip", "image", "biases", True),
    ("siglip", "image", "lora:2", True),
    ("mae", "image", "biases", True),
    ("naflex", "image", "biases", False),
    ("swin", "image", "biases", False),
    ("mobilenet", "image", "biases", False),
    ("bert", "text", "lora", True),
    ("roberta", "text", "biases", True),
    ("clip", "text", "full", True),
    ("modernbert", "text", "lora", False),
    ("mobilebert", "text", "biases", False),
    ("gpt2", "text", "lora", False),
    ("llama", "text", "lora", False),
    ("ast", "audio", "biases", True),
    ("whisper", "audio", "lora", True),
    ("wav2vec2", "audio", "biases", False),
]
WORDS = {"ant": "a b a", "bee": "world c", "cat": "hello b"}


def cell(kind: str, number: int, draw: np.random.Generator) -> Any:
    """Something that tells the class, of a kind."""
    if kind == "text":
        return WORDS[tiny.KINDS[number]] if draw.random() < 0.9 else ""
    if kind == "image":
        noise = (draw.integers(0, 100, (16, 16, 3)) + 70 * number).astype(np.uint8)
        out = io.BytesIO()
        Pillow.fromarray(noise).save(out, "PNG")
        return out.getvalue()
    import soundfile

    out = io.BytesIO()
    wave = np.sin(np.arange(800 + 160 * number) * 0.1 * (number + 1)) * 0.5
    soundfile.write(out, wave, 8000, format="WAV")
    return out.getvalue()


def table(path: Path, kind: str, count: int = 36) -> Path:
    draw = np.random.default_rng(0)
    numbers = [i % 3 for i in range(count)]
    columns = {
        "id": [str(i) for i in range(count)],
        "split": [("train", "train", "val", "test")[i // 3 % 4] for i in range(count)],
        "sense": [None if i % 5 == 0 else cell(kind, n, draw) for i, n in enumerate(numbers)],
        "facts": [None if i % 7 == 1 else float(n + 0.3 * draw.normal()) for i, n in enumerate(numbers)],
        "kind": [tiny.KINDS[n] for n in numbers],
    }
    pq.write_table(pa.table(columns), path)
    return path


def config(folder: Path, name: str, kind: str, how: Any, **options: Any) -> RunConfig:
    encoder = folder / name
    if not encoder.exists():
        checkpoints.ENCODERS[name](encoder)
    return RunConfig(
        table=str(table(folder / f"{kind}.parquet", kind)),
        modality={"sense": {"kind": kind, "encoder": str(encoder), "tune": how}, "facts": "tabular@facts"},
        target="kind",
        id="id",
        split="split",
        method="joint-embedding",
        options={"prompts": 2, **options},
        reference=False,
        model=tiny.SMALL,
        training=Training(epochs=1, batch=8, validations=1),
    )


def unimodal(method: Any) -> Any:
    assert isinstance(method, JointEmbedding)
    return method._encoder("sense")


@pytest.mark.parametrize(("name", "kind", "how", "reads"), CASES)
def test_it_trains_and_answers_and_keeps_only_what_it_learned(
    tmp_path: Path, name: str, kind: str, how: Any, reads: bool
) -> None:
    if kind == "audio":
        pytest.importorskip("soundfile", reason="needs the extra audio")
    settings = config(tmp_path, name, kind, how)
    report = train_run(settings, tmp_path / "run", page=False)
    run = load_run(tmp_path / "run")
    one = unimodal(run.method)
    assert one.pretrained is reads
    assert (one.layers[0].key in list(one.embedder.encoder.modules())) is reads
    again = evaluate_run(run, settings.table, part="report")
    assert [line["score"] for line in again["patterns"]] == [line["score"] for line in report["patterns"]]
    kept = [key for key in load_file(run.folder.weights("")) if ".embedder.encoder.model." in key]
    learned = {"lora": ".lora_", "biases": "bias"}.get("biases" if how is True else str(how).partition(":")[0], "")
    weights = [key for key in kept if not re.search("running|batches|position_ids", key)]
    assert weights and all(learned in key for key in weights)


def test_every_kind_of_tuning_learns_what_it_says(tmp_path: Path) -> None:
    source = str(checkpoints.bert(tmp_path / "bert"))
    sizes = {}
    for how in ("frozen", "biases", "lora:1", "lora", "full"):
        encoder = PretrainedEncoder(kind="text", source=source)
        before = encoder(input_ids=torch.tensor([[2, 5, 6, 3]]))[0]
        tune(encoder, how, source)
        torch.testing.assert_close(encoder(input_ids=torch.tensor([[2, 5, 6, 3]]))[0], before)
        sizes[how] = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    assert sizes["frozen"] == 0 and sizes["lora:1"] == 2 * 2 * (16 + 16)  # layers, queries and values
    assert sizes["lora"] == 8 * sizes["lora:1"] and sizes["biases"] < sizes["full"]


def test_biases_of_keys_stay_and_batch_norms_have_some(tmp_path: Path) -> None:
    for name, key in (("vit", "k_proj"), ("bert", "key"), ("whisper", "k_proj")):
        kind = {"vit": "image", "bert": "text", "whisper": "audio"}[name]
        encoder = PretrainedEncoder(kind=kind, source=str(checkpoints.ENCODERS[name](tmp_path / name)))
        tune(encoder, "biases", name)
        names = [n for n, p in encoder.named_parameters() if p.requires_grad]
        assert names and all(n.endswith(".bias") for n in names) and not any(f".{key}." in n for n in names)
    encoder = PretrainedEncoder(kind="image", source=str(checkpoints.mobilenet(tmp_path / "mobilenet")))
    tune(encoder, "biases", "mobilenet")
    assert any(p.requires_grad for p in encoder.parameters())


def test_an_encoder_without_biases_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="llama' has no biases to tune; say lora, full or frozen"):
        train_run(config(tmp_path, "llama", "text", True), tmp_path / "run", page=False)


@pytest.mark.parametrize("bad", ["bias", "lora:0", "lora:x", "lora:", "frozen", 1])
def test_a_tuning_that_is_none_is_one_clear_error(tmp_path: Path, bad: Any) -> None:
    with pytest.raises(UserError, match=r"tune .*: must be true, false, biases, lora, lora:RANK or full"):
        train_run(config(tmp_path, "bert", "text", bad), tmp_path / "run", page=False)


def test_convolutions_alone_take_no_factors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mobilenet' is made of convolutions, where LoRA finds no matrices; say biases"):
        train_run(config(tmp_path, "mobilenet", "image", "lora"), tmp_path / "run", page=False)


def test_the_modality_has_the_say_over_the_method(tmp_path: Path) -> None:
    settings = config(tmp_path, "bert", "text", "biases", tune="full")
    train_run(settings, tmp_path / "run", page=False)
    embedder = unimodal(load_run(tmp_path / "run").method).embedder
    assert isinstance(embedder, TunedEmbedder) and embedder.settled
    assert all(n.endswith("bias") for n, p in embedder.encoder.named_parameters() if p.requires_grad)


def test_encoders_that_changed_since_are_named_together(tmp_path: Path) -> None:
    for name in ("bert", "roberta"):
        checkpoints.ENCODERS[name](tmp_path / name)
    modality = {
        "sense": {"kind": "text", "encoder": str(tmp_path / "bert"), "tune": "lora"},
        "more": {"kind": "text", "encoder": str(tmp_path / "roberta"), "columns": ["sense"]},
    }
    base = config(tmp_path, "bert", "text", "lora")
    settings = RunConfig(**{**vars(base), "modality": modality})
    train_run(settings, tmp_path / "run", page=False)
    load_run(tmp_path / "run")
    for name in ("bert", "roberta"):
        checkpoints.changed(tmp_path / name, lambda tensors: {key: x + 1 for key, x in tensors.items()})
    with pytest.raises(UserError, match=r"encoders .*roberta' of 'more' and .*bert' of 'sense' have changed since"):
        load_run(tmp_path / "run")


def _fewer_tokens(folder: Path) -> None:
    _edited(folder / "tokenizer_config.json", {"model_max_length": 3})


def _other_words(folder: Path) -> None:
    said = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(said.replace('"hello"', '"salve"'))


def _other_mean(folder: Path) -> None:
    _edited(folder / "preprocessor_config.json", {"image_mean": [0.1, 0.1, 0.1]})


def _other_activation(folder: Path) -> None:
    _edited(folder / "config.json", {"hidden_act": "relu"})


def _edited(path: Path, change: dict[str, Any]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


@pytest.mark.parametrize(
    ("name", "kind", "spoil"),
    [
        ("bert", "text", _fewer_tokens),
        ("bert", "text", _other_words),
        ("vit", "image", _other_mean),
        ("vit", "image", _other_activation),
    ],
)
@pytest.mark.parametrize("how", [False, "biases"])
def test_a_processor_or_config_that_changed_since_is_another_encoder(
    tmp_path: Path, name: str, kind: str, spoil: Callable[[Path], None], how: Any
) -> None:
    train_run(config(tmp_path, name, kind, how), tmp_path / "run", page=False)
    load_run(tmp_path / "run")
    spoil(tmp_path / name)
    with pytest.raises(UserError, match=f"encoder .*{name}' of 'sense' has changed since the run was trained"):
        load_run(tmp_path / "run")
    setup = json.loads((tmp_path / "run" / "schema.json").read_text())
    setup["decoders"]["sense"]["prepares"]["libraries"]["tokenizers"] = "0.0"
    fitted_from(setup)  # another library writes the same down otherwise: nobody can say
    del setup["decoders"]["sense"]["prepares"]
    fitted_from(setup)  # a run from before this was written down


@pytest.mark.parametrize(("name", "kind"), [("clip", "image"), ("clip", "text"), ("mae", "image")])
def test_an_encoder_that_was_saved_anew_is_the_same(tmp_path: Path, name: str, kind: str) -> None:
    """Who saved it, from where and in which precision is written into a config and its parts, and changes nothing."""
    checkpoints.ENCODERS[name](tmp_path / "before")
    shutil.copytree(tmp_path / "before", tmp_path / "after")
    AutoModel.from_pretrained(tmp_path / "before").save_pretrained(tmp_path / "after")
    before = PretrainedDecoder(kind=kind, source=str(tmp_path / "before")).prepares()
    assert not PretrainedDecoder(kind=kind, source=str(tmp_path / "after"), before=before).changed
    older = {key: before[key] for key in ("sha256", "libraries")}
    for after in (_other_activation, _other_part):
        after(tmp_path / "after")
    assert not PretrainedDecoder(kind=kind, source=str(tmp_path / "after"), before=older).changed, "nobody can say"
    assert PretrainedDecoder(kind=kind, source=str(tmp_path / "after"), before=before).changed


def _other_part(folder: Path) -> None:
    said = json.loads((folder / "config.json").read_text())
    parts = {key: said[key] | {"hidden_act": "relu"} for key in ("text_config", "vision_config") if key in said}
    _edited(folder / "config.json", parts)


@pytest.mark.parametrize("training", ["two", "joint"])
@pytest.mark.parametrize("micro", [None, 5])
def test_texts_of_like_length_train_as_one_padded_batch_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, training: str, micro: int | None
) -> None:
    """Losses, gradients and answers in float64, through the keys and values that prompts read too."""
    monkeypatch.setattr(pretrained, "SLACK", {"share": 0.0, "tokens": 0})
    settings = config(tmp_path, "bert", "text", "full")
    source = open_table(settings.table)
    data = prepare(source, declared_schema(settings, source, lambda line: None), plan=None, on_bad="error")
    options = {"training": training, "micro": micro, "tokens_grad_from_prediction": True, "prompts": 2}
    made = tiny.method_of("joint-embedding", data, stir=0.1, options=options).double()
    batch = in_double(rows_with_something(data))
    found = []
    for alike in (True, False):
        if not alike:
            monkeypatch.setattr(PretrainedEncoder, "groups", lambda encoder, inputs: None)
        assert (unimodal(made).embedder.encoder.groups(batch.inputs["sense"]) is not None) is alike
        learned = [losses_and_gradients(made, batch, stage) for stage in made.stages()]
        found.append((learned, made(batch)))
    (learned, answer), (others, expected) = found
    torch.testing.assert_close(answer.scores, expected.scores, rtol=0, atol=1e-10)
    for (loss, gradients), (same, all_same) in zip(learned, others, strict=True):
        torch.testing.assert_close(loss, same, rtol=0, atol=1e-10)
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, all_same[name], rtol=0, atol=1e-10, msg=name)
