"""Networks that answer for every voxel: MONAI's or one of ours, its last layer taken off, behind one small interface.

What is absent is a channel of zeros. `aligned` writes what is there into its place, and reads nothing else.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from absentia.data.batch import Batch
from absentia.errors import UserError, extra, nearest
from absentia.models.fusion_unet import FusionUNet

__all__ = ["NETWORKS", "DenseBackbone", "Modulate", "aligned"]

Modulate = Callable[[Tensor, int], Tensor]
"""Features (B, C, *low) after decoder level 0, 1, ... to features of the same shape."""


@dataclass(frozen=True)
class Tapped:
    """Where a network is tapped: the modules with these names, and the layer that is taken off.

    options: where ours differ from MONAI's.  factor: sides must be multiples of it, from the network's options.
    apart: whether it is ours, and asks which contrasts are there.
    """

    deep: Callable[[nn.Module], str]
    decoder: Callable[[nn.Module], list[str]]
    last: str
    factor: Callable[[Mapping[str, Any]], int]
    options: Mapping[str, Any]
    apart: bool = False


def _listed(prefix: str) -> Callable[[nn.Module], list[str]]:
    return lambda net: [f"{prefix}.{i}" for i in range(len(net.get_submodule(prefix)))]  # type: ignore[arg-type]


NETWORKS: dict[str, Tapped] = {
    "BasicUNet": Tapped(
        deep=lambda net: "down_4",
        decoder=lambda net: [f"upcat_{i}" for i in (4, 3, 2, 1)],
        last="final_conv",
        factor=lambda options: 16,
        options={"features": (16, 16, 32, 64, 128, 16)},
    ),
    "SegResNet": Tapped(
        deep=lambda net: _listed("down_layers")(net)[-1],
        decoder=_listed("up_layers"),
        last="conv_final",
        factor=lambda options: 2 ** (len(options.get("blocks_down", (1, 2, 2, 4))) - 1),
        options={},
    ),
    "DynUNet": Tapped(
        deep=lambda net: "bottleneck",
        decoder=_listed("upsamples"),
        last="output_block",
        factor=lambda options: math.prod(_largest(stride) for stride in options["strides"]),
        options={
            "kernel_size": (3, 3, 3, 3),
            "strides": (1, 2, 2, 2),
            "upsample_kernel_size": (2, 2, 2),
            "filters": (16, 32, 64, 128),
        },
    ),
    "UNETR": Tapped(
        deep=lambda net: "vit",
        decoder=lambda net: [f"decoder{i}" for i in (5, 4, 3, 2)],
        last="out",
        factor=lambda options: 16,
        options={"hidden_size": 192, "mlp_dim": 384, "num_heads": 6},
    ),
    "SwinUNETR": Tapped(
        deep=lambda net: "encoder10",
        decoder=lambda net: [f"decoder{i}" for i in (5, 4, 3, 2, 1)],
        last="out",
        factor=lambda options: options.get("patch_size", 2) ** 5,
        options={"feature_size": 12},
    ),
    "FusionUNet": Tapped(
        deep=lambda net: "fused",
        decoder=_listed("decoders"),
        last="last",
        factor=lambda options: 2 ** (len(options["features"]) - 1),
        options={"features": (8, 16, 32, 64, 128)},
        apart=True,
    ),
}


class DenseBackbone(nn.Module):
    """A network by its name, without its last layer.

    channels: of each contrast, in order.  dims: 2 or 3.  options: of the network's class.
    deep, width: channels of the bottleneck and of the last decoder level.  levels: channels after each of those.
    frozen: whether nothing in it learns.
    Sides that the network cannot halve often enough are filled up with zeros, and what comes out is cut back.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int],
        dims: int,
        network: str = "BasicUNet",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        tapped = _tapped(network)
        settings = dict(tapped.options) | dict(options or {})
        self.dims, self.channels, self.network = dims, tuple(channels), network
        self.fixed = _fixed(settings, dims)
        self.factor = tapped.factor(settings)
        self.net = _built(network, settings, dims, channels)
        self.frozen, self.apart, self.whole = False, tapped.apart, tuple(channels)
        self.register_buffer("places", None, persistent=False)
        self.register_buffer("contrasts", None, persistent=False)
        self.places: Tensor | None
        self.contrasts: Tensor | None
        self.taps = (tapped.deep(self.net), *tapped.decoder(self.net))
        self.net.set_submodule(tapped.last, nn.Identity())
        try:
            self.deep, *self.levels = self._sizes()
        except (RuntimeError, ValueError, IndexError, AttributeError) as error:
            raise UserError(f"model.network {network} does not run with {settings}: {error}") from None
        self.width = self.levels[-1]

    def given(self, places: Sequence[Sequence[int]]) -> DenseBackbone:
        """From now on it is given these of its channels alone, for each contrast some; zeros stand for the others."""
        inner = [place for own in places for place in own]
        contrast_of = [m for m, count in enumerate(self.whole) for _ in range(count)]
        self.channels = tuple(len(own) for own in places)
        plain = inner == list(range(sum(self.whole)))
        self.places = None if plain else torch.tensor(inner)
        self.contrasts = None if plain else torch.tensor([contrast_of[own[0]] for own in places])
        return self

    def freeze(self) -> DenseBackbone:
        """From now on nothing in it learns, and nothing is dropped in training either: a row's answer is settled."""
        self.frozen = True
        self.requires_grad_(False)
        return self.eval()

    def train(self, mode: bool = True) -> DenseBackbone:
        """Training mode, unless it is frozen."""
        super().train(mode and not self.frozen)
        return self

    def forward(
        self, x: Tensor, modulate: Modulate | None = None, there: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(B, M*C, *space) to the bottleneck (B, deep, *low) and features (B, width, *space).

        modulate: changes what comes out of each decoder level, before the next one.
        there: bool (B, M), which contrasts mean something, for a network that keeps them apart; all by default.
        """
        known = (self._known(x, there),) if self.apart else ()
        x = self._placed(x)
        space, room = x.shape[2:], self._room(x.shape[2:])
        missing = [n for have, need in zip(space, room, strict=True) for n in (need - have, 0)][::-1]
        with self._tapped(modulate) as deep:
            features = self.net(F.pad(x, missing) if any(missing) else x, *known)
        cut = (slice(None), slice(None), *(slice(0, n) for n in space))
        return deep[0], features[cut]

    def _placed(self, x: Tensor) -> Tensor:
        """The channels that it is given where it expects them."""
        if self.places is None:
            return x
        return x.new_zeros(len(x), sum(self.whole), *x.shape[2:]).index_copy(1, self.places, x)

    def _known(self, x: Tensor, there: Tensor | None) -> Tensor:
        """Which of the contrasts that it expects are there."""
        there = torch.ones(len(x), len(self.channels), dtype=torch.bool, device=x.device) if there is None else there
        if self.contrasts is None:
            return there
        return there.new_zeros(len(x), len(self.whole)).index_copy(1, self.contrasts, there)

    def _room(self, space: Sequence[int]) -> tuple[int, ...]:
        """The sides that the network is given for these: twice its factor at least, so that norms see something."""
        if self.fixed is not None:
            if any(n > most for n, most in zip(space, self.fixed, strict=True)):
                raise UserError(
                    f"model.network {self.network} takes at most {_by(self.fixed)}, not {_by(space)}; set masks.window"
                )
            return self.fixed
        return tuple(max(2, -(-n // self.factor)) * self.factor for n in space)

    @contextmanager
    def _tapped(self, modulate: Modulate | None) -> Iterator[list[Tensor]]:
        """The bottleneck lands in the list; levels go through `modulate`."""
        deep: list[Tensor] = []
        first, *levels = (self.net.get_submodule(name) for name in self.taps)
        handles = [first.register_forward_hook(partial(self._keep, deep))]
        if modulate is not None:
            handles += [m.register_forward_hook(partial(_modulated, modulate, i)) for i, m in enumerate(levels)]
        try:
            yield deep
        finally:
            for handle in handles:
                handle.remove()

    def _keep(self, deep: list[Tensor], module: nn.Module, given: Any, out: Any) -> None:
        deep.append(out if isinstance(out, Tensor) else self._grid(out[0]))

    def _grid(self, tokens: Tensor) -> Tensor:
        """A transformer's tokens (B, N, D) where they belong, (B, D, *low)."""
        assert self.fixed is not None
        low = [n // self.factor for n in self.fixed]
        return tokens.transpose(1, 2).reshape(len(tokens), tokens.shape[2], *low)

    def _sizes(self) -> list[int]:
        """Channels of the bottleneck and of each decoder level, from a pass over zeros."""
        found: dict[int, int] = {}

        def measured(x: Tensor, level: int) -> Tensor:
            found[level] = x.shape[1]
            return x

        training = self.net.training
        self.net.eval()
        with torch.no_grad():
            deep, _ = self(torch.zeros(1, sum(self.channels), *self._room((1,) * self.dims)), measured)
        self.net.train(training)
        return [deep.shape[1], *(found[level] for level in sorted(found))]


def aligned(
    batch: Batch, names: Sequence[str], like: Tensor, channels: Sequence[int] | None = None
) -> tuple[Tensor, Tensor]:
    """The contrasts of each row as channels on one grid, (B, M*C, *space), and presence (B, M).

    What a row lacks is zeros that nothing was written to: hidden voxels are never read, not even to multiply them
    by 0.  like: a tensor of the device and type that are wanted.  channels: of each modality, one by default.
    """
    counts = list(channels or (1,) * len(names))
    x = like.new_zeros(len(batch), sum(counts), *batch.space)
    for m, name in enumerate(names):
        if name in batch.inputs:
            rows, first = batch.presence[:, m].nonzero()[:, 0], sum(counts[:m])
            x[rows, first : first + counts[m]] = batch.inputs[name]["voxels"].to(like)
    return x, batch.presence


def _modulated(modulate: Modulate, level: int, module: nn.Module, given: Any, out: Tensor) -> Tensor:
    return modulate(out, level)


def _tapped(network: str) -> Tapped:
    if network not in NETWORKS:
        raise UserError(f"model.network {network!r}: {nearest(network, NETWORKS)}")
    return NETWORKS[network]


def _built(network: str, settings: dict[str, Any], dims: int, channels: Sequence[int]) -> nn.Module:
    kind: Callable[..., nn.Module] = FusionUNet if _tapped(network).apart else _of_monai(network)
    given: dict[str, Any] = {"spatial_dims": dims, "in_channels": sum(channels), "out_channels": 1}
    if _tapped(network).apart:
        given = {"dims": dims, "channels": channels}
    known = [name for name in inspect.signature(kind).parameters if name not in given]
    for key in settings:
        if key not in known:
            raise UserError(f"model.network_options: {network} has no option {key!r}; {nearest(key, known)}")
    try:
        return kind(**given, **settings)
    except (TypeError, ValueError, AssertionError, ImportError) as error:
        raise UserError(f"model.network {network} cannot be built with {settings}: {error}") from None


def _of_monai(network: str) -> Callable[..., nn.Module]:
    with extra("mri", "networks for volumes"):
        from monai.networks import nets
    made: Callable[..., nn.Module] = getattr(nets, network)
    return made


def _fixed(settings: Mapping[str, Any], dims: int) -> tuple[int, ...] | None:
    """The one size that a network with learned positions takes; None where any size will do."""
    size = settings.get("img_size")
    if size is None:
        return None
    return (size,) * dims if isinstance(size, int) else tuple(size)


def _largest(stride: int | Sequence[int]) -> int:
    return stride if isinstance(stride, int) else max(stride)


def _by(space: Sequence[int]) -> str:
    return " x ".join(map(str, space))
