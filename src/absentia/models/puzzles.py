"""Masked modelling by kind: how tokens of a modality are hidden, and what is asked about those that were.

What is hidden is hidden before anything mixes neighbours: pixels before the convolutions, steps before theirs. Its
place stays known; a learned vector stands where its content was. Who knows nothing errs by about 1 or less, whatever
the kind: numbers are standardised, and cross-entropies divided by the logarithm of the number of choices.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from absentia.data.kinds.tabular import NULL
from absentia.models.encoders.base import Embedder, learned_vector
from absentia.models.encoders.image import STRIDE, ImageEmbedder
from absentia.models.encoders.pretrained import FeatureEmbedder
from absentia.models.encoders.series import SeriesEmbedder
from absentia.models.encoders.tabular import TabularEmbedder
from absentia.models.encoders.text import TextEmbedder

__all__ = ["Puzzle", "puzzle_for"]

Inputs = Mapping[str, Tensor]
GREY = 127.5  # the pixel that the stem reads as 0
SMOOTH = 0.1  # added to the deviation, so that a plain picture stays one


class Puzzle(nn.Module, ABC):
    """Hides tokens of one modality and scores what is said about them.

    The embedder is handed in each time; it is the backbone's, not a part of this.
    """

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.veil = learned_vector(width)
        self.read, self.recall = _reader(width), _reader(width)

    @abstractmethod
    def tokens(self, inputs: Inputs) -> Tensor:
        """Where the rows have tokens, bool (n, T)."""

    @abstractmethod
    def blanked(self, inputs: Inputs, hidden: Tensor) -> dict[str, Tensor]:
        """The inputs without the content of the hidden tokens, bool (n, T)."""

    @abstractmethod
    def errors(self, said: Tensor, inputs: Inputs, hidden: Tensor, embedder: nn.Module) -> tuple[Tensor, Tensor]:
        """What is said (n, T, D) about hidden tokens, as a sum of errors and the number of tokens in it."""

    def veiled(self, inputs: Inputs, hidden: Tensor, embedder: Embedder) -> tuple[Tensor, Tensor]:
        """The tokens with some hidden, as `Embedder.forward` gives them: (n, 1 + T, D) and bool (n, 1 + T)."""
        content, valid = embedder.content(**self.blanked(inputs, hidden))
        return embedder.placed(torch.where(hidden[..., None], self.veil.to(content.dtype), content), valid)

    def loss(self, outputs: Tensor, inputs: Inputs, hidden: Tensor, embedder: nn.Module) -> Tensor:
        """Mean error over the hidden tokens, from the transformer's outputs (n, 1 + T, D)."""
        return self._mean(self.read(outputs[:, 1:]), inputs, hidden, embedder)

    def gist_loss(self, gist: Tensor, inputs: Inputs, asked: Tensor, embedder: Embedder) -> Tensor:
        """Mean error over the tokens `asked`, bool (n, T), by their places and the gist (n, D) of their rows alone."""
        return self._mean(self.recalled(gist, asked.shape[1], embedder), inputs, asked, embedder)

    def recalled(self, gist: Tensor, count: int, embedder: Embedder) -> Tensor:
        """(n, T, D): what the gist (n, D) says about each of `count` tokens, by their places alone."""
        places = embedder.places(count)
        said = gist[:, None].expand(-1, count, -1)
        return self.recall(said if places is None else said + places)  # type: ignore[no-any-return]

    def _mean(self, said: Tensor, inputs: Inputs, asked: Tensor, embedder: nn.Module) -> Tensor:
        total, count = self.errors(said.float(), inputs, asked, embedder)
        return total / count.clamp(min=1)


class TextPuzzle(Puzzle):
    """Which word piece was it? The table of word embeddings answers."""

    def __init__(self, *, width: int, embedder: TextEmbedder) -> None:
        super().__init__(width=width)
        self.bias = nn.Parameter(torch.zeros(embedder.word.num_embeddings))

    def tokens(self, inputs: Inputs) -> Tensor:
        return inputs["mask"]

    def blanked(self, inputs: Inputs, hidden: Tensor) -> dict[str, Tensor]:
        return {"ids": inputs["ids"].masked_fill(hidden, 0), "mask": inputs["mask"]}

    def errors(self, said: Tensor, inputs: Inputs, hidden: Tensor, embedder: nn.Module) -> tuple[Tensor, Tensor]:
        assert isinstance(embedder, TextEmbedder)
        scores = F.linear(said[hidden], embedder.word.weight, self.bias).float()
        return F.cross_entropy(scores, inputs["ids"][hidden], reduction="sum") / math.log(len(self.bias)), hidden.sum()


class ImagePuzzle(Puzzle):
    """What did the patch look like? Its pixels, in deviations from the mean of the picture."""

    def __init__(self, *, width: int, embedder: ImageEmbedder) -> None:
        super().__init__(width=width)
        self.answer = nn.Linear(width, embedder.channels * STRIDE**2)

    def tokens(self, inputs: Inputs) -> Tensor:
        n, _, height, across = inputs["pixels"].shape
        return inputs["pixels"].new_ones(n, -(-height // STRIDE) * -(-across // STRIDE), dtype=torch.bool)

    def blanked(self, inputs: Inputs, hidden: Tensor) -> dict[str, Tensor]:
        pixels = inputs["pixels"]
        height, across = pixels.shape[2:]
        patches = hidden.view(len(hidden), 1, -(-height // STRIDE), -(-across // STRIDE))
        there = patches.repeat_interleave(STRIDE, 2).repeat_interleave(STRIDE, 3)[:, :, :height, :across]
        return {"pixels": pixels.float().masked_fill(there, GREY)}

    def errors(self, said: Tensor, inputs: Inputs, hidden: Tensor, embedder: nn.Module) -> tuple[Tensor, Tensor]:
        pixels = inputs["pixels"].float() / GREY - 1
        std, mean = torch.std_mean(pixels, dim=(1, 2, 3), keepdim=True, correction=0)
        wanted = _patches((pixels - mean) / (std + SMOOTH))[hidden]
        real = _patches(torch.ones_like(pixels))[hidden]
        error = F.mse_loss(self.answer(said[hidden]).float(), wanted, reduction="none") * real
        return (error.sum(dim=1) / real.sum(dim=1)).sum(), hidden.sum()


class TabularPuzzle(Puzzle):
    """Which numbers and which category? A hole is no question."""

    def __init__(self, *, width: int, embedder: TabularEmbedder) -> None:
        super().__init__(width=width)
        self.sizes = list(embedder.sizes)
        self.numbers = nn.ModuleList(nn.Linear(width, size) for size in self.sizes)
        self.categories = nn.ModuleList(
            nn.Linear(width, cast(nn.Embedding, table).num_embeddings) for table in embedder.category
        )

    def tokens(self, inputs: Inputs) -> Tensor:
        n, columns = len(inputs["numbers"]), len(self.numbers) + len(self.categories)
        return inputs["numbers"].new_ones(n, columns, dtype=torch.bool)

    def blanked(self, inputs: Inputs, hidden: Tensor) -> dict[str, Tensor]:
        sizes = torch.tensor(self.sizes, dtype=torch.long, device=hidden.device)
        numeric = hidden[:, : len(self.sizes)].repeat_interleave(sizes, dim=1)
        return {
            "numbers": inputs["numbers"].masked_fill(numeric, 0),
            "holes": inputs["holes"].masked_fill(numeric, False),
            "categories": inputs["categories"].masked_fill(hidden[:, len(self.sizes) :], NULL),
        }

    def errors(self, said: Tensor, inputs: Inputs, hidden: Tensor, embedder: nn.Module) -> tuple[Tensor, Tensor]:
        total, count = said.new_zeros(()), hidden.new_zeros((), dtype=torch.long)
        numbers = torch.split(inputs["numbers"].float(), self.sizes, dim=1)
        holes = torch.split(inputs["holes"], self.sizes, dim=1)
        for i, (head, wanted, hole) in enumerate(zip(self.numbers, numbers, holes, strict=True)):
            real = ~hole & hidden[:, i, None]
            error = F.smooth_l1_loss(head(said[:, i]).float(), wanted, reduction="none") * real
            total = total + (error.sum(dim=1) / real.sum(dim=1).clamp(min=1)).sum()
            count = count + real.any(dim=1).sum()
        for i, head in enumerate(self.categories):
            wanted = inputs["categories"][:, i]
            asked = hidden[:, len(self.sizes) + i] & (wanted != NULL)
            answers = head(said[:, len(self.sizes) + i]).float()
            total = total + F.cross_entropy(answers[asked], wanted[asked], reduction="sum") / math.log(answers.shape[1])
            count = count + asked.sum()
        return total, count


class SeriesPuzzle(Puzzle):
    """How did the window go? Its standardised steps."""

    def __init__(self, *, width: int, embedder: SeriesEmbedder) -> None:
        super().__init__(width=width)
        self.patch = embedder.patch
        self.answer = nn.Linear(width, embedder.patch * embedder.local.in_channels)

    def tokens(self, inputs: Inputs) -> Tensor:
        return self._windows(inputs["mask"][..., None]).any(dim=2)

    def blanked(self, inputs: Inputs, hidden: Tensor) -> dict[str, Tensor]:
        gone = hidden.repeat_interleave(self.patch, dim=1)[:, : inputs["mask"].shape[1]]
        return {"steps": inputs["steps"].masked_fill(gone[..., None], 0), "mask": inputs["mask"]}

    def errors(self, said: Tensor, inputs: Inputs, hidden: Tensor, embedder: nn.Module) -> tuple[Tensor, Tensor]:
        steps = inputs["steps"].float()
        real = self._windows(inputs["mask"][..., None].expand_as(steps))[hidden]
        error = F.smooth_l1_loss(self.answer(said[hidden]).float(), self._windows(steps)[hidden], reduction="none")
        return ((error * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)).sum(), hidden.sum()

    def _windows(self, steps: Tensor) -> Tensor:
        """(n, T, C) -> (n, ceil(T / patch), patch * C)"""
        steps = F.pad(steps, (0, 0, 0, -steps.shape[1] % self.patch))
        return steps.reshape(len(steps), steps.shape[1] // self.patch, -1)


class FeaturePuzzle(Puzzle):
    """What did the frozen encoder find? Its features, brought to mean 0 and deviation 1."""

    def __init__(self, *, width: int, embedder: FeatureEmbedder) -> None:
        super().__init__(width=width)
        self.answer = nn.Linear(width, embedder.features)

    def tokens(self, inputs: Inputs) -> Tensor:
        return inputs["mask"]

    def blanked(self, inputs: Inputs, hidden: Tensor) -> dict[str, Tensor]:
        return {"features": inputs["features"].masked_fill(hidden[..., None], 0), "mask": inputs["mask"]}

    def errors(self, said: Tensor, inputs: Inputs, hidden: Tensor, embedder: nn.Module) -> tuple[Tensor, Tensor]:
        wanted = F.layer_norm(inputs["features"].float()[hidden], inputs["features"].shape[2:])
        error = F.smooth_l1_loss(self.answer(said[hidden]).float(), wanted, reduction="none")
        return error.mean(dim=1).sum(), hidden.sum()


def puzzle_for(embedder: nn.Module, *, width: int) -> Puzzle | None:
    """The puzzle of an embedder; None for an encoder that is tuned, whose features would not stand still."""
    if isinstance(embedder, TextEmbedder):
        return TextPuzzle(width=width, embedder=embedder)
    if isinstance(embedder, ImageEmbedder):
        return ImagePuzzle(width=width, embedder=embedder)
    if isinstance(embedder, TabularEmbedder):
        return TabularPuzzle(width=width, embedder=embedder)
    if isinstance(embedder, SeriesEmbedder):
        return SeriesPuzzle(width=width, embedder=embedder)
    if isinstance(embedder, FeatureEmbedder):
        return FeaturePuzzle(width=width, embedder=embedder)
    return None


def _reader(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))


def _patches(pixels: Tensor) -> Tensor:
    """(n, C, H, W) -> (n, T, C * 8 * 8), filled up with zeros at the right and below."""
    height, across = pixels.shape[2:]
    padded = F.pad(pixels, (0, -across % STRIDE, 0, -height % STRIDE))
    return F.unfold(padded, STRIDE, stride=STRIDE).transpose(1, 2)
