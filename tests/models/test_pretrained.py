"""Pretrained encoders: what a row gets is its own, is the checkpoint's, and says so when it is not."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image as Pillow
from tests import checkpoints
from torch import Tensor

from absentia.data.batch import tensors
from absentia.data.kinds.pretrained import PretrainedDecoder
from absentia.errors import UserError
from absentia.models.encoders import pretrained
from absentia.models.encoders.pretrained import FeatureEmbedder, FrozenEncoder, PretrainedEncoder, TunedEmbedder

CASES = [
    ("vit", "image", 16),
    ("mobilenet", "image", 128),
    ("clip", "image", 8),
    ("clip", "text", 16),
    ("bert", "text", 16),
    ("roberta", "text", 16),
    ("modernbert", "text", 16),
    ("fnet", "text", 16),
    ("convbert", "text", 16),
    ("mobilebert", "text", 16),
    ("funnel", "text", 16),
    ("canine", "text", 16),
    ("gpt2", "text", 16),
    ("llama", "text", 16),
    ("dinov2", "image", 16),
    ("siglip", "image", 16),
    ("naflex", "image", 16),
    ("mae", "image", 16),
    ("swin", "image", 16),
    ("wav2vec2", "audio", 16),
    ("ast", "audio", 16),
    ("whisper", "audio", 16),
]
PAIRS = pytest.mark.parametrize(("name", "kind"), [case[:2] for case in CASES])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoders")
    for name, make in checkpoints.ENCODERS.items():
        make(folder / name)
    return folder


def png(seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    out = io.BytesIO()
    Pillow.fromarray(noise).save(out, "PNG")
    return out.getvalue()


def sound(seed: int, samples: int) -> dict[str, Any]:
    return {"array": np.random.default_rng(seed).normal(size=samples).astype(np.float32), "sampling_rate": 8000}


CELLS: dict[str, list[Any]] = {
    "image": [png(i) for i in range(5)],
    "text": ["hello world", "", "a b c ! a b c", "c", "world world"],
    "audio": [sound(i, n) for i, n in enumerate((10, 800, 1237, 4000, 1237))],
}


def loaded(folder: Path, kind: str) -> tuple[PretrainedDecoder, PretrainedEncoder]:
    decoder = PretrainedDecoder(kind=kind, source=str(folder))
    return decoder, PretrainedEncoder(kind=kind, source=str(folder)).eval()


def batch(decoder: PretrainedDecoder, cells: list[Any]) -> dict[str, Tensor]:
    return tensors(decoder.collate([decoder.decode(cell) for cell in cells]))


@pytest.mark.parametrize(("name", "kind", "width"), CASES)
def test_frozen_features_do_not_depend_on_the_batch(home: Path, name: str, kind: str, width: int) -> None:
    decoder, encoder = loaded(home / name, kind)
    frozen = FrozenEncoder(encoder=encoder, decoder=decoder)
    values = [decoder.decode(cell) for cell in CELLS[kind]]
    together = frozen(values)
    assert encoder.width == width
    for value, found in zip(values, together, strict=True):
        assert found["features"].shape == (1, width) and found["features"].dtype == np.float32
        np.testing.assert_allclose(found["features"], frozen([value])[0]["features"], atol=1e-5)
    backwards = frozen(values[::-1])[::-1]
    for one, other in zip(together, backwards, strict=True):
        np.testing.assert_allclose(one["features"], other["features"], atol=1e-5)
    assert len({f["features"].tobytes() for f in together}) == len(together)  # they say something
    assert frozen([]) == [] and frozen([decoder.blank()])[0]["features"].shape == (1, width)


@PAIRS
def test_tuned_tokens_do_not_depend_on_the_batch(home: Path, name: str, kind: str) -> None:
    decoder, encoder = loaded(home / name, kind)
    embedder = TunedEmbedder(width=8, encoder=encoder).eval()
    with torch.no_grad():
        tokens, valid = embedder(**batch(decoder, CELLS[kind]))
        assert valid[:, 0].all() and tokens.shape[:2] == valid.shape
        torch.testing.assert_close(tokens[:, 0], embedder.cls().expand(5, 8))
        for i, cell in enumerate(CELLS[kind]):
            alone, real = embedder(**batch(decoder, [cell]))
            assert valid[i].sum() == real.sum()
            torch.testing.assert_close(tokens[i][valid[i]], alone[0][real[0]], atol=1e-5, rtol=0)


TEXTS = [case[0] for case in CASES if case[1] == "text"]
ALONE = ("fnet", "convbert", "mobilebert", "funnel", "canine")  # padding would show in what they make of a text


def seen(encoder: PretrainedEncoder) -> list[Tensor]:
    """The masks of all passes from now on."""
    masks: list[Tensor] = []

    def note(module: Any, given: Any, named: dict[str, Tensor]) -> None:
        masks.append(named["attention_mask"] if "attention_mask" in named else torch.ones_like(named["input_ids"]))

    encoder.model.register_forward_pre_hook(note, with_kwargs=True)
    return masks


@pytest.mark.parametrize("name", TEXTS)
def test_texts_of_like_length_share_a_pass_and_give_what_one_batch_gives(
    home: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward, and gradients of everything, in float64; but for CANINE, whose masks are for float32 alone."""
    monkeypatch.setattr(pretrained, "SLACK", {"share": 0.0, "tokens": 2})  # these encoders have few places
    decoder, encoder = loaded(home / name, "text")
    precision, atol = (torch.float64, 1e-10) if name != "canine" else (torch.float32, 1e-4)
    encoder = encoder.to(precision)
    inputs = batch(decoder, ["a b c a b c a b c", "", "c", "b a c b a c b", "world", "a", "c b a c b a"])
    masks = seen(encoder)
    found = []
    for way in (encoder, encoder._run if name not in ALONE else partial(one_by_one, encoder)):
        encoder.zero_grad()
        tokens, valid = way(**inputs) if way is encoder else way(inputs)  # type: ignore[operator]
        weights = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(0), dtype=precision)
        (tokens * weights)[valid].sum().backward()  # type: ignore[no-untyped-call]
        found.append((tokens, valid, {n: p.grad.clone() for n, p in encoder.named_parameters() if p.grad is not None}))
    (tokens, valid, gradients), (expected, real, others) = found
    assert torch.equal(valid, real) and gradients.keys() == others.keys() and gradients
    torch.testing.assert_close(tokens[valid], expected[real], rtol=0, atol=atol)
    for key, gradient in gradients.items():
        torch.testing.assert_close(gradient, others[key], rtol=0, atol=atol, msg=key)
    groups = encoder.groups(inputs)
    assert groups is not None and len(groups.rows) > 1
    assert [len(mask) for mask in masks[: len(groups.rows)]] == [len(rows) for rows in groups.rows]
    padded = sum(mask.numel() for mask in masks[: len(groups.rows)])
    assert valid.sum() <= padded < valid.numel()
    assert name not in ALONE or padded == valid.sum(dim=1).clamp(min=encoder._least).sum()


def one_by_one(encoder: PretrainedEncoder, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Every row of a padded batch in a pass of its own."""
    lengths = inputs["attention_mask"].sum(dim=1)
    parts = [encoder._run({k: x[i : i + 1, :n] for k, x in inputs.items()}) for i, n in enumerate(lengths.tolist())]
    longest = int(lengths.max())
    tokens = [torch.nn.functional.pad(x, (0, 0, 0, longest - x.shape[1])) for x, _ in parts]
    valid = [torch.nn.functional.pad(x, (0, longest - x.shape[1])) for _, x in parts]
    return torch.cat(tokens), torch.cat(valid)


def test_texts_without_padding_are_one_pass(home: Path) -> None:
    decoder, encoder = loaded(home / "bert", "text")
    masks = seen(encoder)
    encoder(**batch(decoder, ["a b", "b c", "c c"]))
    assert [mask.shape for mask in masks] == [(3, 4)]
    assert encoder.groups(batch(decoder, ["a b", "b c"])) is None


def test_padding_that_nobody_needs_is_not_computed(home: Path) -> None:
    decoder, encoder = loaded(home / "bert", "text")
    inputs = {key: x[1:] for key, x in batch(decoder, ["a b c a b c a b c", "a", "b c"]).items()}
    masks = seen(encoder)
    tokens, valid = encoder(**inputs)
    assert [tuple(mask.shape) for mask in masks] == [(2, 4)] and tokens.shape[:2] == valid.shape == (2, 4)


@pytest.mark.parametrize("name", TEXTS)
def test_a_frozen_encoder_pads_no_text_that_is_long_enough(home: Path, name: str) -> None:
    decoder, encoder = loaded(home / name, "text")
    masks = seen(encoder)
    FrozenEncoder(encoder=encoder, decoder=decoder)([decoder.decode(cell) for cell in CELLS["text"]])
    assert len(masks) == len(CELLS["text"]) and all(len(mask) == 1 for mask in masks)
    assert all(mask.all() or mask.shape[1] == encoder._least for mask in masks)


@PAIRS
def test_a_tuned_encoder_learns(home: Path, name: str, kind: str) -> None:
    decoder, encoder = loaded(home / name, kind)
    embedder = TunedEmbedder(width=8, encoder=encoder).train()
    tokens, valid = embedder(**batch(decoder, CELLS[kind]))
    (tokens.square().mean(dim=2) * valid).sum().backward()
    spoken = [p for n, p in encoder.model.named_parameters() if not n.startswith("head.")]  # SigLIP's own pooling
    reached = [p.grad is not None and bool(p.grad.any()) for p in spoken]
    assert sum(reached) > 0.8 * len(reached)


def test_batch_norms_keep_their_statistics(home: Path) -> None:
    decoder, encoder = loaded(home / "mobilenet", "image")
    inputs = batch(decoder, CELLS["image"])
    before = encoder.fingerprint()
    still, _ = encoder(**inputs)
    learning, _ = encoder.train()(**inputs)
    torch.testing.assert_close(still, learning)
    assert encoder.fingerprint() == before and encoder.training


def test_nothing_is_drawn_from_numpy_while_sounds_are_learned(home: Path) -> None:
    decoder, encoder = loaded(home / "wav2vec2", "audio")
    state = np.random.get_state()[1].copy()  # type: ignore[union-attr, index]
    encoder.train()(**batch(decoder, CELLS["audio"]))
    assert (np.random.get_state()[1] == state).all()  # type: ignore[index]


def test_features_are_those_of_transformers(home: Path) -> None:
    decoder, encoder = loaded(home / "vit", "image")
    inputs = batch(decoder, CELLS["image"])
    with torch.no_grad():
        theirs = transformers.ViTModel.from_pretrained(home / "vit").eval()(**inputs).last_hidden_state
        torch.testing.assert_close(encoder.pooled(**inputs), theirs[:, 0])
        decoder, encoder = loaded(home / "bert", "text")
        inputs = batch(decoder, CELLS["text"])
        theirs = transformers.BertModel.from_pretrained(home / "bert").eval()(**inputs).last_hidden_state
        weight = inputs["attention_mask"][..., None]
        torch.testing.assert_close(encoder.pooled(**inputs), (theirs * weight).sum(1) / weight.sum(1))
        decoder, encoder = loaded(home / "mobilenet", "image")
        inputs = batch(decoder, CELLS["image"])
        theirs = transformers.MobileNetV2Model.from_pretrained(home / "mobilenet").eval()(**inputs).pooler_output
        torch.testing.assert_close(encoder.pooled(**inputs), theirs)


CAUSAL = ("gpt2", "llama")


@pytest.mark.parametrize("name", CAUSAL)
def test_a_causal_model_is_read_at_its_last_real_token(home: Path, name: str) -> None:
    source = str(home / name)
    decoder = PretrainedDecoder(kind="text", source=source)
    encoder = PretrainedEncoder(kind="text", source=source, pool="last").eval()
    inputs = batch(decoder, CELLS["text"])
    tokens, valid = encoder(**inputs)
    assert not valid.all() and valid[:, 0].all(), "padding stands on the right"
    last = torch.stack([row[int(real.sum()) - 1] for row, real in zip(tokens, valid, strict=True)])
    assert torch.equal(encoder.pooled(**inputs), last)
    first = PretrainedEncoder(kind="text", source=source, pool="first").eval()
    torch.testing.assert_close(first.pooled(**inputs), tokens[:, 0])
    stores = [FrozenEncoder(encoder=e, decoder=decoder).store.folder for e in (encoder, first)]
    assert stores[0] != stores[1], "features of one pooling are not those of another"


@pytest.mark.parametrize("name", TEXTS)
def test_an_empty_text_and_one_that_is_longer_than_the_places(home: Path, name: str) -> None:
    decoder, encoder = loaded(home / name, "text")
    for cell in ("", "hello world! " * 5000):
        inputs = batch(decoder, [cell])
        assert 1 <= inputs["input_ids"].shape[1] <= 12
        assert encoder.pooled(**inputs).isfinite().all()


def test_vision_towers_without_a_cls_are_averaged(tmp_path: Path) -> None:
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.SiglipVisionConfig(image_size=16, patch_size=8, **shape)
    transformers.SiglipVisionModel(config).save_pretrained(tmp_path)
    transformers.SiglipImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(tmp_path)
    decoder, encoder = loaded(tmp_path, "image")
    inputs = batch(decoder, CELLS["image"])
    with torch.no_grad():
        torch.testing.assert_close(encoder.pooled(**inputs), encoder(**inputs)[0].mean(dim=1))


def test_an_autoencoder_sees_whole_pictures_and_draws_nothing(home: Path) -> None:
    decoder, encoder = loaded(home / "mae", "image")
    inputs = batch(decoder, CELLS["image"])
    state = torch.random.get_rng_state()
    tokens, _ = encoder.train()(**inputs)
    assert tokens.shape[1] == 1 + 16 and torch.equal(torch.random.get_rng_state(), state)
    torch.testing.assert_close(encoder(**inputs)[0], tokens, rtol=0, atol=0)


def test_patches_that_fill_up_are_not_real(home: Path) -> None:
    decoder, encoder = loaded(home / "naflex", "image")
    inputs = batch(decoder, [png(0), wide_png()])
    tokens, valid = encoder(**inputs)
    assert valid.sum(dim=1).tolist() == inputs["pixel_attention_mask"].sum(dim=1).tolist() and not valid.all()
    mean = torch.stack([row[real].mean(dim=0) for row, real in zip(tokens, valid, strict=True)])
    torch.testing.assert_close(encoder.pooled(**inputs), mean)


def wide_png() -> bytes:
    out = io.BytesIO()
    Pillow.new("RGB", (200, 20), "red").save(out, "PNG")
    return out.getvalue()


def test_an_encoder_that_reads_what_another_part_makes_is_not_taken_alone(tmp_path: Path) -> None:
    shape = {"d_model": 16, "n_head": 2, "d_head": 8, "d_inner": 24, "num_decoder_layers": 1, "vocab_size": 40}
    model = transformers.FunnelModel(transformers.FunnelConfig(block_sizes=[1, 1], **shape))
    model.save_pretrained(tmp_path)
    encoder = PretrainedEncoder(kind="text", source=str(tmp_path)).eval()
    ids = torch.randint(3, 40, (2, 8))
    with torch.no_grad():
        torch.testing.assert_close(encoder(input_ids=ids)[0], model.eval()(input_ids=ids).last_hidden_state)


FUNNEL = {"d_model": 16, "n_head": 2, "d_head": 8, "d_inner": 24, "num_decoder_layers": 1, "vocab_size": 40}
COARSER = [
    *(
        transformers.FunnelConfig(block_sizes=[1] * blocks, truncate_seq=cut, separate_cls=lone, **FUNNEL)
        for blocks in (1, 2, 3, 5)
        for cut in (True, False)
        for lone in (True, False)
    ),
    transformers.FunnelConfig(block_sizes=[1, 1, 1], attention_type="factorized", **FUNNEL),
    transformers.FunnelConfig(block_sizes=[1, 1, 1, 1], pool_q_only=False, **FUNNEL),
    *(
        transformers.CanineConfig(
            num_hash_buckets=64, num_hash_functions=4, downsampling_rate=rate, **checkpoints.MIXED
        )
        for rate in (2, 4, 8)
    ),
]


@pytest.mark.parametrize("config", COARSER, ids=lambda c: str(c.to_diff_dict().get("block_sizes", c.model_type)))
def test_texts_too_short_to_be_made_coarser_get_padding_and_no_others(
    config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = transformers.FunnelModel if config.model_type == "funnel" else transformers.CanineModel
    model = kind(config).eval()
    model.save_pretrained(tmp_path)
    encoder = PretrainedEncoder(kind="text", source=str(tmp_path)).eval()
    with torch.no_grad():
        for length in range(1, 40):
            ids = torch.randint(3, 40, (2, length))
            tokens, valid = encoder(input_ids=ids, attention_mask=torch.ones_like(ids))
            assert tokens.shape == (2, length, 16) and tokens.isfinite().all() and valid.all()
            bare, _ = encoder(input_ids=ids)
            assert torch.equal(bare, tokens)
            if length >= encoder._least:
                torch.testing.assert_close(tokens, model(input_ids=ids).last_hidden_state)
    least = encoder._least
    monkeypatch.setattr(encoder, "_least", 1)
    fail = [length for length in range(1, least) if not runs(encoder, length)]
    assert fail == list(range(1, least)) or (fail and not config.truncate_seq and config.separate_cls)


def test_characters_that_come_with_a_class_are_not_listed_one_by_one(home: Path) -> None:
    said = loaded(home / "canine", "text")[0].preprocessing()
    assert said["tokenizer"]["words"] == 1_114_112 and len(json.dumps(said)) < 2000


def runs(encoder: PretrainedEncoder, length: int) -> bool:
    try:
        encoder(input_ids=torch.full((1, length), 5))
    except RuntimeError:
        return False
    return True


def test_the_encoder_half_of_a_translator(tmp_path: Path) -> None:
    shape = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    config = transformers.T5Config(vocab_size=len(checkpoints.WORDS), **shape)
    transformers.T5Model(config).save_pretrained(tmp_path)
    encoder = PretrainedEncoder(kind="text", source=str(tmp_path))
    tokens, valid = encoder(input_ids=torch.ones(2, 3, dtype=torch.long), attention_mask=torch.ones(2, 3))
    assert tokens.shape == (2, 3, 8) and valid.all() and encoder.width == 8


@PAIRS
def test_a_fingerprint_is_that_of_the_weights(home: Path, tmp_path: Path, name: str, kind: str) -> None:
    shutil.copytree(home / name, tmp_path / "copy")
    before = PretrainedEncoder(kind=kind, source=str(home / name)).fingerprint()
    assert PretrainedEncoder(kind=kind, source=str(tmp_path / "copy")).fingerprint() == before

    def nudged(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        key = sorted(k for k, x in weights.items() if x.dim() > 1 and "logit" not in k and TOWER[name, kind] in k)[0]
        weights[key].view(-1)[3] += 1e-3
        return weights

    checkpoints.changed(tmp_path / "copy", nudged)
    assert PretrainedEncoder(kind=kind, source=str(tmp_path / "copy")).fingerprint() != before


TOWER = {case[:2]: "" for case in CASES} | {("clip", "image"): "vision_model.", ("clip", "text"): "text_model."}
TOWER |= {("whisper", "audio"): "encoder.", ("mae", "image"): "vit."}


def test_the_other_tower_has_no_say(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "clip", tmp_path / "copy")
    checkpoints.changed(tmp_path / "copy", lambda w: {k: x for k, x in w.items() if not k.startswith("text_model.")})
    before = PretrainedEncoder(kind="image", source=str(home / "clip")).fingerprint()
    assert PretrainedEncoder(kind="image", source=str(tmp_path / "copy")).fingerprint() == before
    with pytest.raises(UserError, match="has no fitting weights for text_model"):
        PretrainedEncoder(kind="text", source=str(tmp_path / "copy"))


def test_a_checkpoint_without_a_pooler_is_the_same_each_time(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "bert", tmp_path / "copy")
    checkpoints.changed(tmp_path / "copy", lambda w: {k: x for k, x in w.items() if "pooler" not in k})
    prints = {PretrainedEncoder(kind="text", source=str(tmp_path / "copy")).fingerprint() for _ in range(2)}
    assert len(prints) == 1


def test_weights_of_any_precision_run_in_float32(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "bert", tmp_path / "copy")
    checkpoints.changed(tmp_path / "copy", lambda w: {k: x.bfloat16() for k, x in w.items()})
    config = json.loads((tmp_path / "copy" / "config.json").read_text()) | {"dtype": "bfloat16"}
    (tmp_path / "copy" / "config.json").write_text(json.dumps(config))
    decoder, encoder = loaded(tmp_path / "copy", "text")
    assert {p.dtype for p in encoder.parameters()} == {torch.float32} and encoder.fingerprint()
    assert encoder.pooled(**batch(decoder, ["hello"])).dtype == torch.float32


def cut(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def narrower(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    key = "encoder.layer.0.output.dense.weight"
    return weights | {key: weights[key][:, :5].contiguous()}


SPOILT: list[tuple[Callable[[Path], Any], str]] = [
    (lambda f: shutil.rmtree(f), "there is no such folder"),
    (lambda f: (f / "model.safetensors").unlink(), "its model cannot be loaded: .*model.safetensors"),
    (lambda f: (f / "model.safetensors").write_bytes(b"garbage" * 9), "its model cannot be loaded"),
    (cut, "its model cannot be loaded"),
    (lambda f: (f / "config.json").unlink(), "its model cannot be loaded"),
    (lambda f: (f / "config.json").write_text('{"model_type": "nosuch"}'), "its model cannot be loaded"),
    (lambda f: checkpoints.changed(f, narrower), "no fitting weights for encoder.layer.0.output.dense.weight"),
    (
        lambda f: checkpoints.changed(f, lambda w: {k: x for k, x in w.items() if "layer.1." not in k}),
        r"no fitting weights for encoder.layer.1.* \(16 such tensors\)",
    ),
]


@pytest.mark.parametrize(("spoil", "message"), SPOILT)
def test_checkpoints_that_cannot_be_loaded(
    home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], spoil: Callable[[Path], Any], message: str
) -> None:
    shutil.copytree(home / "bert", tmp_path / "copy")
    spoil(tmp_path / "copy")
    with pytest.raises(UserError, match=f"encoder '{tmp_path / 'copy'}'.*{message}") as caught:
        PretrainedEncoder(kind="text", source=str(tmp_path / "copy"))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_processor_of_another_size_is_one_clear_error(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "vit", tmp_path / "copy")
    transformers.ViTImageProcessorPil(size={"height": 24, "width": 16}).save_pretrained(tmp_path / "copy")
    decoder, encoder = loaded(tmp_path / "copy", "image")
    said = r"copy' cannot read what its image processor makes: Input image size \(24\*16\).*of one checkpoint"
    with pytest.raises(UserError, match=said) as caught:
        FrozenEncoder(encoder=encoder, decoder=decoder)([decoder.decode(CELLS["image"][0])])
    assert "\n" not in str(caught.value)


@PAIRS
def test_nothing_is_printed(home: Path, capfd: pytest.CaptureFixture[str], name: str, kind: str) -> None:
    decoder, encoder = loaded(home / name, kind)
    FrozenEncoder(encoder=encoder, decoder=decoder)([decoder.decode(cell) for cell in CELLS[kind]])
    assert capfd.readouterr() == ("", "")


def test_features_become_tokens() -> None:
    embedder = FeatureEmbedder(width=6, features=4)
    tokens, valid = embedder(features=torch.randn(3, 1, 4), mask=torch.ones(3, 1, dtype=torch.bool))
    assert tokens.shape == (3, 2, 6) and valid.all()
    torch.testing.assert_close(tokens[:, 0], embedder.cls().expand(3, 6))
