from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests import checkpoints
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer, ViltForMaskedLM, ViltModel
from transformers.utils import logging

from absentia.errors import UserError
from absentia.models.fused import Prompts, Segment
from absentia.models.vilt import Vilt, ViltImageEmbedder, ViltTextEmbedder, build_vilt, from_vilt, save_vilt

TEXTS = ["a cat on the mats .", "dogs", "the dog sleeps on", ""]
SHAPES = [(40, 60), (32, 32), (70, 33), (33, 90)]
ORACLES = Path(os.environ.get("ABSENTIA_ORACLES", Path(__file__).parents[3] / "shared" / "oracles"))
SCENARIOS = sorted(ORACLES.glob("rebq_*.json"))


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random ViLT with tokenizer and image processor, as the hub has them."""
    return checkpoints.vilt(tmp_path_factory.mktemp("vilt"))


@pytest.fixture(scope="module")
def inputs(checkpoint: Path) -> dict[str, Tensor]:
    """Texts of different lengths and images of different shapes, with their masks."""
    draw = np.random.default_rng(0)
    images = [Image.fromarray(draw.integers(0, 255, (*shape, 3), dtype=np.uint8)) for shape in SHAPES]
    text = AutoTokenizer.from_pretrained(checkpoint)(TEXTS, padding=True, return_tensors="pt")
    image = AutoImageProcessor.from_pretrained(checkpoint, backend="pil")(images, return_tensors="pt")
    assert len(set(text["attention_mask"].sum(1).tolist())) == len(TEXTS)
    assert len(set(image["pixel_mask"].sum((1, 2)).tolist())) >= 3
    return {**text, **image}


def segments_of(vilt: Vilt, inputs: dict[str, Tensor]) -> list[Segment]:
    rows = torch.arange(len(inputs["input_ids"]))
    text = {key: inputs[key] for key in ("input_ids", "attention_mask", "token_type_ids")}
    image = {key: inputs[key] for key in ("pixel_values", "pixel_mask")}
    return [
        Segment(*vilt.embedders["text"](**text), rows),
        Segment(*vilt.embedders["image"](**image), rows),
    ]


def assert_same_patches(ours: Tensor, theirs: Tensor, atol: float = 1e-5) -> None:
    """Equal as sets: ViltModel hands its patches over in random order."""
    distance = (ours[:, None] - theirs[None]).abs().amax(2)
    assert sorted(distance.argmin(1).tolist()) == list(range(len(theirs)))
    assert distance.amin(1).max() < atol


@torch.no_grad()
def test_equals_transformers(checkpoint: Path, inputs: dict[str, Tensor]) -> None:
    vilt, reference = from_vilt(checkpoint), ViltModel.from_pretrained(checkpoint).eval()
    segments = segments_of(vilt, inputs)
    output = vilt.transformer(segments, len(TEXTS))
    expected = reference(**inputs)
    hidden, length = expected.last_hidden_state, inputs["input_ids"].shape[1]

    real = segments[0].valid
    torch.testing.assert_close(output.tokens(0)[real], hidden[:, :length][real], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.cls(0), hidden[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.cls(1), hidden[:, length], atol=1e-5, rtol=1e-5)
    assert vilt.pooler is not None
    torch.testing.assert_close(vilt.pooler(output.cls(0)), expected.pooler_output, atol=1e-5, rtol=1e-5)
    for row, real in enumerate(segments[1].valid):  # the real patches of theirs come first, shuffled or not
        assert_same_patches(output.tokens(1)[row][real][1:], hidden[row, length + 1 :][: int(real.sum()) - 1])


@torch.no_grad()
def test_patches_are_tiled_in_reading_order(checkpoint: Path, inputs: dict[str, Tensor]) -> None:
    """Each picture alone, so that nothing is padded: the embeddings stand row by row, places interpolated."""
    image, reference = from_vilt(checkpoint).embedders["image"], ViltModel.from_pretrained(checkpoint)
    for pixels, mask in zip(inputs["pixel_values"], inputs["pixel_mask"], strict=True):
        height, width = int(mask[:, 0].sum()), int(mask[0].sum())
        pixels = pixels[None, :, :height, :width]
        tokens, valid = image(pixels)
        theirs, _, (index, _) = reference.embeddings.visual_embed(pixels, torch.ones(1, height, width), -1)
        order = index[0, :, 0] * (width // 8) + index[0, :, 1]
        kind = reference.embeddings.token_type_embeddings.weight[1]
        assert valid.all()
        torch.testing.assert_close(tokens[0, 0], theirs[0, 0] + kind, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(tokens[0, 1:][order], theirs[0, 1:] + kind, atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_one_modality_alone_is_the_encoder_over_its_tokens_alone(checkpoint: Path, inputs: dict[str, Tensor]) -> None:
    """Dropping a modality means that its tokens are not there, not that they are blank."""
    vilt, reference = from_vilt(checkpoint), ViltModel.from_pretrained(checkpoint).eval()
    presence = torch.tensor([[1, 0], [0, 1], [1, 1], [0, 1]], dtype=torch.bool)
    segments = []
    for m, (tokens, valid, _) in enumerate(segments_of(vilt, inputs)):
        rows = presence[:, m].nonzero()[:, 0]
        segments.append(Segment(tokens[rows], valid[rows], rows))
    output = vilt.transformer(segments, 4)

    def encoded(embedded: Tensor) -> Tensor:
        return reference.layernorm(reference.encoder(embedded)[0])

    embeddings = reference.embeddings
    real = int(inputs["attention_mask"][0].sum())
    words = embeddings.text_embeddings(input_ids=inputs["input_ids"][:1, :real])
    alone = encoded(words + embeddings.token_type_embeddings.weight[0])[0]
    torch.testing.assert_close(output.tokens(0)[0, :real], alone, atol=1e-5, rtol=1e-5)
    assert not output.tokens(0)[0, real:].any()

    height, width = (int(inputs["pixel_mask"][1].sum(axis).max()) for axis in (0, 1))
    pixels = inputs["pixel_values"][1:2, :, :height, :width]
    patches = embeddings.visual_embed(pixels, torch.ones(1, height, width), -1)[0]
    alone = encoded(patches + embeddings.token_type_embeddings.weight[1])[0]
    ours = output.tokens(1)[0][segments[1].valid[0]]
    torch.testing.assert_close(ours[0], alone[0], atol=1e-5, rtol=1e-5)
    assert_same_patches(ours[1:], alone[1:])


def test_cls_is_the_first_token(checkpoint: Path, inputs: dict[str, Tensor]) -> None:
    vilt = from_vilt(checkpoint)
    for segment, embedder in zip(segments_of(vilt, inputs), vilt.embedders.values(), strict=True):
        cls = embedder.cls()  # type: ignore[operator]
        torch.testing.assert_close(segment.tokens[:, 0], cls.expand(4, -1), atol=1e-6, rtol=1e-6)


def test_saves_what_transformers_reads(checkpoint: Path, tmp_path: Path) -> None:
    save_vilt(from_vilt(checkpoint), tmp_path / "again")
    theirs, ours = ViltModel.from_pretrained(checkpoint), ViltModel.from_pretrained(tmp_path / "again")
    expected = theirs.state_dict()
    assert expected.keys() == ours.state_dict().keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in ours.state_dict().items())


def test_the_head_of_a_model_is_left_behind(checkpoint: Path, inputs: dict[str, Tensor], tmp_path: Path) -> None:
    checkpoints.shaken(ViltForMaskedLM(checkpoints.vilt_config())).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text((checkpoint / "vocab.txt").read_text(encoding="utf-8"), encoding="utf-8")
    vilt, reference = from_vilt(tmp_path), ViltForMaskedLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        hidden = reference.vilt(**inputs).last_hidden_state
        output = vilt.transformer(segments_of(vilt, inputs), 4, rows="cls")
    torch.testing.assert_close(output.cls(0), hidden[:, 0], atol=1e-5, rtol=1e-5)
    assert vilt.pooler is not None


def test_loading_is_strict_and_says_what_is_wrong(checkpoint: Path, tmp_path: Path) -> None:
    good = load_file(checkpoint / "model.safetensors")
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))

    def refused(message: str, tensors: dict[str, Tensor], **changes: Any) -> None:
        (tmp_path / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")
        (tmp_path / "vocab.txt").write_text("\n".join(checkpoints.VILT_WORDS), encoding="utf-8")
        save_file(tensors, tmp_path / "model.safetensors")
        with pytest.raises(UserError, match=message):
            from_vilt(tmp_path)

    key = "encoder.layer.1.attention.attention.key.bias"
    refused(f"{key} is missing", {name: tensor for name, tensor in good.items() if name != key})
    refused("stranger is not known", {**good, "stranger": torch.zeros(1)})
    refused("classifier.weight is not known", {**good, "classifier.weight": torch.zeros(1)})
    refused(r"layernorm.bias is \(3,\), not \(32,\)", {**good, "layernorm.bias": torch.zeros(3)})
    refused("and 11 more", {n: t for n, t in good.items() if not n.startswith("encoder.layer.2.")})
    refused("not that of a ViLT", good, model_type="bert")
    refused("gelu", good, hidden_act="relu")
    refused("square", good, image_size=[40, 48])
    refused("knows only 2", good, vocab_size=2)


def test_a_checkpoint_that_is_not_there(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a folder nor to be had from the hub"):
        from_vilt("nobody/has-this-model")
    with pytest.raises(UserError, match="neither a folder"):
        from_vilt(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no config.json and no model.safetensors"):
        from_vilt(tmp_path)
    for file in ("config.json", "model.safetensors"):
        (tmp_path / file).write_bytes(b"\x00 not this")
    with pytest.raises(UserError, match="cannot be read"):
        from_vilt(tmp_path)


def test_freezing_and_random_numbers(checkpoint: Path) -> None:
    before = torch.get_rng_state()
    frozen, free = from_vilt(checkpoint, freeze=True), from_vilt(checkpoint)
    assert torch.equal(before, torch.get_rng_state())
    assert not any(parameter.requires_grad for parameter in frozen.parts().parameters())
    assert all(parameter.requires_grad for parameter in free.parts().parameters())
    assert from_vilt(checkpoint, freeze=True, text_positions=20).parts().text.positions.weight.requires_grad is False


def test_room_for_longer_texts(checkpoint: Path) -> None:
    short, long = (from_vilt(checkpoint, text_positions=length).embedders["text"] for length in (16, 50))
    ids = torch.full((1, 50), 5)
    with pytest.raises(ValueError, match="50 word pieces, but places for 16"):
        short(ids, torch.ones_like(ids))
    assert long(ids, torch.ones_like(ids))[0].shape == (1, 50, 32)
    table = load_file(checkpoint / "model.safetensors")["embeddings.text_embeddings.position_embeddings.weight"]
    wider = torch.nn.functional.interpolate(table[None, None], size=(50, 32), mode="bilinear")[0, 0]
    torch.testing.assert_close(long.positions.weight, wider)  # type: ignore[union-attr]
    torch.testing.assert_close(short.positions.weight, table)  # type: ignore[union-attr]


def test_embedders_from_scratch_learn() -> None:
    text = ViltTextEmbedder(width=8, vocabulary=120, positions=6)
    image = ViltImageEmbedder(width=8, image_size=32, patch=8)
    tokens, valid = image(torch.randn(2, 3, 16, 32))
    assert tokens.shape == (2, 1 + 8, 8) and valid.all()
    words, _ = text(torch.tensor([[101, 7, 102]]), torch.ones(1, 3))
    (tokens.sum() + words.pow(2).sum()).backward()
    assert all(p.grad is not None for p in (*image.parameters(), *text.parameters()))


@pytest.mark.skipif(not SCENARIOS, reason="no reference tensors here")
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.stem)
@torch.no_grad()
def test_prompts_act_as_in_reference_tensors(scenario: Path) -> None:
    """Hidden states of three passes: plain, with inserted tokens, with prefixes in the attention."""
    facts, tensors = json.loads(scenario.read_text(encoding="utf-8")), load_file(scenario.with_suffix(".safetensors"))

    def under(prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}

    inputs, backbone = under("inputs/"), under("state_dict/vilt_model.")
    places = len(backbone["embeddings.text_embeddings.position_embeddings.weight"])
    config = {key.removeprefix("vilt_cfg/"): value for key, value in facts.items() if key.startswith("vilt_cfg/")}
    config |= {"model_type": "vilt", "max_position_embeddings": places}
    vilt = build_vilt(config, backbone, cls_id=int(inputs["input_ids"][0, 0]))

    def check(size: int, prompts: Prompts | None, expected: Tensor, inserted: int = 0) -> None:
        segments = segments_of(vilt, {key: value[:size] for key, value in inputs.items()})
        output = vilt.transformer(segments, size, prompts)
        expected = torch.cat([expected[:, :1], expected[:, 1 + inserted :]], dim=1)
        text, image = (segment.valid for segment in segments)
        torch.testing.assert_close(output.tokens(0)[text], expected[:, : text.shape[1]][text], atol=1e-5, rtol=1e-4)
        for row, real in enumerate(image):
            theirs = expected[row, text.shape[1] :][: int(real.sum())]
            torch.testing.assert_close(output.tokens(1)[row][real], theirs, atol=1e-5, rtol=1e-4)

    every, originals = len(inputs["input_ids"]), len(tensors["main_last_hidden"])
    check(every, None, tensors["query_last_hidden"])
    memory = torch.stack([under("memory_prompts/")[str(layer)] for layer in range(len(under("memory_prompts/")))])
    check(every, Prompts(inserted=memory), tensors["memory_last_hidden"], memory.shape[2])
    language, vision = under("language_prompts/"), under("vision_prompts/")
    keys, values = (
        torch.stack(
            [torch.cat([part[f"{layer}/{i}"] for part in (language, vision)], 1) for layer in range(len(memory))]
        )
        for i in (0, 1)
    )
    check(originals, Prompts(keys=keys, values=values), tensors["main_last_hidden"])
