"""Pretrained unimodal encoders of the Hugging Face hub: frozen (features once) or tuned with the rest."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn

from absentia.data.features import FeatureStore, features_folder
from absentia.data.kinds import Value
from absentia.data.kinds.pretrained import PretrainedDecoder, digest_of, loading, reach
from absentia.errors import UserError
from absentia.layers.like_length import LengthGroups
from absentia.models.encoders.alone import each_alone
from absentia.models.encoders.base import Embedder
from absentia.models.encoders.coarser import least_tokens, lengthened, makes_coarser
from absentia.models.encoders.identity import identity_of_encoder

__all__ = ["FeatureEmbedder", "FrozenEncoder", "PretrainedEncoder", "TunedEmbedder"]


CLS = ("cls_token", "class_embedding")  # what vision transformers call their [CLS]
TOWERS = {"image": ["vision_model"], "text": ["text_model", "encoder"], "audio": ["audio_model", "encoder"]}
INPUTS = {"image": {"pixel_values"}, "text": {"input_ids"}, "audio": {"input_values", "input_features"}}
SLACK: Any = {"share": 0.125, "tokens": 8}  # how far the shortest text of a group is padded at most
SILENT = ("pooler", "masked_spec_embed")  # parts that many checkpoints come without, and no token goes through


class PretrainedEncoder(nn.Module):
    """Any `AutoModel`: a vision transformer, a convolutional network, a text or a sound encoder, in float32.

    `source` is a hub name or a folder. Of models with two towers the tower of `kind` is taken. What a row gets never
    depends on who shares its batch: batch norms keep their statistics, and rows of unlike lengths run in groups.
    pool: how tokens become one vector: mean, first or last (real one; for causal language models).
    """

    def __init__(self, *, kind: str, source: str, pool: str = "mean") -> None:
        super().__init__()
        self.kind, self.source, self.pool = kind, source, pool
        self.model = _loaded(kind, source)
        self._takes = set(inspect.signature(self.model.forward).parameters)

    @property
    def width(self) -> int:
        """Features per token."""
        config = self.model.config
        sizes = (getattr(config, key, None) for key in ("hidden_size", "d_model", "hidden_sizes"))
        size: Any = next((s for s in sizes if s), None)
        return int((size[-1] if isinstance(size, (list, tuple)) else size) or self._probed())

    def train(self, mode: bool = True) -> PretrainedEncoder:
        """Training mode for all but the batch norms."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def forward(self, **inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (n, T, d) and where they are real, bool (n, T)."""
        groups = self.groups(inputs)
        if groups is None:
            return self._run(inputs)
        tokens, valid = zip(*(self._run(part) for part in groups.split(inputs)), strict=True)
        return groups.joined(tokens), groups.joined(valid)

    def groups(self, inputs: Mapping[str, Tensor]) -> LengthGroups | None:
        """The groups in which padded inputs run; None where nothing is padded.

        Texts stand beside ones of like length, which saves padding. Where padding would show (convolutions look into
        it), as in sounds, only rows of one length share a group.
        """
        mask = inputs.get("attention_mask")
        if self.kind == "image" or mask is None or bool(mask.all()):
            return None
        places = torch.arange(1, mask.shape[1] + 1, device=mask.device)
        lengths = (mask.bool() * places).amax(dim=1)  # padding stands behind
        return LengthGroups.of(lengths) if self._padding_shows else LengthGroups.of(lengths, **SLACK)

    def pooled(self, **inputs: Tensor) -> Tensor:
        """One vector per row (n, d): the [CLS] of a vision transformer that has one, else what `pool` says."""
        return self.pooled_from(*self(**inputs))

    def pooled_from(self, tokens: Tensor, valid: Tensor) -> Tensor:
        """The same of tokens (n, T, d) and where they are real, as `forward` gives them."""
        if self.pool == "last":
            return tokens[torch.arange(len(tokens)), valid.long().cumsum(dim=1).argmax(dim=1)]
        if self.pool == "first" or (self.kind == "image" and self._has_cls):
            return tokens[:, 0]
        weight = valid[..., None].to(tokens.dtype)
        return (tokens * weight).sum(1) / weight.sum(1).clamp(min=1)

    @property
    def _has_cls(self) -> bool:
        return any(name.endswith(CLS) for name, _ in self.model.named_parameters())

    def fingerprint(self) -> str:
        """SHA-256 over names and values of all parameters."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().view(-1).numpy().tobytes())
        return digest.hexdigest()

    def _run(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """One pass of all rows."""
        mask = inputs.get("attention_mask", inputs.get("pixel_attention_mask"))
        ids = inputs.get("input_ids")
        long = inputs if ids is None else lengthened(inputs, self._least, self.model.config.pad_token_id or 0)
        out = self._read({k: x for k, x in long.items() if k in self._takes})
        tokens = out.flatten(2).transpose(1, 2) if out.dim() == 4 else out
        if ids is not None:
            tokens = tokens[:, : ids.shape[1]]
        if mask is None or mask.shape != tokens.shape[:2]:
            return tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return tokens, mask.bool()

    def _read(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """What the model makes of inputs that its processor made; `UserError` where the two do not fit together."""
        try:
            return cast(Tensor, self.model(**inputs).last_hidden_state)
        except ValueError as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"encoder {self.source!r} cannot read what its {self.kind} processor makes: {first.rstrip(' .')}; "
                "processor and weights must be of one checkpoint"
            ) from error

    @cached_property
    def _padding_shows(self) -> bool:
        """Whether what stands behind a row can change it: no mask is read, or something reaches over to neighbours."""
        wide = any(isinstance(m, nn.modules.conv._ConvNd) and max(m.kernel_size) > 1 for m in self.model.modules())
        wide |= bool(getattr(self.model.config, "trigram_input", False))  # MobileBERT's tokens hold their neighbours
        return self.kind == "audio" or "attention_mask" not in self._takes or wide or makes_coarser(self.model.config)

    @cached_property
    def _least(self) -> int:
        return least_tokens(self.model.config)

    def _probed(self) -> int:
        size = getattr(self.model.config, "image_size", 64)
        height, width = (size, size) if isinstance(size, int) else size
        with torch.no_grad():
            return int(self(pixel_values=torch.zeros(1, 3, height, width))[0].shape[-1])


class FrozenEncoder:
    """Decoded values to one feature vector each, `{"features": float32 (1, d)}`; nothing is learned.

    Every value is encoded alone: the same bits whoever shares its batch, and in the store of features as well.
    """

    def __init__(self, *, encoder: PretrainedEncoder, decoder: PretrainedDecoder) -> None:
        self.encoder, self.decoder = encoder.eval().requires_grad_(False), decoder

    def __call__(self, values: list[Value]) -> list[Value]:
        return each_alone(self._features, values)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the weights, which do not change any more."""
        return self.encoder.fingerprint()

    @cached_property
    def store(self) -> FeatureStore:
        """Where these features are kept from run to run, and nobody else's."""
        pool = {} if self.encoder.pool == "mean" else {"pool": self.encoder.pool}
        about = identity_of_encoder(self.encoder.model, self.fingerprint, self.decoder.preprocessing() | pool)
        return FeatureStore(features_folder() / f"{self.decoder.kind}-{digest_of(about)[:32]}", about)

    @torch.inference_mode()
    def _features(self, value: Value) -> Value:
        # Copies begin at multiples of 64 bytes, wherever the arrays did: where they begin can change last bits.
        inputs = {key: torch.from_numpy(a).clone() for key, a in self.decoder.collate([value]).items()}
        return {"features": self.encoder.pooled(**inputs).numpy()}


class FeatureEmbedder(Embedder):
    """Features (n, T, d) of a frozen encoder to as many tokens."""

    def __init__(self, *, width: int, features: int) -> None:
        super().__init__(width=width)
        self.features = features
        self.project = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, width))

    def content(self, **inputs: Tensor) -> tuple[Tensor, Tensor]:
        return self.project(inputs["features"].to(self.cls_token.dtype)), inputs["mask"]


class TunedEmbedder(Embedder):
    """A pretrained encoder that learns with the rest: all its tokens.

    settled: whether it is settled what of it learns, so that no method says so.
    """

    def __init__(self, *, width: int, encoder: PretrainedEncoder, settled: bool = False) -> None:
        super().__init__(width=width)
        self.encoder, self.settled = encoder, settled
        self.project = nn.Sequential(nn.LayerNorm(encoder.width), nn.Linear(encoder.width, width))

    def content(self, **inputs: Tensor) -> tuple[Tensor, Tensor]:
        tokens, valid = self.encoder(**inputs)
        return self.project(tokens), valid


def _loaded(kind: str, source: str) -> Any:
    from transformers import AutoConfig, AutoModel, ViTModel

    with loading(source, "model"):
        config = AutoConfig.from_pretrained(source, trust_remote_code=False, **reach(source))
        maker: Any = ViTModel if config.model_type == "vit_mae" else AutoModel  # an MAE would drop patches at random
        whole, report = maker.from_pretrained(
            source,
            dtype=torch.float32,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # said below, with a name
            output_loading_info=True,
            **reach(source),
        )
    model = _tower(whole, kind)
    missing = _missing(whole, model, {*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])})
    if missing:
        raise UserError(f"encoder {source!r} has no fitting weights for {missing[0]} ({len(missing)} such tensors)")
    if hasattr(model.config, "apply_spec_augment"):
        model.config.apply_spec_augment = False  # it draws from a global generator
    return model


@torch.no_grad()
def _missing(whole: Any, model: Any, names: set[str]) -> list[str]:
    """Tensors of `model` that the checkpoint of `whole` lacks; those without a say in the tokens become zeros."""
    mine = {id(tensor) for tensor in model.state_dict(keep_vars=True).values()}
    missing = {n: x for n, x in whole.state_dict(keep_vars=True).items() if n in names and id(x) in mine}
    for name, tensor in missing.items():
        if any(part in name for part in SILENT):
            tensor.zero_()
    return [name for name in missing if not any(part in name for part in SILENT)]


def _tower(model: Any, kind: str) -> Any:
    """The part of a model with several towers that reads this kind; an encoder alone is itself."""
    for name in TOWERS[kind]:
        part = getattr(model, name, None)
        if part is not None and (name != "encoder" or hasattr(model, "decoder")) and _reads(part, kind):
            return part
    return model


def _reads(part: Any, kind: str) -> bool:
    """Whether a part of a model takes what a processor makes, and not what another part makes of it."""
    return not INPUTS[kind].isdisjoint(inspect.signature(part.forward).parameters)
