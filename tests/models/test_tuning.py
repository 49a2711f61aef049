"""What BitFit moves: every bias that has a say, whoever wrote its layer, and none of keys where it has none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from absentia.models.tuning import tune

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
TEXT = {**SMALL, "vocab_size": 40, "max_position_embeddings": 32, "pad_token_id": 1, "mask_token_id": 2}
WAVES = {**SMALL, "conv_dim": (8, 8), "conv_kernel": (10, 4), "conv_stride": (5, 4)}
WAVES |= {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
MODELS: dict[str, dict[str, Any]] = {
    "bert": TEXT,
    "distilbert": TEXT | {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
    "mpnet": TEXT,
    "deberta-v2": TEXT | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "qwen2": TEXT | {"num_key_value_heads": 2},
    "roformer": TEXT | {"embedding_size": 16},
    "esm": TEXT | {"position_embedding_type": "rotary"},
    "mobilebert": TEXT | {"embedding_size": 8, "intra_bottleneck_size": 8},
    "wav2vec2": WAVES,
    "vit": SMALL | {"image_size": 16, "patch_size": 8},
}
SILENT = ("pooler", "contact_head", "pos_key_proj")  # through which nothing goes to the tokens, or what cancels
KEYS = {"bert": "key", "distilbert": "k_lin", "mpnet": "attn.k", "wav2vec2": "k_proj", "vit": "k_proj"}


def gradients(name: str) -> tuple[set[str], dict[str, float]]:
    """Which biases learn, and how steep each is."""
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(name, **MODELS[name])).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    tune(model, "biases", name)
    learning = {n for n, p in model.named_parameters() if p.requires_grad}
    model.requires_grad_(True)
    output = model(**inputs(name)).last_hidden_state
    (output * torch.randn_like(output)).sum().backward()
    return learning, {n: 0.0 if p.grad is None else float(p.grad.abs().max()) for n, p in model.named_parameters()}


def inputs(name: str) -> dict[str, Tensor]:
    if name == "vit":
        return {"pixel_values": torch.randn(3, 3, 16, 16, dtype=torch.double)}
    if name == "wav2vec2":
        return {"input_values": torch.randn(3, 400, dtype=torch.double)}
    return {"input_ids": torch.randint(3, 40, (3, 9))}


@pytest.mark.parametrize("name", MODELS)
def test_all_biases_with_a_say_learn_and_no_others(name: str) -> None:
    learning, steep = gradients(name)
    biases = {n for n in steep if n.endswith("bias") and not any(part in n for part in SILENT)}
    assert learning - {n for n in learning if any(part in n for part in SILENT)} <= biases
    for n in biases:
        assert (n in learning) == (steep[n] > 1e-9), (n, steep[n])
    keys = {n for n in steep if name in KEYS and n.endswith(f"{KEYS[name]}.bias")}
    assert not keys & learning and (bool(keys) == (name in KEYS))


def test_keys_that_are_turned_by_their_place_keep_their_say() -> None:
    for name, key in (("qwen2", "k_proj"), ("roformer", "key"), ("esm", "key")):
        assert [n for n in gradients(name)[0] if n.endswith(f"{key}.bias")]


def test_tables_of_places_are_no_biases() -> None:
    """Though they are called so."""
    config = AutoConfig.for_model("beit", **SMALL, image_size=16, patch_size=8, use_relative_position_bias=True)
    model = AutoModel.from_config(config)
    tune(model, "biases", "beit")
    tables = [p for n, p in model.named_parameters() if "relative_position_bias_table" in n]
    assert tables and not any(p.requires_grad for p in tables)
