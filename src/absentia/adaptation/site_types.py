"""What can be modulated, by type of module: how many channels, along which axis, and where they lie in the weights.

Nothing is guessed from shapes. A type that is not here can be added with `register_site`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from absentia.errors import UserError

__all__ = ["FAMILIES", "Place", "SiteType", "Weights", "register_site", "type_of"]

FAMILIES = ("linear", "conv", "norm", "embedding", "attention", "recurrent")


@dataclass(frozen=True)
class Place:
    """Channels `start` to `stop` of a site lie along an axis of the parameter `name` of its module.

    groups: of a transposed convolution, whose weight is (in, out / groups, ...).
    start_value: what the parameter is where the module has none, and shape what it has then; () means (stop,).
    """

    name: str
    start: int
    stop: int
    axis: int = 0
    groups: int = 1
    start_value: float = 0.0
    shape: tuple[int, ...] = ()

    def along(self, values: Tensor, like: Tensor) -> Tensor:
        """Values (C,) of all channels of the site, shaped so that they broadcast with the parameter `like`."""
        mine = values[self.start : self.stop]
        if self.groups > 1:
            mine = mine.view(self.groups, -1).repeat_interleave(like.shape[0] // self.groups, dim=0)
            return mine.view(*mine.shape, *[1] * (like.ndim - 2))
        axis = self.axis % like.ndim
        return mine.view(*[1] * axis, -1, *[1] * (like.ndim - axis - 1))


@dataclass(frozen=True)
class Weights:
    """The parameters that hold a site's channels: those that a scale multiplies, and the ones that take the shift.

    matrix: whether the first of them is a matrix (C, ...) that a low-rank product can be added to.
    """

    channels: int
    scaled: tuple[Place, ...]
    shifted: tuple[Place, ...] = ()
    matrix: bool = False


@dataclass(frozen=True, kw_only=True)
class SiteType:
    """How a type of module is modulated.

    axis: module and number of dimensions of its output to the axis of the channels.
    weights: module to its sites, by part; the part "" is the module's output. Sites with another part lie inside it,
        where only their weights can be reached.
    """

    family: str
    weights: Callable[[Any], Mapping[str, Weights]]
    axis: Callable[[Any, int], int] = lambda module, ndim: ndim - 1


def type_of(module: nn.Module) -> SiteType | None:
    """The entry of the module's type, or of the nearest type that it derives from."""
    return next((SITE_TYPES[t] for t in type(module).__mro__ if t in SITE_TYPES), None)


def register_site(
    kind: type[nn.Module],
    *,
    channels: str | Callable[[Any], int],
    axis: int = -1,
    weight: str | None = None,
    bias: str | None = None,
) -> None:
    """Make a type of module a site of every network that is adapted from now on.

    channels: the attribute that counts the channels of its output, or a function of the module.
    axis: of the channels in its output.
    weight, bias: parameters whose first axis is these channels and whose product and sum make the output; without
        them such a site cannot be merged. A bias that a module does not have takes no shift.
    Raises `UserError` for what is not a type of module, and at `adapt` for a module that is not as was said.
    """
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise UserError(f"register_site: {kind!r} is not a type of torch.nn.Module")

    def weights(module: nn.Module) -> dict[str, Weights]:
        count = _counted(module, channels)
        held = [name for name in (weight, bias) if name is not None and (name == weight or _has(module, name))]
        scaled = tuple(_registered(module, name, count) for name in held)
        return {"": Weights(count, scaled, tuple(p for p in scaled if p.name == bias))}

    def along(module: nn.Module, ndim: int) -> int:
        if not -ndim <= axis < ndim:
            raise UserError(f"register_site: {kind.__name__} has no axis {axis} in its output of {ndim} dimensions")
        return axis % ndim

    SITE_TYPES[kind] = SiteType(family="linear", weights=weights, axis=along)


def _has(module: nn.Module, name: str) -> bool:
    return isinstance(getattr(module, name, None), Tensor)


def _counted(module: nn.Module, channels: str | Callable[[Any], int]) -> int:
    if isinstance(channels, str) and not hasattr(module, channels):
        raise UserError(
            f"register_site: {type(module).__name__} has no attribute {channels!r} that counts its channels"
        )
    return int(getattr(module, channels) if isinstance(channels, str) else channels(module))


def _registered(module: nn.Module, name: str, count: int) -> Place:
    """The place of all channels in a parameter; raises `UserError` if they are not along its first axis."""
    kind, held = type(module).__name__, getattr(module, name, None)
    if not isinstance(held, Tensor):
        raise UserError(f"register_site: {kind} has no parameter {name!r}")
    if held.ndim == 0 or len(held) != count:
        raise UserError(
            f"register_site: {name!r} of {kind} is {tuple(held.shape)}, which does not begin with its {count} channels"
        )
    return Place(name, 0, count)


def _plain(count: Callable[[Any], int]) -> Callable[[Any], Mapping[str, Weights]]:
    def weights(module: nn.Module) -> dict[str, Weights]:
        c = count(module)
        bias = Place("bias", 0, c)
        return {"": Weights(c, (Place("weight", 0, c), bias), (bias,), matrix=True)}

    return weights


def _transposed(module: Any) -> dict[str, Weights]:
    c, bias = module.out_channels, Place("bias", 0, module.out_channels)
    return {"": Weights(c, (Place("weight", 0, c, axis=1, groups=module.groups), bias), (bias,))}


def _norm(count: Callable[[Any], int]) -> Callable[[Any], Mapping[str, Weights]]:
    def weights(module: nn.Module) -> dict[str, Weights]:
        c = count(module)
        shape = tuple(getattr(module, "normalized_shape", ()))
        weight = Place("weight", 0, c, axis=-1, start_value=1.0, shape=shape)
        bias = Place("bias", 0, c, axis=-1, shape=shape)
        if isinstance(module, nn.RMSNorm):
            return {"": Weights(c, (weight,))}  # it has no bias, so a shift would have no place
        return {"": Weights(c, (weight, bias), (bias,))}

    return weights


def _embedding(module: Any) -> dict[str, Weights]:
    weight = Place("weight", 0, module.embedding_dim, axis=1)
    return {"": Weights(module.embedding_dim, (weight,), (weight,))}


def _attention(module: Any) -> dict[str, Weights]:
    e = module.embed_dim
    bias, out = Place("in_proj_bias", 0, 3 * e), Place("out_proj.bias", 0, e)
    if module._qkv_same_embed_dim:
        matrices: tuple[Place, ...] = (Place("in_proj_weight", 0, 3 * e),)
    else:
        names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
        matrices = tuple(Place(name, i * e, (i + 1) * e) for i, name in enumerate(names))
    inside = Weights(3 * e, (*matrices, bias), (bias,), matrix=len(matrices) == 1)
    return {"in_proj": inside, "out_proj": Weights(e, (Place("out_proj.weight", 0, e), out), (out,), matrix=True)}


def _recurrent(module: Any) -> dict[str, Weights]:
    gates = {"LSTM": 4, "GRU": 3}.get(module.mode, 1) * module.hidden_size
    out = {}
    for layer in range(module.num_layers):
        for ending in ("", "_reverse") if module.bidirectional else ("",):
            part = f"l{layer}{ending}"
            names = [f"weight_ih_{part}", f"weight_hh_{part}"]
            names += [f"bias_ih_{part}", f"bias_hh_{part}"] if module.bias else []
            places = tuple(Place(name, 0, gates) for name in names)
            out[part] = Weights(gates, places, places[2:3])
    return out


def _spatial(dims: int) -> Callable[[Any, int], int]:
    return lambda module, ndim: ndim - 1 - dims


SITE_TYPES: dict[type[nn.Module], SiteType] = {
    nn.Linear: SiteType(family="linear", weights=_plain(lambda m: m.out_features)),
    nn.Bilinear: SiteType(family="linear", weights=_plain(lambda m: m.out_features)),
    nn.LayerNorm: SiteType(family="norm", weights=_norm(lambda m: m.normalized_shape[-1])),
    nn.RMSNorm: SiteType(family="norm", weights=_norm(lambda m: m.normalized_shape[-1])),
    nn.GroupNorm: SiteType(family="norm", weights=_norm(lambda m: m.num_channels), axis=lambda m, ndim: 1),
    nn.Embedding: SiteType(family="embedding", weights=_embedding),
    nn.MultiheadAttention: SiteType(family="attention", weights=_attention),
    nn.RNNBase: SiteType(family="recurrent", weights=_recurrent),
}
SITE_TYPES[nn.SyncBatchNorm] = SiteType(family="norm", weights=_norm(lambda m: m.num_features), axis=lambda m, ndim: 1)
for _dims, _conv, _transpose, _batch, _instance in (
    (1, nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d, nn.InstanceNorm1d),
    (2, nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.InstanceNorm2d),
    (3, nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d, nn.InstanceNorm3d),
):
    SITE_TYPES |= {
        _conv: SiteType(family="conv", weights=_plain(lambda m: m.out_channels), axis=_spatial(_dims)),
        _transpose: SiteType(family="conv", weights=_transposed, axis=_spatial(_dims)),
        _batch: SiteType(family="norm", weights=_norm(lambda m: m.num_features), axis=lambda m, ndim: 1),
        _instance: SiteType(family="norm", weights=_norm(lambda m: m.num_features), axis=_spatial(_dims)),
    }


def parameter(module: nn.Module, place: Place, like: Tensor) -> Tensor:
    """The parameter of a place; where the module has none, what it does without it, on `like`'s device and dtype."""
    holder_name, _, name = place.name.rpartition(".")
    found = getattr(module.get_submodule(holder_name), name, None)
    if found is None:
        return torch.full(place.shape or (place.stop,), place.start_value, device=like.device, dtype=like.dtype)
    return found  # type: ignore[no-any-return]
