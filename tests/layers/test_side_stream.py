"""The side stream is the masked pass of tokens and prompts together: outputs, every gradient, any encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    BertConfig,
    BertModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    MobileNetV2Config,
    MobileNetV2Model,
    RobertaConfig,
    RobertaModel,
    SiglipTextModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    SwinConfig,
    SwinModel,
    ViTConfig,
    ViTModel,
    WhisperConfig,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from absentia.layers.packing import Segment
from absentia.layers.side_stream import (
    FAMILIES,
    READS,
    VITS,
    WHISPERS,
    KeysValues,
    Reads,
    SideLayer,
    final_norm,
    heard,
    side_layers,
    side_stream,
)
from absentia.models.fused import FusedTransformer

SMALL: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
CLOSE = 1e-10
LENGTHS = (7, 5, 3, 7)


class Subject(NamedTuple):
    """model; its embeddings of four rows (4, T, D); which tokens are real; a run of the whole model."""

    model: nn.Module
    embed: Callable[[], Tensor]
    valid: Tensor
    run: Callable[[], Tensor]


def bert(kind: Any = BertModel, config: Any = BertConfig) -> Subject:
    model = kind(config(vocab_size=20, **SMALL)).double().eval()
    valid = torch.arange(7) < torch.tensor(LENGTHS)[:, None]
    ids = torch.randint(3, 20, (4, 7)).where(valid, torch.tensor(1))

    def run() -> Tensor:
        return model(input_ids=ids, attention_mask=valid.long()).last_hidden_state  # type: ignore[no-any-return]

    return Subject(model, lambda: model.embeddings(input_ids=ids), valid, run)


def roberta() -> Subject:
    return bert(RobertaModel, RobertaConfig)


def vit(kind: Any = ViTModel, config: Any = ViTConfig) -> Subject:
    more = {"layerscale_value": 0.5} if config is Dinov2Config else {}
    model = kind(config(image_size=32, patch_size=16, **SMALL, **more)).double().eval()
    pictures = torch.randn(4, 3, 32, 32, dtype=torch.double)
    valid = torch.ones(4, 4 if config is SiglipVisionConfig else 5, dtype=torch.bool)
    begin = getattr(model, "pre_layrnorm", nn.Identity())
    return Subject(model, lambda: begin(model.embeddings(pictures)), valid, lambda: model(pictures).last_hidden_state)


def dinov2() -> Subject:
    return vit(Dinov2Model, Dinov2Config)


def clip() -> Subject:
    return vit(CLIPVisionModel, CLIPVisionConfig)


def siglip() -> Subject:
    return vit(SiglipVisionModel, SiglipVisionConfig)


def whisper() -> Subject:
    sizes = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
    model = WhisperEncoder(WhisperConfig(num_mel_bins=4, max_source_positions=6, **sizes)).double().eval()
    sounds = torch.randn(4, 4, 12, dtype=torch.double)

    def embed() -> Tensor:
        waves = nn.functional.gelu(model.conv2(nn.functional.gelu(model.conv1(sounds)))).transpose(1, 2)
        return waves + model.embed_positions.weight  # type: ignore[no-any-return]

    return Subject(model, embed, torch.ones(4, 6, dtype=torch.bool), lambda: model(sounds).last_hidden_state)


def ours() -> Subject:
    model = FusedTransformer(width=16, depth=2, heads=2, mlp=32).double()
    tokens = torch.randn(4, 6, 16, dtype=torch.double)
    valid = torch.ones(4, 6, dtype=torch.bool)

    def run() -> Tensor:
        return model([Segment(tokens, valid, torch.arange(4))], 4).tokens(0)

    return Subject(model, lambda: tokens, valid, run)


SUBJECTS = {make.__name__: make for make in (bert, roberta, vit, dinov2, clip, siglip, whisper, ours)}


def masked_pass(
    layers: Sequence[SideLayer], tokens: Tensor, valid: Tensor, prompts: Tensor, reads: Reads, group: int
) -> tuple[Tensor, Tensor]:
    """Tokens and prompts as one sequence under a mask, as RPO does it: the reference."""
    n, count, _ = tokens.shape
    x = torch.cat([tokens, prompts.expand(n, -1, -1)], dim=1)
    sees = torch.zeros(n, x.shape[1], x.shape[1], dtype=torch.bool)
    sees[:, :, :count] = valid[:, None]
    number = torch.arange(len(prompts)) // (1 if reads == "self" else group)
    if reads != "tokens":
        sees[:, count:, count:] = number[:, None] == number
    for layer in layers:
        h = layer.norm1(x) if layer.pre else x
        q, k, v = (
            part(h).unflatten(2, (layer.heads, -1)).transpose(1, 2) for part in (layer.query, layer.key, layer.value)
        )
        read = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=sees[:, None]).transpose(1, 2).flatten(2)
        read = layer.out(read) if layer.scale1 is None else layer.scale1(layer.out(read))
        x = x + read if layer.pre else layer.norm1(x + read)
        made = layer.mlp(layer.norm2(x) if layer.pre else x)
        made = made if layer.scale2 is None else layer.scale2(made)
        x = x + made if layer.pre else layer.norm2(x + made)
    return x[:, :count], x[:, count:]


def offered(subject: Subject, layers: Sequence[SideLayer]) -> tuple[Tensor, list[KeysValues]]:
    """The model's own output, and what its layers offer."""
    with heard(layers) as found:
        output = subject.run()
    n, count = subject.valid.shape
    split = [tuple(part.view(n, count, 2, -1).transpose(1, 2) for part in pair) for pair in found]
    return output, [KeysValues(keys, values, subject.valid) for keys, values in split]


@pytest.mark.parametrize("reads", READS)
@pytest.mark.parametrize("name", SUBJECTS)
def test_equals_the_masked_pass_in_outputs_and_every_gradient(name: str, reads: Reads) -> None:
    torch.manual_seed(0)
    subject = SUBJECTS[name]()
    layers = side_layers(subject.model)
    assert layers is not None and len(layers) == 2
    prompts = torch.randn(6, 16, dtype=torch.double, requires_grad=True)
    tokens, joint = masked_pass(layers, subject.embed(), subject.valid, prompts, reads, group=3)
    output, there = offered(subject, layers)
    beside = side_stream(layers, there, prompts, reads=reads, group=3)
    torch.testing.assert_close(beside, joint, rtol=0, atol=CLOSE)
    weight = torch.randn_like(joint)
    parameters = [*(p for p in subject.model.parameters() if p.requires_grad), prompts]
    found, expected = (
        torch.autograd.grad((made * weight).sum(), parameters, allow_unused=True, retain_graph=True)
        for made in (beside, joint)
    )
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, rtol=0, atol=CLOSE)
    if name != "clip":  # which norms its [CLS] alone
        tokens = final_norm(subject.model)(tokens) if name != "ours" else subject.model.norm(tokens)
    torch.testing.assert_close(output[subject.valid], tokens[subject.valid], rtol=0, atol=CLOSE)


def test_groups_together_are_the_groups_one_by_one() -> None:
    torch.manual_seed(0)
    subject = bert()
    layers = side_layers(subject.model)
    assert layers is not None
    _, there = offered(subject, layers)
    prompts = torch.randn(6, 16, dtype=torch.double)
    together = side_stream(layers, there, prompts, reads="group", group=2)
    apart = [side_stream(layers, there, part, reads="group") for part in prompts.split(2)]
    torch.testing.assert_close(together, torch.cat(apart, dim=1), rtol=0, atol=CLOSE)


def test_the_token_stream_does_not_change_by_a_bit_for_being_heard() -> None:
    torch.manual_seed(0)
    subject = bert()
    layers = side_layers(subject.model)
    assert layers is not None
    assert torch.equal(subject.run(), offered(subject, layers)[0])
    assert not any(module._forward_hooks for module in subject.model.modules())


def test_detached_keys_and_values_give_prompts_the_same_gradient() -> None:
    torch.manual_seed(0)
    subject = vit()
    layers = side_layers(subject.model)
    assert layers is not None
    _, there = offered(subject, layers)
    prompts = torch.randn(3, 16, dtype=torch.double, requires_grad=True)
    found = []
    for offer in (there, [one.detached() for one in there]):
        (gradient,) = torch.autograd.grad(
            side_stream(layers, offer, prompts).square().sum(), prompts, retain_graph=True
        )
        found.append(gradient)
    torch.testing.assert_close(*found, rtol=0, atol=CLOSE)


def test_padding_changes_no_prompt() -> None:
    torch.manual_seed(0)
    subject = bert()
    layers = side_layers(subject.model)
    assert layers is not None
    _, there = offered(subject, layers)
    spoilt = []
    for one in there:
        gone = ~subject.valid[:, None, :, None]
        spoilt.append(KeysValues(one.keys.masked_fill(gone, 1e3), one.values.masked_fill(gone, -1e3), one.valid))
    prompts = torch.randn(3, 16, dtype=torch.double)
    assert torch.equal(side_stream(layers, there, prompts), side_stream(layers, spoilt, prompts))


def test_a_text_tower_is_read_although_its_own_tokens_look_back_only() -> None:
    model = CLIPTextModel(CLIPTextConfig(vocab_size=20, eos_token_id=2, **SMALL)).double().eval()
    layers = side_layers(getattr(model, "text_model", model))
    assert layers is not None and len(layers) == 2


def tokens_of(kind: str) -> dict[str, Tensor]:
    """Inputs of three rows, by what they are."""
    noise = {"audio": (3, 32, 16), "vision": (3, 3, 32, 32), "speech": (3, 4, 12)}
    names = {"audio": "input_values", "vision": "pixel_values", "speech": "input_features"}
    if kind in noise:
        return {names[kind]: torch.randn(noise[kind], dtype=torch.double)}
    return {"input_ids": torch.randint(3, 20, (3, 6)), "attention_mask": torch.ones(3, 6, dtype=torch.long)}


SIZES = {
    "text": {**SMALL, "vocab_size": 20, "max_position_embeddings": 16, "pad_token_id": 1},
    "vision": {**SMALL, "image_size": 32, "patch_size": 16},
    "audio": {**SMALL, "max_length": 32, "num_mel_bins": 16, "patch_size": 8, "time_stride": 8, "frequency_stride": 8},
    "translator": {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32},
}
SIZES["translator"] |= {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 8, "vocab_size": 20}
SIZES["translator"] |= {"max_position_embeddings": 16, "num_mel_bins": 4, "max_source_positions": 6}
SIZES["translator"] |= {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}


def family(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """A tiny encoder of a type, with large weights, and inputs for it."""
    known = dict.fromkeys(VITS, "vision") | dict.fromkeys(WHISPERS, "translator") | {VITS[0]: "audio"}
    kind = known.get(name) or ("vision" if "vision" in name else "text")
    config = AutoConfig.for_model(name, **SIZES[kind])
    made: Any = SiglipTextModel(config) if name == "siglip_text_model" else AutoModel.from_config(config)
    model = made.encoder if name in WHISPERS else made
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    inputs = tokens_of("speech" if name == "whisper" else kind)
    return model.double().eval(), inputs


@pytest.mark.parametrize("name", sorted(name for _, names in FAMILIES for name in names))
def test_a_layer_of_every_known_type_does_what_we_say_it_does(name: str) -> None:
    """Tokens put in the place of prompts come out as they do of the encoder's own layers."""
    torch.manual_seed(0)
    model, inputs = family(name)
    layers = side_layers(model)
    assert layers is not None and len(layers) == 2
    seen: list[tuple[Tensor, Tensor]] = []

    def note(module: Any, given: Any, named: Any, made: Any) -> None:
        seen.append((given[0] if given else named["hidden_states"], made[0] if isinstance(made, tuple) else made))

    inner: Any = getattr(model, "encoder", model)
    for block in getattr(inner, "layer", None) or getattr(inner, "layers", None) or model.layers:  # type: ignore[union-attr]
        block.register_forward_hook(note, with_kwargs=True)
    with heard(layers) as found:
        model(**inputs)
    for layer, (before, after), pair in zip(layers, seen, found, strict=True):
        there = KeysValues(*(part.unflatten(2, (2, -1)).transpose(1, 2) for part in pair))
        made = layer.step(before, there, "tokens", before.shape[1])
        if name.startswith("clip_text"):  # its tokens look back only, and prompts stand behind all
            made, after = made[:, -1], after[:, -1]
        torch.testing.assert_close(made, after, rtol=0, atol=CLOSE)


UNKNOWN = {
    "roformer": "keys are turned",
    "esm": "norms stand elsewhere",
    "roberta-prelayernorm": "norms stand elsewhere",
    "mobilebert": "layers have a neck",
    "longformer": "attention is local",
    "bart": "norms stand behind, under the names of those that stand before",
    "beit": "attention has a bias for each place",
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_layers_that_only_look_like_known_ones_are_not_read(name: str) -> None:
    small = {**SMALL, "vocab_size": 20, "max_position_embeddings": 16, "pad_token_id": 1, "mask_token_id": 2}
    small |= SIZES["translator"] if name == "bart" else SIZES["vision"]
    assert side_layers(AutoModel.from_config(AutoConfig.for_model(name, **small))) is None


def test_an_encoder_without_keys_and_values_offers_none() -> None:
    sizes = {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
    assert side_layers(SwinModel(SwinConfig(**sizes))) is None
    assert side_layers(MobileNetV2Model(MobileNetV2Config(image_size=32, depth_multiplier=0.35))) is None
    assert side_layers(nn.Linear(2, 2)) is None
