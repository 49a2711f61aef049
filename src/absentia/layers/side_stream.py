"""Read-only prompts as a narrow second stream: they read every layer's keys and values, and nothing reads them.

Lee et al., "Read-only Prompt Optimization", ICCV 2023 (RPO), append prompts to the tokens under a mask. Since no token
sees a prompt, the tokens may as well run alone, once, whatever the prompts are; the prompts then pass the same layers
with queries of their own. Outputs and gradients are those of the masked pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

__all__ = ["KeysValues", "Reads", "SideLayer", "final_norm", "heard", "side_layers", "side_stream"]

Reads = Literal["tokens", "self", "group"]
READS = ("tokens", "self", "group")
LAST_NORMS = ("layernorm", "layer_norm", "post_layernorm", "final_layer_norm")  # what encoders call it


@dataclass(frozen=True)
class SideLayer:
    """The parts of one transformer layer, whoever wrote it.

    pre: whether norms stand before attention and network (ViT) or after them (BERT).
    mlp: what follows the attention, without its norm.  scale1, scale2: on both branches, where the layer has them.
    """

    pre: bool
    heads: int
    norm1: nn.Module
    norm2: nn.Module
    query: nn.Module
    key: nn.Module
    value: nn.Module
    out: nn.Module
    mlp: Callable[[Tensor], Tensor]
    scale1: nn.Module | None = None
    scale2: nn.Module | None = None

    def step(self, x: Tensor, there: KeysValues, reads: Reads, group: int) -> Tensor:
        """Prompts (n, P, D) through the layer; keys and values are the tokens', groups are of `group` prompts each."""
        normed = self.norm1(x) if self.pre else x
        read = self._attended(normed, there, reads, group)
        read = self.out(read) if self.scale1 is None else self.scale1(self.out(read))
        x = x + read if self.pre else self.norm1(x + read)
        made = self.mlp(self.norm2(x) if self.pre else x)
        made = made if self.scale2 is None else self.scale2(made)
        return x + made if self.pre else self.norm2(x + made)

    def _attended(self, normed: Tensor, there: KeysValues, reads: Reads, group: int) -> Tensor:
        """(n, P, D)"""
        query = self._split(self.query(normed))
        keys, values, mask = there.keys, there.values, there.mask
        if reads != "tokens":
            keys = torch.cat([keys, self._split(self.key(normed))], dim=2)
            values = torch.cat([values, self._split(self.value(normed))], dim=2)
            mask = torch.cat([there.seen(query), _among(query, reads, group)], dim=-1)
        mixed = nn.functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        return mixed.transpose(1, 2).flatten(2)

    def _split(self, x: Tensor) -> Tensor:
        """(n, T, D) -> (n, H, T, D / H)"""
        n, count, width = x.shape
        return x.view(n, count, self.heads, width // self.heads).transpose(1, 2)


@dataclass(frozen=True)
class KeysValues:
    """What the tokens of one layer offer: keys, values (n, H, T, D / H), and bool (n, T) which of them are real."""

    keys: Tensor
    values: Tensor
    valid: Tensor | None = None

    @property
    def mask(self) -> Tensor | None:
        """bool (n, 1, 1, T); None where all tokens are real."""
        return None if self.valid is None else self.valid[:, None, None]

    def seen(self, query: Tensor) -> Tensor:
        """bool (n, 1, P, T): the tokens that prompts see."""
        n, _, prompts, _ = query.shape
        every = torch.ones(n, 1, prompts, self.keys.shape[2], dtype=torch.bool, device=query.device)
        return every if self.mask is None else every & self.mask

    def detached(self) -> KeysValues:
        """Without a way back to the encoder, and without holding on to what the layer computed beside them."""
        return KeysValues(self.keys.detach().clone(), self.values.detach().clone(), self.valid)


def side_stream(
    layers: Sequence[SideLayer],
    there: Sequence[KeysValues],
    prompts: Tensor,
    *,
    reads: Reads = "tokens",
    group: int | None = None,
) -> Tensor:
    """Prompts (P, D) or (n, P, D) through all layers, beside tokens whose keys and values are given, to (n, P, D).

    reads: tokens (as RPO), self (and itself) or group (and the other prompts of its group).
    group: prompts of one group, standing together; by default all are one.
    The final norm of the encoder is not applied.
    """
    n = len(there[0].keys)
    x = prompts if prompts.ndim == 3 else prompts.expand(n, -1, -1)
    for layer, offered in zip(layers, there, strict=True):
        x = layer.step(x, offered, reads, group or x.shape[1])
    return x


@contextmanager
def heard(layers: Sequence[SideLayer]) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Within, what the key and the value projection of every layer make, (n, T, D) each or packed, as they run."""
    found: list[tuple[Tensor, Tensor]] = []
    keys: list[Tensor] = []

    def key(module: nn.Module, given: Any, made: Tensor) -> None:
        keys.append(made)

    def value(module: nn.Module, given: Any, made: Tensor) -> None:
        found.append((keys.pop(), made))

    handles = [layer.key.register_forward_hook(key) for layer in layers]
    handles += [layer.value.register_forward_hook(value) for layer in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def side_layers(model: Any) -> list[SideLayer] | None:
    """The layers of an encoder that prompts can read; None for one that offers none, such as a CNN.

    Known are our own transformer and the types in `FAMILIES`. Not known are keys that are turned by their place
    (ModernBERT, Llama), keys that are packed with queries (GPT-2) and attention with something added (BEiT, Swin).
    """
    blocks = getattr(model, "blocks", None)
    if isinstance(blocks, nn.ModuleList) and all(hasattr(block, "norm_attention") for block in blocks):
        return [_ours(block, model.heads) for block in blocks]
    config: Any = getattr(model, "config", None)
    read = next((read for read, types in FAMILIES if getattr(config, "model_type", None) in types), None)
    if read is None:
        return None
    inner = getattr(model, "encoder", model)
    layers = getattr(inner, "layer", None) or getattr(inner, "layers", None) or model.layers
    return [read(layer, int(config.num_attention_heads)) for layer in layers]


def final_norm(model: Any) -> nn.Module:
    """The norm behind the last layer; nothing where norms stand behind each layer (BERT)."""
    found = (getattr(model, name, None) for name in LAST_NORMS)
    return next((norm for norm in found if isinstance(norm, nn.LayerNorm)), nn.Identity())


def _ours(block: Any, heads: int) -> SideLayer:
    def mlp(x: Tensor) -> Tensor:
        return block.narrow(nn.functional.gelu(block.widen(x)))  # type: ignore[no-any-return]

    parts = (block.norm_attention, block.norm_mlp, block.query, block.key, block.value, block.out)
    return SideLayer(True, heads, *parts, mlp)


def _bert(layer: Any, heads: int) -> SideLayer:
    own, out = layer.attention.self, layer.attention.output

    def mlp(x: Tensor) -> Tensor:
        return layer.output.dense(layer.intermediate(x))  # type: ignore[no-any-return]

    parts = (out.LayerNorm, layer.output.LayerNorm, own.query, own.key, own.value, out.dense)
    return SideLayer(False, heads, *parts, mlp)


def _vit(layer: Any, heads: int) -> SideLayer:
    own = layer.attention
    before = layer.norm1 if hasattr(layer, "norm1") else layer.layernorm_before
    after = layer.norm2 if hasattr(layer, "norm2") else layer.layernorm_after
    scales = (getattr(layer, "layer_scale1", None), getattr(layer, "layer_scale2", None))
    return SideLayer(True, heads, before, after, own.q_proj, own.k_proj, own.v_proj, own.o_proj, layer.mlp, *scales)


def _clip(layer: Any, heads: int) -> SideLayer:
    own = layer.self_attn
    parts = (layer.layer_norm1, layer.layer_norm2, own.q_proj, own.k_proj, own.v_proj, own.out_proj)
    return SideLayer(True, heads, *parts, layer.mlp)


def _whisper(layer: Any, heads: int) -> SideLayer:
    own = layer.self_attn

    def mlp(x: Tensor) -> Tensor:
        return layer.fc2(layer.activation_fn(layer.fc1(x)))  # type: ignore[no-any-return]

    parts = (layer.self_attn_layer_norm, layer.final_layer_norm, own.q_proj, own.k_proj, own.v_proj, own.out_proj)
    return SideLayer(True, heads, *parts, mlp)


BERTS = ("bert", "camembert", "data2vec-text", "electra", "ernie", "roberta", "xlm-roberta")
VITS = (
    *("audio-spectrogram-transformer", "deit", "dinov2", "dinov2_with_registers", "ijepa", "vit", "vit_mae", "vit_msn"),
)
CLIPS = ("clip_text_model", "clip_vision_model", "siglip_text_model", "siglip_vision_model")
WHISPERS = ("m2m_100", "mbart", "pegasus", "whisper")

FAMILIES: tuple[tuple[Callable[[Any, int], SideLayer], tuple[str, ...]], ...] = (
    *((_bert, BERTS), (_vit, VITS), (_clip, CLIPS), (_whisper, WHISPERS)),
)
"""How the layers of an encoder are read, by the type that its configuration names."""


def _among(query: Tensor, reads: Reads, group: int) -> Tensor:
    """bool (n, 1, P, P): the prompts that prompts see."""
    n, _, count, _ = query.shape
    number = torch.arange(count, device=query.device)
    number = number if reads == "self" else number // group
    return (number[:, None] == number).expand(n, 1, count, count)
