"""A masked autoencoder of tokens that learns from rows in which modalities are absent, and imagines those.

A row shows some tokens of a part of what it has. An absent modality, truly or on purpose, is its [CLS] alone: a
question to the others. From what becomes of it a summary of the modality is imagined, in standard deviations of the
mean of its real tokens. Target rule: what a row truly has is asked for, by its summary and token by token; of what it
truly lacks nothing is known, so that its summary is only to be spread as real ones are (`layers/distribution.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from absentia.data.batch import Batch
from absentia.layers.distribution import Distribution, Look, Moments
from absentia.layers.hiding import hidden_tokens
from absentia.layers.masked_losses import present_only
from absentia.layers.masking import Drop, drop_modalities
from absentia.layers.modes import evaluating
from absentia.layers.naming import module_key, places_by_name, places_in_order
from absentia.models.backbone import FusedBackbone
from absentia.models.encoders.base import Embedder
from absentia.models.fused import FusedOutput, Segment
from absentia.models.laid import lone_cls
from absentia.models.puzzles import Puzzle, puzzle_for

__all__ = ["Imagination", "Masks"]

SLOW = 0.99  # of the moving mean that summaries are standardised by


@dataclass(frozen=True, kw_only=True)
class Masks:
    """What a row does not show: a share `ratio` of its tokens, and modalities that are dropped (see `masking`).

    whole: share of the rows that show what is not dropped whole, as a row does that is completed.
    """

    ratio: float = 0.5
    drop: Drop = "uniform_size"
    rate: float = 0.5
    whole: float = 0.0

    def shows_whole(self, have: Tensor, shown: Tensor, draw: torch.Generator) -> Tensor:
        """bool (B,): rows that lose modalities, of bool (B, M), and nothing else; others lose parts as well."""
        noise = torch.rand(len(have), generator=draw).to(have.device)
        return (noise < self.whole) & (have != shown).any(dim=1)


class Imagination(nn.Module):
    """A backbone, a puzzle for each modality, and what is read of a [CLS] that has nothing behind it.

    look: how imagined summaries are compared with real ones, None for not at all.  joint: also in pairs.
    """

    def __init__(
        self, *, backbone: FusedBackbone, names: Sequence[str], look: Look | None = "moments", joint: bool = True
    ) -> None:
        super().__init__()
        self.backbone, self.names = backbone, list(names)
        ordered, width = sorted(names), backbone.width
        made = {name: puzzle_for(backbone.embedder(name), width=width) for name in ordered}
        self.puzzles = nn.ModuleDict({module_key(name): p for name, p in made.items() if p is not None})
        self.speak = nn.ModuleDict({module_key(name): _speaker(width) for name in ordered})
        self.listen = nn.ModuleDict({module_key(name): nn.Linear(width, width) for name in ordered})
        self.standard = nn.ModuleDict({module_key(name): Moments(width=width, momentum=SLOW) for name in ordered})
        self.distribution = Distribution(names=names, width=width, look=look, joint=joint) if look else None

    # Learning

    def losses(self, batch: Batch, masks: Masks, draw: torch.Generator) -> dict[str, Tensor]:
        """Per question its mean error: hidden tokens, all tokens by the summary, the summary, and how it is spread."""
        have = batch.presence
        shown = drop_modalities(have[:, places_by_name(self.names)], draw, how=masks.drop, rate=masks.rate)
        shown = shown[:, places_in_order(self.names)]
        part = batch.restrict(shown, self.names)
        hidden, segments = self._veiled(part, masks.ratio, masks.shows_whole(have, shown, draw), draw)
        output = self._run(segments, shown, whole=True)
        said = self._said(output, shown)
        real = self._summaries(batch)
        terms = {"masked": self._masked(part, hidden, output), "gist": self._gist(batch, said)}
        error = (said - present_only(real, have, said.detach())).square().mean(dim=2)
        each = error.sum(dim=1) / have.sum(dim=1).clamp(min=1)
        terms["summary"] = each.mean()
        if self.distribution is not None:
            terms["distribution"] = self.distribution(said[:, :, None], real[:, :, None], have, draw)
        return terms

    @torch.no_grad()
    def imagined(self, batch: Batch) -> Tensor:
        """(B, M, D): the summary of each modality as the others see it; of use where a row lacks it."""
        with evaluating(self):
            output = self._run(self.backbone.segments(batch), batch.presence, whole=False)
            return self._said(output, batch.presence)

    @torch.no_grad()
    def summaries(self, batch: Batch) -> Tensor:
        """(B, M, D): the true summaries of what rows have, 0 elsewhere."""
        with evaluating(self):
            return self._summaries(batch)

    def decoded(self, name: str, summary: Tensor, count: int) -> Tensor:
        """(n, T, D): what the puzzle of a modality says about `count` tokens of rows with this summary (n, D)."""
        embedder, puzzle = cast(Embedder, self.backbone.embedder(name)), self._puzzle(name)
        assert puzzle is not None
        return puzzle.recalled(self.listen[module_key(name)](summary), count, embedder)

    # One pass

    def _run(self, segments: Mapping[str, Segment], shown: Tensor, *, whole: bool) -> FusedOutput:
        """What is shown, and one [CLS] for each modality that a row lacks; segments stand in the order of names."""
        alone = lone_cls(self.backbone)
        parts = []
        for m, name in enumerate(self.names):
            parts += [segments[name]] if name in segments else []
            lacking = (~shown[:, m]).nonzero()[:, 0]
            token, valid, _ = alone[name]
            parts.append(Segment(token.expand(len(lacking), -1, -1), valid.expand(len(lacking), -1), lacking))
        return cast(FusedOutput, self.backbone.transformer(parts, len(shown), rows="all" if whole else "cls"))

    def _said(self, output: FusedOutput, shown: Tensor) -> Tensor:
        """(B, M, D): the summary that each modality's [CLS] stands for."""
        out = output.packed.new_zeros(*shown.shape, self.backbone.width)
        for number, segment in enumerate(output.packing.segments):
            m = self._places(shown)[number]
            out[segment.rows, m] = output.cls(number)
        return torch.stack([self.speak[module_key(n)](out[:, m]) for m, n in enumerate(self.names)], dim=1).float()

    def _places(self, shown: Tensor) -> list[int]:
        """The modality of each segment of a pass."""
        there = shown.any(dim=0).tolist()
        return [m for m in range(len(self.names)) for _ in range(1 + int(there[m]))]

    def _veiled(
        self, part: Batch, ratio: float, whole: Tensor, draw: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Segment]]:
        """Per modality that is shown its hidden tokens, bool (n_m, T), and its tokens with those veiled.

        whole: bool (B,), rows of which no token is hidden.
        """
        lonely = part.presence.sum(dim=1) < 2
        hidden: dict[str, Tensor] = {}
        segments: dict[str, Segment] = {}
        for m in places_by_name(self.names):
            name = self.names[m]
            if name not in part.inputs:
                continue
            inputs, rows = part.inputs[name], part.presence[:, m].nonzero()[:, 0]
            embedder, puzzle = cast(Embedder, self.backbone.embedder(name)), self._puzzle(name)
            if puzzle is None:
                tokens, valid = embedder(**inputs)
                segments[name] = Segment(tokens, valid, rows)
                continue
            there = puzzle.tokens(inputs)
            none = torch.zeros_like(lonely[rows])
            hidden[name] = hidden_tokens(there, ratio, alone=lonely[rows], whole=none, draw=draw) & ~whole[rows, None]
            segments[name] = Segment(*puzzle.veiled(inputs, hidden[name], embedder), rows)
        return hidden, segments

    # Questions

    def _masked(self, part: Batch, hidden: Mapping[str, Tensor], output: FusedOutput) -> Tensor:
        """Hidden tokens by what became of their place, the mean over modalities."""
        places, terms = self._places(part.presence), [output.packed.sum() * 0]
        for name, asked in hidden.items():
            outputs = output.tokens(places.index(self.names.index(name)))
            terms.append(self._asked(name).loss(outputs, part.inputs[name], asked, self.backbone.embedder(name)))
        return torch.stack(terms).sum() / max(1, len(terms) - 1)

    def _gist(self, batch: Batch, said: Tensor) -> Tensor:
        """All tokens of what a row has by their summary alone, the mean over modalities."""
        terms = [said.sum() * 0]
        for m in places_by_name(self.names):
            name, puzzle = self.names[m], self._puzzle(self.names[m])
            if name in batch.inputs and puzzle is not None:
                inputs, embedder = batch.inputs[name], cast(Embedder, self.backbone.embedder(name))
                gist = self.listen[module_key(name)](said[batch.presence[:, m], m])
                terms.append(puzzle.gist_loss(gist, inputs, puzzle.tokens(inputs), embedder))
        return torch.stack(terms).sum() / max(1, len(terms) - 1)

    @torch.no_grad()
    def _summaries(self, batch: Batch) -> Tensor:
        """(B, M, D): the mean of real tokens in standard deviations of those of other rows, 0 where there are none."""
        out = torch.zeros(*batch.presence.shape, self.backbone.width, device=batch.presence.device)
        for m, name in enumerate(self.names):
            if name in batch.inputs:
                tokens, valid = cast(Embedder, self.backbone.embedder(name)).content(**batch.inputs[name])
                mean = _mean(tokens, valid)
                moments = cast(Moments, self.standard[module_key(name)])
                moments.see(mean)
                centre, variance = moments.moments() if bool(moments.seen) else (mean * 0, torch.ones_like(mean))
                out[batch.presence[:, m], m] = (mean - centre) / variance.sqrt()
        return out

    # Small things

    def _puzzle(self, name: str) -> Puzzle | None:
        key = module_key(name)
        return cast(Puzzle, self.puzzles[key]) if key in self.puzzles else None

    def _asked(self, name: str) -> Puzzle:
        return cast(Puzzle, self.puzzles[module_key(name)])


def _speaker(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))


def _mean(tokens: Tensor, valid: Tensor) -> Tensor:
    """(n, D): the mean of the real tokens; 0 for a row without any, such as an empty text."""
    weight = valid[..., None].float()
    return (tokens.float() * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
