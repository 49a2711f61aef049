"""Networks that somebody would write who never thought of absence; the benchmarks train and adapt them.

An encoder per modality (convolutions with batch norm, an LSTM, a perceptron), and a fusion: a transformer over all
tokens, or every stream attending to every other (as in MulT, Tsai et al. 2019, arXiv 1906.00295), or a ViLT. For an
answer at every pixel, two pyramids of convolutions that meet at each of their scales.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["WIDTH", "CrossModal", "Fusion", "Numbers", "Picture", "Pixels", "Signal", "Vilt", "Words"]

WIDTH = 64


class Picture(nn.Module):
    """(B, c, h, w) -> (B, T, WIDTH)"""

    def __init__(self, channels: int, stride: int = 2) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(channels, 32, 3, stride, 1), nn.BatchNorm2d(32), nn.ReLU()),
            *(nn.Conv2d(32, WIDTH, 3, stride, 1), nn.BatchNorm2d(WIDTH), nn.ReLU()),
        )

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.layers(x).flatten(2).mT
        return tokens if tokens.shape[1] <= 32 else F.avg_pool1d(tokens.mT, 4).mT


class Signal(nn.Module):
    """(B, c, l) -> (B, T, WIDTH)"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv1d(channels, 32, 5, 4, 2), nn.BatchNorm1d(32), nn.ReLU()),
            *(nn.Conv1d(32, WIDTH, 3, 4, 1), nn.BatchNorm1d(WIDTH), nn.ReLU()),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).mT  # type: ignore[no-any-return]


class Words(nn.Module):
    """Characters (B, l) -> (B, 1, WIDTH)"""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.table, self.lstm = nn.Embedding(size, 32, padding_idx=0), nn.LSTM(32, WIDTH, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        outputs, _ = self.lstm(self.table(x))
        return outputs.mean(dim=1, keepdim=True)  # type: ignore[no-any-return]


class Numbers(nn.Module):
    """(B, d) -> (B, 1, WIDTH)"""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(size, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)[:, None]  # type: ignore[no-any-return]


class Fusion(nn.Module):
    """Tokens of all modalities through a transformer; forward takes each by its name."""

    def __init__(self, encoders: Mapping[str, nn.Module], classes: int, layers: int = 2) -> None:
        super().__init__()
        self.names = list(encoders)
        self.encoders = nn.ModuleDict(dict(encoders))
        self.kinds = nn.Parameter(torch.randn(len(encoders), WIDTH) * 0.02)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, dropout=0.1, batch_first=True)
        self.fusion = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, classes)

    def forward(self, **inputs: Tensor) -> Tensor:
        """(B, K)"""
        tokens = [self.encoders[name](inputs[name]) + self.kinds[m] for m, name in enumerate(self.names)]
        return self.head(self.fusion(torch.cat(tokens, dim=1)).mean(dim=1))  # type: ignore[no-any-return]


class CrossModal(nn.Module):
    """Every stream looks into every other, then at itself; the means of all streams into a linear head.

    encoders: per modality a network to (B, T_m, WIDTH).
    """

    def __init__(self, encoders: Mapping[str, nn.Module], classes: int) -> None:
        super().__init__()
        self.names = list(encoders)
        self.encoders = nn.ModuleDict(dict(encoders))
        pairs = [(to, source) for to in self.names for source in self.names if to != source]
        self.looks = nn.ModuleDict({f"{to}_from_{source}": _Look() for to, source in pairs})
        width = WIDTH * (len(self.names) - 1)
        self.own = nn.ModuleDict({name: _layer(width) for name in self.names})
        self.head = nn.Linear(width * len(self.names), classes)

    def forward(self, **inputs: Tensor) -> Tensor:
        """(B, K)"""
        streams = {name: self.encoders[name](inputs[name]) for name in self.names}
        return self.head(torch.cat([self._told(name, streams) for name in self.names], dim=1))  # type: ignore[no-any-return]

    def _told(self, name: str, streams: Mapping[str, Tensor]) -> Tensor:
        """(B, WIDTH (M - 1)): what a stream has become after it saw the others."""
        others = [self.looks[f"{name}_from_{o}"](streams[name], streams[o]) for o in self.names if o != name]
        return self.own[name](torch.cat(others, dim=2)).mean(dim=1)  # type: ignore[no-any-return]


class _Look(nn.Module):
    """(B, T, WIDTH) that attends to (B, S, WIDTH), before its norm, as MulT has it."""

    def __init__(self) -> None:
        super().__init__()
        self.mine, self.theirs, self.after = (nn.LayerNorm(WIDTH) for _ in range(3))
        self.attention = nn.MultiheadAttention(WIDTH, 4, batch_first=True)
        self.feed = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        there = self.theirs(other)
        x = x + self.attention(self.mine(x), there, there, need_weights=False)[0]
        return x + self.feed(self.after(x))  # type: ignore[no-any-return]


class Vilt(nn.Module):
    """transformers' ViLT, small and from nothing, with a linear head: what a fine-tuned checkpoint looks like."""

    def __init__(self, classes: int, *, words: int, length: int, side: int, channels: int = 1) -> None:
        super().__init__()
        from transformers import ViltConfig, ViltModel

        sizes = {"hidden_size": WIDTH, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 2 * WIDTH}
        self.backbone = ViltModel(
            ViltConfig(
                vocab_size=words,
                max_position_embeddings=length,
                image_size=side,
                patch_size=8,
                num_channels=channels,
                max_image_length=-1,
                hidden_dropout_prob=0.1,
                **sizes,
            )
        )
        self.head = nn.Linear(WIDTH, classes)

    def forward(self, text: Tensor, image: Tensor) -> Tensor:
        """Word numbers (B, l), 0 for none, and pictures (B, c, side, side) to (B, K)."""
        output = self.backbone(input_ids=text, attention_mask=(text != 0).long(), pixel_values=image)
        return self.head(output.pooler_output)  # type: ignore[no-any-return]


class Pixels(nn.Module):
    """A class for every pixel: an encoder per modality, and a decoder that reads all of them at each scale.

    channels: of each modality's pictures (B, c, h, w), h and w multiples of 4.
    """

    def __init__(self, channels: Mapping[str, int], classes: int) -> None:
        super().__init__()
        self.names, widths = list(channels), (8, 16, 24)
        self.encoders = nn.ModuleDict({name: _Pyramid(c, widths) for name, c in channels.items()})
        fused = [len(channels) * width for width in widths]
        self.middle = _convolved(fused[1] + fused[2], 16)
        self.fine = _convolved(fused[0] + 16, 16)
        self.head = nn.Conv2d(16, classes, 1)

    def forward(self, **inputs: Tensor) -> Tensor:
        """(B, K, h, w)"""
        scales = zip(*(self.encoders[name](inputs[name]) for name in self.names), strict=True)
        fine, middle, coarse = (torch.cat(maps, dim=1) for maps in scales)
        x = self.middle(torch.cat([middle, F.interpolate(coarse, scale_factor=2.0)], dim=1))
        return self.head(self.fine(torch.cat([fine, F.interpolate(x, scale_factor=2.0)], dim=1)))  # type: ignore[no-any-return]


class _Pyramid(nn.Module):
    """(B, c, h, w) to maps of h x w, half and a quarter of it."""

    def __init__(self, channels: int, widths: tuple[int, int, int]) -> None:
        super().__init__()
        sizes = zip((channels, *widths), widths, (1, 2, 2), strict=False)
        self.scales = nn.ModuleList(_convolved(before, after, stride) for before, after, stride in sizes)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for scale in self.scales:
            x = scale(x)
            maps.append(x)
        return maps


def _convolved(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())


def _layer(width: int) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.1, batch_first=True)
    return nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
