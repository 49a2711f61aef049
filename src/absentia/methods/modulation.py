"""Modulation: a network that was trained with everything present, frozen, and a scale and a shift for each pattern.

M. K. Reza, A. Prater-Bennette, M. S. Asif, TPAMI 2025 (arXiv 2310.03986): after every layer of the trained network each
channel is scaled and shifted by numbers that are learned for one combination of present modalities, with the task's
loss; with everything present nothing is changed. In the paper zeros stand in for what is absent; here it is not there
at all, unless `absent="placeholder"`. `absentia.adapt` does the same to networks that are not ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from absentia.adaptation.bank import Bank
from absentia.adaptation.forms import RowsOf
from absentia.adaptation.hooks import Attached
from absentia.adaptation.kinds import KINDS, kind_named
from absentia.adaptation.presence import MOST_ALL, parsed_all, rows_of
from absentia.adaptation.selection import Selection, chosen
from absentia.adaptation.sites import Filter, Site, find_sites
from absentia.data.batch import Batch
from absentia.layers.packing import Packing
from absentia.layers.readout import mean_of_present
from absentia.layers.subsets import random_subsets
from absentia.methods.base import Bools, Output, Parts, Stage
from absentia.methods.continual import Continual, SessionLossOptions
from absentia.methods.settings import one_of

__all__ = ["Modulation"]

KEEP = 0.25  # share of the rows of a step that keep all they have, where a classifier learns beside


@dataclass(frozen=True, kw_only=True)
class Options(SessionLossOptions):
    """As `SessionLossOptions`, and

    Args:
        kind: scale-shift, scale, shift, bias, norm or compositional (one set per absent modality, for many of them).
        absent: nothing leaves an absent modality out, placeholder feeds a blank input as if it were there.
    """

    kind: str = "scale-shift"
    absent: Literal["nothing", "placeholder"] = "nothing"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("kind", self.kind, [name for name in KINDS if name not in ("low-rank", "head-only")])
        one_of("absent", self.absent, ("nothing", "placeholder"))


class Modulation(Continual):
    """A backbone that is trained on complete rows, or came pretrained and frozen, then adapters for the patterns."""

    name = "modulation"
    Options = Options

    def __init__(self, *, parts: Parts) -> None:
        super().__init__(parts=parts)
        transformer = self.backbone.transformer
        many = len(parts.names) > MOST_ALL
        kind = kind_named("compositional" if many else self.options.kind)
        sites = kind.uses(find_sites(transformer, Filter())[0])
        names = sorted(parts.names)  # sets in the order of the names do not depend on that of the schema
        self.order = [parts.names.index(name) for name in names]
        patterns = parsed_all([] if kind.composed else "all", names)
        self.bank = Bank(kind=kind, sites=sites, names=names, patterns=patterns, seed=0)
        Attached(self, kind.form, sites)

    def stages(self) -> Sequence[Stage]:
        """The network on complete rows, then the adapters; of a frozen backbone adapters and classifier together."""
        if self.backbone.frozen or len(self.parts.names) < 2:
            return [Stage(name="adapt")]
        full = np.ones((1, len(self.parts.names)), dtype=np.bool_)
        return [
            Stage(name="network", wants=_complete, patterns=full, learns=self._network),
            Stage(name="adapt", learns=self.bank.parameters),
        ]

    def losses(self, batch: Batch, stage: Stage, draw: torch.Generator) -> dict[str, Tensor]:
        if stage.name == "network":
            return super().losses(batch, stage, draw)
        alone = not self.backbone.frozen and len(self.parts.names) > 1
        shown = random_subsets(batch.presence, 0.0 if alone else KEEP, draw)
        part = batch.restrict(_lacking(shown, draw) if alone else shown, self.parts.names)
        return {"task": self.task(self.classifier(self.adapted(part)), part)}

    def answer(self, batch: Batch) -> Output:
        scores = self.classifier(self.adapted(batch))
        return Output(scores=scores, uncertainty=scores[:, 0])

    def adapted(self, batch: Batch) -> Tensor:
        """(B, D): what the modulated backbone makes of each row."""
        rows = rows_of(batch.presence[:, self.order])
        fed = batch.filled(self.parts.blanks) if self.options.absent == "placeholder" else batch
        segments = self.backbone.segments(fed)
        packing = self.backbone.transformer.pack(list(segments.values()), len(fed))
        find = partial(self.bank.values_for, patterns=rows.patterns)
        with chosen(self, Selection(rows, find, partial(_places, packing))):
            output = self.backbone.transformer.run(packing, rows="cls")
        together = {name: output.cls(number) for number, name in enumerate(segments)}
        return mean_of_present(together, fed.presence, self.parts.names)

    def remarks(self, presence: Bools) -> list[str]:
        """Whether there were complete rows to train the network on."""
        if self.backbone.frozen or presence.all(axis=1).any():
            return []
        return ["No training row is complete, so the network that is adapted was trained on incomplete ones."]

    def _network(self) -> Iterator[nn.Parameter]:
        yield from self.backbone.parameters()
        yield from self.classifier.parameters()


def _complete(presence: Bools) -> Bools:
    """Complete rows; where there are none, all that have something."""
    full = np.asarray(presence.all(axis=1))
    return full if full.any() else np.asarray(presence.any(axis=1))


def _lacking(shown: Tensor, draw: torch.Generator) -> Tensor:
    """Patterns (B, M) that lack something: of a full one, one modality is drawn that goes."""
    noise = torch.rand(shown.shape, generator=draw).to(shown.device)
    gone = torch.zeros_like(shown).scatter(1, noise.argmax(dim=1, keepdim=True), True)
    return torch.where(shown.all(dim=1, keepdim=True), ~gone, shown)


def _places(packing: Packing, site: Site, shape: tuple[int, ...], ids: Tensor) -> RowsOf:
    """The patterns of packed tokens, or of the [CLS] alone, which is all that the last layer computes."""
    sample = packing.sample if shape[0] == len(packing.sample) else packing.sample[packing.cls]
    return RowsOf(0, ids[sample])
