"""A masked autoencoder of voxels that learns from rows in which contrasts are absent, and imagines those.

As M3AE (Liu et al., AAAI 2023) a dense network sees all contrasts at once; what is masked, dropped or truly absent is a
learned template. It says every voxel of every contrast. Those that a row truly has are asked for, masked or not; of
those that it lacks only small patches are compared with real ones of other rows (`layers/distribution.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from absentia.data.batch import Batch
from absentia.errors import UserError
from absentia.layers.distribution import Distribution, Look
from absentia.layers.masked_losses import present_only, reconstruction_loss
from absentia.layers.masking import drop_modalities, grid_of, keep_patches, over_patches
from absentia.layers.modes import evaluating
from absentia.layers.naming import places_by_name, places_in_order
from absentia.layers.template import Fill, Template
from absentia.models.dense import DenseBackbone, aligned
from absentia.models.imagination import Masks

__all__ = ["DenseImagination"]

SIDE = 4  # voxels along each side of what distributions are compared of
PLACES = 32  # of a row at which they are
ROUGH = 0.005  # weight of the template's roughness (M3AE)
SPREAD = 4.0  # voxels lie from 0 to 1; so much stretched, their variances are about 1


class DenseImagination(nn.Module):
    """A dense network with a layer that says the contrasts, and the template.

    space: of a usual row.  look: how imagined patches are compared with real ones, None for not at all.
    """

    def __init__(
        self,
        *,
        backbone: DenseBackbone,
        names: Sequence[str],
        space: Sequence[int],
        fill: Fill = "low",
        look: Look | None = "moments",
        joint: bool = True,
    ) -> None:
        super().__init__()
        self.backbone, self.names = backbone, list(names)
        total, dims = sum(backbone.channels), backbone.dims
        self.template = Template(channels=total, space=space, kind=fill)
        self.say = (nn.Conv3d if dims == 3 else nn.Conv2d)(backbone.width, total, 1)
        self.distribution = Distribution(names=names, width=SIDE**dims, look=look, joint=joint) if look else None
        self.register_buffer("channels", torch.tensor(backbone.channels), persistent=False)
        self.channels: Tensor

    def losses(self, batch: Batch, masks: Masks, patch: int, draw: torch.Generator) -> dict[str, Tensor]:
        """Per question its mean error: all voxels that rows have, how those they lack are spread, and roughness."""
        x, have = self.voxels(batch)
        order, back = places_by_name(self.names), places_in_order(self.names)
        shown = drop_modalities(have[:, order], draw, how=masks.drop, rate=masks.rate)
        patches = math.prod(grid_of(batch.space, patch))
        kept = keep_patches(have[:, order], shown, patches, masks.ratio, draw)
        whole = masks.shows_whole(have[:, order], shown, draw)
        kept = torch.where(whole[:, None, None], shown[..., None], kept)[:, back]
        seen = self.by_channel(over_patches(kept, batch.space, patch))
        said = self._said(torch.where(seen, x, self.filling(batch)), kept.any(dim=2))
        one, real = said[:, :, None], x[:, :, None]  # every channel on its own, for contrasts may have several
        terms = {"voxels": reconstruction_loss(one, real, self.by_channel(have), seen)}
        if self.template.kind != "scalar":
            terms["roughness"] = ROUGH * self.template.roughness()
        if self.distribution is not None:
            places = self._places(x, have, draw)
            made = self._patches(said, places)
            terms["distribution"] = self.distribution(made, self._patches(x, places), have, draw)
        return terms

    @torch.no_grad()
    def imagined(self, batch: Batch) -> Tensor:
        """(B, channels, *space): every contrast as it is said from those that a row has; nothing is drawn."""
        with evaluating(self):
            return self._said(self.shown(batch, self.filling(batch)), batch.presence)

    def beside(self) -> dict[str, Tensor]:
        """What of it is not the network: the layer that says the contrasts, and the template."""
        parts = {"say": self.say, "template": self.template}
        return {f"{part}.{key}": x for part, module in parts.items() for key, x in module.state_dict().items()}

    def take_up(self, learned: Mapping[str, Tensor]) -> None:
        """Go on with what `beside` gave elsewhere; raises `UserError` for a template of another kind."""
        own = self.template.image.shape
        other = learned["template.image"].shape
        if own != other:
            raise UserError(
                f"options.template {self.template.kind!r}: it has {_by(own)} points, and that of the pretrained "
                f"network {_by(other)}; say the template that the network was pretrained with"
            )
        self.load_state_dict(dict(learned), strict=False)

    def voxels(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What rows have, (B, channels, *space), zeros elsewhere, and presence (B, M)."""
        return aligned(batch, self.names, self.say.weight, self.backbone.channels)

    def shown(self, batch: Batch, instead: Tensor) -> Tensor:
        """What rows have, and `instead` (B or 1, channels, *space) in place of what they lack."""
        x, have = self.voxels(batch)
        return present_only(x, self.by_channel(have), instead.to(x))

    def filling(self, batch: Batch) -> Tensor:
        """The template where the rows lie, (B or 1, channels, *space)."""
        return cast(Tensor, self.template(batch.space, batch.corner))

    def by_channel(self, by_modality: Tensor) -> Tensor:
        """(B, M, ...) to (B, channels, ...)."""
        return by_modality.repeat_interleave(self.channels, dim=1)

    def _said(self, x: Tensor, there: Tensor) -> Tensor:
        """What is said of x; `there` bool (B, M) are the contrasts of which anything in it is seen."""
        return cast(Tensor, self.say(self.backbone(x, there=there)[1]))

    # What distributions are compared of

    def _places(self, x: Tensor, have: Tensor, draw: torch.Generator) -> Tensor:
        """long (B, P): patches of each row, first those in which something that it has is not the lowest value."""
        there = self._patched(x).amax(dim=(1, 3)) > 0
        noise = torch.rand(there.shape, generator=draw).to(x.device)
        return (noise + there).topk(min(PLACES, there.shape[1]), dim=1).indices

    def _patches(self, x: Tensor, places: Tensor) -> Tensor:
        """(B, M, P, F): small patches of every contrast at these places; of several channels their mean."""
        whole = self._patched(x)
        index = places[:, None, :, None].expand(-1, whole.shape[1], -1, whole.shape[3])
        parts = torch.split(whole.gather(2, index), list(self.backbone.channels), dim=1)
        return SPREAD * torch.stack([part.mean(dim=1) for part in parts], dim=1)

    def _patched(self, x: Tensor) -> Tensor:
        """(B, channels, N, F): space cut into patches of 4 along each side; what is left over is left out."""
        for axis in range(2, x.dim()):
            x = x.unfold(axis, min(SIDE, x.shape[axis]), SIDE)
        dims = self.backbone.dims
        out = x.flatten(2 + dims).flatten(2, 1 + dims)
        short = SIDE**dims - out.shape[3]
        return nn.functional.pad(out, (0, short)) if short else out


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape[1:]))
